//! The media protocol of a session: learnt from what is asked for and answered, and told to backends.

/// A media protocol, by its place in [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol(u8);

/// Flussonic's names. The first is for what is not known.
const NAMES: [&str; 10] = ["http", "hls", "dash", "mpegts", "mss", "webrtc", "mse", "flv", "m4f", "m4s"];

impl Protocol {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self(0);

    /// The protocol of that name; unknown when there is none.
    pub fn named(name: &str) -> Self {
        NAMES.iter().position(|one| *one == name).map_or(Self::UNKNOWN, |place| Self(place as u8))
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or(NAMES[0])
    }

    pub(super) fn to_byte(self) -> u8 {
        self.0
    }

    pub(super) fn from_byte(byte: u8) -> Self {
        Self(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_one_name_each() {
        for name in NAMES {
            let protocol = Protocol::named(name);
            assert_eq!(protocol.as_str(), name);
            assert_eq!(Protocol::from_byte(protocol.to_byte()), protocol);
        }
        assert_eq!(Protocol::named("gopher"), Protocol::UNKNOWN);
    }
}
