//! The table of directives, a file for each block. A new directive is an entry here, a reader that the entry names, and
//! a field of the model.

mod auth_backend;
mod backend;
mod gate;
mod interface;
mod list;
mod real_ip;
mod source;
mod stream;
mod top;
mod upstream;

use super::{
    backend::BackendDraft,
    directive::{Directive, Draft, Effect},
    lists::ListDraft,
    policy::PolicyDraft,
    service::GateDraft,
    setting::InterfaceDraft,
    stream::{SourceDraft, StreamDraft},
    trust::RealIpDraft,
    upstream::UpstreamDraft,
};
use crate::{
    config::{
        reference::{DirectiveDoc, EffectWord, PlaceDoc},
        vocabulary::{Context, Known},
    },
    model::{Limit, Setting},
};

/// The top of a file; it is read into the binder itself.
pub(super) struct Top;

/// Looks a word up for the parser.
pub(super) fn look_up(context: Context, word: &str) -> Option<Known> {
    match context {
        Context::Top => Top::known(word),
        Context::Policy => PolicyDraft::known(word),
        Context::Stream => StreamDraft::known(word),
        Context::Source => SourceDraft::known(word),
        Context::Gate => GateDraft::known(word),
        Context::Backend => BackendDraft::known(word),
        Context::Interface => InterfaceDraft::known(word),
        Context::List => ListDraft::known(word),
        Context::RealIp => RealIpDraft::known(word),
        Context::Upstream => UpstreamDraft::known(word),
        Context::Other => None,
    }
}

/// The table as operators read it.
pub(in crate::config) fn reference() -> Vec<PlaceDoc> {
    vec![
        place::<Top>(),
        place::<PolicyDraft>(),
        place::<BackendDraft>(),
        place::<StreamDraft>(),
        place::<SourceDraft>(),
        place::<GateDraft>(),
        place::<RealIpDraft>(),
        place::<UpstreamDraft>(),
        place::<InterfaceDraft>(),
        limits(),
        place::<ListDraft>(),
    ]
}

fn place<D: Draft>() -> PlaceDoc {
    PlaceDoc { place: D::PLACE, about: D::ABOUT, directives: D::DIRECTIVES.iter().map(doc).collect() }
}

/// What `limit` can set.
fn limits() -> PlaceDoc {
    let settings = Limit::ALL.into_iter().filter_map(|limit| Some((limit, limit.setting()?)));
    let directives = settings.map(|(limit, Setting { shown, meaning, .. })| DirectiveDoc {
        names: limit.names(),
        form: "limit NAME VALUE;",
        about: meaning,
        default: shown,
        example: "",
        effect: EffectWord::Enforced,
        concerns: "",
    });
    let about = "The names of `limit`. What reaches one is counted by its name in `nicgate stats` and logged once a minute. \
                 The defaults are for an edge with some ten thousand viewers, thousands of whom share the address of a \
                 carrier's NAT or of a proxy in front.";
    PlaceDoc { place: "As the name of a `limit`", about, directives: directives.collect() }
}

fn doc<D>(directive: &Directive<D>) -> DirectiveDoc {
    let Directive { names, form, about, default, example, opens_if_missed: _, top_only: _, block: _, effect } =
        directive;
    let (effect, concerns) = match effect {
        Effect::Enforced(_) => (EffectWord::Enforced, ""),
        Effect::Read(_, what) => (EffectWord::Read, *what),
        Effect::NotEnforced(what) => (EffectWord::NotEnforced, *what),
        Effect::PassedOver(what) => (EffectWord::PassedOver, *what),
    };
    DirectiveDoc { names, form, about, default, example, effect, concerns }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn check<D: Draft>() {
        let mut seen = HashSet::new();
        for directive in D::DIRECTIVES {
            let name = directive.names[0];
            for name in directive.names {
                assert!(seen.insert(name), "`{name}` is there twice: {}", D::PLACE);
            }
            match directive.effect {
                Effect::Enforced(_) | Effect::Read(..) => {
                    assert!(directive.form.starts_with(name), "`{name}`: {}", directive.form);
                    assert!(directive.about.ends_with('.'), "`{name}`: {}", directive.about);
                    let shown = directive.names.iter().any(|name| directive.example.contains(name));
                    assert!(shown, "`{name}` is not in its example");
                }
                Effect::NotEnforced(what) | Effect::PassedOver(what) => assert_ne!(what, "", "`{name}`"),
            }
        }
    }

    #[test]
    fn every_entry_is_whole_and_no_word_is_there_twice() {
        check::<Top>();
        check::<PolicyDraft>();
        check::<BackendDraft>();
        check::<StreamDraft>();
        check::<SourceDraft>();
        check::<GateDraft>();
        check::<InterfaceDraft>();
        check::<ListDraft>();
        check::<RealIpDraft>();
        check::<UpstreamDraft>();
    }
}
