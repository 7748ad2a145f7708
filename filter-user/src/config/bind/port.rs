//! `[ADDR:]PORT`.

use std::net::{IpAddr, Ipv6Addr};

use super::Binder;
use crate::{address::canonical, config::lexer::Word};

impl Binder<'_> {
    /// Reads `[ADDR:]PORT`. The unspecified address of either family is no address: every one is meant.
    pub(super) fn endpoint(&mut self, word: &Word) -> Option<(Option<IpAddr>, u16)> {
        let (address, port) = split(&word.text);
        let Some(number) = read_port(port) else {
            let part = word.part(&(word.text.len() - port.len()..word.text.len()));
            self.sources
                .error(part, "bad-port", format!("`{port}` is no port"))
                .help("a port is a number from 1 to 65535, alone or behind an address: 192.0.2.1:80, [2001:db8::1]:80");
            return None;
        };
        let Some(address) = address else { return Some((None, number)) };
        let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let read = match inner {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => address.parse().ok().filter(IpAddr::is_ipv4),
        };
        let Some(read) = read else {
            let help = if address.parse::<Ipv6Addr>().is_ok() {
                format!("write an IPv6 address in brackets: [{address}]:{port}")
            } else {
                "write an IP address of this host, or the port alone".to_owned()
            };
            let part = word.part(&(0..address.len()));
            self.sources.error(part, "bad-address", format!("`{address}` is no IP address")).help(help);
            return None;
        };
        let read = canonical(read);
        Some(((!read.is_unspecified()).then_some(read), number))
    }

    /// Reads the port of a directive of the media server, which may name its host by a name.
    pub(super) fn server_endpoint(&mut self, word: &Word) -> Option<(Option<IpAddr>, u16)> {
        let (address, port) = split(&word.text);
        let by_name = address
            .is_some_and(|name| name.contains(|c: char| c.is_ascii_alphabetic()) && !name.contains(':'));
        match read_port(port) {
            Some(port) if by_name => Some((None, port)),
            _ => self.endpoint(word),
        }
    }
}

fn split(text: &str) -> (Option<&str>, &str) {
    match text.rsplit_once(':') {
        Some((address, port)) => (Some(address), port),
        None => (None, text),
    }
}

fn read_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}
