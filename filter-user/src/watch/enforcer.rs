//! The one owner of what is enforced.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::oneshot};

use super::{Alarm, BansStatus, Enforced};

/// What an owner does for somebody.
type Job = Box<dyn FnOnce(&mut Enforced) + Send>;

/// A job that broke off. What it was to change is compared with what should be by the next audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {0} broke off: a fault of nicgate's, whose log says more; the watcher puts right what is missing"
)]
pub struct BrokeOff(&'static str);

/// What the last job left behind.
#[derive(Clone, Debug)]
pub struct View {
    /// The filtered interfaces.
    pub interfaces: Vec<String>,
    /// What of the configuration is not in force, as far as the owner knows.
    pub alarms: Vec<Alarm>,
    /// How many times something was put right.
    pub mended: u64,
    /// The runtime bans.
    pub bans: BansStatus,
    /// When the last audit was finished.
    pub audited: Instant,
}

/// Sends jobs to the thread that owns filters and bans. The thread ends with this value; what is enforced stays.
pub struct Enforcer {
    jobs: mpsc::Sender<Job>,
    view: Arc<ArcSwap<View>>,
}

impl Enforcer {
    /// Starts the thread, which begins by making what it owns. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// What making it says.
    pub async fn start(
        begin: impl FnOnce() -> anyhow::Result<Enforced> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (started, begun) = oneshot::channel();
        // Readers of events are tasks of the runtime.
        let runtime = Handle::current();
        thread::Builder::new()
            .name("nicgate-enforcer".into())
            .spawn(move || {
                let _runtime = runtime.enter();
                let mut enforced = match begin() {
                    Ok(enforced) => enforced,
                    Err(error) => return drop(started.send(Err(error))),
                };
                let view = Arc::new(ArcSwap::from_pointee(enforced.view()));
                if started.send(Ok(view.clone())).is_err() {
                    return;
                }
                for job in inbox {
                    job(&mut enforced);
                    view.store(Arc::new(enforced.view()));
                }
            })
            .context("could not start a thread")?;
        let view = begun.await.context("the thread that attaches filters broke off")??;
        Ok(Self { jobs, view })
    }

    /// What the last job left behind; never waits.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Has something done, after what was asked for before. A job that panics takes nothing with it: the owner goes
    /// on, and an alarm says so until such a job succeeds.
    ///
    /// # Errors
    ///
    /// It panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut Enforced) -> T + Send + 'static,
    ) -> Result<T, BrokeOff> {
        let (answer, answered) = oneshot::channel();
        let job = move |enforced: &mut Enforced| {
            let worked = catch_unwind(AssertUnwindSafe(|| work(enforced)));
            enforced.note(name, worked.as_ref().err().map(|panic| message(&**panic)));
            // Whoever asked may be gone.
            let _ = answer.send(worked);
        };
        if self.jobs.send(Box::new(job)).is_err() {
            return Err(BrokeOff(name));
        }
        match answered.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => Err(BrokeOff(name)),
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
