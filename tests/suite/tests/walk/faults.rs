//! What is done to interfaces, bans, the disk and the backend.

use std::{
    ffi::CString,
    fs,
    io::Write as _,
    net::{IpAddr, TcpStream},
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, Instant},
};

use kit::edge::GATE;

use super::{
    probe::edge,
    seen::SOON,
    step::{Rules, SOURCES, Step, Temper, source},
    world::{Outcome, PATIENCE, World, must},
};

/// How many connections a flood opens from each of its addresses.
const FLOOD: usize = 200;

impl World {
    pub(super) fn wire(&mut self, step: &Step) -> Outcome {
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

    pub(super) fn extra(&mut self, there: bool) -> Outcome {
        match (self.expected.extra, there) {
            (true, false) => self.ip("link del extra0\n")?,
            (false, true) => self.ip("link add extra0 type veth peer name extra1\n")?,
            _ => {}
        }
        self.expected.extra = there;
        Ok(())
    }

    /// Deletes the bans from the kernel; `status` says so, and has them put back; so does the same ban again.
    pub(super) fn lose_bans(&mut self) -> Outcome {
        if !self.expected.plugged || self.expected.bans.is_empty() {
            return Ok(());
        }
        self.edge.lose_bans();
        let begin = Instant::now();
        loop {
            let alarms = self.alarms()?;
            let Err(wrong) = self.datagrams() else { break };
            if alarms.contains("bans-missing") {
                break;
            }
            // Somebody else may have looked a moment ago, and what is put right is not all in its place yet.
            if begin.elapsed() > SOON {
                return Err(format!("bans are not enforced, and the alarms are {alarms:?}: {wrong}"));
            }
        }
        if self.serial.is_multiple_of(2) {
            // Whoever looks has it put right.
            return Ok(());
        }
        self.expected.bans.clone().into_iter().try_for_each(|number| self.ban("ban", number))
    }

    pub(super) fn ban(&mut self, command: &str, number: usize) -> Outcome {
        let said = self.nicgate(&[command, SOURCES[number]]);
        if command == "ban" {
            self.expected.bans.insert(number)
        } else {
            self.expected.bans.remove(&number)
        };
        if said.status == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
    }

    /// A configuration and a ban while nothing can be written; then there is room again.
    pub(super) fn disk_full(&mut self, rules: &Rules, number: usize) -> Outcome {
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
    pub(super) fn flood(&mut self) -> Outcome {
        // One that was silent just now may not be asked for a while, and counts as silent: the default is right then.
        let before = std::mem::replace(&mut self.expected.backend, Temper::Answers);
        self.backend.set(Temper::Answers);
        self.settles(Self::answers)?;
        self.backend.set(Temper::Slow);
        let sources: Vec<usize> = (0..SOURCES.len())
            .filter(|number| self.wired() && self.expected.passes(*number))
            .filter(|number| self.expected.asks(*number))
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
        self.expected.backend = before;
        Ok(())
    }
}

fn connect(from: IpAddr) -> std::io::Result<TcpStream> {
    let domain = socket2::Domain::for_address((from, 0).into());
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.bind(&std::net::SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&std::net::SocketAddr::new(edge(from), GATE).into(), Duration::from_secs(2))?;
    Ok(socket.into())
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
