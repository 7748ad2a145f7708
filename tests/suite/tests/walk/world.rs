//! The edge host, and what is done to it.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fmt, fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket},
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use kit::{
    edge::Edge,
    mmdb,
    netns::Namespace,
    nicgate::{Controller, Said},
    oracle::{Action, Prefix, Rule, Value},
    server::Server,
};

use super::{
    backend::{Backend, TIMEOUT},
    expected::{Expected, LAST, countries},
    probe::{GATE, GUARD, arrivals, ask},
    step::{Damage, LIST, Rules, SOURCES, Step, Temper, source},
};

/// How long nicgate may take until what arrives and what it says are right, on a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(20);
/// How soon it should be.
const SOON: Duration = Duration::from_secs(2);
/// How many connections a flood opens from each of its addresses.
const FLOOD: usize = 200;

/// What was seen on a walk.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    steps: usize,
    probes: usize,
    dropped: usize,
    answers: usize,
    times: Vec<Duration>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, probes, dropped, answers, times } = self;
        let mut times = times.clone();
        times.sort_unstable();
        let soon = times.iter().filter(|time| **time <= SOON).count();
        let at =
            |part: usize| times.get(times.len() * part / 100).or(times.last()).copied().unwrap_or_default();
        write!(
            f,
            "{steps} steps: {probes} datagrams and {answers} answers were as they have to be, {dropped} of the \
             datagrams dropped; right again within {SOON:?} after {soon} steps, median {:?}, longest {:?}",
            at(50),
            at(100)
        )
    }
}

pub(crate) struct World {
    edge: Edge,
    crowd: Namespace,
    controller: Option<Controller>,
    backend: Backend,
    upstream: Server,
    receiver: UdpSocket,
    expected: Expected,
    serial: u64,
    seen: Seen,
}

type Outcome = Result<(), String>;

fn must<T, E: fmt::Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

impl World {
    /// An edge with a controller that runs and a list that is right.
    pub(crate) fn new() -> Self {
        let mut edge = Edge::new("walk");
        let addresses: Vec<IpAddr> =
            SOURCES.iter().chain(&LAST).map(|address| address.parse().expect("an address")).collect();
        let crowd = edge.lab.client("crowd", &addresses).expect("the lab stands");
        let upstream = Server::start(edge.lab.edge(), (Ipv4Addr::LOCALHOST, 0), |request| {
            Response::new(Full::new(Bytes::from(request.uri().path().to_owned())))
        });
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
            bans: BTreeSet::new(),
            backend: Temper::Answers,
            plugged: true,
            extra: true,
        };
        let upstream = upstream.expect("a free port");
        let serial = 0;
        let seen = Seen::default();
        let mut world =
            Self { edge, crowd, controller: None, backend, upstream, receiver, expected, serial, seen };
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
        self.answers()
    }

    fn act(&mut self, step: &Step) -> Outcome {
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
                let link = self.pins().join("link");
                if self.expected.plugged {
                    must("detach", kit::xdp::detach_pinned_link(&link))
                } else {
                    Ok(())
                }
            }
            Step::RemovePins => {
                if self.expected.plugged {
                    must("pins", fs::remove_dir_all(self.pins()))
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

    fn ip(&self, commands: &str) -> Outcome {
        must("ip", self.edge.lab.edge().batch(commands))
    }

    fn pins(&self) -> std::path::PathBuf {
        self.edge.site.bpffs().join("nicgate").join(self.edge.lab.interface())
    }

    fn wired(&self) -> bool {
        self.expected.plugged
    }

    fn nicgate(&self, arguments: &[&str]) -> Said {
        self.edge.nicgate(arguments)
    }

    fn start(&mut self) -> Outcome {
        self.controller =
            Some(self.edge.site.start(self.edge.lab.edge()).map_err(|error| format!("{error:#}"))?);
        self.loaded();
        Ok(())
    }

    /// The files were read: what is right is in force, and otherwise what was.
    fn loaded(&mut self) {
        self.expected.refused = self.expected.damage.is_some();
        if !self.expected.refused {
            self.expected.in_force = self.expected.files.clone();
        }
    }

    fn load(&mut self, rules: Rules, damage: Option<Damage>) -> Outcome {
        self.expected.files = rules;
        self.expected.damage = damage;
        self.write_files();
        self.reload()
    }

    fn reload(&mut self) -> Outcome {
        let said = self.nicgate(&["reload"]);
        self.loaded();
        if (said.status == Some(0)) == self.expected.refused {
            return Err(format!("the files are {:?}: {said:?}", self.expected.damage));
        }
        Ok(())
    }

    fn write_files(&self) {
        let Expected { files, damage, .. } = &self.expected;
        let site = &self.edge.site;
        let list = site.path(LIST);
        if list.is_dir() {
            fs::remove_dir(&list).unwrap();
        } else if fs::symlink_metadata(&list).is_ok() {
            fs::remove_file(&list).unwrap();
        }
        match damage {
            Some(Damage::NoList) => {}
            Some(Damage::ListIsAFolder) => fs::create_dir(&list).unwrap(),
            Some(Damage::ListIsAFifo) => make_fifo(&list),
            Some(Damage::BrokenLine) => fs::write(&list, files.list() + "nonsense\n").unwrap(),
            Some(Damage::EmptyList) => fs::write(&list, "# nothing\n").unwrap(),
            Some(Damage::Everybody) => fs::write(&list, files.list() + "0.0.0.0/0\n").unwrap(),
            _ => fs::write(&list, files.list()).unwrap(),
        }
        let known = countries(files.database).0;
        let networks: Vec<_> = known.iter().map(|(prefix, code)| (*prefix, mmdb::nested(code))).collect();
        let mut database = mmdb::write(mmdb::Layout { record_bits: 28, ip_version: 6 }, &networks);
        if *damage == Some(Damage::CorruptDatabase) {
            database.truncate(database.len() / 2);
        }
        // In one step, as the tools that bring databases do.
        let fresh = site.write("country.mmdb.new", database);
        fs::rename(fresh, site.path("country.mmdb")).unwrap();
        let text = self.text(files);
        match damage {
            Some(Damage::NoConfiguration) => drop(fs::remove_file(site.path("nicgate.conf"))),
            Some(Damage::Syntax) => {
                drop(site.configure(&text.replace("interface extra0;", "interface extra0")));
            }
            Some(Damage::UnknownWord) => drop(site.configure(&text.replace("backend http", "backed http"))),
            _ => drop(site.configure(&text)),
        }
    }

    fn text(&self, rules: &Rules) -> String {
        format!(
            "interface {} {{ mode native; }}\ninterface extra0;\ngate {GATE} {{ upstream http://{}; }}\n\
             guard udp {GUARD} auth://viewers;\nnever_drop {};\ngeoip \"country.mmdb\";\nbackend_timeout {};\n\
             stream live {{ input fake://; on_play auth://viewers; }}\n\
             auth_backend viewers {{\n{}backend http://{}/auth;\n}}\n\
             auth_backend other {{ deny country FR; }}\n",
            self.edge.lab.interface(),
            self.upstream.address(),
            LAST.join(" "),
            TIMEOUT.as_secs_f64(),
            rules.text(),
            self.backend.address,
        )
    }

    fn wire(&mut self, step: &Step) -> Outcome {
        let name = self.edge.lab.interface().to_owned();
        let plugged = self.expected.plugged;
        match step {
            Step::Unplug if plugged => {
                self.ip(&format!("link del {name}\n"))?;
                self.expected.plugged = false;
            }
            Step::Plug if !plugged => {
                must("plug", self.edge.lab.plug())?;
                self.expected.plugged = true;
            }
            Step::Swap if plugged => {
                self.ip(&format!("link del {name}\n"))?;
                must("plug", self.edge.lab.plug())?;
            }
            Step::Bounce if plugged => {
                self.ip(&format!("link set {name} down\nlink set {name} up\n"))?;
                must("address", self.edge.lab.address(&name))?;
            }
            Step::Rename if plugged => {
                self.ip(&format!("link set {name} name other0\n"))?;
                // Long enough that it is noticed, or not; both have to end well.
                std::thread::sleep(Duration::from_millis(300 * (self.serial % 6)));
                self.ip(&format!("link set other0 name {name}\n"))?;
                must("address", self.edge.lab.address(&name))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn extra(&mut self, there: bool) -> Outcome {
        match (self.expected.extra, there) {
            (true, false) => self.ip("link del extra0\n")?,
            (false, true) => self.ip("link add extra0 type veth peer name extra1\n")?,
            _ => {}
        }
        self.expected.extra = there;
        Ok(())
    }

    /// Deletes the bans from the kernel; `status` says so, and has them put back; so does the same ban again.
    fn lose_bans(&mut self) -> Outcome {
        if !self.expected.plugged || self.expected.bans.is_empty() {
            return Ok(());
        }
        self.edge.lose_bans();
        let alarms = self.alarms()?;
        let open = self.datagrams().is_err();
        if open && !alarms.contains("bans-missing") {
            return Err(format!("bans are not enforced, and the alarms are {alarms:?}"));
        }
        if self.serial.is_multiple_of(2) {
            // Whoever looks has it put right.
            return Ok(());
        }
        self.expected.bans.clone().into_iter().try_for_each(|number| self.ban("ban", number))
    }

    fn ban(&mut self, command: &str, number: usize) -> Outcome {
        let said = self.nicgate(&[command, SOURCES[number]]);
        if command == "ban" {
            self.expected.bans.insert(number)
        } else {
            self.expected.bans.remove(&number)
        };
        if said.status == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
    }

    /// A configuration and a ban while nothing can be written; then there is room again.
    fn disk_full(&mut self, rules: &Rules, number: usize) -> Outcome {
        let state = self.edge.site.state();
        let disk = Disk::fill(&state)?;
        self.load(rules.clone(), None)?;
        self.ban("ban", number)?;
        let alarms = self.alarms()?;
        if !alarms.contains("bans-not-saved") || !alarms.contains("last-good-not-kept") {
            return Err(format!("nothing can be saved, and the alarms are {alarms:?}"));
        }
        if self.wired() {
            self.settles(|world| world.datagrams())?;
        }
        drop(disk);
        self.reload()
    }

    /// Invented tokens from several addresses, more than a backend that is slow is asked about at once: nobody is let in
    /// by the default in the name of a backend that was not asked.
    fn flood(&mut self) -> Outcome {
        let before = self.expected.backend;
        self.backend.set(Temper::Slow);
        let sources: Vec<usize> = (0..SOURCES.len())
            .filter(|number| self.wired() && self.expected.passes(*number))
            .filter(|number| {
                // Where a list decides, nobody is asked.
                let mut asked = self.expected.clone();
                asked.backend = Temper::Answers;
                asked.status(*number, "good") == 200 && asked.status(*number, "bad") == 403
            })
            .collect();
        let refused = self.crowd.run(|| -> Result<usize, String> {
            let mut clients = Vec::new();
            for &number in &sources {
                for n in 0..FLOOD {
                    let Ok(mut stream) = connect(source(number)) else { continue };
                    let token = format!("bad-flood-{}-{number}-{n}", self.serial);
                    let request =
                        format!("GET /live/x?token={token} HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n");
                    if stream.write_all(request.as_bytes()).is_ok() {
                        clients.push(stream);
                    }
                }
            }
            let count = clients.len();
            for mut client in clients {
                let mut head = [0; 12];
                must("time", client.set_read_timeout(Some(PATIENCE)))?;
                if std::io::Read::read_exact(&mut client, &mut head).is_ok() && &head[9..] == b"200" {
                    return Err("a bad token was let in while the backend was overrun".to_owned());
                }
            }
            Ok(count)
        });
        refused?;
        self.backend.set(before);
        Ok(())
    }

    /// The codes of the alarms; the exit status agrees with them.
    fn alarms(&self) -> Result<BTreeSet<String>, String> {
        let said = self.nicgate(&["status", "--json"]);
        let status: serde_json::Value = must("status", serde_json::from_str(&said.stdout))?;
        let alarms = status["alarms"].as_array().ok_or_else(|| format!("no alarms: {said:?}"))?;
        let codes: BTreeSet<String> =
            alarms.iter().map(|alarm| alarm["code"].as_str().unwrap_or_default().to_owned()).collect();
        let fine = said.status == Some(0);
        if fine == codes.is_empty() { Ok(codes) } else { Err(format!("{:?} with {codes:?}", said.status)) }
    }

    fn alarms_are_right(&mut self) -> Outcome {
        let (alarms, expected) = (self.alarms()?, self.expected.alarms());
        if alarms == expected {
            Ok(())
        } else {
            Err(format!("alarms {alarms:?}, with reasons for {expected:?}"))
        }
    }

    /// Every source's datagrams arrive or do not, as they have to.
    fn datagrams(&mut self) -> Outcome {
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
    fn answers(&mut self) -> Outcome {
        if !self.wired() {
            return Ok(());
        }
        let reach: Vec<usize> = (0..SOURCES.len()).filter(|n| self.expected.passes(*n)).collect();
        let Some(first) = reach.first().copied() else { return Ok(()) };
        let other = reach[self.serial as usize % reach.len()];
        for number in BTreeSet::from([first, other]) {
            self.serial += 1;
            for token in self.expected.tokens(self.serial) {
                let expected = self.expected.status(number, &token);
                let seen = must("the gate", ask(&self.crowd, number, &token))?;
                if seen != expected {
                    let from = SOURCES[number];
                    return Err(format!("{from} with {token}: {seen}, not {expected}\n{:#?}", self.expected));
                }
                self.seen.answers += 1;
            }
        }
        Ok(())
    }

    /// Waits until something holds.
    fn settles(&mut self, holds: impl Fn(&mut Self) -> Outcome) -> Outcome {
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

fn connect(from: IpAddr) -> std::io::Result<TcpStream> {
    let domain = socket2::Domain::for_address((from, 0).into());
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.bind(&std::net::SocketAddr::new(from, 0).into())?;
    let edge: IpAddr = if from.is_ipv4() { kit::netns::EDGE_V4.into() } else { kit::netns::EDGE_V6.into() };
    socket.connect_timeout(&std::net::SocketAddr::new(edge, GATE).into(), Duration::from_secs(2))?;
    Ok(socket.into())
}

fn make_fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path without zero bytes");
    // SAFETY: the path is a string with a terminating zero that lives until the call returns.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0, "a new name");
}

/// A small file system over a folder, full until it is dropped; what was in the folder is there again then.
struct Disk(CString);

impl Disk {
    fn fill(folder: &Path) -> Result<Self, String> {
        let path = CString::new(folder.as_os_str().as_bytes()).expect("a path without zero bytes");
        // SAFETY: all are strings with a terminating zero that live until the call returns.
        let mounted = unsafe {
            libc::mount(c"none".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=4096".as_ptr().cast())
        };
        if mounted != 0 {
            return Err(format!("tmpfs: {}", std::io::Error::last_os_error()));
        }
        let disk = Self(path);
        let filled = fs::write(folder.join("full"), vec![0; 8192]);
        if filled.is_ok() { Err("the disk is not full".to_owned()) } else { Ok(disk) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // SAFETY: the path is a string with a terminating zero that lives until the call returns.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}
