//! Names of backends to addresses: looked up beside the questions, not by each of them.
//!
//! The system's own resolver is asked, so that `/etc/hosts`, `resolv.conf` and `nsswitch.conf` mean what they mean for every
//! other program. It does not say how long its answer holds. Asking again every few seconds is asking the cache of whoever
//! resolves for this host, which knows; a resolver of our own (hickory) was weighed, which knows times to live, and reads none
//! of these files as the system does. A name that had addresses keeps them while it cannot be looked up.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::watch;
use tower_service::Service;

/// How long addresses are used before the name is looked up again.
const FRESH: Duration = Duration::from_secs(5);
/// How long they are used at most while it cannot be.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What looks a name up, and may take its time.
type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// What came of looking a name up.
type Found = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

/// The names that were looked up.
#[derive(Clone)]
pub(crate) struct Names(Arc<Shared>);

struct Shared {
    look_up: Box<LookUp>,
    known: Mutex<HashMap<Name, Known>>,
}

#[derive(Default)]
struct Known {
    /// The last addresses, and when they were looked up.
    addresses: Option<(Arc<[SocketAddr]>, Instant)>,
    /// The name is being looked up.
    looking: Option<watch::Receiver<Option<Found>>>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.known().keys()).finish()
    }
}

impl Default for Names {
    fn default() -> Self {
        // The port is the connector's business.
        Self::with(|name: &str| Ok(std::net::ToSocketAddrs::to_socket_addrs(&(name, 0))?.collect()))
    }
}

impl Names {
    fn with(look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { look_up: Box::new(look_up), known: Mutex::default() }))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Name, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a name: at once when there were any before.
    async fn addresses(&self, name: Name) -> Found {
        let mut looking = {
            let mut known = self.known();
            let one = known.entry(name.clone()).or_default();
            let age = one.addresses.as_ref().map(|(_, since)| since.elapsed());
            if age.is_none_or(|age| age >= FRESH) && one.looking.is_none() {
                one.looking = Some(self.look_up(name));
            }
            match (&one.addresses, &one.looking) {
                (Some((addresses, since)), _) if since.elapsed() < LONGEST => return Ok(addresses.clone()),
                (_, Some(looking)) => looking.clone(),
                (_, None) => return Err(Arc::new(io::ErrorKind::NotFound.into())),
            }
        };
        let broke_off = || Arc::new(io::Error::other("looking the name up broke off"));
        let found = looking.wait_for(Option::is_some).await.map_err(|_| broke_off())?;
        found.clone().unwrap_or_else(|| Err(broke_off()))
    }

    /// Looks a name up, away from the threads that serve requests. Must be called inside a tokio runtime.
    fn look_up(&self, name: Name) -> watch::Receiver<Option<Found>> {
        let (tell, looking) = watch::channel(None);
        let names = self.clone();
        tokio::task::spawn_blocking(move || {
            let found = (names.0.look_up)(name.as_str()).and_then(|addresses| {
                let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                if addresses.is_empty() { Err(none()) } else { Ok(Arc::from(addresses)) }
            });
            let found: Found = found.map_err(Arc::new);
            let mut known = names.known();
            let one = known.entry(name).or_default();
            one.looking = None;
            if let Ok(addresses) = &found {
                one.addresses = Some((addresses.clone(), Instant::now()));
            }
            drop(known);
            tell.send_replace(Some(found));
        });
        looking
    }
}

/// hyper's view of it.
impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let names = self.clone();
        Box::pin(async move {
            match names.addresses(name).await {
                Ok(addresses) => Ok(addresses.iter().copied().collect::<Vec<_>>().into_iter()),
                // What the system ran out of has to be seen as such.
                Err(error) => Err(match error.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(error.kind(), error),
                }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn address(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 0).into()
    }

    fn name() -> Name {
        "backend.example".parse().unwrap()
    }

    /// Makes what is known older, as if time had passed.
    fn age(names: &Names, by: Duration) {
        for one in names.known().values_mut() {
            if let Some((_, since)) = &mut one.addresses {
                *since = since.checked_sub(by).expect("the machine runs for longer than a test");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn however_many_ask_a_name_is_looked_up_once() {
        let looked = Arc::new(AtomicUsize::new(0));
        let count = looked.clone();
        let names = Names::with(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(50));
            Ok(vec![address(1)])
        });
        let asking: Vec<_> = (0..100)
            .map(|_| {
                let names = names.clone();
                tokio::spawn(async move { names.addresses(name()).await.unwrap() })
            })
            .collect();
        for asking in asking {
            assert_eq!(*asking.await.unwrap(), [address(1)]);
        }
        assert_eq!(looked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn names_are_looked_up_again_and_keep_their_addresses_while_that_fails() {
        let (answer, said) = (Arc::new(Mutex::new(Ok(address(1)))), Arc::new(AtomicUsize::new(0)));
        let (answers, count) = (answer.clone(), said.clone());
        let names = Names::with(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            let answer: &Result<SocketAddr, ()> = &answers.lock().unwrap();
            answer.map(|address| vec![address]).map_err(|()| io::Error::other("no resolver"))
        });
        let looked = async |times: usize| {
            while said.load(Ordering::SeqCst) < times
                || names.known().values().any(|one| one.looking.is_some())
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let now = async || names.addresses(name()).await.map(|all| all.to_vec());
        assert_eq!(now().await.unwrap(), [address(1)]);
        *answer.lock().unwrap() = Ok(address(2));
        assert_eq!(now().await.unwrap(), [address(1)], "it is still fresh");
        age(&names, FRESH);
        assert_eq!(now().await.unwrap(), [address(1)], "nobody waits for the second look");
        looked(2).await;
        assert_eq!(now().await.unwrap(), [address(2)]);
        *answer.lock().unwrap() = Err(());
        age(&names, FRESH);
        assert_eq!(now().await.unwrap(), [address(2)]);
        looked(3).await;
        assert_eq!(now().await.unwrap(), [address(2)], "better than none");
        looked(4).await;
        age(&names, LONGEST);
        assert!(now().await.is_err(), "but not for ever");
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_an_error_each_time() {
        let names = Names::with(|_| Ok(Vec::new()));
        for _ in 0..2 {
            assert!(names.addresses(name()).await.is_err());
        }
    }
}
