//! What a gate does for players, beside judging them.

use std::sync::Arc;

use super::{Trust, Upstream};

/// How nicgate serves a port itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Where admitted requests go.
    pub upstream: Arc<Upstream>,
    /// What every path begins with that is not the media server's: a path that begins otherwise is nobody's. Segments
    /// with a `/` between them and none at the ends; empty for none.
    pub prefix: Arc<str>,
    /// Proxies in front of it.
    pub trust: Trust,
    /// How a player keeps its token.
    pub player_token: PlayerToken,
    /// Where a token may stand.
    pub token_from: TokenFrom,
    /// Which pages may read answers of nicgate's own.
    pub cors: Cors,
}

impl Gate {
    /// A gate with the default settings.
    pub fn new(upstream: impl Into<Upstream>) -> Self {
        Self {
            upstream: Arc::new(upstream.into()),
            prefix: "".into(),
            trust: Trust::default(),
            player_token: PlayerToken::default(),
            token_from: TokenFrom::default(),
            cors: Cors::default(),
        }
    }

    /// Where a token is looked for: what nicgate gives as a cookie it reads as one.
    pub fn reads(&self) -> TokenFrom {
        TokenFrom {
            cookie: self.token_from.cookie || self.player_token == PlayerToken::Cookie,
            ..self.token_from
        }
    }
}

/// How a player keeps the token that it came with, or gets one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlayerToken {
    /// As `Playlist`, except for a token that came as a cookie: the player sends that again by itself.
    #[default]
    Auto,
    /// The token is written into the references of playlists and manifests.
    Playlist,
    /// The token is given as a cookie of the stream.
    Cookie,
    /// What the upstream answers stays as it is.
    Off,
}

/// Where a token may stand in a request. Where it stands in several places they agree, or the request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenFrom {
    /// `?NAME=VALUE`
    pub query: bool,
    /// `Authorization: Bearer VALUE`
    pub header: bool,
    /// `Cookie: NAME=VALUE`
    pub cookie: bool,
    /// A segment `NAME=VALUE` of the path, which is taken out before the path is read.
    pub path: bool,
}

impl Default for TokenFrom {
    fn default() -> Self {
        Self { query: true, header: false, cookie: false, path: false }
    }
}

/// Which pages may read answers of nicgate's own, as browsers ask (Cross-Origin Resource Sharing).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// All.
    #[default]
    Any,
    /// Those of these origins; they may also send cookies with every method.
    Only(Vec<Box<str>>),
    /// None.
    Off,
}
