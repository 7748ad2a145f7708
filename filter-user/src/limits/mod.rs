//! What nicgate's own limits have kept from being done: counted by the name of the limit, and said once a minute.

mod files;
mod hits;
mod throttle;

pub use files::out_of_files;
pub use hits::{LimitCount, LimitHits};
pub use throttle::Throttle;
