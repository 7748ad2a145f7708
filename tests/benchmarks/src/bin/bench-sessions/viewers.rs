//! Viewers: sessions that are open, and the requests that they send.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use filter_user::{
    judge::Request,
    model::SessionSettings,
    session::{Presence, SessionCounters, SessionLimits, Sessions, Snapshot},
};
use hyper::Response;
use kit::{
    configurations::{self, Made, Rules},
    origins::{Server, full},
};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

/// Requests that are prepared, of random sessions: more than a processor's cache has room for, whatever the table.
const PREPARED: usize = 200_000;
/// Requests of each thread in one measurement.
const ASKED: usize = 400_000;
/// Questions at once while sessions are opened.
const AT_ONCE: u32 = 64;
/// Streams among which the viewers are spread.
const STREAMS: u32 = 200;

/// What a session has beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(super) enum Kind {
    /// Nothing: the lists admit it.
    Token,
    /// A backend's verdict.
    Backend,
    /// A backend's verdict, with a user whose number of sessions is limited.
    User,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Token, Self::Backend, Self::User];

    /// What the command line calls it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Backend => "backend",
            Self::User => "user",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Backend => "admitted by a backend",
            Self::Token => "admitted by the lists",
            Self::User => "and a user with a limit",
        }
    }
}

/// Sessions that are open.
pub(super) struct Viewers {
    pub(super) count: u32,
    /// How long it took until all were open.
    pub(super) took: Duration,
    /// Of this process, when all were open.
    pub(super) resident: u64,
    runtime: Runtime,
    sessions: Arc<Sessions>,
    snapshot: Arc<Snapshot>,
    prepared: Vec<Arc<Request>>,
    _portal: Option<Server>,
}

/// The request of a viewer: an address, a token and a query of ordinary lengths.
fn request(viewer: u32) -> Request {
    let token =
        format!("{:032x}", u128::from(viewer).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    Request {
        path: format!("channel{}/index.m3u8", viewer % STREAMS).into(),
        query: Some(format!("token={token}").into()),
        token: Some(token.into()),
        ua: Some(format!("Player/{}", viewer % 100).into()),
        host: Some("tv.example.com".into()),
        ..configurations::request(Ipv4Addr::from(0x0a00_0000 + viewer))
    }
}

impl Viewers {
    pub(super) fn open(kind: Kind, count: u32) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let portal = (kind != Kind::Token).then(|| runtime.block_on(portal(kind == Kind::User)));
        let mut made = Made::new();
        for stream in 0..STREAMS {
            let rules = Rules::new(&format!("channel{stream}"));
            let rules = match &portal {
                Some(portal) => rules.backend(&portal.url()),
                None => rules.allow_default(),
            };
            made = made.judged(&format!("channel{stream}"), rules);
        }
        // Nobody leaves while there is something to be measured.
        made.config.sessions =
            SessionSettings { idle: Some(Duration::from_secs(3600)), ..Default::default() };
        let limits =
            SessionLimits { sessions: usize::MAX >> 1, bytes: usize::MAX >> 1, ..SessionLimits::default() };
        let snapshot = made.snapshot();
        let sessions = runtime.block_on(async { Sessions::new(snapshot.clone(), limits) });
        let begun = Instant::now();
        runtime.block_on(open_all(&sessions, &snapshot, count))?;
        let (took, resident) = (begun.elapsed(), resident()?);
        let open = sessions.counters().open;
        ensure!(open == u64::from(count), "{open} of {count} sessions are open");
        let mut random = 1u64;
        let prepared = (0..PREPARED)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                Arc::new(request(((random >> 33) % u64::from(count)) as u32))
            })
            .collect();
        Ok(Self { count, took, resident, runtime, sessions, snapshot, prepared, _portal: portal })
    }

    pub(super) fn counters(&self) -> SessionCounters {
        self.sessions.counters()
    }

    /// How many requests so many threads send in one measurement.
    pub(super) fn asked(&self, threads: usize) -> f64 {
        (threads * ASKED) as f64
    }

    /// Has so many threads send their requests, each for itself; returns how long it took.
    pub(super) fn ask(&self, threads: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        thread::scope(|scope| {
            let one = |thread: usize| {
                let first = thread * (PREPARED / threads);
                self.runtime.handle().block_on(async move {
                    let presence = Presence::new();
                    for place in first..first + ASKED {
                        let request = &self.prepared[place % PREPARED];
                        let admission = self.sessions.admit(&self.snapshot, request, &presence).await;
                        ensure!(admission.is_some_and(|one| one.transfer.is_some()), "a request was refused");
                    }
                    Ok(())
                })
            };
            let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
        })?;
        Ok(begun.elapsed())
    }
}

/// Admits everybody; with `users`, each as one of its own.
async fn portal(users: bool) -> Server {
    Server::answering(move |request| async move {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let token = query.split('&').find_map(|one| one.strip_prefix("token=")).unwrap_or_default();
        let response = Response::builder().header("X-AuthDuration", "36000");
        let response = match users {
            true => response.header("X-UserId", &token[..12.min(token.len())]).header("X-Max-Sessions", "3"),
            false => response,
        };
        response.body(full("")).expect("headers of digits")
    })
    .await
}

async fn open_all(sessions: &Arc<Sessions>, snapshot: &Arc<Snapshot>, count: u32) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU32::new(0));
    let mut openers = Vec::new();
    for _ in 0..AT_ONCE {
        let (sessions, snapshot, next) = (sessions.clone(), snapshot.clone(), next.clone());
        openers.push(tokio::spawn(async move {
            let presence = Presence::new();
            loop {
                let viewer = next.fetch_add(1, Ordering::Relaxed);
                if viewer >= count {
                    return Ok(());
                }
                let request = Arc::new(request(viewer));
                let admission = sessions.admit(&snapshot, &request, &presence).await;
                ensure!(
                    admission.as_ref().is_some_and(|one| one.transfer.is_some()),
                    "viewer {viewer} was refused: {admission:?}"
                );
            }
        }));
    }
    for opener in openers {
        opener.await.context("an opener broke off")??;
    }
    Ok(())
}

/// Resident bytes of this process.
pub(super) fn resident() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).context("statm has no second number")?.parse()?;
    Ok(pages * 4096)
}
