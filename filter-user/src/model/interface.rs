//! Filtered interfaces.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Origin;

/// The mode in which the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceMode {
    /// Native when the driver can, else generic with a warning.
    #[default]
    Auto,
    /// In the driver; refused when it cannot.
    Native,
    /// After the socket buffer is allocated: works everywhere, about ten times slower.
    Generic,
    /// On the NIC itself.
    Offload,
}

/// How the NIC's program looks up addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Sorted pieces under an index: one or two cache lines for an address, whatever the table's size.
    #[default]
    Flat,
    /// The kernel's longest-prefix-match trie.
    Lpm,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flat => "flat",
            Self::Lpm => "lpm",
        })
    }
}

/// An interface whose packets are filtered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: Arc<str>,
    /// How to attach.
    pub mode: InterfaceMode,
    /// Nothing is enforced anew unless this interface can be filtered; otherwise it is waited for.
    pub required: bool,
    /// The directive.
    pub origin: Origin,
}
