//! What a gate does for players: how they keep their tokens, where a token may stand, which pages may read refusals.

use url::Url;

use super::{Binder, service::GateDraft};
use crate::{
    config::{lexer::Word, syntax::Statement, vocabulary::did_you_mean},
    model::{Cors, PlayerToken, TokenFrom},
};

impl Binder<'_> {
    /// `player_token auto|playlist|cookie|off;` in a `gate`.
    pub(super) fn player_token(&mut self, option: &Statement, draft: &mut GateDraft) {
        const WAYS: &[&str] = &["auto", "playlist", "cookie", "off"];
        let Some(word) = self.only_value(option, "auto, playlist, cookie or off") else { return };
        let way = match &*word.text {
            "auto" => PlayerToken::Auto,
            "playlist" => PlayerToken::Playlist,
            "cookie" => PlayerToken::Cookie,
            "off" => PlayerToken::Off,
            _ => return self.unknown_choice(word, "no way for a player to keep its token", WAYS),
        };
        if let Some((_, earlier)) = draft.player_token.replace((way, word.span)) {
            self.set_again("player_token", word.span, earlier);
        }
    }

    /// `token_from query|header|cookie|path…;` in a `gate`.
    pub(super) fn token_from(&mut self, option: &Statement, draft: &mut GateDraft) {
        const PLACES: &[&str] = &["query", "header", "cookie", "path"];
        self.no_block(option);
        let Some(first) = self.first_value(option, "query, header, cookie or path") else { return };
        let mut from = TokenFrom { query: false, header: false, cookie: false, path: false };
        for word in option.values() {
            match &*word.text {
                "query" => from.query = true,
                "header" => from.header = true,
                "cookie" => from.cookie = true,
                "path" => from.path = true,
                _ => return self.unknown_choice(word, "no place for a token", PLACES),
            }
        }
        if let Some((_, earlier)) = draft.token_from.replace((from, first.span)) {
            self.set_again("token_from", first.span, earlier);
        }
    }

    /// `cors any|off|ORIGIN…;` in a `gate`.
    pub(super) fn cors(&mut self, option: &Statement, draft: &mut GateDraft) {
        self.no_block(option);
        let Some(first) = self.first_value(option, "any, off, or the origins of pages") else { return };
        let cors = match option.values() {
            [word] if word.is("any") => Cors::Any,
            [word] if word.is("off") => Cors::Off,
            words => {
                let mut origins = Vec::new();
                for word in words {
                    let Some(origin) = self.page_origin(word) else { return };
                    origins.push(origin);
                }
                Cors::Only(origins)
            }
        };
        if let Some((_, earlier)) = draft.cors.replace((cors, first.span)) {
            self.set_again("cors", first.span, earlier);
        }
    }

    /// An origin, in the form in which browsers send it.
    fn page_origin(&mut self, word: &Word) -> Option<Box<str>> {
        let origin = Url::parse(&word.text).ok().map(|url| url.origin());
        let written = origin.filter(url::Origin::is_tuple).map(|origin| origin.ascii_serialization());
        if written.as_deref() == Some(&*word.text) {
            return Some((&*word.text).into());
        }
        let message = format!("`{}` is no origin of a page", word.as_written());
        let help = match written {
            Some(written) => format!("browsers send `{written}`"),
            None => "write scheme and host, as in https://portal.example".to_owned(),
        };
        self.sources.error(word.span, "bad-origin", message).help(help);
        None
    }

    /// What a gate's settings say together.
    pub(super) fn check_player(&mut self, draft: &GateDraft) {
        let (Some((PlayerToken::Playlist, at)), Some((from, _))) = (draft.player_token, draft.token_from)
        else {
            return;
        };
        if !from.query && !from.path {
            self.sources
                .warning(at, "token-unwritten", "no token can be written into playlists of this gate")
                .help("a reference can hold one only in its query or its path: add `query` to `token_from`");
        }
    }

    fn unknown_choice(&mut self, word: &Word, what: &str, known: &[&str]) {
        let help =
            did_you_mean(&word.text, known).unwrap_or_else(|| format!("known here: {}", known.join(", ")));
        let message = format!("`{}` is {what}", word.as_written());
        self.sources.error(word.span, "unknown-word", message).help(help);
    }
}
