//! How sessions are kept, and how many there may be.

use super::{Binder, policy::PolicyDraft, stream::StreamDraft};
use crate::{
    config::{lexer::Word, quantity::number, syntax::Statement, vocabulary::did_you_mean},
    model::{Follows, Service, ServiceKind},
};

/// What to write for `max_sessions` in an `auth_backend`.
const LIMIT_FORM: &str = "write it as `max_sessions 2 per token;` or `max_sessions 5 per address;`";
/// What to write for `session_follows`.
const FOLLOWS_FORM: &str = "write `session_follows off;`, `session_follows token;` or `session_follows ip_prefix 24/56;`: \
                            the lengths of a network of IPv4 and of one of IPv6";

impl Binder<'_> {
    /// `max_sessions N per token|address;` in an `auth_backend`
    pub(super) fn policy_max_sessions(&mut self, line: &Statement, draft: &mut PolicyDraft) {
        let [count, per, of, ..] = line.values() else {
            self.sources
                .error(line.span(), "missing-value", "`max_sessions` needs a number, and what it is for")
                .help(LIMIT_FORM);
            return;
        };
        self.no_more(line, 3);
        let Some(most) = self.count(count, 1, LIMIT_FORM) else { return };
        let place = match (&*per.text, &*of.text) {
            ("per", "token") => &mut draft.max_sessions.per_token,
            ("per", "address" | "ip") => &mut draft.max_sessions.per_address,
            ("per", other) => {
                let message = format!("sessions are not counted for each `{other}`");
                let help =
                    did_you_mean(other, &["token", "address"]).unwrap_or_else(|| LIMIT_FORM.to_owned());
                self.sources.error(of.span, "unknown-word", message).help(help);
                return;
            }
            (other, _) => {
                let message = format!("`{other}` where `per` is expected");
                self.sources.error(per.span, "unexpected-word", message).help(LIMIT_FORM);
                return;
            }
        };
        let origin = self.sources.origin(line.span());
        let former = place.replace((most, origin));
        self.session_limits.push(line.directive().span);
        if let Some((_, earlier)) = former {
            let message = format!("`max_sessions per {}` is set already, at {earlier}", of.text);
            self.sources
                .warning(line.span(), "duplicate-directive", message)
                .help("the later one counts; remove one of the two");
        }
    }

    /// `max_sessions N;` in a stream or a template
    pub(super) fn stream_max_sessions(&mut self, line: &Statement, draft: &mut StreamDraft) {
        let Some(word) = self.only_value(line, "how many may play the stream at once") else { return };
        let Some(most) = self.count(word, 0, "write it as `max_sessions 100;`") else { return };
        if most > 0 {
            self.session_limits.push(line.directive().span);
        }
        if let Some((_, earlier)) = draft.max_sessions.replace((most, line.span())) {
            self.set_again("max_sessions", word.span, earlier);
        }
    }

    fn count(&mut self, word: &Word, least: u32, form: &str) -> Option<u32> {
        let read = number(&word.text).and_then(|count| u32::try_from(count).ok());
        let read = read.filter(|count| *count >= least);
        if read.is_none() {
            let message = format!("`{}` is no number of sessions", word.as_written());
            self.sources.error(word.span, "bad-number", message).help(form);
        }
        read
    }

    /// Warns of limits that hold nowhere: only a gate knows of sessions.
    pub(super) fn warn_of_session_limits(&mut self, services: &[Service]) {
        let has_gate = services.iter().any(|service| matches!(service.kind, ServiceKind::Gate(_)));
        let Some(first) = self.session_limits.first().filter(|_| !has_gate) else { return };
        let more = match self.session_limits.len() - 1 {
            0 => String::new(),
            1 => " (here and at one more place)".to_owned(),
            more => format!(" (here and at {more} more places)"),
        };
        self.sources
            .warning(
                *first,
                "not-enforced",
                format!("nicgate does not enforce `max_sessions`{more}: there is no gate"),
            )
            .help("only a gate knows of sessions: `gate PORT { upstream URL; }`");
    }

    /// `session_follows ip_prefix 24/56|token|off;`
    pub(super) fn session_follows(&mut self, statement: &Statement) {
        const WORDS: &[&str] = &["ip_prefix", "off", "token"];
        self.no_block(statement);
        let Some(word) = self.first_value(statement, "ip_prefix, token or off") else { return };
        let follows = match &*word.text {
            "off" => Follows::Nothing,
            "token" => Follows::Token,
            "ip_prefix" => {
                let lengths = statement.values().get(1);
                let Some(read) = lengths.and_then(|lengths| network_lengths(&lengths.text)) else {
                    let at = lengths.unwrap_or(word);
                    let message = match lengths {
                        None => "`ip_prefix` without the lengths of the networks".to_owned(),
                        Some(lengths) => format!("`{}` are no lengths of networks", lengths.as_written()),
                    };
                    self.sources.error(at.span, "bad-prefix-length", message).help(FOLLOWS_FORM);
                    return;
                };
                Follows::Prefix(read.0, read.1)
            }
            other => {
                let help = did_you_mean(other, WORDS).unwrap_or_else(|| FOLLOWS_FORM.to_owned());
                let message = format!("sessions do not follow `{other}`");
                self.sources.error(word.span, "unknown-word", message).help(help);
                return;
            }
        };
        self.no_more(statement, if matches!(follows, Follows::Prefix(..)) { 2 } else { 1 });
        if let Some((_, earlier)) = self.session_follows.replace((follows, word.span)) {
            self.set_again("session_follows", word.span, earlier);
        }
    }

    /// `session_idle TIME;`
    pub(super) fn session_idle(&mut self, statement: &Statement) {
        let Some(idle) = self.time(statement) else { return };
        let at = statement.values()[0].span;
        if let Some((_, earlier)) = self.session_idle.replace((idle, at)) {
            self.set_again("session_idle", at, earlier);
        }
    }
}

/// `24/56`: the length of a network of IPv4, and of one of IPv6.
fn network_lengths(text: &str) -> Option<(u8, u8)> {
    let (v4, v6) = text.split_once('/')?;
    let length = |text: &str, longest: u8| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|length: &u8| plain && *length <= longest)
    };
    Some((length(v4, 32)?, length(v6, 128)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_two_lengths() {
        for (text, lengths) in [
            ("24/56", Some((24, 56))),
            ("0/0", Some((0, 0))),
            ("32/128", Some((32, 128))),
            ("33/56", None),
            ("24/129", None),
            ("24", None),
            ("24/", None),
            ("+4/56", None),
            ("24/56/1", None),
        ] {
            assert_eq!(network_lengths(text), lengths, "{text}");
        }
    }
}
