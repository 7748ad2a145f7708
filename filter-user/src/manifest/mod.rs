//! Playlists and manifests on their way to a player: references to the same stream get the token that the player came
//! with. Pure: text in, text out.
//!
//! Players follow a relative reference without the query of what it stands in (RFC 3986, 5.2.2), so that a token has to
//! stand in every reference. [`Carrier`] says of one reference whether it gets the token; [`Playlist`] finds the
//! references of an HLS playlist line by line, and [`carry_mpd`] those of a DASH manifest. Everything between them
//! stays as it is, byte for byte.
//!
//! When in doubt a reference stays untouched: a segment without its token is refused, a token that has gone to another
//! host is out of anybody's hands.

mod bases;
mod hls;
mod mpd;
mod reference;

pub use hls::Playlist;
pub use mpd::{Unreadable, carry as carry_mpd};
pub use reference::{Carrier, Form, Place, Places};
