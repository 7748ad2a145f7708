//! What can become of a packet.

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What became of a packet. Each has a counter, and every packet counts once.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Outcome {
            $($(#[$doc])* $variant,)*
        }

        impl Outcome {
            /// All, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

outcomes! {
    /// To a port that is not protected: passed.
    PassUnprotected = "pass_unprotected",
    /// To a protected port, not decided by the address alone: passed.
    PassProtected = "pass_protected",
    /// Dropped on account of a rule.
    Drop = "drop",
    /// Would have been dropped, by a rule or a ban, but the configuration says `shadow`: passed.
    ShadowDrop = "shadow_drop",
    /// The port cannot be seen, and the source is not dropped everywhere: passed.
    HiddenPass = "hidden_pass",
    /// The port cannot be seen, and the source is dropped on every protected port: dropped.
    HiddenDrop = "hidden_drop",
    /// Dropped on account of a ban, whether or not the port can be seen.
    BanDrop = "ban_drop",
    /// Neither IPv4 nor IPv6 (ARP, for example): passed.
    NotIp = "not_ip",
    /// More VLAN tags than are looked through, and nothing is protected or only shadowed: passed.
    VlanDepth = "vlan_depth",
    /// More VLAN tags than are looked through: dropped. The kernel would strip any number of priority
    /// tags, so that passing these would be a way around the filter.
    VlanDepthDrop = "vlan_depth_drop",
    /// Too short for an IP header, or not one: passed; the kernel discards it.
    Truncated = "truncated",
    /// A fragment that is not the first: passed; without its first one it goes nowhere.
    Fragment = "fragment",
    /// ICMP or another protocol without ports: passed.
    OtherProtocol = "other_protocol",
    /// No table was published yet: passed.
    NoTable = "no_table",
}

impl Outcome {
    /// How many there are.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Whether the packet dies.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        matches!(self, Self::Drop | Self::HiddenDrop | Self::BanDrop | Self::VlanDepthDrop)
    }
}

/// The counter after those of the outcomes: drops that were to be reported but found the ring buffer full.
pub const EVENTS_LOST: u32 = Outcome::COUNT;
/// Counters in the map of outcomes.
pub const OUTCOME_ENTRIES: u32 = Outcome::COUNT + 1;
