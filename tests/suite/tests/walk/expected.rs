//! What has to be: the configuration in force as the oracle reads it, the bans, and the alarms.

use std::{collections::BTreeSet, net::IpAddr};

use kit::oracle::{
    self, Action, Answer, Authority, CountryTable, Policy, Prefix, Request, Value, Verdict, nic_may_drop,
};

use super::step::{COUNTRIES, Damage, LIST, LISTED_TOKEN, Rules, SOURCES, Temper, source};

/// A source that nothing may drop: its packets come last.
pub(crate) const LAST: [&str; 2] = ["203.0.113.250", "2001:db8:99::250"];

/// The state of the world as far as it decides what arrives.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// What was loaded last and was right.
    pub(crate) in_force: Rules,
    /// What the files say, and what is wrong with them.
    pub(crate) files: Rules,
    pub(crate) damage: Option<Damage>,
    /// The files were refused when they were loaded last.
    pub(crate) refused: bool,
    /// What of the files in force was refused alone: the alarms.
    pub(crate) parts: BTreeSet<&'static str>,
    /// Numbers of sources.
    pub(crate) bans: BTreeSet<usize>,
    pub(crate) backend: Temper,
    pub(crate) plugged: bool,
    pub(crate) extra: bool,
}

/// Half of the sources are in the countries, in turn; another database turns them on.
pub(crate) fn countries(database: usize) -> CountryTable {
    let in_turn = SOURCES.iter().enumerate().filter(|(number, _)| number % 2 == database % 2);
    let known = in_turn.map(|(number, _)| {
        let address = source(number);
        let len = if address.is_ipv4() { 32 } else { 128 };
        (Prefix { address, len }, COUNTRIES[number % COUNTRIES.len()].to_owned())
    });
    CountryTable(known.collect())
}

impl Rules {
    fn policy(&self) -> Policy {
        Policy {
            name: "viewers".to_owned(),
            rules: self.rules.clone(),
            backends: vec![Authority::Http(0)],
            default_allow: self.default_allow,
        }
    }

    /// The statements of the policy, without its backend.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for rule in &self.rules {
            let action = match rule.action {
                Action::Allow => "allow",
                Action::Deny => "deny",
                Action::Drop => "drop",
            };
            let value = match &rule.value {
                Value::Ip(prefix) => format!("ip {}/{}", prefix.address, prefix.len),
                Value::IpFile(..) => format!("ip file \"{LIST}\""),
                Value::Country(code) => format!("country {code}"),
                Value::Token(token) => format!("token {token}"),
                Value::Ua(_) | Value::TokenFile(..) | Value::CountryOutside(_) | Value::PageElsewhere(_) => {
                    unreachable!("the walk makes none")
                }
            };
            text += &format!("{action} {value};\n");
        }
        if self.default_allow {
            text += "allow default;\n";
        }
        text
    }

    fn prefixes(&self) -> Vec<Prefix> {
        let lists = self.rules.iter().filter_map(|rule| match &rule.value {
            Value::IpFile(_, prefixes) => Some(prefixes),
            _ => None,
        });
        lists.flatten().copied().collect()
    }

    /// The lines of the list.
    pub(crate) fn list(&self) -> String {
        self.prefixes().iter().map(|prefix| format!("{}/{}\n", prefix.address, prefix.len)).collect()
    }
}

impl Expected {
    /// The files are loaded: what is right of them is in force, of a list or database that is wrong what was before, and
    /// where the text itself is wrong, nothing is new. A start has only what is kept to fall back to.
    pub(crate) fn load(&mut self, start: bool) {
        self.refused = self.damage.is_some_and(|damage| damage.part().is_none());
        if self.refused {
            if start {
                self.parts.clear();
            }
            return;
        }
        let former = std::mem::replace(&mut self.in_force, self.files.clone());
        let part = self.damage.and_then(Damage::part);
        self.parts = part.into_iter().collect();
        match part {
            Some("list-refused") => {
                let prefixes = former.prefixes();
                let lists = self.in_force.rules.iter_mut().map(|rule| &mut rule.value);
                for value in lists {
                    if let Value::IpFile(_, entries) = value {
                        entries.clone_from(&prefixes);
                    }
                }
            }
            Some(_) => self.in_force.database = former.database,
            None => {}
        }
    }

    fn country(&self, address: IpAddr) -> Option<String> {
        countries(self.in_force.database).country(address).map(str::to_owned)
    }

    /// Whether the network card lets a source through to a guarded port.
    pub(crate) fn passes(&self, number: usize) -> bool {
        let address = source(number);
        let policy = self.in_force.policy();
        !self.bans.contains(&number)
            && !nic_may_drop(&[&policy], false, &[], address, self.country(address).as_deref())
    }

    /// The status that the gate answers a source with.
    pub(crate) fn status(&self, number: usize, token: &str) -> u16 {
        let address = source(number);
        let policy = self.in_force.policy();
        let request = Request { address, token: Some(token.to_owned()), ua: None, page: None };
        let judged = oracle::judge(&policy, &request, self.country(address).as_deref());
        let answer = match self.backend {
            Temper::Answers | Temper::Slow if token.starts_with("good") => Answer::Allow,
            Temper::Answers | Temper::Slow => Answer::Ban,
            Temper::Fails | Temper::Closes | Temper::Hangs => Answer::Down,
        };
        let verdict = match judged.verdict {
            Verdict::Ask => oracle::conclude(&policy, &[answer]).verdict,
            decided => decided,
        };
        if verdict == Verdict::Allow { 200 } else { 403 }
    }

    /// Whether the backend decides about a source, and no list does.
    pub(crate) fn asks(&self, number: usize) -> bool {
        let answering = Self { backend: Temper::Answers, ..self.clone() };
        answering.status(number, "good") == 200 && answering.status(number, "bad") == 403
    }

    /// Tokens that tell verdicts apart: a listed one, if it is, and new ones, whose answers nobody remembers.
    pub(crate) fn tokens(&self, serial: u64) -> Vec<String> {
        let listed = Value::Token(LISTED_TOKEN.to_owned());
        let is_listed = self.in_force.rules.iter().any(|rule| rule.value == listed);
        let new = [format!("good-{serial}"), format!("bad-{serial}")];
        new.into_iter().chain(is_listed.then(|| LISTED_TOKEN.to_owned())).collect()
    }

    /// The codes of the alarms that there is a reason for.
    pub(crate) fn alarms(&self) -> BTreeSet<String> {
        let mut alarms = BTreeSet::new();
        if self.refused {
            alarms.insert("reload-failed".to_owned());
        }
        alarms.extend(self.parts.iter().map(|code| (*code).to_owned()));
        if !self.plugged || !self.extra {
            alarms.insert("interface-missing".to_owned());
        }
        alarms
    }
}
