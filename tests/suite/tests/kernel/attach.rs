//! The filter on real interfaces: a veth pair between two network namespaces, and real packets.
#![expect(clippy::unwrap_used, reason = "a test's own functions, too, fail by panicking")]

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use filter_user::{
    kernel::{self, AttachReport, Bpffs, Filter, LinkKind, Mode, Reader, detach},
    model::{Engine, InterfaceMode, Proto},
    table::Layout,
};
use kit::{machine, rights, tables::Table};

const DENIED: &str = "192.0.2.66";
const ADMITTED: &str = "192.0.2.77";
const DENIED6: &str = "2001:db8::66";
const ADMITTED6: &str = "2001:db8::77";
const SERVER: &str = "192.0.2.1";
const SERVER6: &str = "2001:db8::1";
const PORT: u16 = 5000;
/// How long a packet that should arrive may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a packet that should not arrive is waited for.
const SILENCE: Duration = Duration::from_millis(200);

/// Two namespaces, a veth pair (`server0` and `client0`), and a BPF file system of their own.
struct Lab {
    name: String,
    bpffs: PathBuf,
}

impl Lab {
    /// Made by root only.
    fn new() -> Self {
        rights::need_root();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nicgate-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let bpffs = std::env::temp_dir().join(format!("{name}-bpffs"));
        std::fs::create_dir(&bpffs).unwrap();
        let lab = Self { name, bpffs };
        let (server, client) = (lab.server(), lab.client());
        ip(&["netns", "add", &server]);
        ip(&["netns", "add", &client]);
        ip(&[
            "-n", &server, "link", "add", "server0", "type", "veth", "peer", "name", "client0", "netns",
            &client,
        ]);
        for (ns, interface, addresses) in [
            (&server, "server0", vec![format!("{SERVER}/24"), format!("{SERVER6}/64")]),
            (
                &client,
                "client0",
                [DENIED, ADMITTED]
                    .map(|a| format!("{a}/24"))
                    .into_iter()
                    .chain([DENIED6, ADMITTED6].map(|a| format!("{a}/64")))
                    .collect(),
            ),
        ] {
            for address in addresses {
                ip(&["-n", ns, "address", "add", &address, "dev", interface, "nodad"]);
            }
            ip(&["-n", ns, "link", "set", interface, "up"]);
        }
        lab
    }

    fn server(&self) -> String {
        format!("{}-s", self.name)
    }

    fn client(&self) -> String {
        format!("{}-c", self.name)
    }

    fn bpffs(&self) -> Bpffs {
        Bpffs::at(&self.bpffs)
    }

    fn attach(&self, mode: InterfaceMode, table: &Layout) -> kernel::Result<(Filter, AttachReport)> {
        within(&self.server(), || Filter::attach_in(&self.bpffs(), "server0", mode, table))
    }

    fn open(&self) -> kernel::Result<Reader> {
        within(&self.server(), || Reader::open_in(&self.bpffs(), "server0"))
    }

    /// A socket of the server on the protected port.
    fn listen(&self, address: &str) -> UdpSocket {
        within(&self.server(), || {
            let socket = UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), PORT)).unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            socket
        })
    }

    /// A socket of a client.
    fn from(&self, address: &str) -> UdpSocket {
        within(&self.client(), || UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for ns in [self.server(), self.client()] {
            let _ = Command::new("ip").args(["netns", "delete", &ns]).status();
        }
        let _ = Command::new("umount").arg(&self.bpffs).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir(&self.bpffs);
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs something in a network namespace, on a thread of its own.
fn within<R: Send>(ns: &str, run: impl FnOnce() -> R + Send) -> R {
    let file = File::open(format!("/run/netns/{ns}")).unwrap();
    thread::scope(|scope| {
        scope
            .spawn(move || {
                // SAFETY: an open descriptor of a network namespace; only this thread moves.
                assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                run()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What an attachment noted, but for what it notes of every kernel before 5.18.
fn notes(report: &AttachReport) -> Vec<&String> {
    let of_the_kernel = |note: &&String| note.starts_with("this kernel is older than 5.18");
    let (old, notes): (Vec<_>, Vec<_>) = report.notes.iter().partition(of_the_kernel);
    assert_eq!(old.is_empty(), machine::knows_frags(), "{:?}", report.notes);
    notes
}

/// Sends from an address and says whether it arrives.
fn arrives(lab: &Lab, server: &UdpSocket, from: &str, expected: bool) -> bool {
    let client = lab.from(from);
    client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
    server.set_read_timeout(Some(if expected { PATIENCE } else { SILENCE })).unwrap();
    let mut buffer = [0; 64];
    match server.recv_from(&mut buffer) {
        Ok((_, source)) => {
            assert_eq!(source.ip(), from.parse::<IpAddr>().unwrap());
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

fn check_enforced(lab: &Lab) {
    for (server, denied, admitted) in [(SERVER, DENIED, ADMITTED), (SERVER6, DENIED6, ADMITTED6)] {
        let server = lab.listen(server);
        assert!(arrives(lab, &server, admitted, true), "{admitted} is admitted");
        assert!(!arrives(lab, &server, denied, false), "{denied} is denied");
    }
}

fn table() -> Table {
    Table::denying("deny ip 192.0.2.66", &["192.0.2.66/32", "2001:db8::66/128"], &[(Proto::Udp, PORT)])
}

#[test]
fn a_native_filter_drops_real_packets_and_detach_removes_everything() {
    let lab = Lab::new();
    let (filter, report) = lab.attach(InterfaceMode::Native, &table().layout(Engine::default())).unwrap();
    assert_eq!((report.adopted, report.mode, report.link), (false, Mode::Native, LinkKind::BpfLink));
    assert_eq!(notes(&report), Vec::<&String>::new());
    check_enforced(&lab);
    let stats = filter.stats().unwrap();
    assert_eq!(stats.outcome("drop"), 2, "{stats:?}");
    assert_eq!(stats.outcome("pass_protected"), 2);
    assert_eq!(stats.rules[0].count.packets, 2);

    let status = within(&lab.server(), || filter.status()).unwrap();
    assert_eq!((status.mode, status.link), (Some(Mode::Native), Some(LinkKind::BpfLink)));
    assert_eq!((status.generation, status.services, status.rules), (1, 1, 1));
    assert_eq!((status.v4.installed, status.v6.installed), (1, 1));
    assert!(status.v4.complete() && status.v6.complete());
    assert!(status.program.is_some());

    within(&lab.server(), || filter.detach()).unwrap();
    let server = lab.listen(SERVER);
    assert!(arrives(&lab, &server, DENIED, true), "nothing is filtered any more");
    assert!(!lab.bpffs.join("nicgate").exists(), "no pin is left");
    assert!(lab.open().err().unwrap().to_string().contains("not attached"));
}

#[test]
fn a_table_that_outgrows_its_room_takes_over_without_a_gap() {
    let lab = Lab::new();
    let (mut filter, _) = lab.attach(InterfaceMode::Native, &table().layout(Engine::default())).unwrap();
    check_enforced(&lab);
    let before = within(&lab.server(), || filter.status()).unwrap();
    let mut large = table();
    let rule = large.rule("deny ip file", 20);
    let class = large.class(vec![Some(rule)]);
    let scattered = (0..60_000u32).map(|n| {
        let net = ipnet::Ipv4Net::new(n.wrapping_mul(2_654_435_761).into(), 32).unwrap();
        (net.into(), class)
    });
    let large = large.nets(scattered).layout(Engine::default());
    within(&lab.server(), || filter.publish(&large)).unwrap();
    let after = within(&lab.server(), || filter.status()).unwrap();
    assert_ne!(after.program, before.program, "there is another program, with more room");
    assert!(after.v4.complete() && after.v4.installed > 50_000, "{after:?}");
    assert_eq!(within(&lab.server(), || filter.publish(&large)).unwrap().generation, 3);
    assert!(filter.stats().unwrap().rules.iter().any(|rule| rule.count.packets == 2), "counters go on");
    // Who comes next finds it all, and takes it back to what it was.
    drop(filter);
    assert_eq!(within(&lab.server(), || lab.open().unwrap().status()).unwrap().v4, after.v4);
    let (filter, report) = lab.attach(InterfaceMode::Native, &table().layout(Engine::default())).unwrap();
    assert!(report.adopted);
    assert_eq!(within(&lab.server(), || filter.status()).unwrap().v4.installed, 1);
    assert!(filter.stats().unwrap().rules.iter().any(|rule| rule.count.packets == 2), "counters go on");
}

#[test]
fn another_engine_takes_over_without_a_gap() {
    let lab = Lab::new();
    for (engine, adopted) in [(Engine::Lpm, false), (Engine::Flat, true), (Engine::Lpm, true)] {
        let table = table().layout(engine);
        let (filter, report) = within(&lab.server(), || {
            Filter::attach_in(&lab.bpffs(), "server0", InterfaceMode::Native, &table)
        })
        .unwrap();
        assert_eq!((report.adopted, filter.engine()), (adopted, engine));
        check_enforced(&lab);
        drop(filter);
        assert_eq!(lab.open().unwrap().engine(), engine);
    }
}

#[test]
fn interfaces_share_one_layout_and_an_engine_refuses_that_of_another() {
    let lab = Lab::new();
    let layout = table().layout(Engine::Flat);
    ip(&["-n", &lab.server(), "link", "add", "second0", "type", "veth", "peer", "name", "second1"]);
    let (first, _) = lab.attach(InterfaceMode::Native, &layout).unwrap();
    let (mut second, report) =
        within(&lab.server(), || Filter::attach_in(&lab.bpffs(), "second0", InterfaceMode::Auto, &layout))
            .unwrap();
    assert_eq!((report.published.v4_entries, report.published.v6_entries), (1, 1));
    check_enforced(&lab);
    let of = |filter: &Filter| {
        let status = within(&lab.server(), || filter.status()).unwrap();
        (status.v4, status.v6, status.rules, status.services)
    };
    assert_eq!(of(&first), of(&second));
    let error = format!("{:#}", second.publish(&table().layout(Engine::Lpm)).unwrap_err());
    assert!(error.contains("second0 runs with the engine flat"), "{error}");
    assert_eq!(second.publish(&layout).unwrap().generation, 2);
    assert_eq!(of(&first), of(&second));
}

#[test]
fn generic_mode_does_the_same() {
    let lab = Lab::new();
    let (_filter, report) = lab.attach(InterfaceMode::Generic, &table().layout(Engine::default())).unwrap();
    assert_eq!(report.mode, Mode::Generic);
    check_enforced(&lab);
}

#[test]
fn where_native_mode_is_refused_auto_says_so_and_native_fails() {
    let lab = Lab::new();
    let table = table().layout(Engine::default());
    // A bridge has no native XDP.
    ip(&["-n", &lab.server(), "link", "add", "plain.100", "type", "bridge"]);
    let attach = |mode| within(&lab.server(), || Filter::attach_in(&lab.bpffs(), "plain.100", mode, &table));
    let error = format!("{:#}", attach(InterfaceMode::Native).err().unwrap());
    assert!(error.contains("plain.100 cannot run the filter in native mode"), "{error}");
    assert!(!lab.bpffs.join("nicgate").exists(), "what failed leaves nothing behind");
    let (filter, report) = attach(InterfaceMode::Auto).unwrap();
    assert_eq!(report.mode, Mode::Generic);
    assert!(notes(&report)[0].contains("plain.100 runs in generic mode"), "{:?}", report.notes);
    drop(filter);
    // A name with a dot, which the BPF file system itself does not take.
    within(&lab.server(), || detach(&lab.bpffs(), "plain.100")).unwrap();
    assert!(!lab.bpffs.join("nicgate").exists());
    let error = format!("{:#}", attach(InterfaceMode::Offload).err().unwrap());
    assert!(error.contains("mode offload"), "{error}");
}

#[test]
fn an_interface_that_does_not_exist_is_named_with_those_that_do() {
    let lab = Lab::new();
    let table = table().layout(Engine::default());
    let error =
        within(&lab.server(), || Filter::attach_in(&lab.bpffs(), "eth9", InterfaceMode::Auto, &table));
    let error = format!("{:#}", error.err().unwrap());
    assert!(
        error.contains("no interface eth9") && error.contains("server0") && error.contains("lo"),
        "{error}"
    );
}

#[test]
fn another_program_on_the_interface_is_named_and_left_alone() {
    let lab = Lab::new();
    let table = table().layout(Engine::default());
    // Any other program will do; another nicgate with pins elsewhere is one.
    let program = if machine::knows_frags() { "nicgate" } else { "nicgate_linear" };
    let elsewhere = lab.bpffs.join("elsewhere");
    let (first, _) = lab.attach(InterfaceMode::Native, &table).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    for mode in [InterfaceMode::Auto, InterfaceMode::Native, InterfaceMode::Generic] {
        let error =
            within(&lab.server(), || Filter::attach_in(&Bpffs::at(&elsewhere), "server0", mode, &table));
        let error = format!("{:#}", error.err().unwrap());
        assert!(error.contains(&format!("another XDP program runs on server0: {program} (id ")), "{error}");
    }
    assert!(!elsewhere.join("nicgate").exists(), "what failed leaves nothing behind");
    check_enforced(&lab);
    drop(first);
}

#[test]
fn one_controller_at_a_time() {
    let lab = Lab::new();
    let table = table().layout(Engine::default());
    let (first, _) = lab.attach(InterfaceMode::Auto, &table).unwrap();
    let error = format!("{:#}", lab.attach(InterfaceMode::Auto, &table).err().unwrap());
    assert!(error.contains("another nicgate controls this interface"), "{error}");
    assert_eq!(lab.open().unwrap().stats().unwrap().rules.len(), 1, "readers need no lock");
    drop(first);
    let (_second, report) = lab.attach(InterfaceMode::Auto, &table).unwrap();
    assert!(report.adopted);
}

/// Starts the holder in the server's namespace and waits until it has attached.
fn hold(lab: &Lab) -> (std::process::Child, String) {
    let mut child = Command::new("ip")
        .args(["netns", "exec", &lab.server(), env!("CARGO_BIN_EXE_hold_filter")])
        .arg(&lab.bpffs)
        .arg("server0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().to_owned())
}

#[test]
fn a_killed_controller_leaves_the_filter_enforcing_and_the_next_takes_over_without_a_gap() {
    let lab = Lab::new();
    // The file system has to be mounted before `ip netns exec` makes a mount namespace of its own.
    let (filter, _) = lab.attach(InterfaceMode::Auto, &table().layout(Engine::default())).unwrap();
    within(&lab.server(), || filter.detach()).unwrap();

    let (mut child, said) = hold(&lab);
    assert_eq!(said, "attached");
    check_enforced(&lab);
    child.kill().unwrap();
    child.wait().unwrap();
    check_enforced(&lab);
    let before = lab.open().unwrap().stats().unwrap();
    assert_eq!(before.outcome("drop"), 4);

    // A stream of denied packets runs while one controller after the other takes over.
    let server = lab.listen(SERVER);
    let denied = lab.from(DENIED);
    let stop = Arc::new(AtomicBool::new(false));
    let sent = thread::spawn({
        let stop = Arc::clone(&stop);
        let target = server.local_addr().unwrap();
        move || {
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) {
                denied.send_to(b"denied", target).unwrap();
                sent += 1;
                thread::sleep(Duration::from_micros(200));
            }
            sent
        }
    });
    let mut programs = Vec::new();
    for _ in 0..5 {
        let (mut child, said) = hold(&lab);
        assert_eq!(said, "adopted");
        let status = within(&lab.server(), || lab.open().unwrap().status()).unwrap();
        programs.push(status.program.unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let sent = sent.join().unwrap();
    server.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(server.recv(&mut [0; 64]).is_err(), "a denied packet got through");
    programs.dedup();
    assert_eq!(programs.len(), 5, "each controller brought its own program");
    let after = lab.open().unwrap().stats().unwrap();
    assert_eq!(after.outcome("drop"), 4 + sent, "counters go on across takeovers");
    assert_eq!(after.rules[0].count.packets, 4 + sent);
    assert_eq!(lab.open().unwrap().status().unwrap().generation, 6);
}

#[test]
fn a_version_with_other_tables_takes_over_without_a_gap() {
    let lab = Lab::new();
    drop(lab.attach(InterfaceMode::Auto, &table().layout(Engine::default())).unwrap());
    // As if another version had pinned its tables: their directory has another name.
    let pins = lab.bpffs.join("nicgate/server0");
    let current = std::fs::read_dir(&pins)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    std::fs::rename(&current, pins.join("layout-0")).unwrap();
    assert!(lab.open().err().unwrap().to_string().contains("another version"));
    check_enforced(&lab);

    let server = lab.listen(SERVER);
    let denied = lab.from(DENIED);
    let target = server.local_addr().unwrap();
    let stop = AtomicBool::new(false);
    let report = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                denied.send_to(b"denied", target).unwrap();
                thread::sleep(Duration::from_micros(100));
            }
        });
        let report = lab.attach(InterfaceMode::Auto, &table().layout(Engine::default())).unwrap().1;
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap();
        report
    });
    server.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(server.recv(&mut [0; 64]).is_err(), "a denied packet got through");
    drop(server);
    assert!(report.adopted);
    assert_eq!(report.published.generation, 1, "tables of its own");
    assert!(!pins.join("layout-0").exists(), "the other version's tables are gone");
    check_enforced(&lab);
    assert!(lab.open().unwrap().stats().unwrap().outcome("drop") >= 2);
}

#[test]
fn two_hundred_reloads_lose_no_admitted_packet_and_let_no_denied_one_pass() {
    let lab = Lab::new();
    // Both tables deny one and admit the other, but differ in all their classes, columns and slots.
    let mut other = Table::new(2).service(Proto::Udp, PORT, None, 1).service(Proto::Tcp, 80, None, 0);
    let wide = other.rule("deny ip 192.0.2.64/29", 1);
    let far = other.rule("deny ip 10/8", 2);
    let far = other.class(vec![Some(far), None]);
    let wide = other.class(vec![None, Some(wide)]);
    let tables = [
        table().layout(Engine::default()),
        other
            .net("10.0.0.0/8", far)
            .net("192.0.2.64/29", wide)
            .net("2001:db8::64/126", wide)
            .layout(Engine::default()),
    ];
    let (mut filter, _) = lab.attach(InterfaceMode::Native, &tables[0]).unwrap();
    let sockets: Vec<(UdpSocket, UdpSocket, UdpSocket)> =
        [(SERVER, DENIED, ADMITTED), (SERVER6, DENIED6, ADMITTED6)]
            .map(|(server, denied, admitted)| (lab.listen(server), lab.from(denied), lab.from(admitted)))
            .into();
    let stop = AtomicBool::new(false);
    let denied_sent = AtomicU64::new(0);
    let admitted_sent = AtomicU64::new(0);
    thread::scope(|scope| {
        for (server, denied, admitted) in &sockets {
            let target = server.local_addr().unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let (stop, denied_sent, admitted_sent) = (&stop, &denied_sent, &admitted_sent);
            scope.spawn(move || {
                let admitted_from = admitted.local_addr().unwrap();
                let mut buffer = [0; 64];
                let mut number = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    denied.send_to(b"denied", target).unwrap();
                    denied_sent.fetch_add(1, Ordering::Relaxed);
                    // Each admitted packet is waited for, so that a lost one is noticed and no queue overflows.
                    number += 1;
                    admitted.send_to(&number.to_be_bytes(), target).unwrap();
                    admitted_sent.fetch_add(1, Ordering::Relaxed);
                    let (length, from) = server.recv_from(&mut buffer).expect("an admitted packet was lost");
                    assert_eq!(from, admitted_from, "a denied packet got through");
                    assert_eq!(buffer[..length], number.to_be_bytes());
                }
            });
        }
        for round in 1..=200 {
            let report = filter.publish(&tables[round % 2]).unwrap();
            assert_eq!(report.generation, round as u64 + 1);
            assert_eq!(report.warnings, Vec::<String>::new());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let stats = filter.stats().unwrap();
    assert_eq!(stats.outcome("drop"), denied_sent.into_inner());
    assert_eq!(stats.outcome("pass_protected"), admitted_sent.into_inner());
    assert!(stats.outcome("drop") > 200, "{stats:?}");
}

#[test]
fn an_interface_that_was_deleted_and_made_again_is_attached_afresh() {
    let lab = Lab::new();
    let table = table().layout(Engine::default());
    let add =
        || ip(&["-n", &lab.server(), "link", "add", "again0", "type", "veth", "peer", "name", "again1"]);
    let attach =
        || within(&lab.server(), || Filter::attach_in(&lab.bpffs(), "again0", InterfaceMode::Auto, &table));
    add();
    drop(attach().unwrap());
    ip(&["-n", &lab.server(), "link", "delete", "again0"]);
    add();
    let filter = within(&lab.server(), || Reader::open_in(&lab.bpffs(), "again0")).unwrap();
    let status = within(&lab.server(), || filter.status()).unwrap();
    assert_eq!((status.mode, status.link), (None, None), "the status does not claim what is not so");
    drop(filter);
    let (filter, report) = attach().unwrap();
    assert!(!report.adopted);
    let status = within(&lab.server(), || filter.status()).unwrap();
    assert_eq!(status.mode, Some(Mode::Native));
    ip(&["-n", &lab.server(), "link", "delete", "again0"]);
    drop(filter);
    within(&lab.server(), || detach(&lab.bpffs(), "again0")).unwrap();
    assert!(!lab.bpffs.join("nicgate").exists());
}

#[test]
fn without_a_bpf_link_the_filter_is_adopted_and_taken_off_by_netlink() {
    let lab = Lab::new();
    let (filter, _) = lab.attach(InterfaceMode::Native, &table().layout(Engine::default())).unwrap();
    // What a kernel without BPF links would have left: the program on the interface, and no link.
    let pins = lab.bpffs.join("nicgate/server0");
    std::fs::remove_file(pins.join("link")).unwrap();
    let program = pins.join("program");
    ip(&[
        "-n",
        &lab.server(),
        "link",
        "set",
        "dev",
        "server0",
        "xdpdrv",
        "pinned",
        program.to_str().unwrap(),
    ]);
    let status = within(&lab.server(), || filter.status()).unwrap();
    assert_eq!((status.mode, status.link), (Some(Mode::Native), Some(LinkKind::Netlink)));
    drop(filter);
    check_enforced(&lab);

    let (filter, report) = lab.attach(InterfaceMode::Generic, &table().layout(Engine::default())).unwrap();
    assert_eq!((report.adopted, report.link, report.mode), (true, LinkKind::Netlink, Mode::Native));
    assert!(notes(&report)[0].contains("goes on in native mode although"), "{:?}", report.notes);
    let after = within(&lab.server(), || filter.status()).unwrap();
    assert_ne!(after.program, status.program, "the new program is in place");
    check_enforced(&lab);
    within(&lab.server(), || filter.detach()).unwrap();
    let server = lab.listen(SERVER);
    assert!(arrives(&lab, &server, DENIED, true), "nothing is filtered any more");
    assert!(!lab.bpffs.join("nicgate").exists());
}
