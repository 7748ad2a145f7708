//! Countries, and what knows those of addresses.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A country as an ISO 3166-1 alpha-2 code, in upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// Reads a code in either case; `None` unless it is two ASCII letters. `UK`, which some databases use and
    /// ISO 3166-1 reserves, is `GB`.
    pub fn new(code: &str) -> Option<Self> {
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        let code = code.map(|c| c.to_ascii_uppercase());
        let code = if code == *b"UK" { *b"GB" } else { code };
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }

    /// The code, in upper case.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("two ASCII letters")
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::new(&code).ok_or_else(|| D::Error::custom("a country is two letters"))
    }
}

/// Knows the country of an address.
pub trait Countries: Send + Sync {
    /// The country, or `None` when the database does not know the address.
    fn country(&self, address: IpAddr) -> Option<Country>;
}

/// Without a database no address has a country.
impl Countries for () {
    fn country(&self, _: IpAddr) -> Option<Country> {
        None
    }
}
