//! Restrictions become rules of a policy that is made for the stream: of that which judges it, and of the restriction.

use std::collections::HashMap;

use super::{
    Binder,
    policy::PolicyDraft,
    restriction::{Restrictions, Written},
};
use crate::{
    config::source::Span,
    model::{Access, Action, Matcher, Origin, PolicyId, Purpose, Rule},
};

/// What is called so restricts publishing; other restrictions are of playing.
const PASSWORD: &str = "password";

/// The policies that restrictions made so far.
pub(super) type Restricted = HashMap<(Option<PolicyId>, String), PolicyId>;

impl Binder<'_> {
    /// Puts the restrictions of each `auth_backend` among its rules.
    pub(super) fn restrict_policies(&mut self) {
        for id in 0..self.policies.len() {
            let restrictions = std::mem::take(&mut self.policies[id].restrictions);
            let rules = self.play_rules(&restrictions);
            self.policies[id].add(rules);
        }
    }

    /// The rules that restrict who plays. Without a database nobody has a country, so that nobody would be let in:
    /// the media server alone goes on looking at countries then, and a warning says so.
    fn play_rules(&mut self, restrictions: &Restrictions) -> Vec<(Rule, Span)> {
        let mut rules = Vec::new();
        if self.geoip.is_none() {
            for Written { text, at, .. } in restrictions.countries() {
                let name = text.split(' ').next().unwrap_or_default();
                self.restricts(&format!("`{name}` without `geoip PATH;`"), *at);
            }
        } else {
            if let Some(Written { values, text, at }) = &restrictions.allowed_countries {
                let outside = Matcher::CountryOutside(values.as_slice().into());
                rules.push(self.restriction(Action::Drop, outside, text, *at));
            }
            for Written { values, text, at } in &restrictions.disallowed_countries {
                let countries = values.iter().map(|country| Matcher::Country(*country));
                rules.extend(countries.map(|country| self.restriction(Action::Drop, country, text, *at)));
            }
        }
        if let Some(Written { values, text, at }) = &restrictions.domains {
            let elsewhere = Matcher::PageElsewhere(values.as_slice().into());
            rules.push(self.restriction(Action::Deny, elsewhere, text, *at));
        }
        rules
    }

    fn restriction(&self, action: Action, matcher: Matcher, text: &str, at: Span) -> (Rule, Span) {
        (Rule { action, matcher, text: text.into(), origin: self.sources.origin(at) }, at)
    }

    /// Who judges playing where this restricts it, given who judges otherwise. `whose` names what is restricted, for
    /// people, and `place` is where it stands.
    pub(super) fn restrict_play(
        &mut self,
        judge: Access,
        restrictions: &Restrictions,
        (whose, place): (&str, &Origin),
        made: &mut Restricted,
    ) -> Access {
        let Some(base) = base(&judge) else { return judge };
        let rules = self.play_rules(restrictions);
        self.restrict(judge, base, rules, (whose, place), "restrictions", made)
    }

    /// The same of publishing.
    pub(super) fn restrict_publish(
        &mut self,
        judge: Access,
        restrictions: &Restrictions,
        (whose, place): (&str, &Origin),
        made: &mut Restricted,
    ) -> Access {
        let Some(base) = base(&judge) else { return judge };
        let password = restrictions.password.iter();
        let rules = password.flat_map(|Written { values, text, at }| {
            let other = values.iter().map(|password| Matcher::OtherPassword(password.clone()));
            other.map(|other| self.restriction(Action::Deny, other, text, *at))
        });
        let rules = rules.collect();
        self.restrict(judge, base, rules, (whose, place), PASSWORD, made)
    }

    /// The policy of these rules and of `base`. Streams share it where all of that stands at the same places; and where
    /// the base has lists, which can be long, already where it says the same.
    fn restrict(
        &mut self,
        judge: Access,
        base: Option<PolicyId>,
        rules: Vec<(Rule, Span)>,
        (whose, place): (&str, &Origin),
        what: &str,
        made: &mut Restricted,
    ) -> Access {
        if rules.is_empty() {
            return judge;
        }
        let draft = base.map(|id| &self.policies[id.0 as usize]);
        let shared = draft.is_some_and(|draft| !draft.lists.is_empty());
        let texts: Vec<&str> = rules.iter().map(|(rule, _)| &*rule.text).collect();
        let places: Vec<Span> = rules.iter().map(|(_, at)| *at).collect();
        let key = if shared { texts.join("; ") } else { format!("{places:?}") };
        if let Some(id) = made.get(&(base, key.clone())) {
            return Access::Policy(*id);
        }
        let id = PolicyId(self.policies.len() as u32);
        let mut draft = match draft {
            Some(base) => {
                // Where several streams share it, none of them names it.
                let added = match (shared, what) {
                    (false, PASSWORD) => format!("for publishing to {whose}"),
                    (false, _) => format!("for {whose}"),
                    (true, PASSWORD) => format!("with password {}", made.len() + 1),
                    (true, _) => format!("with {}", texts.join("; ")),
                };
                base.restricted(format!("{} {added}", base.name).into())
            }
            None => PolicyDraft {
                default_allow: Some(place.clone()),
                ..PolicyDraft::new(format!("{what} of {whose}").into(), rules[0].1, place.clone())
            },
        };
        draft.purpose = Purpose::Restricts(base);
        draft.add(rules);
        self.policies.push(draft);
        made.insert((base, key), id);
        Access::Policy(id)
    }
}

/// The policy that judges, if there is one; `None` when nobody is admitted anyhow.
fn base(judge: &Access) -> Option<Option<PolicyId>> {
    match judge {
        Access::Policy(id) => Some(Some(*id)),
        Access::Open => Some(None),
        Access::Closed => None,
    }
}
