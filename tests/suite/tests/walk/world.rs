//! The edge host, and what is done to it.

use std::{
    collections::BTreeSet,
    fmt, fs,
    net::{IpAddr, UdpSocket},
    time::{Duration, Instant},
};

use kit::{
    edge::{Edge, GUARD},
    netns::Namespace,
    nicgate::{Controller, Said},
    oracle::{Action, Prefix, Rule, Value},
};

use super::seen::{SOON, Seen};
use super::{
    backend::Backend,
    expected::{Expected, LAST},
    probe::{arrivals, ask},
    step::{Damage, LIST, Rules, SOURCES, Step, Temper, source},
};

/// How long nicgate may take until what arrives and what it says are right, on a machine that does other things, too.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(super) edge: Edge,
    pub(super) crowd: Namespace,
    pub(super) controller: Option<Controller>,
    pub(super) backend: Backend,
    pub(super) receiver: UdpSocket,
    pub(super) expected: Expected,
    /// The backend is another one than it was when it was last asked.
    pub(super) changed: bool,
    pub(super) serial: u64,
    pub(super) seen: Seen,
}

pub(super) type Outcome = Result<(), String>;

pub(super) fn must<T, E: fmt::Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

impl World {
    /// An edge with a controller that runs and a list that is right.
    pub(crate) fn new() -> Self {
        let mut edge = Edge::new("walk");
        let addresses: Vec<IpAddr> =
            SOURCES.iter().chain(&LAST).map(|address| address.parse().expect("an address")).collect();
        let crowd = edge.lab.client("crowd", &addresses).expect("the lab stands");
        let backend = Backend::start(edge.lab.edge());
        let receiver = edge.receiver(GUARD);
        let list = Value::IpFile(LIST.to_owned(), vec![Prefix { address: source(0), len: 32 }]);
        let rules = vec![Rule { action: Action::Deny, value: list }];
        let rules = Rules { rules, default_allow: true, database: 0 };
        let expected = Expected {
            in_force: rules.clone(),
            files: rules,
            damage: None,
            refused: false,
            parts: BTreeSet::new(),
            bans: BTreeSet::new(),
            backend: Temper::Answers,
            plugged: true,
            extra: true,
        };
        let serial = 0;
        let changed = false;
        let seen = Seen::default();
        let mut world =
            Self { edge, crowd, controller: None, backend, receiver, expected, changed, serial, seen };
        world.ip("link add extra0 type veth peer name extra1\n").expect("a new interface");
        world.write_files();
        world.start().expect("the files are right");
        world
    }

    pub(crate) fn seen(self) -> Seen {
        self.seen
    }

    /// What the controller logged last.
    pub(crate) fn last_words(&self) -> String {
        let log = self.controller.as_ref().map(Controller::log).unwrap_or_default();
        let lines: Vec<&str> =
            log.lines().filter(|line| !line.contains("\"level\":\"INFO\"")).rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Takes a step; then everything is as it has to be, or becomes so.
    pub(crate) fn take(&mut self, step: &Step) -> Outcome {
        self.seen.steps += 1;
        self.act(step)?;
        if matches!(step, Step::Kill) {
            // Nobody watches, and the network card filters all the same.
            if self.wired() {
                self.settles(|world| world.datagrams())?;
            }
            self.start()?;
        }
        let began = Instant::now();
        self.settles(|world| world.alarms_are_right().and_then(|()| world.datagrams()))?;
        let took = began.elapsed();
        if took > SOON {
            println!("after {took:?}: {step:?}");
        }
        self.seen.times.push(took);
        if matches!(step, Step::Backend(_) | Step::Flood) {
            self.changed = true;
        }
        // A backend that was silent is tried by single questions before it counts again, and nobody asks while no
        // request can come.
        if self.changed { self.settles(Self::answers) } else { self.answers() }
    }

    pub(super) fn act(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Load(rules) => self.load(rules.clone(), None),
            Step::LoadDamaged(damage) => self.load(self.expected.files.clone(), Some(*damage)),
            Step::Damage(damage) => {
                self.expected.damage = Some(*damage);
                self.write_files();
                Ok(())
            }
            Step::Kill => {
                must("kill", self.controller.take().expect("one runs").end(libc::SIGKILL)).map(drop)
            }
            Step::Restart => {
                must("end", self.controller.take().expect("one runs").end(libc::SIGTERM))?;
                self.start()
            }
            Step::Second => {
                let said = self.edge.nicgate(&["run"]);
                if said.status == Some(0) {
                    Err(format!("a second controller ran: {said:?}"))
                } else {
                    Ok(())
                }
            }
            Step::Bounce | Step::Unplug | Step::Plug | Step::Swap | Step::Rename => self.wire(step),
            Step::Extra(there) => self.extra(*there),
            Step::Detach => {
                let link = self.edge.pins().join("link");
                if self.expected.plugged {
                    must("detach", kit::xdp::detach_pinned_link(&link))
                } else {
                    Ok(())
                }
            }
            Step::RemovePins => {
                if self.expected.plugged {
                    must("pins", fs::remove_dir_all(self.edge.pins()))
                } else {
                    Ok(())
                }
            }
            Step::LoseBans => self.lose_bans(),
            Step::Ban(number) => self.ban("ban", *number),
            Step::Unban(number) => self.ban("unban", *number),
            Step::Backend(temper) => {
                self.backend.set(*temper);
                self.expected.backend = *temper;
                Ok(())
            }
            Step::Flood => self.flood(),
            Step::DiskFull(rules, number) => self.disk_full(rules, *number),
        }
    }

    pub(super) fn ip(&self, commands: &str) -> Outcome {
        must("ip", self.edge.lab.edge().batch(commands))
    }

    pub(super) fn wired(&self) -> bool {
        self.expected.plugged
    }

    pub(super) fn nicgate(&self, arguments: &[&str]) -> Said {
        self.edge.nicgate(arguments)
    }

    pub(super) fn start(&mut self) -> Outcome {
        self.controller =
            Some(self.edge.site.start(self.edge.lab.edge()).map_err(|error| format!("{error:#}"))?);
        self.expected.load(true);
        Ok(())
    }

    pub(super) fn load(&mut self, rules: Rules, damage: Option<Damage>) -> Outcome {
        self.expected.files = rules;
        self.expected.damage = damage;
        self.write_files();
        self.reload()
    }

    pub(super) fn reload(&mut self) -> Outcome {
        let said = self.nicgate(&["reload"]);
        self.expected.load(false);
        if (said.status == Some(0)) != self.expected.damage.is_none() {
            return Err(format!("the files are {:?}: {said:?}", self.expected.damage));
        }
        Ok(())
    }

    /// The codes of the alarms; the exit status agrees with them.
    pub(super) fn alarms(&self) -> Result<BTreeSet<String>, String> {
        let said = self.nicgate(&["status", "--json"]);
        let status: serde_json::Value = must("status", serde_json::from_str(&said.stdout))?;
        let alarms = status["alarms"].as_array().ok_or_else(|| format!("no alarms: {said:?}"))?;
        let codes: BTreeSet<String> =
            alarms.iter().map(|alarm| alarm["code"].as_str().unwrap_or_default().to_owned()).collect();
        let fine = said.status == Some(0);
        if fine == codes.is_empty() { Ok(codes) } else { Err(format!("{:?} with {codes:?}", said.status)) }
    }

    pub(super) fn alarms_are_right(&mut self) -> Outcome {
        let (alarms, expected) = (self.alarms()?, self.expected.alarms());
        if alarms == expected {
            Ok(())
        } else {
            Err(format!("alarms {alarms:?}, with reasons for {expected:?}"))
        }
    }

    /// Every source's datagrams arrive or do not, as they have to.
    pub(super) fn datagrams(&mut self) -> Outcome {
        if !self.wired() {
            return Ok(());
        }
        self.serial += 1;
        let Some(arrived) = arrivals(&self.crowd, &self.receiver, self.serial) else {
            return Err("what nothing may drop did not arrive".to_owned());
        };
        let expected: BTreeSet<usize> = (0..SOURCES.len()).filter(|n| self.expected.passes(*n)).collect();
        let names = |numbers: Vec<&usize>| numbers.into_iter().map(|n| SOURCES[*n]).collect::<Vec<_>>();
        if arrived != expected {
            return Err(format!(
                "denied and let through: {:?}; kept out without a rule: {:?}\n{:#?}",
                names(arrived.difference(&expected).collect()),
                names(expected.difference(&arrived).collect()),
                self.expected,
            ));
        }
        self.seen.probes += SOURCES.len();
        self.seen.dropped += SOURCES.len() - arrived.len();
        Ok(())
    }

    /// Two sources that reach the gate get what the policy and the backend say.
    pub(super) fn answers(&mut self) -> Outcome {
        if !self.wired() {
            return Ok(());
        }
        let reach: Vec<usize> = (0..SOURCES.len()).filter(|n| self.expected.passes(*n)).collect();
        let Some(first) = reach.first().copied() else { return Ok(()) };
        let other = reach[self.serial as usize % reach.len()];
        for number in BTreeSet::from([first, other]) {
            self.serial += 1;
            let asks = self.expected.asks(number);
            for token in self.expected.tokens(self.serial) {
                let expected = self.expected.status(number, &token);
                let seen = must("the gate", ask(&self.crowd, number, &token))?;
                if seen != expected {
                    let from = SOURCES[number];
                    return Err(format!("{from} with {token}: {seen}, not {expected}\n{:#?}", self.expected));
                }
                self.seen.answers += 1;
            }
            self.changed &= !asks;
        }
        Ok(())
    }

    /// Waits until something holds.
    pub(super) fn settles(&mut self, holds: impl Fn(&mut Self) -> Outcome) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match holds(self) {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() > deadline => return Err(why),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
