//! Turns to ask a backend: so many questions at once, shared fairly between the addresses that cause them.
//!
//! A question that waits too long for its turn, or finds too many before it, is never sent. That says nothing about
//! the backend, and must not be taken for its silence.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::address::subscriber;

/// How many questions of one address may wait. An address can be a carrier's NAT with thousands of viewers; what
/// keeps others from waiting behind it is that addresses take turns.
const WAITING_PER_ADDRESS: usize = 1024;
/// How many questions may wait in all.
const WAITING: usize = 16_384;

/// The turns of one backend.
#[derive(Debug)]
pub(super) struct Turns(Mutex<Queue>);

#[derive(Debug)]
struct Queue {
    free: usize,
    /// How many turns one address can have at once: half of all, so that a backend that hangs on the questions of one
    /// leaves room for those of others.
    most: usize,
    /// The turns that each address has now.
    held: HashMap<IpAddr, usize>,
    waiting: HashMap<IpAddr, VecDeque<oneshot::Sender<Turn>>>,
    /// Each address that waits, once: the first one is served next, and goes to the end.
    order: VecDeque<IpAddr>,
    count: usize,
}

/// The right to ask now; dropping it lets the next one ask.
#[derive(Debug)]
pub(super) struct Turn(Option<(Arc<Turns>, IpAddr)>);

/// Too many questions wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineFull;

impl Turns {
    /// So many at once.
    pub(super) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Queue {
            free: at_once,
            most: at_once.div_ceil(2),
            held: HashMap::new(),
            waiting: HashMap::new(),
            order: VecDeque::new(),
            count: 0,
        })))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn. Dropping the future gives the place up.
    pub(super) async fn take(self: &Arc<Self>, address: IpAddr) -> Result<Turn, LineFull> {
        let address = subscriber(address);
        let waiting = {
            let mut queue = self.queue();
            if queue.free > 0 && queue.may_have(address) {
                queue.free -= 1;
                queue.give(address);
                return Ok(Turn(Some((self.clone(), address))));
            }
            queue.wait(address)?
        };
        // The sender is in the queue as long as the queue is there, and we hold it.
        waiting.await.map_err(|_| LineFull)
    }

    /// Takes a turn back, and hands it on to who waits longest of the address that is next.
    fn hand_on(self: Arc<Self>, from: IpAddr) {
        let mut queue = self.queue();
        queue.take_back(from);
        loop {
            let Some((address, next)) = queue.next() else {
                queue.free += 1;
                return;
            };
            queue.give(address);
            // Dropping a turn comes back here.
            drop(queue);
            match next.send(Turn(Some((self.clone(), address)))) {
                Ok(()) => return,
                // That one has given up; its turn is ours again.
                Err(mut back) => back.0 = None,
            }
            queue = self.queue();
            queue.take_back(address);
        }
    }
}

impl Queue {
    fn may_have(&self, address: IpAddr) -> bool {
        self.held.get(&address).is_none_or(|held| *held < self.most)
    }

    fn give(&mut self, address: IpAddr) {
        *self.held.entry(address).or_default() += 1;
    }

    fn take_back(&mut self, address: IpAddr) {
        if let Some(held) = self.held.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&address);
            }
        }
    }

    fn wait(&mut self, address: IpAddr) -> Result<oneshot::Receiver<Turn>, LineFull> {
        let mine = self.waiting.entry(address).or_default();
        if self.count >= WAITING || mine.len() >= WAITING_PER_ADDRESS {
            // Those who gave up still stand in line; only they can be many without anybody who waits.
            let before = mine.len();
            mine.retain(|sender| !sender.is_closed());
            self.count -= before - mine.len();
            if self.count >= WAITING || mine.len() >= WAITING_PER_ADDRESS {
                if mine.is_empty() {
                    self.waiting.remove(&address);
                    self.order.retain(|other| *other != address);
                }
                return Err(LineFull);
            }
        }
        let mine = self.waiting.entry(address).or_default();
        if mine.is_empty() && !self.order.contains(&address) {
            self.order.push_back(address);
        }
        let (sender, receiver) = oneshot::channel();
        mine.push_back(sender);
        self.count += 1;
        Ok(receiver)
    }

    /// Who is next, of those that may have one more.
    fn next(&mut self) -> Option<(IpAddr, oneshot::Sender<Turn>)> {
        for _ in 0..self.order.len() {
            let address = self.order.pop_front()?;
            if !self.may_have(address) {
                self.order.push_back(address);
                continue;
            }
            let Some(mine) = self.waiting.get_mut(&address) else { continue };
            let next = mine.pop_front();
            if mine.is_empty() {
                self.waiting.remove(&address);
            } else {
                self.order.push_back(address);
            }
            if let Some(next) = next {
                self.count -= 1;
                return Some((address, next));
            }
        }
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((turns, address)) = self.0.take() {
            turns.hand_on(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_like::poll_once;

    use super::*;

    /// Just enough to look at a future without waiting for it.
    mod futures_like {
        use std::{
            future::Future,
            pin::Pin,
            task::{Context, Poll, Waker},
        };

        pub(super) fn poll_once<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
            match future.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            }
        }
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn addresses_take_turns_however_many_questions_one_of_them_has() {
        let turns = Turns::new(1);
        let first = poll_once(Box::pin(turns.take(address(1))).as_mut()).unwrap().unwrap();
        let mut flood: Vec<_> = (0..500).map(|_| Box::pin(turns.take(address(1)))).collect();
        assert!(flood.iter_mut().all(|waiting| poll_once(waiting.as_mut()).is_none()));
        let mut viewer = Box::pin(turns.take(address(2)));
        assert!(poll_once(viewer.as_mut()).is_none());
        drop(first);
        // The flood came first, and has one turn; the viewer is next.
        let one = poll_once(flood[0].as_mut()).unwrap().unwrap();
        assert!(poll_once(viewer.as_mut()).is_none());
        drop(one);
        let viewers = poll_once(viewer.as_mut()).unwrap().unwrap();
        assert!(poll_once(flood[1].as_mut()).is_none());
        drop(viewers);
        assert!(poll_once(flood[1].as_mut()).is_some());
    }

    #[test]
    fn who_gives_up_costs_nobody_a_turn() {
        let turns = Turns::new(2);
        let take = |last| poll_once(Box::pin(turns.take(address(last))).as_mut()).unwrap().unwrap();
        let (one, two) = (take(1), take(2));
        let mut waiting: Vec<_> = (0..10).map(|last| Box::pin(turns.take(address(last)))).collect();
        waiting.iter_mut().for_each(|waiting| assert!(poll_once(waiting.as_mut()).is_none()));
        let mut last = Box::pin(turns.take(address(99)));
        assert!(poll_once(last.as_mut()).is_none());
        drop(waiting);
        drop(one);
        let last = poll_once(last.as_mut()).unwrap().unwrap();
        drop((last, two));
        let queue = turns.queue();
        assert_eq!((queue.free, queue.count, queue.waiting.len(), queue.order.len()), (2, 0, 0, 0));
        assert!(queue.held.is_empty());
    }

    #[test]
    fn one_address_leaves_half_of_the_turns_to_others() {
        let turns = Turns::new(4);
        let take = |last| poll_once(Box::pin(turns.take(address(last))).as_mut());
        // The backend hangs on them.
        let hanging = [take(1).unwrap().unwrap(), take(1).unwrap().unwrap()];
        let mut flood: Vec<_> = (0..100).map(|_| Box::pin(turns.take(address(1)))).collect();
        assert!(flood.iter_mut().all(|waiting| poll_once(waiting.as_mut()).is_none()));
        let viewers = [take(2).unwrap().unwrap(), take(3).unwrap().unwrap()];
        drop(viewers);
        assert!(
            flood.iter_mut().all(|waiting| poll_once(waiting.as_mut()).is_none()),
            "they have their share"
        );
        let viewer = take(2).unwrap().unwrap();
        let [one, two] = hanging;
        drop(one);
        let mut more = flood.iter_mut().filter_map(|waiting| poll_once(waiting.as_mut())).collect::<Vec<_>>();
        assert_eq!(more.len(), 1);
        drop((two, viewer, more.pop(), flood));
        let queue = turns.queue();
        assert_eq!((queue.free, queue.held.len(), queue.count), (4, 0, 0));
    }

    #[test]
    fn only_so_many_wait_and_the_rest_is_told_at_once() {
        let turns = Turns::new(1);
        let _first = poll_once(Box::pin(turns.take(address(1))).as_mut()).unwrap().unwrap();
        let mut flood: Vec<_> = (0..WAITING_PER_ADDRESS).map(|_| Box::pin(turns.take(address(1)))).collect();
        flood.iter_mut().for_each(|waiting| assert!(poll_once(waiting.as_mut()).is_none()));
        assert_eq!(poll_once(Box::pin(turns.take(address(1))).as_mut()).unwrap().unwrap_err(), LineFull);
        assert!(poll_once(Box::pin(turns.take(address(2))).as_mut()).is_none(), "others may wait");
        // Places of those who gave up are free again.
        flood.truncate(10);
        assert!(poll_once(Box::pin(turns.take(address(1))).as_mut()).is_none());
    }

    #[test]
    fn a_subscriber_is_an_address_or_a_network_of_ipv6() {
        let of = |text: &str| subscriber(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
