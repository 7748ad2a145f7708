//! A compiled table as the kernel's maps will hold it, as plain data: no kernel object is touched here, so that what
//! fits can be said offline.

mod addresses;
mod flat;
mod image;
mod prefixes;
mod ranges;
mod size;
mod slots;

pub(crate) use addresses::Addresses;
pub use addresses::Layout;
pub(crate) use flat::{installed_v4, installed_v6};
pub use image::{Image, Slots};
pub(crate) use image::{Ports, map_proto, proto_of, service_key, text_of};
pub(crate) use prefixes::Prefix;
pub use size::{TooLarge, fits};
