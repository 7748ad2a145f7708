//! Where a gate's requests go, and what is taken off their paths.

use super::{
    Binder,
    service::GateDraft,
    upstream::{Target, is_address},
};
use crate::config::syntax::Statement;

impl Binder<'_> {
    /// `upstream URL|ADDR|NAME;` in a `gate`.
    pub(super) fn gate_upstream(&mut self, option: &Statement, draft: &mut GateDraft) {
        let word = option.directive();
        if let Some((_, earlier)) = draft.upstream {
            let place = self.sources.place(earlier);
            let message = format!("this gate has an upstream already, at {place}");
            self.sources
                .error(word.span, "duplicate-directive", message)
                .help("remove one of the two, or name both in an `upstream NAME { server …; }`");
        }
        let target = self.only_value(option, "its address, or the name of an `upstream`").and_then(|word| {
            if is_address(&word.text) {
                self.server_address(word).map(Target::One)
            } else {
                Some(Target::Named(word.clone()))
            }
        });
        draft.upstream = Some((target, word.span));
    }

    /// `path PREFIX;` in a `gate`.
    pub(super) fn gate_path(&mut self, option: &Statement, draft: &mut GateDraft) {
        let Some(word) = self.only_value(option, "what paths begin with, such as /tv") else { return };
        let inner = word.text.strip_prefix('/').map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let strange = |segment: &str| {
            matches!(segment, "" | "." | "..")
                || segment.contains(|c: char| c.is_control() || matches!(c, '%' | '\\' | '?' | '#' | ';'))
        };
        let Some(prefix) = inner.filter(|inner| !inner.split('/').any(strange)) else {
            let message = format!("`{}` is no beginning of a path", word.as_written());
            self.sources
                .error(word.span, "bad-path", message)
                .help("write it as `path /tv;`: whole segments, not encoded");
            return;
        };
        if let Some((_, earlier)) = draft.prefix.replace((prefix.into(), word.span)) {
            self.set_again("path", word.span, earlier);
        }
    }
}
