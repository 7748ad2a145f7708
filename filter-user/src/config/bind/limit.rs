//! `limit NAME VALUE;`

use super::Binder;
use crate::{
    config::{quantity::number, syntax::Statement, vocabulary::did_you_mean},
    model::{Limit, Setting, Unit},
};

impl Binder<'_> {
    /// `limit NAME VALUE;`: a limit of nicgate's own.
    pub(super) fn limit(&mut self, statement: &Statement) {
        self.no_block(statement);
        let [name, value, ..] = statement.values() else {
            self.sources
                .error(statement.span(), "missing-value", "`limit` needs a name and a value")
                .help("write it as `limit connections_per_address 1024;`");
            return;
        };
        self.no_more(statement, 2);
        let named = Limit::named(&name.text).and_then(|limit| Some((limit, limit.setting()?)));
        let Some((limit, setting)) = named else {
            let names: Vec<&str> =
                Limit::ALL.into_iter().filter(|limit| limit.setting().is_some()).map(Limit::name).collect();
            let help = did_you_mean(&name.text, &names)
                .unwrap_or_else(|| format!("known here: {}", names.join(", ")));
            let message = format!("`{}` is no limit that can be set", name.as_written());
            self.sources.error(name.span, "unknown-word", message).help(help);
            return;
        };
        let Setting { smallest, largest, default: _, shown, unit, meaning } = setting;
        let read = number(&value.text).filter(|value| (smallest..=largest).contains(value));
        let Some(read) = read else {
            let what = if unit == Unit::Bytes { "size, such as 32k or 512m," } else { "number" };
            let message = format!("`{}` is no {what} from {smallest} to {largest}", value.as_written());
            self.sources
                .error(value.span, "bad-number", message)
                .help(format!("{meaning} Unless it is set, it is {shown}."));
            return;
        };
        self.limits.set(limit, read);
        if let Some(earlier) = self.limits_at.insert(limit, value.span) {
            self.set_again(&format!("limit {limit}"), value.span, earlier);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_shown_as_they_are() {
        for (limit, setting) in Limit::ALL.into_iter().filter_map(|limit| Some((limit, limit.setting()?))) {
            assert_eq!(number(setting.shown.trim_matches('`')), Some(setting.default), "{limit}");
        }
    }
}
