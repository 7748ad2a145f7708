//! What a session keeps of its first request, for later questions: little, however large that was.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use hashbrown::{HashTable, hash_table::Entry};

use crate::judge::Request;

/// The longest texts that are kept, in bytes; all of them are even.
const LONGEST_UA: usize = 512;
const LONGEST_REFERER: usize = 512;
const LONGEST_HOST: usize = 256;
const LONGEST_QUERY: usize = 1024;
/// How many players' texts are remembered before those that nobody needs any more are looked for.
const FEW_PLAYERS: usize = 64;

/// What many viewers have in common: their player, and the page that it is on.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Player {
    pub(super) ua: Option<Box<str>>,
    /// The page that shows the stream: what the Referer says or, where that says nothing, the Origin.
    pub(super) referer: Option<Box<str>>,
    pub(super) host: Option<Box<str>>,
}

/// The players of all sessions, each once.
#[derive(Debug)]
pub(super) struct Players {
    table: Mutex<Known>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Known {
    players: HashTable<(u64, Weak<Player>)>,
    /// How many there may be until those that are gone are taken out.
    clean_at: usize,
}

impl Players {
    pub(super) fn new() -> Self {
        let known = Known { players: HashTable::new(), clean_at: FEW_PLAYERS };
        Self { table: Mutex::new(known), hasher: RandomState::new() }
    }

    /// The player of a request. Only sessions that begin come here.
    pub(super) fn of(&self, request: &Request) -> Arc<Player> {
        let cut = |text: Option<&str>, longest: usize| {
            text.map(|text| Box::from(&text[..text.floor_char_boundary(longest)]))
        };
        let player = Player {
            ua: cut(request.ua.as_deref(), LONGEST_UA),
            referer: cut(request.page().or(request.referer.as_deref()), LONGEST_REFERER),
            host: cut(request.host.as_deref(), LONGEST_HOST),
        };
        let hash = self.hasher.hash_one(&player);
        let mut known = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if known.players.len() >= known.clean_at {
            known.players.retain(|(_, player)| player.strong_count() > 0);
            known.clean_at = (2 * known.players.len()).max(FEW_PLAYERS);
        }
        let same =
            |(of, one): &(u64, Weak<Player>)| *of == hash && one.upgrade().is_some_and(|one| *one == player);
        match known.players.entry(hash, same, |(hash, _)| *hash) {
            Entry::Occupied(entry) => entry.get().1.upgrade().unwrap_or_else(|| Arc::new(player)),
            Entry::Vacant(entry) => {
                let player = Arc::new(player);
                entry.insert((hash, Arc::downgrade(&player)));
                player
            }
        }
    }
}

/// What is kept. The token is whole, as it is a part of the session's key; the rest is cut.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) player: Arc<Player>,
    /// The query, and behind it the token unless the query has it.
    text: Box<str>,
    /// The query's length; [`NONE`] when there is none.
    query: u16,
    /// Where the token is; its length is [`u32::MAX`] when there is none.
    token: (u32, u32),
    /// The token is one that nicgate gave: backends are not told.
    given: bool,
}

const NONE: u16 = u16::MAX;

impl Kept {
    pub(super) fn of(request: &Request, player: Arc<Player>) -> Self {
        let query = request.query.as_deref().map(|query| &query[..query.floor_char_boundary(LONGEST_QUERY)]);
        let token = key_token(request);
        let mut text = query.unwrap_or_default().to_owned();
        let token = match token {
            None => (0, u32::MAX),
            Some(token) => {
                let start = text.find(token).unwrap_or_else(|| {
                    text.push_str(token);
                    text.len() - token.len()
                });
                (start as u32, token.len() as u32)
            }
        };
        Self {
            player,
            text: text.into(),
            query: query.map_or(NONE, |query| query.len() as u16),
            token,
            given: request.token.is_none(),
        }
    }

    /// The token of the session's key.
    pub(super) fn token(&self) -> Option<&str> {
        let (start, length) = self.token;
        (length != u32::MAX).then(|| &self.text[start as usize..start as usize + length as usize])
    }

    /// The token that the client came with, which backends are told.
    pub(super) fn shown_token(&self) -> Option<&str> {
        self.token().filter(|_| !self.given)
    }

    /// The query string.
    pub(super) fn query(&self) -> Option<&str> {
        (self.query != NONE).then(|| &self.text[..usize::from(self.query)])
    }

    /// Bytes of text, as if no other session had the same player.
    pub(super) fn bytes(&self) -> usize {
        let Player { ua, referer, host } = &*self.player;
        let texts = [ua, referer, host].into_iter().flatten();
        self.text.len() + texts.map(|text| text.len()).sum::<usize>()
    }
}

/// The token by which requests belong together.
///
/// No client can give a token that has the form of nicgate's own.
pub(super) fn key_token(request: &Request) -> Option<&str> {
    request.token.as_deref().or(request.auto_token.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::made;

    fn request(token: Option<&str>, query: Option<&str>, ua: &str) -> Request {
        Request {
            path: "cam/index.m3u8".into(),
            ua: Some(ua.into()),
            host: Some("tv.example.com".into()),
            query: query.map(Into::into),
            ..made::request("192.0.2.1", token)
        }
    }

    #[test]
    fn little_is_kept_of_a_large_request_and_the_token_is_whole() {
        let players = Players::new();
        let long = "é".repeat(9999);
        let large = Request {
            referer: Some(long.as_str().into()),
            host: Some(long.as_str().into()),
            ..request(Some(&long), Some(&long), &long)
        };
        let kept = Kept::of(&large, players.of(&large));
        assert_eq!(kept.token(), Some(&*long));
        let Player { ua, referer, host } = &*kept.player;
        let lengths = [ua, referer, host].map(|text| text.as_ref().unwrap().len());
        assert_eq!(lengths, [LONGEST_UA, LONGEST_REFERER, LONGEST_HOST]);
        assert_eq!(kept.query().unwrap().len(), LONGEST_QUERY);
    }

    #[test]
    fn a_token_in_the_query_is_not_kept_twice() {
        let players = Players::new();
        for (token, query, bytes) in [
            (Some("secret"), Some("token=secret"), 12),
            (Some("a+b"), Some("token=a%2Bb"), 14),
            (Some("secret"), None, 6),
            (None, Some("x=1"), 3),
            (None, None, 0),
            (None, Some(""), 0),
        ] {
            let request = request(token, query, "");
            let kept = Kept::of(&request, players.of(&request));
            assert_eq!((kept.token(), kept.query()), (token, query));
            assert_eq!(kept.text.len(), bytes, "{token:?} {query:?}");
        }
    }

    #[test]
    fn backends_are_not_told_of_a_token_that_nicgate_gave() {
        let request = Request { auto_token: Some("nicgate0".into()), ..request(None, Some("x=1"), "") };
        let kept = Kept::of(&request, Players::new().of(&request));
        assert_eq!((kept.token(), kept.shown_token()), (Some("nicgate0"), None));
    }

    #[test]
    fn players_are_kept_once_and_no_longer_than_their_sessions() {
        let players = Players::new();
        let one = players.of(&request(None, None, "VLC"));
        assert!(Arc::ptr_eq(&one, &players.of(&request(Some("t"), None, "VLC"))));
        assert!(!Arc::ptr_eq(&one, &players.of(&request(None, None, "curl"))));
        for n in 0..10_000 {
            players.of(&request(None, None, &n.to_string()));
        }
        let known = players.table.lock().unwrap();
        assert!(known.players.len() <= FEW_PLAYERS, "{} are known", known.players.len());
    }
}
