//! The token by which a player is one viewer: its own, or the one that nicgate gives it, and how it keeps it.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::token::Found;
use crate::{
    judge::{AutoTokens, Request, is_auto_token},
    manifest::Form,
    model::{Config, Gate, Operation, PlayerToken},
};

/// How many playlists of playlists are remembered; then it begins anew.
const MOST_REMEMBERED: usize = 4096;

/// What an Apple player names itself by, for as long as it plays one thing.
const PLAYBACK_ID: &str = "x-playback-session-id";

/// Gives tokens to players that come without one.
#[derive(Debug)]
pub(super) struct PlayerTokens {
    tokens: ArcSwap<Keyed>,
    /// Paths of playlists that list other playlists. A player asks for one once, when it begins.
    beginnings: Mutex<HashSet<Arc<str>>>,
}

/// How a player is to keep its token.
#[derive(Clone, Debug)]
pub(super) struct Keep {
    pub(super) token: Arc<str>,
    /// Written into playlists and manifests, in this form.
    pub(super) written: Option<Form>,
    /// Given as a cookie.
    pub(super) cookie: bool,
    /// The player has just been given it, and the upstream has not seen it.
    pub(super) new: bool,
}

/// The tokens of one key.
struct Keyed {
    key: TokenKey,
    tokens: AutoTokens,
}

/// The secret by which nicgate knows its own tokens again.
pub type TokenKey = [u8; 32];

impl Keyed {
    fn new(key: TokenKey) -> Self {
        Self { key, tokens: AutoTokens::new(&key) }
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed")
    }
}

impl PlayerTokens {
    /// With a key by chance: a player whose token another process gave gets another one, unless its key is taken.
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("Linux has random bytes for whoever asks");
        Self { tokens: ArcSwap::from_pointee(Keyed::new(key)), beginnings: Mutex::default() }
    }

    /// The secret, for the process that takes over.
    pub(super) fn key(&self) -> TokenKey {
        self.tokens.load().key
    }

    /// Goes on with the secret of another process.
    pub(super) fn take_key(&self, key: TokenKey) {
        self.tokens.store(Arc::new(Keyed::new(key)));
    }

    /// A short word that stands for some texts.
    pub(super) fn mark(&self, texts: &[&str]) -> String {
        self.tokens.load().tokens.mark(texts)
    }

    /// A proof that nicgate wrote this target for the stream.
    pub(super) fn sign(&self, stream: &str, target: &str) -> String {
        self.tokens.load().tokens.sign(&[stream, target])
    }

    /// Whether [`sign`](Self::sign) made it.
    pub(super) fn signed(&self, stream: &str, target: &str, signature: &str) -> bool {
        self.tokens.load().tokens.signed(&[stream, target], signature)
    }

    /// Remembers that players begin by asking for this path.
    pub(super) fn begins_at(&self, path: &Arc<str>) {
        let mut beginnings = self.beginnings.lock().unwrap_or_else(PoisonError::into_inner);
        if beginnings.len() >= MOST_REMEMBERED {
            beginnings.clear();
        }
        beginnings.insert(path.clone());
    }

    fn is_beginning(&self, path: &str) -> bool {
        self.beginnings.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Puts the token that was found, or one of nicgate's own, into the request, and says how the player is to keep it.
    pub(super) fn settle(
        &self,
        config: &Config,
        gate: &Gate,
        found: &Found,
        request: &mut Request,
        (method, headers): (&Method, &HeaderMap),
    ) -> Option<Keep> {
        let stream = &*config.stream_for(&request.path)?.name;
        let given = found.token.clone();
        let mut new = false;
        if given.as_deref().is_none_or(is_auto_token) {
            let gave = given.filter(|token| self.tokens.load().tokens.gave(token, stream, request.address));
            let wanted = !config.no_auto_token
                && gate.player_token != PlayerToken::Off
                && request.operation == Operation::Play;
            new = gave.is_none();
            if wanted {
                request.auto_token = gave.or_else(|| self.give(gate, stream, request, headers));
            }
        } else {
            request.token = given;
        }
        let reads = *method == Method::GET || *method == Method::HEAD;
        if request.operation != Operation::Play || !reads {
            return None;
        }
        let token = request.token.clone().or_else(|| request.auto_token.clone())?;
        let from = gate.reads();
        let form = if from.query {
            Some(Form::Query)
        } else if from.path {
            Some(Form::Segment)
        } else {
            None
        };
        let written = match gate.player_token {
            PlayerToken::Auto => form.filter(|_| new || found.may_be_lost),
            PlayerToken::Playlist => form,
            PlayerToken::Cookie | PlayerToken::Off => None,
        };
        let cookie = gate.player_token == PlayerToken::Cookie && (new || !found.in_cookie);
        (written.is_some() || cookie).then_some(Keep { token, written, cookie, new })
    }

    /// A token for a player without one.
    fn give(&self, gate: &Gate, stream: &str, request: &Request, headers: &HeaderMap) -> Option<Arc<str>> {
        let mut nonce = [0; 8];
        let begins = matches!(gate.player_token, PlayerToken::Auto | PlayerToken::Playlist)
            && self.is_beginning(&request.path)
            && getrandom::fill(&mut nonce).is_ok();
        if begins {
            return Some(self.tokens.load().tokens.fresh(stream, request.address, nonce));
        }
        let playback = headers.get(PLAYBACK_ID).and_then(|value| value.to_str().ok());
        Some(self.tokens.load().tokens.own(stream, request.address, &[request.ua.as_deref(), playback]))
    }
}

/// What a player encodes in a path; a browser compares what is written, not what it means.
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'%').add(b';').add(b'<').add(b'>').add(b'?').add(b'#');

/// Gives the token as a cookie of the stream. It ends with the browser.
///
/// Where the client came over TLS, a page of another site may send it too. Without TLS a cookie can neither be `Secure`
/// nor, therefore, `SameSite=None`: such a page plays with the token in the query.
pub(super) fn set_cookie(
    headers: &mut HeaderMap,
    (name, token): (&str, &str),
    (prefix, stream): (&str, &str),
    https: bool,
) {
    let token = utf8_percent_encode(token, NON_ALPHANUMERIC);
    let site = if https { "Secure; SameSite=None" } else { "SameSite=Lax" };
    cookie(headers, &format!("{name}={token}; Path={}; HttpOnly; {site}", path(prefix, stream)));
}

/// Takes the cookie of the stream away.
pub(super) fn unset_cookie(headers: &mut HeaderMap, name: &str, (prefix, stream): (&str, &str)) {
    cookie(headers, &format!("{name}=; Path={}; Max-Age=0; HttpOnly; SameSite=Lax", path(prefix, stream)));
}

fn path(prefix: &str, stream: &str) -> String {
    let prefix =
        if prefix.is_empty() { String::new() } else { format!("/{}", utf8_percent_encode(prefix, PATH)) };
    format!("{prefix}/{}", utf8_percent_encode(stream, PATH))
}

fn cookie(headers: &mut HeaderMap, text: &str) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(header::SET_COOKIE, value);
    }
}
