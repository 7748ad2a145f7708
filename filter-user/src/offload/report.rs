//! What runs where, and why: the explanation that `check` gives of a compilation, rule by rule.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ipnet::IpNet;
use serde::Serialize;

use super::{
    ClassId, Compiled, Decisions,
    decide::{Denial, Family},
};
use crate::{
    address::{Address, Partition},
    country::CountryMap,
    model::{
        Action, Config, Country, Matcher, OpenReason, Origin, Policy, PolicyId, Purpose, Rule, RuleId,
        ServiceKey, Trust,
    },
};

/// How many addresses a statement is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// IPv4 addresses.
    pub v4: u64,
    /// IPv6 addresses, in units of one /64 network, rounded up.
    pub v6_64s: u64,
}

impl Extent {
    /// No address at all.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl std::ops::AddAssign for Extent {
    fn add_assign(&mut self, other: Self) {
        self.v4 = self.v4.saturating_add(other.v4);
        self.v6_64s = self.v6_64s.saturating_add(other.v6_64s);
    }
}

/// Where a rule is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runs {
    /// The NIC drops everything that the rule decides, on every port that leads to it.
    Nic,
    /// The NIC drops a part; userspace judges the rest.
    Both,
    /// Only userspace judges by it.
    Userspace,
}

/// What a rule drops on one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The port.
    pub service: ServiceKey,
    /// The addresses that the NIC drops there because of this rule.
    pub dropped: Extent,
    /// Why it drops no more, where it drops less than the rule decides.
    pub reason: Option<String>,
    /// What to write instead.
    pub remedy: Option<String>,
}

/// One rule, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleReport {
    /// The policy.
    pub policy: Arc<str>,
    /// The rule as written; `default deny` and `allow default` for the default.
    pub text: Arc<str>,
    /// Where it stands.
    #[serde(flatten)]
    pub origin: Origin,
    /// Where it runs.
    pub runs: Runs,
    /// The addresses for which the rule alone decides the verdict of every request.
    pub decides: Extent,
    /// What is dropped on each port that leads to the policy.
    pub services: Vec<Place>,
    /// Why it is not dropped at the NIC, or not everywhere.
    pub reason: Option<String>,
    /// What to write instead, when something else would be dropped.
    pub remedy: Option<String>,
}

/// Reports on every rule of every policy, in file order.
pub fn report(
    config: &Config,
    countries: &CountryMap,
    decisions: &Decisions,
    compiled: &Compiled,
) -> Vec<RuleReport> {
    let mut reports = Vec::new();
    let restricted: HashSet<PolicyId> = config
        .policies
        .iter()
        .filter_map(|policy| match policy.purpose() {
            Purpose::Restricts(base) => base,
            Purpose::Judges => None,
        })
        .collect();
    for (id, policy) in (0..).map(PolicyId).zip(&config.policies) {
        let services: Vec<usize> =
            (0..config.services.len()).filter(|i| config.services[*i].policies.contains(&id)).collect();
        // Its rules are shown with the restrictions of the streams that it judges.
        if services.is_empty() && restricted.contains(&id) {
            continue;
        }
        let reporter = Reporter {
            config,
            countries,
            id,
            policy,
            admits: Admits::of(policy),
            decided: extents(config, id, decisions, None),
            dropped: services
                .iter()
                .map(|service| (*service, extents(config, id, decisions, Some((compiled, *service)))))
                .collect(),
        };
        for (rule_id, rule) in (0..).map(RuleId).zip(policy.rules()) {
            reports.push(reporter.rule(rule_id, rule));
        }
        reports.push(reporter.default());
    }
    reports
}

/// Why some of what a rule decides is not dropped.
#[derive(Clone, Copy, Debug, Default)]
struct HeldBack {
    /// The first exempt prefix that keeps some of it in, by its place among them.
    by_exempt: Option<usize>,
    /// Whether some of it lies outside of any one exempt prefix.
    by_others: bool,
}

impl HeldBack {
    /// Adds a run of addresses that are not dropped, given which exempt prefixes reach into it, and whether one holds
    /// it whole.
    fn add(&mut self, reaching_in: Option<usize>, whole: bool) {
        self.by_exempt = self.by_exempt.into_iter().chain(reaching_in).min();
        self.by_others |= !whole;
    }
}

/// What is never dropped on a service: each prefix with where it stands, `never_drop` before the proxies in front.
fn exempt(config: &Config, service: Option<usize>) -> impl Iterator<Item = &(IpNet, Origin)> {
    let trust = service.and_then(|service| config.services[service].trust());
    config.never_drop.iter().chain(trust.into_iter().flat_map(Trust::prefixes))
}

/// What each rule of a policy decides; or what of that is dropped on a
/// service.
#[derive(Default)]
struct Extents {
    sizes: HashMap<Denial, Extent>,
    /// The rules of which something is decided and not dropped. Sizes cannot tell: they are rounded.
    held_back: HashMap<Denial, HeldBack>,
}

impl Extents {
    fn of(&self, denial: Denial) -> Extent {
        self.sizes.get(&denial).copied().unwrap_or_default()
    }
}

fn extents(
    config: &Config,
    id: PolicyId,
    decisions: &Decisions,
    dropped_on: Option<(&Compiled, usize)>,
) -> Extents {
    let mut result = Extents::default();
    let service = dropped_on.map(|(_, service)| service);
    each::<u32>(
        id,
        decisions,
        dropped_on.map(|(compiled, service)| (compiled, &compiled.v4, service)),
        |denial, dropped, first, last| {
            if dropped {
                let size = Extent { v4: u64::from(last - first) + 1, v6_64s: 0 };
                *result.sizes.entry(denial).or_default() += size;
            } else {
                let (reaching_in, whole) = overlap(ranges::<u32>(config, service), first, last);
                result.held_back.entry(denial).or_default().add(reaching_in, whole);
            }
        },
    );
    // The last network that was counted for each rule: several pieces may lie in one.
    let mut counted: HashMap<Denial, u128> = HashMap::new();
    each::<u128>(
        id,
        decisions,
        dropped_on.map(|(compiled, service)| (compiled, &compiled.v6, service)),
        |denial, dropped, first, last| {
            if dropped {
                let (first, last) = (first >> 64, last >> 64);
                let again = counted.insert(denial, last) == Some(first);
                let networks = u64::try_from(last - first + u128::from(!again)).unwrap_or(u64::MAX);
                *result.sizes.entry(denial).or_default() += Extent { v4: 0, v6_64s: networks };
            } else {
                let (reaching_in, whole) = overlap(ranges::<u128>(config, service), first, last);
                result.held_back.entry(denial).or_default().add(reaching_in, whole);
            }
        },
    );
    result
}

/// What is never dropped on a service, in one family, each range with its place.
fn ranges<A: Family>(config: &Config, service: Option<usize>) -> impl Iterator<Item = (usize, (A, A))> {
    exempt(config, service).enumerate().filter_map(|(place, (net, _))| Some((place, A::range(net)?)))
}

/// The first of some numbered ranges that shares an address with `first..=last`, and whether any holds all
/// of it.
fn overlap<A: Address>(
    ranges: impl Iterator<Item = (usize, (A, A))>,
    first: A,
    last: A,
) -> (Option<usize>, bool) {
    let mut reaching_in = None;
    let mut whole = false;
    for (place, (start, end)) in ranges.filter(|(_, (start, end))| *start <= last && first <= *end) {
        reaching_in = reaching_in.or(Some(place));
        whole |= start <= first && last <= end;
    }
    (reaching_in, whole)
}

/// Visits every run of addresses that the policy denies: by what, whether it is dropped on the service
/// (without a service all are visited as dropped), first and last address.
fn each<A: Family>(
    id: PolicyId,
    decisions: &Decisions,
    dropped_on: Option<(&Compiled, &Partition<A, ClassId>, usize)>,
    mut visit: impl FnMut(Denial, bool, A, A),
) {
    let Some(decided) = A::decisions(decisions).get(&id) else { return };
    let shown = match dropped_on {
        None => decided.map(|denial| (denial, true)),
        Some((compiled, classes, service)) => {
            let column = compiled.services[service].column;
            decided.zip(classes, |denial, class| (denial, compiled.cell(class, column).is_some()))
        }
    };
    for piece in shown.iter().filter(|piece| piece.label.0 != Denial::PASS) {
        visit(piece.label.0, piece.label.1, piece.first, piece.last);
    }
}

/// Reports on the rules of one policy.
struct Reporter<'a> {
    config: &'a Config,
    countries: &'a CountryMap,
    id: PolicyId,
    policy: &'a Policy,
    decided: Extents,
    /// For each service that leads to the policy, by its place in the configuration.
    dropped: Vec<(usize, Extents)>,
    /// The first rules that admit, by what they look at: a policy can have rules by the ten thousand.
    admits: Admits<'a>,
}

/// The first rules of a policy that admit.
#[derive(Clone, Copy, Default)]
struct Admits<'a> {
    token: Option<&'a Rule>,
    address: Option<&'a Rule>,
    ua: Option<&'a Rule>,
}

impl<'a> Admits<'a> {
    fn of(policy: &'a Policy) -> Self {
        let first = |wanted: &dyn Fn(&Matcher) -> bool| {
            policy.rules().iter().find(|rule| rule.action == Action::Allow && wanted(&rule.matcher))
        };
        Self {
            token: first(&|matcher| match matcher {
                Matcher::Token(_) => true,
                Matcher::TokenFile(list) => !list.entries.is_empty(),
                _ => false,
            }),
            address: first(&|matcher| matches!(matcher, Matcher::Ip(_) | Matcher::IpFile(_))),
            ua: first(&|matcher| matches!(matcher, Matcher::Ua(_))),
        }
    }
}

/// Policies of a shared port that are named; of the others there is a count.
const NAMED: usize = 3;

/// A reason and, where there is one, a remedy.
type Why = (String, Option<String>);

fn quoted(rule: &Rule) -> String {
    format!("`{}` (line {})", rule.text, rule.origin.line)
}

impl Reporter<'_> {
    fn rule(&self, id: RuleId, rule: &Rule) -> RuleReport {
        let why_not: Option<Why> = match (&rule.matcher, rule.action) {
            (Matcher::Token(_) | Matcher::TokenFile(_), _) => {
                Some(("the NIC cannot see tokens".into(), None))
            }
            (Matcher::Ua(_), _) => Some(("the NIC cannot see User-Agents".into(), None)),
            (Matcher::PageElsewhere(_), _) => {
                Some(("the NIC cannot see which page shows a stream".into(), None))
            }
            (Matcher::OtherPassword(_), _) => Some(("the NIC cannot see passwords".into(), None)),
            (_, Action::Allow) => {
                Some(("it admits: its addresses pass the NIC unless a `drop` rule names them".into(), None))
            }
            (_, Action::Deny) => self.admits.token.map(|token| {
                let value = rule.text.strip_prefix("deny ").unwrap_or(&rule.text);
                (
                    format!("{} outranks it, and the NIC cannot see tokens", quoted(token)),
                    Some(format!("`drop {value};` drops it at the NIC, even when it shows a good token")),
                )
            }),
            (_, Action::Drop) => None,
        };
        self.finish(id.into(), rule.text.clone(), rule.origin.clone(), why_not, || self.undecided(rule))
    }

    fn default(&self) -> RuleReport {
        if let Some(origin) = self.policy.default_allow() {
            let why = ("it admits what no rule decided".to_owned(), None);
            return self.finish(
                Denial::BY_DEFAULT,
                "allow default".into(),
                origin.clone(),
                Some(why.clone()),
                || why,
            );
        }
        let why = self
            .admits
            .token
            .map(|rule| format!("{} can still admit, and the NIC cannot see tokens", quoted(rule)));
        let why = why.or_else(|| {
            self.admits
                .ua
                .map(|rule| format!("{} can still admit, and the NIC cannot see User-Agents", quoted(rule)))
        });
        let why = why.or_else(|| {
            let backend = self.policy.backends().first()?;
            Some(format!("`{}` (line {}) can still admit", backend.text, backend.origin.line))
        });
        let why = why.map(|why| (why, None));
        self.finish(Denial::BY_DEFAULT, "default deny".into(), self.policy.origin().clone(), why, || {
            ("every address is decided by a rule before it".into(), None)
        })
    }

    /// Why a rule that could run at the NIC decides no address.
    fn undecided(&self, rule: &Rule) -> Why {
        if self.dropped.is_empty() {
            return self.unprotected();
        }
        if let Matcher::Country(country) = rule.matcher {
            if self.config.geoip.is_none() {
                return (
                    "there is no `geoip` database, so no address has a country".into(),
                    Some("`geoip \"/path/to/country.mmdb\";`".into()),
                );
            }
            if !self.known(country) {
                let why = country.map_or_else(
                    || "the country database knows the country of every address".to_owned(),
                    |country| format!("the country database has no network of {country}"),
                );
                return (why, None);
            }
        }
        if let Matcher::IpFile(list) = &rule.matcher
            && list.entries.is_empty()
        {
            return (format!("{:?} lists no address", list.path), None);
        }
        match self.admits.address {
            Some(allow) if rule.action == Action::Deny => (
                format!(
                    "every address of it is admitted by an `allow` rule, such as {}, or decided by a rule before it",
                    quoted(allow)
                ),
                None,
            ),
            _ => ("every address of it is already decided by a rule before it".into(), None),
        }
    }

    fn known(&self, country: Option<Country>) -> bool {
        self.countries.v4.iter().any(|piece| piece.label == country)
            || self.countries.v6.iter().any(|piece| piece.label == country)
    }

    fn unprotected(&self) -> Why {
        (
            "no `gate` or `guard` leads to this policy".into(),
            Some(format!("`guard tcp PORT auth://{};`", self.policy.name())),
        )
    }

    /// Why a service drops less than the rule decides.
    fn held_back(&self, place: usize, held: HeldBack) -> Why {
        let service = &self.config.services[place];
        let key = service.key;
        if let Some(open) = &service.open {
            return match open.stream() {
                Some((name, origin, operation)) => (
                    format!("stream `{name}` ({origin}) can be {operation} on {key} without a policy"),
                    Some(format!("give it `on_{}`", if operation == "played" { "play" } else { "publish" })),
                ),
                None => {
                    let source = matches!(open, OpenReason::OtherServer(..));
                    (format!("{key} {open}"), source.then(|| "give it `on_play`".to_owned()))
                }
            };
        }
        let others = || service.policies.iter().filter(|id| **id != self.id && held.by_others);
        let more = others().count().saturating_sub(NAMED);
        let mut named: Vec<String> = others()
            .take(NAMED)
            .map(|id| self.config.policy(*id))
            .map(|policy| format!("`{}` ({})", policy.name(), policy.origin()))
            .collect();
        if more > 0 {
            named.push(format!("{more} more policies"));
        }
        let never = held.by_exempt.and_then(|exempted| {
            let (net, origin) = exempt(self.config, Some(place)).nth(exempted)?;
            Some(if exempted < self.config.never_drop.len() {
                format!("`never_drop {net}` ({origin}) keeps addresses in")
            } else {
                format!("{net} ({origin}) is a trusted proxy, whose packets carry the requests of others")
            })
        });
        let shared = (!named.is_empty()).then(|| {
            format!("{key} is shared with {}, which may admit some of these addresses", named.join(", "))
        });
        let remedy = shared.is_some().then(|| {
            "write the rule in each policy of the port, or give the policy a port of its own".to_owned()
        });
        (shared.into_iter().chain(never).collect::<Vec<_>>().join("; "), remedy)
    }

    fn finish(
        &self,
        denial: Denial,
        text: Arc<str>,
        origin: Origin,
        why_not: Option<Why>,
        undecided: impl FnOnce() -> Why,
    ) -> RuleReport {
        let decides = self.decided.of(denial);
        let services: Vec<Place> = self
            .dropped
            .iter()
            .map(|(service, dropped)| {
                let why = dropped.held_back.get(&denial).map(|held| self.held_back(*service, *held));
                let (reason, remedy) = why.unzip();
                Place {
                    service: self.config.services[*service].key,
                    dropped: dropped.of(denial),
                    reason,
                    remedy: remedy.flatten(),
                }
            })
            .collect();
        let runs = if services.iter().all(|place| place.dropped.is_empty()) {
            Runs::Userspace
        } else if self.dropped.iter().all(|(_, dropped)| !dropped.held_back.contains_key(&denial)) {
            Runs::Nic
        } else {
            Runs::Both
        };
        let why = match runs {
            Runs::Nic => None,
            _ if why_not.is_some() => why_not,
            Runs::Userspace if self.dropped.is_empty() => Some(self.unprotected()),
            Runs::Userspace if decides.is_empty() => Some(undecided()),
            Runs::Userspace | Runs::Both => services
                .iter()
                .find_map(|place| place.reason.clone().map(|reason| (reason, place.remedy.clone()))),
        };
        let (reason, remedy) = why.unzip();
        RuleReport {
            policy: self.policy.name().clone(),
            text,
            origin,
            runs,
            decides,
            services,
            reason,
            remedy: remedy.flatten(),
        }
    }
}

impl OpenReason {
    /// The stream that no policy guards, where it stands, and what can be done with it.
    pub fn stream(&self) -> Option<(&str, &Origin, &'static str)> {
        match self {
            Self::PlayWithoutPolicy(name, origin) => Some((name, origin, "played")),
            Self::PublishWithoutPolicy(name, origin) => Some((name, origin, "published to")),
            Self::OtherServer(..) | Self::NoStreams => None,
        }
    }
}

impl std::fmt::Display for OpenReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PlayWithoutPolicy(name, origin) | Self::PublishWithoutPolicy(name, origin) => {
                write!(f, "is open: stream `{name}` ({origin}) has no policy")
            }
            Self::OtherServer(name, origin) => {
                write!(f, "is open: `source {name}` ({origin}) brings streams without a policy")
            }
            Self::NoStreams => f.write_str("is open: the configuration has no stream that is in use"),
        }
    }
}
