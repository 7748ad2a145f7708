//! Viewers who ask again and again, and what they get: for tests in which nobody may be refused.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{netns::Namespace, nicgate::PATIENCE};

/// Between two requests of a viewer.
const PAUSE: Duration = Duration::from_millis(2);

/// What viewers got: how often each.
pub type Outcomes = BTreeMap<String, u64>;

/// Viewers that ask until they are told to stop.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    outcomes: Arc<Mutex<Outcomes>>,
    /// When somebody was last refused, and when somebody was last served.
    refused: Arc<Mutex<Option<Instant>>>,
    viewers: Vec<JoinHandle<()>>,
}

/// How a viewer connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Anew for every request.
    Anew,
    /// For as many requests as the server lets it.
    Keeping,
}

impl Crowd {
    /// Starts one viewer for each target and manner, in a namespace.
    pub fn start(
        namespace: &Namespace,
        server: SocketAddr,
        viewers: impl IntoIterator<Item = (String, Manner)>,
    ) -> Self {
        let (stop, outcomes, refused) =
            (Arc::<AtomicBool>::default(), Arc::<Mutex<Outcomes>>::default(), Arc::default());
        let viewers = viewers.into_iter().map(|(target, manner)| {
            let (stop, outcomes, refused) = (stop.clone(), outcomes.clone(), Arc::clone(&refused));
            namespace.spawn(move || watch(server, &target, manner, &stop, &outcomes, &refused))
        });
        let viewers = viewers.collect();
        Self { stop, outcomes, refused, viewers }
    }

    /// What they have got so far: `200` for an answer of that status, else the kind of the error.
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests were answered with 200 so far.
    pub fn served(&self) -> u64 {
        self.outcomes().get("200").copied().unwrap_or(0)
    }

    /// When somebody last got anything but an answer of 200.
    pub fn last_failure(&self) -> Option<Instant> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops them, and tells what they got.
    ///
    /// # Panics
    ///
    /// When one of them has.
    pub fn stop(mut self) -> Outcomes {
        self.stop.store(true, Ordering::Relaxed);
        for viewer in self.viewers.drain(..) {
            viewer.join().expect("a viewer does not panic");
        }
        self.outcomes()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn watch(
    server: SocketAddr,
    target: &str,
    manner: Manner,
    stop: &AtomicBool,
    outcomes: &Mutex<Outcomes>,
    failure: &Mutex<Option<Instant>>,
) {
    let note = |outcome: String| {
        if outcome != "200" {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        *outcomes.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome).or_default() += 1;
    };
    while !stop.load(Ordering::Relaxed) {
        let stream = match connect(server) {
            Ok(stream) => stream,
            Err(error) => {
                note(format!("connecting: {:?}", error.kind()));
                thread::sleep(PAUSE);
                continue;
            }
        };
        let mut stream = BufReader::new(stream);
        while !stop.load(Ordering::Relaxed) {
            let (outcome, last) = match ask(&mut stream, server, target) {
                Ok(answer) => answer,
                Err(error) => (format!("asking: {:?}", error.kind()), true),
            };
            note(outcome);
            thread::sleep(PAUSE);
            if last || manner == Manner::Anew {
                break;
            }
        }
    }
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One request; its status, and whether the server wants no further one.
fn ask(stream: &mut BufReader<TcpStream>, server: SocketAddr, target: &str) -> io::Result<(String, bool)> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let (mut status, mut length, mut last) = (None, 0, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if status.is_none() {
            status = line.split(' ').nth(1).map(str::to_owned);
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        } else if line == "connection: close" {
            last = true;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((status.unwrap_or_default(), last))
}

/// Transfers that go on for as long as they are let.
#[derive(Debug)]
pub struct Transfers {
    /// For each, how many bytes have come, and whether it has ended.
    each: Vec<Arc<(AtomicU64, AtomicBool)>>,
}

impl Transfers {
    /// Begins them, one for each target, and waits until each has brought something.
    ///
    /// # Panics
    ///
    /// When one of them does not begin.
    pub fn begin(
        namespace: &Namespace,
        server: SocketAddr,
        targets: impl IntoIterator<Item = String>,
    ) -> Self {
        let begin = |target: String| {
            let state = Arc::new((AtomicU64::new(0), AtomicBool::new(false)));
            let own = state.clone();
            let stream = namespace.run(|| {
                let mut stream = connect(server).expect("the gate listens");
                write!(stream, "GET {target} HTTP/1.1\r\nHost: {server}\r\n\r\n").expect("the gate reads");
                let mut head = [0; 12];
                stream.read_exact(&mut head).expect("the gate answers");
                assert_eq!(head, *b"HTTP/1.1 200", "{target}");
                stream
            });
            thread::spawn(move || {
                read_on(stream, &own.0);
                own.1.store(true, Ordering::Relaxed);
            });
            state
        };
        Self { each: targets.into_iter().map(begin).collect() }
    }

    /// How many have not ended.
    pub fn alive(&self) -> usize {
        self.each.iter().filter(|state| !state.1.load(Ordering::Relaxed)).count()
    }

    /// Which have not ended.
    pub fn which(&self) -> Vec<bool> {
        self.each.iter().map(|state| !state.1.load(Ordering::Relaxed)).collect()
    }

    /// How many bytes have come to each.
    pub fn bytes(&self) -> Vec<u64> {
        self.each.iter().map(|state| state.0.load(Ordering::Relaxed)).collect()
    }
}

fn read_on(mut stream: TcpStream, bytes: &AtomicU64) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        bytes.fetch_add(read as u64, Ordering::Relaxed);
    }
}
