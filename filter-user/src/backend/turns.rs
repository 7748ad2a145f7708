//! Turns to ask a backend: so many questions at once, shared fairly between the addresses that cause them.
//!
//! A question that waits too long for its turn, or finds too many before it, is never sent. That says nothing about
//! the backend, and must not be taken for its silence.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::concurrency::{Concurrency, Outcome};

/// How many questions may wait for one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// In all.
    pub(super) all: usize,
    /// For one address. It can be a carrier's NAT with thousands of viewers; what keeps others from waiting behind it is
    /// that addresses take turns.
    pub(super) per_address: usize,
}

/// The turns of one backend. Addresses are those that a single client controls.
#[derive(Debug)]
pub(super) struct Turns(Mutex<Queue>);

#[derive(Debug)]
struct Queue {
    concurrency: Concurrency,
    /// The turns that each address has now, and all of them.
    held: HashMap<IpAddr, usize>,
    in_flight: usize,
    /// The questions of each address that has a place in `order`, and of no other.
    lines: HashMap<IpAddr, Line>,
    /// The first address is served next, and goes to the end.
    order: VecDeque<IpAddr>,
    /// How many wait.
    count: usize,
}

/// The questions of one address.
#[derive(Debug, Default)]
struct Line {
    /// The first one waits longest. Those who gave up are still here, closed.
    senders: VecDeque<oneshot::Sender<Answer>>,
    /// How many wait.
    count: usize,
}

/// What becomes of a question that waits.
type Answer = Result<Turn, NoTurn>;

/// The right to ask now; dropping it lets the next one ask.
#[derive(Debug)]
pub(super) struct Turn(Option<(Arc<Turns>, IpAddr)>);

/// Why there is no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// Too many questions wait already.
    Full,
    /// Too many questions of this address wait already.
    AddressFull,
    /// The backend does not respond: nobody waits for it any more.
    NotResponding,
}

/// How the turns stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) in_flight: usize,
    pub(super) waiting: usize,
    pub(super) limit: usize,
}

impl Turns {
    /// So many at once at most.
    pub(super) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Queue {
            concurrency: Concurrency::new(at_once, Instant::now()),
            held: HashMap::new(),
            in_flight: 0,
            lines: HashMap::new(),
            order: VecDeque::new(),
            count: 0,
        })))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the turns stand now.
    pub(super) fn load(&self) -> Load {
        let queue = self.queue();
        Load { in_flight: queue.in_flight, waiting: queue.count, limit: queue.concurrency.limit() }
    }

    /// A turn now, or none.
    pub(super) fn try_take(self: &Arc<Self>, address: IpAddr) -> Option<Turn> {
        self.queue().give(address).then(|| Turn(Some((self.clone(), address))))
    }

    /// Waits for a turn. Dropping the future gives the place up.
    pub(super) async fn take(self: &Arc<Self>, address: IpAddr, room: Room) -> Answer {
        let receiver = {
            let mut queue = self.queue();
            if queue.give(address) {
                return Ok(Turn(Some((self.clone(), address))));
            }
            queue.wait(address, room)?
        };
        let mut waiting = Waiting { turns: self, address, receiver, over: false };
        let answer = (&mut waiting.receiver).await;
        waiting.over = true;
        // The sender is in the queue as long as the queue is there, and we hold it.
        answer.unwrap_or(Err(NoTurn::Full))
    }

    /// Nobody waits any more: the backend does not respond.
    pub(super) fn not_responding(&self) {
        let mut queue = self.queue();
        queue.order.clear();
        queue.count = 0;
        for sender in std::mem::take(&mut queue.lines).into_values().flat_map(|line| line.senders) {
            // Who has given up needs to know nothing.
            let _ = sender.send(Err(NoTurn::NotResponding));
        }
    }

    /// After a silence: few questions at first.
    pub(super) fn restart(&self) {
        self.queue().concurrency.restart(Instant::now());
    }

    /// Hands on what is free to those who wait longest of the addresses that are next.
    fn hand_on(self: &Arc<Self>) {
        let mut queue = self.queue();
        while let Some((address, next)) = queue.next() {
            // Sent while the queue is held, so that whoever gives up finds either its place or its turn.
            if let Err(Ok(mut back)) = next.send(Ok(Turn(Some((self.clone(), address))))) {
                // Dropping a turn comes back here.
                back.0 = None;
                queue.take_back(address);
            }
        }
    }
}

/// A place in the line. Dropping it gives it up.
struct Waiting<'a> {
    turns: &'a Arc<Turns>,
    address: IpAddr,
    receiver: oneshot::Receiver<Answer>,
    /// The answer was taken.
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut queue = self.turns.queue();
        self.receiver.close();
        let came_late = self.receiver.try_recv();
        if came_late.is_err() {
            queue.gave_up(self.address);
        }
        // A turn that came late is handed on, which needs the queue.
        drop(queue);
        drop(came_late);
    }
}

impl Turn {
    /// Takes note of how the question that was sent at `sent` ended.
    pub(super) fn note(&self, outcome: Outcome, sent: Instant, timeout: Duration) {
        let Some((turns, _)) = &self.0 else { return };
        let mut queue = turns.queue();
        let busy = queue.in_flight * 2 >= queue.concurrency.limit();
        queue.concurrency.ended(outcome, sent, Instant::now(), timeout, busy);
    }
}

impl Queue {
    /// Whether the address may have one more. One address has half of the turns at most, so that a backend that hangs on
    /// the questions of one leaves room for those of others.
    fn may_have(&self, address: IpAddr) -> bool {
        let limit = self.concurrency.limit();
        let most = limit.div_ceil(2);
        self.in_flight < limit && self.held.get(&address).is_none_or(|held| *held < most)
    }

    /// Gives a turn if there is one.
    fn give(&mut self, address: IpAddr) -> bool {
        let gives = self.may_have(address);
        if gives {
            *self.held.entry(address).or_default() += 1;
            self.in_flight += 1;
        }
        gives
    }

    fn take_back(&mut self, address: IpAddr) {
        self.in_flight -= 1;
        if let Some(held) = self.held.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&address);
            }
        }
    }

    fn wait(&mut self, address: IpAddr, room: Room) -> Result<oneshot::Receiver<Answer>, NoTurn> {
        if self.count >= room.all {
            return Err(NoTurn::Full);
        }
        let mine = self.lines.entry(address).or_insert_with(|| {
            self.order.push_back(address);
            Line::default()
        });
        if mine.count >= room.per_address {
            return Err(NoTurn::AddressFull);
        }
        let (sender, receiver) = oneshot::channel();
        mine.senders.push_back(sender);
        mine.count += 1;
        self.count += 1;
        Ok(receiver)
    }

    /// One that waited does no longer; its sender is closed.
    fn gave_up(&mut self, address: IpAddr) {
        // A line that is gone was told that the backend does not respond.
        let Some(mine) = self.lines.get_mut(&address) else { return };
        mine.count -= 1;
        self.count -= 1;
        // Now and then those who left are taken out, so that they never are the most.
        if mine.senders.len() > 2 * mine.count + 64 {
            mine.senders.retain(|sender| !sender.is_closed());
        }
        if self.order.len() > 2 * self.count + 64 {
            self.lines.retain(|_, line| line.count > 0);
            let Self { order, lines, .. } = self;
            order.retain(|address| lines.contains_key(address));
        }
    }

    /// Gives a turn to who is next, of those that may have one more.
    fn next(&mut self) -> Option<(IpAddr, oneshot::Sender<Answer>)> {
        for _ in 0..self.order.len() {
            if self.in_flight >= self.concurrency.limit() {
                return None;
            }
            let address = self.order.pop_front()?;
            let may_have = self.may_have(address);
            let Some(mine) = self.lines.get_mut(&address) else { continue };
            if mine.count > 0 && !may_have {
                self.order.push_back(address);
                continue;
            }
            let next = std::iter::from_fn(|| mine.senders.pop_front()).find(|sender| !sender.is_closed());
            mine.count = mine.count.saturating_sub(1);
            if mine.count > 0 {
                self.order.push_back(address);
            } else {
                self.lines.remove(&address);
            }
            if let Some(next) = next {
                self.count -= 1;
                self.give(address);
                return Some((address, next));
            }
        }
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((turns, address)) = self.0.take() {
            turns.queue().take_back(address);
            turns.hand_on();
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

    const ROOM: Room = Room { all: 2000, per_address: 1000 };

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn take(turns: &Arc<Turns>, address: IpAddr) -> impl Future<Output = Answer> {
        let turns = turns.clone();
        async move { turns.take(address, ROOM).await }
    }

    /// That nothing is left of turns that were all given back.
    fn is_empty(turns: &Turns) {
        let queue = turns.queue();
        assert_eq!((queue.in_flight, queue.held.len(), queue.count), (0, 0, 0));
        assert!(queue.lines.len() <= 65 && queue.lines.len() == queue.order.len());
    }

    #[test]
    fn addresses_take_turns_however_many_questions_one_of_them_has() {
        let turns = Turns::new(1);
        let first = poll_once(Box::pin(take(&turns, address(1))).as_mut()).unwrap().unwrap();
        let mut flood: Vec<_> = (0..500).map(|_| Box::pin(take(&turns, address(1)))).collect();
        assert!(flood.iter_mut().all(|waiting| poll_once(waiting.as_mut()).is_none()));
        let mut viewer = Box::pin(take(&turns, address(2)));
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
        let now = |last| poll_once(Box::pin(take(&turns, address(last))).as_mut()).unwrap().unwrap();
        let (one, two) = (now(1), now(2));
        let mut waiting: Vec<_> = (0..10).map(|last| Box::pin(take(&turns, address(last)))).collect();
        waiting.iter_mut().for_each(|waiting| assert!(poll_once(waiting.as_mut()).is_none()));
        let mut last = Box::pin(take(&turns, address(99)));
        assert!(poll_once(last.as_mut()).is_none());
        assert_eq!(turns.load(), Load { in_flight: 2, waiting: 11, limit: 2 });
        drop(waiting);
        assert_eq!(turns.load().waiting, 1);
        drop(one);
        let last = poll_once(last.as_mut()).unwrap().unwrap();
        drop((last, two));
        is_empty(&turns);
    }

    #[test]
    fn a_turn_that_comes_to_who_has_just_left_is_handed_on() {
        let turns = Turns::new(1);
        let first = poll_once(Box::pin(take(&turns, address(1))).as_mut()).unwrap().unwrap();
        let mut leaving = Box::pin(take(&turns, address(2)));
        let mut staying = Box::pin(take(&turns, address(3)));
        assert!(poll_once(leaving.as_mut()).is_none() && poll_once(staying.as_mut()).is_none());
        drop(first);
        // It has its turn and has not looked.
        drop(leaving);
        drop(poll_once(staying.as_mut()).unwrap().unwrap());
        is_empty(&turns);
    }

    #[test]
    fn who_waits_for_a_backend_that_does_not_respond_is_told() {
        let turns = Turns::new(1);
        let first = poll_once(Box::pin(take(&turns, address(1))).as_mut()).unwrap().unwrap();
        let mut waiting: Vec<_> = (0..5).map(|last| Box::pin(take(&turns, address(last)))).collect();
        waiting.iter_mut().for_each(|waiting| assert!(poll_once(waiting.as_mut()).is_none()));
        turns.not_responding();
        for waiting in waiting.iter_mut().take(3) {
            assert_eq!(poll_once(waiting.as_mut()).unwrap().unwrap_err(), NoTurn::NotResponding);
        }
        assert!(turns.try_take(address(9)).is_none(), "the turn is still taken");
        drop((first, waiting));
        drop(turns.try_take(address(9)).unwrap());
        is_empty(&turns);
    }

    #[test]
    fn fewer_turns_are_given_when_there_are_fewer() {
        let turns = Turns::new(64);
        let mut held: Vec<_> = (0..64).map(|last| turns.try_take(address(last)).unwrap()).collect();
        let mut waiting: Vec<_> = (0..64).map(|last| Box::pin(take(&turns, address(last)))).collect();
        waiting.iter_mut().for_each(|waiting| assert!(poll_once(waiting.as_mut()).is_none()));
        turns.restart();
        let limit = turns.load().limit;
        assert!(limit < 64);
        held.truncate(limit);
        assert_eq!(turns.load(), Load { in_flight: limit, waiting: 64, limit });
        held.pop();
        let mut got: Vec<_> = waiting.iter_mut().filter_map(|waiting| poll_once(waiting.as_mut())).collect();
        assert_eq!(got.len(), 1);
        drop((held, got.pop(), got, waiting));
        is_empty(&turns);
    }

    #[test]
    fn one_address_leaves_half_of_the_turns_to_others() {
        let turns = Turns::new(4);
        let now = |last| poll_once(Box::pin(take(&turns, address(last))).as_mut());
        // The backend hangs on them.
        let hanging = [now(1).unwrap().unwrap(), now(1).unwrap().unwrap()];
        let mut flood: Vec<_> = (0..100).map(|_| Box::pin(take(&turns, address(1)))).collect();
        assert!(flood.iter_mut().all(|waiting| poll_once(waiting.as_mut()).is_none()));
        let viewers = [now(2).unwrap().unwrap(), now(3).unwrap().unwrap()];
        drop(viewers);
        assert!(
            flood.iter_mut().all(|waiting| poll_once(waiting.as_mut()).is_none()),
            "they have their share"
        );
        let viewer = now(2).unwrap().unwrap();
        let [one, two] = hanging;
        drop(one);
        let mut more = flood.iter_mut().filter_map(|waiting| poll_once(waiting.as_mut())).collect::<Vec<_>>();
        assert_eq!(more.len(), 1);
        drop((two, viewer, more.pop(), flood));
        is_empty(&turns);
    }

    #[test]
    fn only_so_many_wait_and_the_rest_is_told_at_once() {
        let turns = Turns::new(1);
        let first = poll_once(Box::pin(take(&turns, address(1))).as_mut()).unwrap().unwrap();
        let mut flood: Vec<_> = (0..ROOM.per_address).map(|_| Box::pin(take(&turns, address(1)))).collect();
        flood.iter_mut().for_each(|waiting| assert!(poll_once(waiting.as_mut()).is_none()));
        let refused = |last| poll_once(Box::pin(take(&turns, address(last))).as_mut()).unwrap().unwrap_err();
        assert_eq!(refused(1), NoTurn::AddressFull);
        let mut others: Vec<_> = (0..ROOM.all - ROOM.per_address)
            .map(|n| Box::pin(take(&turns, address(2 + (n % 100) as u8))))
            .collect();
        others.iter_mut().for_each(|waiting| assert!(poll_once(waiting.as_mut()).is_none()));
        assert_eq!(refused(200), NoTurn::Full);
        // Places of those who gave up are free again.
        flood.truncate(10);
        let mut again = Box::pin(take(&turns, address(1)));
        assert!(poll_once(again.as_mut()).is_none());
        let kept = turns.queue().lines[&address(1)].senders.len();
        assert!(kept <= 11 + 11 + 64 + 1, "{kept} places are kept for 11 that wait");
        drop((flood, others, again, first));
        is_empty(&turns);
    }
}
