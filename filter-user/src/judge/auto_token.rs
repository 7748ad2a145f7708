//! Tokens that nicgate gives players that come without one, so that each is one session from then on.
//!
//! Such a token proves that nicgate gave it for this stream to this address, and nothing else: it is never looked up
//! in a list and never told to a backend, and a request with one is judged as a request without a token. One that was
//! not given for this stream and this address counts as none.
//!
//! Two kinds were weighed. A token by chance alone is a new player for every request that brings none, and a player
//! that asks for its playlist every few seconds, by the URL that it was given, brings none. So a token is made of what
//! the player shows of itself, with a secret key: it cannot be guessed, and it is the same for the same player. Only
//! where it is known that a request begins something new is it by chance ([`AutoTokens::fresh`]).

use std::{fmt, net::IpAddr, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::address::subscriber;

/// What such a token begins with. Hexadecimal digits follow.
const PREFIX: &str = "nicgate";
/// What tells players apart, in bytes.
const NONCE: usize = 8;
/// What proves that nicgate gave it, in bytes.
const PROOF: usize = 16;

/// For what no address is asked about.
const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// Makes tokens and knows them again, with a key of the process.
#[derive(Clone)]
pub struct AutoTokens(Hmac<Sha256>);

impl fmt::Debug for AutoTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AutoTokens")
    }
}

impl AutoTokens {
    /// With a secret key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The token of the player that shows these traits: a User-Agent and the like.
    pub fn own(&self, stream: &str, address: IpAddr, traits: &[Option<&str>]) -> Arc<str> {
        let mut parts = vec![stream];
        parts.extend(traits.iter().map(|one| one.unwrap_or_default()));
        let mac = self.mac("player", address, &parts).finalize().into_bytes();
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&mac[..NONCE]);
        self.fresh(stream, address, nonce)
    }

    /// The token of a player of its own; `nonce` is by chance.
    pub fn fresh(&self, stream: &str, address: IpAddr, nonce: [u8; NONCE]) -> Arc<str> {
        let nonce = hex(&nonce);
        let proof = self.mac("token", address, &[stream, &nonce]).finalize().into_bytes();
        format!("{PREFIX}{nonce}{}", hex(&proof[..PROOF])).into()
    }

    /// Whether the token was given for this stream and this address. The addresses of one IPv6 /64 count as one.
    pub fn gave(&self, token: &str, stream: &str, address: IpAddr) -> bool {
        let Some(digits) = digits(token) else { return false };
        let (nonce, proof) = digits.split_at(2 * NONCE);
        bytes(proof).is_some_and(|proof| {
            self.mac("token", address, &[stream, nonce]).verify_truncated_left(&proof).is_ok()
        })
    }

    /// A proof that nicgate wrote these texts, in hexadecimal digits.
    pub fn sign(&self, texts: &[&str]) -> String {
        hex(&self.mac("text", NOBODY, texts).finalize().into_bytes()[..PROOF])
    }

    /// Whether [`sign`](Self::sign) made it of these texts.
    pub fn signed(&self, texts: &[&str], signature: &str) -> bool {
        let proof = bytes(signature).filter(|proof| proof.len() == PROOF);
        proof.is_some_and(|proof| self.mac("text", NOBODY, texts).verify_truncated_left(&proof).is_ok())
    }

    /// A short word that stands for some texts, and tells nothing of them.
    pub fn mark(&self, texts: &[&str]) -> String {
        hex(&self.mac("mark", NOBODY, texts).finalize().into_bytes()[..6])
    }

    /// The hash of texts, each with its length, so that no two lists of texts are the same.
    fn mac(&self, purpose: &str, address: IpAddr, texts: &[&str]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        let address = subscriber(address).to_string();
        for text in [purpose, &address].iter().chain(texts) {
            mac.update(&(text.len() as u64).to_le_bytes());
            mac.update(text.as_bytes());
        }
        mac
    }
}

/// Whether a token has the form of those that nicgate gives. It is then never taken for one that a client was given by
/// somebody else.
pub fn is_auto_token(token: &str) -> bool {
    digits(token).is_some()
}

fn digits(token: &str) -> Option<&str> {
    let digits = token.strip_prefix(PREFIX)?;
    let all = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (all && digits.len() == 2 * (NONCE + PROOF)).then_some(digits)
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    let pairs = digits
        .chunks_exact(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    pairs.collect::<Option<_>>().filter(|_| digits.len().is_multiple_of(2))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_its_stream_and_its_address_alone() {
        let (ours, others) = (AutoTokens::new(&[1; 32]), AutoTokens::new(&[2; 32]));
        let [here, there] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let token = ours.own("cam", here, &[Some("VLC"), None]);
        assert!(is_auto_token(&token) && ours.gave(&token, "cam", here));
        assert!(!ours.gave(&token, "cam2", here) && !ours.gave(&token, "cam", there));
        assert!(!others.gave(&token, "cam", here), "another process has another key");
        for at in PREFIX.len()..token.len() {
            let digit = if &token[at..=at] == "0" { "1" } else { "0" };
            let forged = format!("{}{digit}{}", &token[..at], &token[at + 1..]);
            assert!(is_auto_token(&forged) && !ours.gave(&forged, "cam", here), "{forged}");
        }
        for other in ["", "good", "nicgate", &token[1..], &token.to_uppercase(), &format!("{token}0")] {
            assert!(!is_auto_token(other) && !ours.gave(other, "cam", here), "{other}");
        }
    }

    #[test]
    fn the_same_player_has_the_same_token_and_no_other_has() {
        let tokens = AutoTokens::new(&[1; 32]);
        let [here, there] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let mut all: Vec<_> = [
            ("cam", here, [None, None]),
            ("cam", here, [Some("a"), None]),
            ("cam", here, [None, Some("a")]),
            ("cam", there, [None, None]),
            ("camera", here, [None, None]),
        ]
        .iter()
        .map(|(stream, address, traits)| {
            let token = tokens.own(stream, *address, traits);
            assert_eq!(token, tokens.own(stream, *address, traits));
            token
        })
        .collect();
        all.push(tokens.fresh("cam", here, [7; 8]));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        let [one, two] = ["2001:db8::1", "2001:db8::2"].map(|address| address.parse().unwrap());
        assert!(tokens.gave(&tokens.own("cam", one, &[]), "cam", two), "a /64 is one subscriber");
    }

    #[test]
    fn a_signature_is_of_its_texts_alone() {
        let tokens = AutoTokens::new(&[1; 32]);
        let signature = tokens.sign(&["a", "b"]);
        assert!(tokens.signed(&["a", "b"], &signature));
        assert!(!tokens.signed(&["ab", ""], &signature));
        assert!(!AutoTokens::new(&[2; 32]).signed(&["a", "b"], &signature));
        for wrong in ["", "00", &signature[2..], &signature[1..], "zz", "é"] {
            assert!(!tokens.signed(&["a", "b"], wrong), "{wrong}");
        }
    }

    #[test]
    fn a_mark_tells_texts_apart() {
        let tokens = AutoTokens::new(&[1; 32]);
        assert_ne!(tokens.mark(&["a", "bc"]), tokens.mark(&["ab", "c"]));
        assert_eq!(tokens.mark(&["a"]), tokens.mark(&["a"]));
    }
}
