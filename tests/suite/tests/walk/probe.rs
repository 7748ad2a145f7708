//! What really arrives, from every source.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use kit::{
    edge::{GATE, GUARD},
    http::Get,
    netns::{EDGE_V4, EDGE_V6, Namespace},
};

use super::{
    expected::LAST,
    step::{SOURCES, source},
};

/// How long the last datagram may take.
const LAST_ONE: Duration = Duration::from_secs(2);

/// Where the edge host answers an address of this family.
pub(super) fn edge(of: IpAddr) -> IpAddr {
    if of.is_ipv4() { EDGE_V4.into() } else { EDGE_V6.into() }
}

fn send(from: IpAddr, payload: &[u8]) {
    let socket = UdpSocket::bind((from, 0)).expect("an address of this host");
    // A network that is down says so; nothing arrives then.
    let _ = socket.send_to(payload, (edge(from), GUARD));
}

/// The numbers of the sources whose datagrams reach the guarded port; `None` when not even those of addresses that
/// nothing may drop do.
pub(crate) fn arrivals(crowd: &Namespace, receiver: &UdpSocket, serial: u64) -> Option<BTreeSet<usize>> {
    let last = serial.to_string();
    crowd.run(|| {
        for number in 0..SOURCES.len() {
            send(source(number), format!("{serial} {number}").as_bytes());
        }
        for address in LAST {
            send(address.parse().expect("an address"), last.as_bytes());
        }
    });
    let deadline = Instant::now() + LAST_ONE;
    let mut arrived = BTreeSet::new();
    let mut ends = 0;
    let mut buffer = [0; 64];
    while ends < LAST.len() {
        let left = deadline.checked_duration_since(Instant::now())?;
        receiver.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("not zero");
        let Ok(length) = receiver.recv(&mut buffer) else { continue };
        let text = std::str::from_utf8(&buffer[..length]).expect("only probes come here");
        match text.split_once(' ') {
            None if text == last => ends += 1,
            Some((of, number)) if of == last => drop(arrived.insert(number.parse().expect("a number"))),
            // Of a probe before.
            _ => {}
        }
    }
    Some(arrived)
}

/// The status that the gate answers with; what went wrong otherwise.
pub(crate) fn ask(crowd: &Namespace, number: usize, token: &str) -> Result<u16, String> {
    let from = source(number);
    let get = Get::new(SocketAddr::new(edge(from), GATE), format!("/live/x?token={token}"));
    let answer = get.from(from).timeout(Duration::from_secs(10)).send(crowd);
    answer.map(|answer| answer.status).map_err(|error| error.to_string())
}
