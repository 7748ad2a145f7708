//! An allowed viewer: a few connections that fetch segments one after the other, as fast as they come.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use kit::netns::{EDGE_V4, Namespace};
use socket2::{Domain, Socket, Type};

/// The viewer's address.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// Bytes of a segment.
pub(crate) const SEGMENT: usize = 64 * 1024;
/// Connections at a time.
const CONNECTIONS: usize = 4;
/// When a request counts as failed.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the viewer got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    /// Bytes of segments a second.
    pub(crate) rate: f64,
    /// How long each finished request took, ascending.
    pub(crate) times: Vec<Duration>,
    /// Requests that failed.
    pub(crate) failed: u64,
}

impl Watched {
    /// A percentile of the finished requests; `None` when none finished.
    pub(crate) fn percentile(&self, percent: usize) -> Option<Duration> {
        let last = self.times.len().checked_sub(1)?;
        Some(self.times[last * percent / 100])
    }
}

/// Watches for a while.
pub(crate) fn watch(namespace: &Namespace, time: Duration) -> Watched {
    let started = Instant::now();
    let until = started + time;
    let each = || {
        let mut watched = Watched::default();
        let mut connection = None;
        while Instant::now() < until {
            let asked = Instant::now();
            match fetch(&mut connection) {
                Ok(()) => watched.times.push(asked.elapsed()),
                Err(_) => {
                    watched.failed += 1;
                    connection = None;
                    // A refused connection fails at once, and should not become a flood of its own.
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
        watched
    };
    let all = namespace.run(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(each)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .reduce(|mut all, one| {
                    all.times.extend(one.times);
                    all.failed += one.failed;
                    all
                })
                .unwrap_or_default()
        })
    });
    let mut watched = all;
    watched.times.sort_unstable();
    watched.rate = (watched.times.len() * SEGMENT) as f64 / started.elapsed().as_secs_f64();
    watched
}

/// One segment, over a connection that is kept.
fn fetch(connection: &mut Option<TcpStream>) -> io::Result<()> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(connect()?),
    };
    stream.write_all(b"GET /live/segment.ts HTTP/1.1\r\nHost: edge\r\n\r\n")?;
    let mut answer = vec![0; SEGMENT + 4096];
    let mut filled = 0;
    loop {
        match stream.read(&mut answer[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => filled += more,
        }
        if let Some(head) = answer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            if !answer.starts_with(b"HTTP/1.1 200 ") {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            if filled == head + 4 + SEGMENT {
                return Ok(());
            }
        }
    }
}

fn connect() -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((ADDRESS, 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((EDGE_V4, 80)).into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
