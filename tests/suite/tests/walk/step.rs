//! What can happen, and random walks of it.

use std::net::IpAddr;

use kit::oracle::{Action, Prefix, Rule, Value};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{select, subsequence},
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// The addresses that traffic comes from.
pub(crate) const SOURCES: [&str; 12] = [
    "198.51.100.11",
    "198.51.100.12",
    "198.51.100.77",
    "203.0.113.21",
    "203.0.113.22",
    "203.0.113.99",
    "2001:db8:66::11",
    "2001:db8:66::12",
    "2001:db8:66:1::13",
    "2001:db8:77::21",
    "2001:db8:77::22",
    "2001:db8:88::99",
];

/// What lists and rules name: each holds some sources and not others.
const PREFIXES: [&str; 12] = [
    "198.51.100.11/32",
    "198.51.100.8/29",
    "198.51.100.0/24",
    "203.0.113.20/30",
    "203.0.113.99/32",
    "203.0.113.0/24",
    "2001:db8:66::11/128",
    "2001:db8:66::/64",
    "2001:db8:66::/48",
    "2001:db8:77::/48",
    "2001:db8:77::22/128",
    "2001:db8:88::/47",
];

/// The countries that the databases know.
pub(crate) const COUNTRIES: [&str; 3] = ["DE", "FR", "US"];

/// The file of the list that rules name.
pub(crate) const LIST: &str = "deny.list";

/// The only token that a list has.
pub(crate) const LISTED_TOKEN: &str = "listed";

/// The rules of the one policy, and which database there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<Rule>,
    pub(crate) default_allow: bool,
    /// Which of the sources is in which country: by number, two differ.
    pub(crate) database: usize,
}

/// What can be wrong with the files of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Syntax,
    UnknownWord,
    NoConfiguration,
    BrokenLine,
    EmptyList,
    Everybody,
    NoList,
    ListIsAFolder,
    ListIsAFifo,
    CorruptDatabase,
}

impl Damage {
    /// The alarm of the part that is refused alone; `None` where the whole configuration is.
    pub(crate) fn part(self) -> Option<&'static str> {
        match self {
            Self::Syntax | Self::UnknownWord | Self::NoConfiguration => None,
            Self::CorruptDatabase => Some("database-refused"),
            Self::BrokenLine
            | Self::EmptyList
            | Self::Everybody
            | Self::NoList
            | Self::ListIsAFolder
            | Self::ListIsAFifo => Some("list-refused"),
        }
    }
}

const DAMAGES: [Damage; 10] = [
    Damage::Syntax,
    Damage::UnknownWord,
    Damage::NoConfiguration,
    Damage::BrokenLine,
    Damage::EmptyList,
    Damage::Everybody,
    Damage::NoList,
    Damage::ListIsAFolder,
    Damage::ListIsAFifo,
    Damage::CorruptDatabase,
];

/// How the backend answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    /// At once, and truly.
    Answers,
    /// Truly, well before it is given up.
    Slow,
    /// With 500.
    Fails,
    /// By closing the connection.
    Closes,
    /// Never.
    Hangs,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Other files, and a reload.
    Load(Rules),
    /// Damaged files, and a reload.
    LoadDamaged(Damage),
    /// Files are damaged; nobody reloads.
    Damage(Damage),
    /// The controller is killed, and started again.
    Kill,
    /// The controller is ended, and started again.
    Restart,
    /// Somebody starts a second controller.
    Second,
    /// The interface goes down and up.
    Bounce,
    /// The interface is removed.
    Unplug,
    /// It is made again.
    Plug,
    /// It is removed and made again in one go.
    Swap,
    /// It goes by another name for a while.
    Rename,
    /// Another interface of the configuration appears, or goes.
    Extra(bool),
    /// The link is detached by hand.
    Detach,
    /// The pins are removed.
    RemovePins,
    /// The bans are deleted from the kernel.
    LoseBans,
    /// A ban of the source with this number.
    Ban(usize),
    /// Its end.
    Unban(usize),
    /// The backend changes.
    Backend(Temper),
    /// Many questions at once about invented tokens, from some addresses.
    Flood,
    /// The disk is full while files are loaded and a source is banned.
    DiskFull(Rules, usize),
}

fn prefix(text: &str) -> Prefix {
    let (address, len) = text.split_once('/').expect("a length");
    Prefix { address: address.parse().expect("an address"), len: len.parse().expect("a number") }
}

/// The source with this number.
pub(crate) fn source(number: usize) -> IpAddr {
    SOURCES[number].parse().expect("an address")
}

fn rules() -> impl Strategy<Value = Rules> {
    let prefixes = || PREFIXES.map(prefix).to_vec();
    let list = subsequence(prefixes(), 1..=5).prop_map(|list| Value::IpFile(LIST.to_owned(), list));
    let one = || select(prefixes()).prop_map(Value::Ip);
    let country = || select(COUNTRIES.as_slice()).prop_map(|code| Value::Country(code.to_owned()));
    let rule =
        |action: Action, value: BoxedStrategy<Value>| value.prop_map(move |value| Rule { action, value });
    let more = prop_oneof![
        3 => rule(Action::Deny, one().boxed()),
        2 => rule(Action::Allow, one().boxed()),
        1 => rule(Action::Drop, one().boxed()),
        2 => rule(Action::Deny, country().boxed()),
        1 => rule(Action::Allow, country().boxed()),
        1 => rule(Action::Allow, Just(Value::Token(LISTED_TOKEN.to_owned())).boxed()),
    ];
    let listed = rule(Action::Deny, list.boxed());
    (listed, vec(more, 0..4), any::<bool>(), 0..2_usize).prop_map(|(first, more, default_allow, database)| {
        let rules = std::iter::once(first).chain(more).collect();
        Rules { rules, default_allow, database }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 0..SOURCES.len();
    prop_oneof![
        12 => rules().prop_map(Step::Load),
        3 => select(&[Damage::EmptyList, Damage::Everybody][..]).prop_map(Step::LoadDamaged),
        8 => select(DAMAGES.as_slice()).prop_map(Step::LoadDamaged),
        4 => select(DAMAGES.as_slice()).prop_map(Step::Damage),
        5 => Just(Step::Kill),
        4 => Just(Step::Restart),
        2 => Just(Step::Second),
        4 => Just(Step::Bounce),
        4 => Just(Step::Unplug),
        12 => Just(Step::Plug),
        4 => Just(Step::Swap),
        4 => Just(Step::Rename),
        5 => any::<bool>().prop_map(Step::Extra),
        5 => Just(Step::Detach),
        5 => Just(Step::RemovePins),
        4 => Just(Step::LoseBans),
        7 => number().prop_map(Step::Ban),
        5 => number().prop_map(Step::Unban),
        4 => Just(Step::Backend(Temper::Answers)),
        6 => select(&[Temper::Slow, Temper::Fails, Temper::Closes, Temper::Hangs][..]).prop_map(Step::Backend),
        3 => Just(Step::Flood),
        3 => (rules(), number()).prop_map(|(rules, ban)| Step::DiskFull(rules, ban)),
    ]
}

/// The walk of a seed. It begins with files that are right.
pub(crate) fn random(seed: u64, steps: usize) -> Vec<Step> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let walk = vec(step(), steps..=steps);
    walk.new_tree(&mut runner).expect("nothing is filtered out").current()
}
