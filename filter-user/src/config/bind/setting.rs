//! Single settings.

use super::Binder;
use crate::{
    config::{prefix::parse_prefix, source::Span, syntax::Statement, vocabulary::did_you_mean},
    model::{Engine, Interface, InterfaceMode},
};

/// The kernel's IFNAMSIZ, without the closing zero.
const LONGEST_INTERFACE: usize = 15;

/// An `interface` that is being read.
#[derive(Default)]
pub(super) struct InterfaceDraft {
    mode: Option<(InterfaceMode, Span)>,
    pub(super) required: bool,
}

impl Binder<'_> {
    /// `interface NAME { … }`
    pub(super) fn interface(&mut self, statement: &Statement) {
        let Some(name) = self.first_value(statement, "its name") else { return };
        self.no_more(statement, 1);
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
        if name.text.is_empty() || name.text.len() > LONGEST_INTERFACE || name.text.contains(bad) {
            let message = format!("`{}` is no name of an interface", name.as_written());
            self.sources.error(name.span, "bad-interface", message).help("`ip link` lists the interfaces");
        } else if name.text.contains(['*', '?', '[']) {
            let message = format!("`{}` is read as a name, not as a pattern", name.as_written());
            self.sources
                .warning(name.span, "interface-pattern", message)
                .help("write an `interface NAME;` for each; `ip link` lists them");
        }
        let mut draft = InterfaceDraft::default();
        for option in statement.statements() {
            self.directive(option, &mut draft);
        }
        if let Some((_, earlier)) = self.interfaces.iter().find(|(known, _)| *known.name == *name.text) {
            self.duplicate(&format!("the interface `{}`", name.text), name.span, *earlier);
            return;
        }
        let origin = self.sources.origin(statement.span());
        let InterfaceDraft { mode, required } = draft;
        let mode = mode.map_or_else(InterfaceMode::default, |(mode, _)| mode);
        self.interfaces.push((Interface { name: (&*name.text).into(), mode, required, origin }, name.span));
    }

    /// `mode auto|native|generic|offload;` in an `interface`.
    pub(super) fn interface_mode(&mut self, option: &Statement, draft: &mut InterfaceDraft) {
        const MODES: &[&str] = &["auto", "native", "generic", "offload"];
        let Some(word) = self.only_value(option, "auto, native, generic or offload") else { return };
        if let Some((_, earlier)) = draft.mode {
            self.set_again("mode", word.span, earlier);
        }
        let read = match &*word.text {
            "auto" => InterfaceMode::Auto,
            "native" => InterfaceMode::Native,
            "generic" => InterfaceMode::Generic,
            "offload" => InterfaceMode::Offload,
            other => {
                let help =
                    did_you_mean(other, MODES).unwrap_or_else(|| format!("known here: {}", MODES.join(", ")));
                self.sources.error(word.span, "unknown-word", format!("unknown mode `{other}`")).help(help);
                return;
            }
        };
        draft.mode = Some((read, word.span));
    }

    /// `engine flat|lpm;`
    pub(super) fn engine(&mut self, statement: &Statement) {
        const ENGINES: &[&str] = &["flat", "lpm"];
        let Some(word) = self.only_value(statement, "flat or lpm") else { return };
        let engine = match &*word.text {
            "flat" => Engine::Flat,
            "lpm" => Engine::Lpm,
            other => {
                let help = did_you_mean(other, ENGINES)
                    .unwrap_or_else(|| format!("known here: {}", ENGINES.join(", ")));
                self.sources.error(word.span, "unknown-word", format!("unknown engine `{other}`")).help(help);
                return;
            }
        };
        if let Some((_, earlier)) = self.engine.replace((engine, word.span)) {
            self.set_again("engine", word.span, earlier);
        }
    }

    /// `list_guard on|off;`
    pub(super) fn list_guard(&mut self, statement: &Statement) {
        let Some(word) = self.only_value(statement, "on or off") else { return };
        let on = match &*word.text {
            "on" => true,
            "off" => false,
            other => {
                self.sources
                    .error(word.span, "unknown-word", format!("`{other}` is neither on nor off"))
                    .help("known here: on, off");
                return;
            }
        };
        if let Some((_, earlier)) = self.list_guard.replace((on, word.span)) {
            self.set_again("list_guard", word.span, earlier);
        }
    }

    /// `never_drop PREFIX…;`
    pub(super) fn never_drop(&mut self, statement: &Statement) {
        self.no_block(statement);
        self.first_value(statement, "one or more prefixes");
        for word in statement.values() {
            if let Some(net) = self.prefix(word) {
                self.never_drop.push((net, self.sources.origin(word.span)));
            }
        }
    }

    /// `geoip PATH;`
    pub(super) fn geoip(&mut self, statement: &Statement) {
        let Some(word) = self.only_value(statement, "the path of an MMDB file") else { return };
        if word.text.is_empty() {
            self.sources
                .error(word.span, "empty-value", "this path is empty")
                .help("write the path of an MMDB file");
            return;
        }
        let path = self.relative(word);
        if let Some((_, earlier)) = self.geoip.replace((path, word.span)) {
            self.set_again("geoip", word.span, earlier);
        }
    }

    /// `auth_token NAME;`
    pub(super) fn auth_token(&mut self, statement: &Statement) {
        let Some(word) = self.only_value(statement, "the name of the query parameter") else { return };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '~');
        if word.text.is_empty() || !word.text.chars().all(plain) {
            self.sources
                .error(
                    word.span,
                    "bad-parameter",
                    format!("`{}` is no name of a query parameter", word.as_written()),
                )
                .help("use letters, digits, `_`, `-`, `.` and `~`");
            return;
        }
        if let Some((_, earlier)) = self.auth_token.replace(((&*word.text).into(), word.span)) {
            self.set_again("auth_token", word.span, earlier);
        }
    }

    /// `backend_timeout TIME;`
    pub(super) fn backend_timeout(&mut self, statement: &Statement) {
        let Some(timeout) = self.time(statement) else { return };
        let at = statement.values()[0].span;
        if let Some((_, earlier)) = self.backend_timeout.replace((timeout, at)) {
            self.set_again("backend_timeout", at, earlier);
        }
    }

    /// `view_auth USER PASSWORD;` and `edit_auth`: the media server's own, looked at but not used.
    pub(super) fn credentials(&mut self, statement: &Statement) {
        if statement.values().len() != 2 {
            let name = &statement.directive().text;
            self.sources
                .warning(
                    statement.span(),
                    "credentials-form",
                    format!("`{name}` is not a user and a password"),
                )
                .help(format!("write it as `{name} USER PASSWORD;`"));
        }
    }

    /// `api_allowed_from PREFIX…;`: the media server's own, looked at but not used.
    pub(super) fn api_allowed_from(&mut self, statement: &Statement) {
        for word in statement.values() {
            if let Err(error) = parse_prefix(&word.text) {
                let part = word.part(&error.part());
                let message = format!("`api_allowed_from`: {error}");
                self.sources.warning(part, error.code(), message).help = error.help();
            }
        }
    }

    /// `iptv`: the subscriber database, which cannot be asked.
    pub(super) fn iptv(&mut self, statement: &Statement) {
        self.sources
            .note(statement.span(), "iptv", "nicgate does not read Flussonic's own subscriber database")
            .help("a `backend iptv://…` counts as not responding");
    }

    /// Warns of a setting that is set a second time.
    pub(super) fn set_again(&mut self, name: &str, at: Span, earlier: Span) {
        let place = self.sources.place(earlier);
        self.sources
            .warning(at, "duplicate-directive", format!("`{name}` is set already, at {place}"))
            .help("the later one counts; remove one of the two");
    }
}
