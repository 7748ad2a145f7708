//! The table stays whole, whatever is done.

use proptest::prelude::*;

use super::{
    super::made::{at, hold, session},
    *,
};

type Opened = Result<Arc<Session>, Limit>;

fn open(table: &Table, address: &str, token: &str, limits: &SessionLimits) -> Opened {
    table.insert(&session(table, address, token, at(0.0)), limits, &mut Vec::new())
}

fn check(table: &Table) {
    let (mut entries, mut bytes) = (0, 0);
    for shard in &table.shards {
        let (some, their) = shard.lock().check(&table.index, cost);
        (entries, bytes) = (entries + some, bytes + their);
    }
    assert_eq!((table.entries(), table.bytes()), (entries, bytes));
}

fn is_there(table: &Table, session: &Arc<Session>) -> bool {
    table.find(session.hash, &session.key()).is_some_and(|found| Arc::ptr_eq(&found, session))
}

#[test]
fn one_key_is_one_session() {
    let (table, limits) = (Table::new(), SessionLimits::default());
    let one = open(&table, "192.0.2.1", "a", &limits).unwrap();
    assert!(Arc::ptr_eq(&one, &open(&table, "::ffff:192.0.2.1", "a", &limits).unwrap()));
    for (address, token) in [("192.0.2.2", "a"), ("192.0.2.1", "b")] {
        assert!(!Arc::ptr_eq(&one, &open(&table, address, token, &limits).unwrap()));
    }
    check(&table);
    assert!(table.remove(&one) && !table.remove(&one) && !is_there(&table, &one));
    assert!(one.state().closed);
    check(&table);
}

#[test]
fn invented_tokens_of_an_address_push_out_each_other_and_nobody_else() {
    let limits = SessionLimits { sessions_per_address: 10, ..SessionLimits::default() };
    let table = Table::new();
    // The viewer pauses between two segments, behind the same network as whoever invents tokens.
    let viewer = open(&table, "2001:db8::1", "viewer", &limits).unwrap();
    hold(&table, &viewer);
    let other = open(&table, "2001:db8:0:1::1", "other", &limits).unwrap();
    let mut gone = Vec::new();
    for n in 0..1000 {
        let invented = session(&table, "2001:db8::2", &n.to_string(), at(0.0));
        table.insert(&invented, &limits, &mut gone).expect("there is always room for one more");
        check(&table);
    }
    assert_eq!((table.entries(), gone.len()), (11, 1000 - 9));
    assert!(is_there(&table, &viewer) && is_there(&table, &other));
    // Where all are in use there is no room.
    for n in 991..1000 {
        open(&table, "2001:db8::2", &n.to_string(), &limits).unwrap().state().live = 1;
    }
    viewer.state().live = 1;
    let refused = open(&table, "2001:db8::3", "more", &limits).unwrap_err();
    assert_eq!(refused, Limit::SessionsPerAddress);
    assert!(open(&table, "2001:db8:0:1::2", "more", &limits).is_ok());
    check(&table);
}

#[test]
fn the_table_is_bounded_in_bytes() {
    let limits = SessionLimits { bytes: 100_000, ..SessionLimits::default() };
    let table = Table::new();
    for n in 0..1000u32 {
        let address = std::net::Ipv4Addr::from(n).to_string();
        open(&table, &address, &"t".repeat(4000), &limits).unwrap();
        check(&table);
        assert!(table.bytes() <= 100_000);
    }
    assert!(table.entries() >= 5, "and not emptied for it");
    for session in table.all().collect::<Vec<_>>() {
        assert!(table.remove(&session));
    }
    assert_eq!((table.bytes(), table.entries()), (0, 0));
    check(&table);
}

#[test]
fn who_is_not_open_leaves_first_and_then_who_was_idle_longest() {
    let limits = SessionLimits { sessions: 100, ..SessionLimits::default() };
    let table = Table::new();
    let viewers: Vec<_> = (0..99)
        .map(|n| {
            let viewer = session(&table, &format!("192.0.2.{n}"), "t", at(f64::from(n)));
            table.insert(&viewer, &limits, &mut Vec::new()).unwrap();
            hold(&table, &viewer);
            viewer
        })
        .collect();
    for n in 0..50 {
        open(&table, &format!("198.51.100.{n}"), "invented", &limits).unwrap();
    }
    assert!(viewers.iter().all(|viewer| is_there(&table, viewer)));
    // The first viewer has a transfer, the second comes back all the time.
    viewers[0].state().live = 1;
    viewers[1].touch(at(200.0));
    for n in 0..5 {
        let more = session(&table, &format!("203.0.113.{n}"), "t", at(200.0));
        table.insert(&more, &limits, &mut Vec::new()).unwrap();
        hold(&table, &more);
    }
    let gone: Vec<usize> = (0..99).filter(|n| !is_there(&table, &viewers[*n])).collect();
    // The place of whoever was not open went to the first of the five.
    assert_eq!(gone, [2, 3, 4, 5]);
    check(&table);
}

#[test]
fn a_full_table_finds_the_one_that_can_be_spared() {
    let limits = SessionLimits { sessions: 1000, ..SessionLimits::default() };
    let table = Table::new();
    for n in 0..1000u32 {
        let viewer = open(&table, &std::net::Ipv4Addr::from(n).to_string(), "t", &limits).unwrap();
        hold(&table, &viewer);
        // All of them were used since they began.
        viewer.touch(at(1.0));
    }
    assert!(open(&table, "192.0.2.1", "t", &limits).is_ok());
    check(&table);
}

#[test]
fn threads_that_open_find_and_end_sessions_leave_the_table_whole() {
    let limits = SessionLimits { sessions: 500, sessions_per_address: 40, ..SessionLimits::default() };
    let table = Table::new();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (table, limits) = (&table, &limits);
            scope.spawn(move || {
                let mut random = thread + 1;
                for _ in 0..3000 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let (address, token) = ((random >> 33) % 20, (random >> 40) % 60);
                    let opened = open(table, &format!("192.0.2.{address}"), &token.to_string(), limits);
                    match opened {
                        Ok(session) if random >> 60 == 0 => drop(table.remove(&session)),
                        Ok(session) if random >> 60 < 4 => table.set_held(&session, true),
                        Ok(session) => session.touch(at(1.0)),
                        Err(_) => {}
                    }
                }
            });
        }
    });
    check(&table);
    assert!(table.entries() <= 500, "{}", table.entries());
    assert!(table.entries() > 100, "{}", table.entries());
}

proptest! {
    #[test]
    fn whatever_is_done_the_table_is_whole(
        steps in prop::collection::vec((0..6u8, 0..6u8, 0..4u8), 0..150),
    ) {
        let limits = SessionLimits { sessions: 8, sessions_per_address: 3, ..SessionLimits::default() };
        let table = Table::new();
        let mut now = 0.0;
        for (what, address, token) in steps {
            let address = format!("192.0.2.{address}");
            let wanted = session(&table, &address, &token.to_string(), at(now));
            let there = table.find(wanted.hash, &wanted.key());
            match (what, there) {
                (0 | 1, _) => drop(table.insert(&wanted, &limits, &mut Vec::new())),
                (2, Some(there)) => hold(&table, &there),
                (3, Some(there)) => there.touch(at(now)),
                (4, Some(there)) => prop_assert!(table.remove(&there)),
                _ => {
                    now += 7.0;
                    let swept = table.sweep(at(now), Duration::from_secs(20));
                    prop_assert!(swept.closed.iter().all(|session| session.state().closed));
                }
            }
            check(&table);
            prop_assert!(table.entries() <= 8);
        }
        // In the end everybody has gone.
        for later in 1..5 {
            table.sweep(at(now + 1000.0 * f64::from(later)), Duration::from_secs(20));
        }
        prop_assert_eq!(table.entries(), 0);
        check(&table);
    }
}
