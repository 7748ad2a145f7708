//! The controller: makes the parts, wires them, and takes them apart or hands them over.
//!
//! A reload is prepared completely (files read, database read, tables compiled, ports bound) before any of
//! it is enforced; what fails leaves everything as it was.

mod hand_over;
mod logging;
mod service_manager;
mod start;
mod upgrade;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::broadcast,
    task::JoinSet,
};

use crate::{
    control::{self, Asker, ControlSocket, Passed},
    kernel::LinkEvents,
    operations::{Fault, HandedOver, Heir, Operations, ReloadError, Reply},
};
use hand_over::Successor;
use service_manager::ServiceManager;

/// How long those who have asked something may take to be answered once another process has taken over.
const CLIENT_TIME: Duration = Duration::from_secs(1);
/// How often the audit looks whether every filter is in its place.
const AUDIT_INTERVAL: Duration = Duration::from_secs(1);
/// How many audits go by between two that count what the kernel's maps hold.
const AUDITS_BETWEEN_CONTENTS: u32 = 60;

/// Where the bans are kept unless the operator says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/nicgate/bans.json";

/// How a controller runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// The file of bans.
    pub bans: PathBuf,
    /// Take over from the controller that runs, if one does.
    pub replace: bool,
    /// How long requests in hand may take to finish when the controller stops.
    pub stop_drain: Duration,
}

/// Why the controller did not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(ReloadError),
    /// The system refused.
    #[error("{0:#}")]
    System(#[from] anyhow::Error),
}

/// Runs until SIGTERM or SIGINT, or until another process has taken over. The filter stays on the interfaces when this
/// returns.
///
/// # Errors
///
/// The configuration is wrong and no last good one is kept, or the system refuses to attach or to make the control
/// socket.
pub async fn run(options: Options) -> Result<(), RunError> {
    logging::init();
    let mut signals = Signals::new()?;
    let (manager, sockets) = ServiceManager::find();
    let (operations, socket) = tokio::select! {
        started = start::start(&options, &manager, sockets) => started?,
        () = signals.stop.asked() => return Ok(()),
    };
    let (operations, manager) = (Arc::new(operations), Arc::new(manager));
    tokio::spawn(watch(operations.clone(), manager.clone()));
    manager.ready();
    tracing::info!(config = %options.config.display(), control = %options.control.display(), "nicgate is running");

    let mut controller = Controller {
        operations: operations.clone(),
        clients: JoinSet::new(),
        giving: JoinSet::new(),
        upgrades: JoinSet::new(),
        attempts: broadcast::channel(4).0,
    };
    let end = controller.serve(&socket, &mut signals).await;
    // Whoever asks twice does not want to wait.
    tokio::select! {
        () = controller.end(end, socket, &options, &manager) => {}
        () = signals.stop.asked() => tracing::warn!("stopping at once"),
    }
    Ok(())
}

/// What a process is told from outside.
struct Signals {
    stop: Stop,
    hangup: Signal,
    user2: Signal,
}

/// The signals that mean to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let of = |kind| signal(kind).context("waiting for signals");
        Ok(Self {
            stop: Stop { terminate: of(SignalKind::terminate())?, interrupt: of(SignalKind::interrupt())? },
            hangup: of(SignalKind::hangup())?,
            user2: of(SignalKind::user_defined2())?,
        })
    }
}

impl Stop {
    /// Waits for one of them.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Why a controller ends.
enum End {
    /// It was told to.
    Stop,
    /// Another process has taken over.
    HandedOver(Successor),
}

/// Answers operators, and other processes.
struct Controller {
    operations: Arc<Operations>,
    /// Connections of the control socket.
    clients: JoinSet<Option<Passed>>,
    /// The attempt to hand over, if there is one.
    giving: JoinSet<anyhow::Result<Successor>>,
    /// Those who wait for what comes of an attempt.
    upgrades: JoinSet<()>,
    attempts: broadcast::Sender<upgrade::Attempt>,
}

impl Controller {
    async fn serve(&mut self, socket: &ControlSocket, signals: &mut Signals) -> End {
        let mut stopping = false;
        loop {
            tokio::select! {
                // An attempt to hand over has an end, and ends this process, too; whoever asks twice breaks it off.
                () = signals.stop.asked() => match self.giving.is_empty() || std::mem::replace(&mut stopping, true) {
                    true => return End::Stop,
                    false => tracing::info!("stopping as soon as another process has taken over, or has given up"),
                },
                _ = signals.hangup.recv() => {
                    let operations = self.operations.clone();
                    tokio::spawn(async move { operations.reload().await });
                }
                _ = signals.user2.recv() => self.upgrade(None),
                stream = socket.accept() => match stream {
                    Ok(stream) => {
                        let operations = self.operations.clone();
                        self.clients.spawn(async move { control::serve(&operations, stream).await });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the control socket cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(served) = self.clients.join_next() => match served {
                    Ok(Some(Passed::Upgrade(asker))) => self.upgrade(Some(asker)),
                    Ok(Some(Passed::HandOver(heir, asker))) => self.give(socket, heir, asker).await,
                    Ok(None) | Err(_) => {}
                },
                Some(given) = self.giving.join_next() => match given.map_err(Into::into).flatten() {
                    Ok(successor) => return End::HandedOver(successor),
                    Err(error) => {
                        tracing::error!("not handed over, this process goes on: {error:#}");
                        // Nobody may be waiting.
                        let _ = self.attempts.send(Err(format!("{error:#}")));
                        if stopping {
                            return End::Stop;
                        }
                    }
                },
                Some(_) = self.upgrades.join_next() => {}
            }
        }
    }

    fn upgrade(&mut self, asker: Option<Asker>) {
        self.upgrades.spawn(upgrade::upgrade(asker, self.attempts.subscribe()));
    }

    async fn give(&mut self, socket: &ControlSocket, heir: Heir, asker: Asker) {
        let copies = socket.parts().map(|part| part.try_clone_to_owned());
        let refuse = |why: String| Reply::<()>::refused(Fault::Request, why);
        let [Ok(listener), Ok(lock)] = copies else {
            return asker.answer(&refuse("too many files are open".to_owned()), None).await;
        };
        if !self.giving.is_empty() {
            return asker.answer(&refuse("another process is just taking over".to_owned()), None).await;
        }
        let operations = self.operations.clone();
        let give = async move { hand_over::give(&operations, &[listener, lock], &heir, asker).await };
        self.giving.spawn(give);
    }

    /// Leaves everything to the next process, or to nobody, but for what is in hand.
    async fn end(self, end: End, socket: ControlSocket, options: &Options, manager: &ServiceManager) {
        let operations = &*self.operations;
        match end {
            End::Stop => {
                manager.stopping();
                tracing::info!("stopping: requests in hand may finish; the filter stays on the interfaces");
                let left = tokio::time::timeout(options.stop_drain, leave(operations)).await;
                if left.is_err() {
                    tracing::warn!("a reload is still going on; it is broken off");
                }
                drop(socket);
                drain(operations, options.stop_drain).await;
            }
            End::HandedOver(successor) => {
                socket.hand_over();
                manager.main_process(successor.id());
                let handed_over = successor.handed_over(operations);
                let HandedOver { pid, version, finishing, .. } = &handed_over;
                tracing::info!(pid, version, connections = finishing, "another process has taken over");
                let _ = self.attempts.send(Ok(handed_over));
                // The gates' sockets are closed first: the next process may want to listen there in another way.
                let drained = drain(operations, options.stop_drain);
                let answered = tokio::time::timeout(CLIENT_TIME, answer(self.clients, self.upgrades));
                let _ = tokio::join!(drained, successor.retire(), answered);
            }
        }
    }
}

/// Lets go of filters and bans, so that another process can have them while this one finishes what it has in hand.
async fn leave(operations: &Operations) {
    let held = operations.hold().await;
    match operations.leave().await {
        Ok(()) => held.give_up(),
        Err(error) => tracing::error!("{error:#}"),
    }
}

/// Answers those who have asked.
async fn answer(mut clients: JoinSet<Option<Passed>>, mut upgrades: JoinSet<()>) {
    while clients.join_next().await.is_some() {}
    while upgrades.join_next().await.is_some() {}
}

/// Compares what is enforced with what should be, whenever the kernel says that an interface has changed, and
/// every [`AUDIT_INTERVAL`]. Ends when another process does it.
async fn watch(operations: Arc<Operations>, manager: Arc<ServiceManager>) {
    let events = LinkEvents::listen().inspect_err(|error| {
        tracing::warn!(%error, "the kernel's messages about interfaces cannot be read; changes are noticed within {AUDIT_INTERVAL:?}");
    });
    let mut events = events.ok();
    let mut round = 0u32;
    let mut timer = tokio::time::interval(AUDIT_INTERVAL);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let ticked = match &events {
            Some(listening) => tokio::select! {
                _ = timer.tick() => true,
                changed = listening.changed() => {
                    if let Err(error) = changed {
                        tracing::warn!(%error, "the kernel's messages about interfaces have ended");
                        events = None;
                    }
                    false
                }
            },
            None => {
                timer.tick().await;
                true
            }
        };
        round = round.wrapping_add(u32::from(ticked));
        let due = ticked && round.is_multiple_of(AUDITS_BETWEEN_CONTENTS);
        let contents = due || operations.take_missing();
        let audit = async || {
            // One that breaks off leaves an alarm, and the next one is soon.
            let _ = operations.enforcer().run("audit", move |enforced| enforced.audit(contents)).await;
            operations.gates().bind_again();
            manager.keep(operations.gates().sockets());
        };
        if operations.as_owner(audit).await.is_none() {
            return;
        }
    }
}

/// Lets the requests in hand finish.
async fn drain(operations: &Operations, time: Duration) {
    let closed = operations.gates().drain(time).await;
    if closed > 0 {
        tracing::warn!(connections = closed, "connections were closed before their requests were finished");
    }
}
