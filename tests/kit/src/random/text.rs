//! Random configurations as text, in varying style, with the files that they name.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use filter_user::config::Files;

use crate::oracle::{Action, Authority, Config, Policy, Prefix, Rule, ServiceKind, Value};

/// The main file that [`write()`] writes.
pub const MAIN: &str = "/conf/nicgate.conf";

/// Files that exist only here.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(pub HashMap<PathBuf, String>);

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.0.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(text.clone().into_bytes())
    }

    fn matching(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

/// Decides by a seed how to write what can be written in several ways.
struct Style(u64);

impl Style {
    fn below(&mut self, n: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    fn word(&mut self, word: &str) -> String {
        let bare = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c)) && !word.is_empty();
        if bare && !self.one_in(4) {
            return word.to_owned();
        }
        format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
    }

    fn prefix(&mut self, prefix: &Prefix) -> String {
        let Prefix { mut address, len } = *prefix;
        // Bits below the mask are masked, with a warning.
        if !self.one_in(8) {
            address = prefix.first();
        }
        match address {
            IpAddr::V4(v4) => {
                if len == 32 && !self.one_in(3) {
                    return v4.to_string();
                }
                if self.one_in(8) {
                    return format!("{}/{}", v4.to_ipv6_mapped(), len + 96);
                }
                format!("{}/{len}", self.octets(v4))
            }
            IpAddr::V6(v6) if len == 128 && !self.one_in(3) => v6.to_string(),
            IpAddr::V6(v6) => format!("{v6}/{len}"),
        }
    }

    /// `10.10` for 10.10.0.0, at times.
    fn octets(&mut self, address: Ipv4Addr) -> String {
        let mut octets = address.octets().map(|octet| octet.to_string()).to_vec();
        while octets.len() > 1 && octets.last().is_some_and(|octet| octet == "0") && !self.one_in(3) {
            octets.pop();
        }
        octets.join(".")
    }

    fn gap(&mut self) -> &'static str {
        [" ", " ", " ", "  ", "\t"][self.below(5)]
    }
}

/// What a line says before its values.
fn head(rule: &Rule, style: &mut Style) -> String {
    let action = match rule.action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Drop => "drop",
    };
    let kind = match rule.value {
        Value::Token(_) => "token",
        Value::TokenFile(..) => "token file",
        Value::Ip(_) => "ip",
        Value::IpFile(..) => "ip file",
        Value::Country(_) => "country",
        Value::Ua(_) => ["ua", "useragent"][style.below(2)],
        Value::CountryOutside(_) | Value::PageElsewhere(_) => unreachable!("lines of their own"),
    };
    format!("{action}{}{kind}", style.gap())
}

fn list(entries: impl Iterator<Item = String>, style: &mut Style) -> String {
    let mut text = String::new();
    for entry in entries {
        match style.below(6) {
            0 => text.push_str("# comment\n"),
            1 => text.push_str("; comment\n"),
            2 => text.push('\n'),
            _ => {}
        }
        text.push_str(&entry);
        text.push_str(["\n", "\r\n"][style.below(2)]);
    }
    text
}

/// A line that is a rule of all its values; `None` for other rules.
fn restriction(rule: &Rule, style: &mut Style) -> Option<String> {
    let (name, words) = match &rule.value {
        Value::CountryOutside(words) => ("allowed_countries", words),
        Value::PageElsewhere(words) => (["domain", "domains"][style.below(2)], words),
        _ => return None,
    };
    let words: Vec<String> = words.iter().map(|word| style.word(word)).collect();
    Some(format!("{name}{}{}", style.gap(), words.join(" ")))
}

/// Writes a policy, and its list files into `files`.
fn write_policy(policy: &Policy, style: &mut Style, files: &mut MemoryFiles) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut rules = policy.rules.iter().peekable();
    while let Some(rule) = rules.next() {
        if let Some(line) = restriction(rule, style) {
            lines.push(line);
            continue;
        }
        let mut line = head(rule, style);
        let value = |rule: &Rule, style: &mut Style, files: &mut MemoryFiles| match &rule.value {
            Value::Token(word) | Value::Country(word) | Value::Ua(word) => style.word(word),
            Value::Ip(prefix) => style.prefix(prefix),
            Value::TokenFile(path, tokens) => {
                let text = list(tokens.iter().cloned(), style);
                files.0.insert(path.into(), text);
                format!("\"{path}\"")
            }
            Value::IpFile(path, prefixes) => {
                let entries: Vec<String> = prefixes.iter().map(|prefix| style.prefix(prefix)).collect();
                let text = list(entries.into_iter(), style);
                files.0.insert(path.into(), text);
                format!("\"{path}\"")
            }
            Value::CountryOutside(_) | Value::PageElsewhere(_) => unreachable!("lines of their own"),
        };
        line += style.gap();
        line += &value(rule, style, files);
        if !matches!(rule.value, Value::TokenFile(..) | Value::IpFile(..)) {
            let same = |next: &&Rule| {
                next.action == rule.action
                    && std::mem::discriminant(&next.value) == std::mem::discriminant(&rule.value)
            };
            while !style.one_in(3)
                && let Some(next) = rules.next_if(same)
            {
                line += style.gap();
                line += &value(next, style, files);
            }
        }
        lines.push(line);
    }
    // The other lines stand anywhere; only the backends have an order of their own.
    let mut place = 0;
    for backend in &policy.backends {
        place += style.below(lines.len() + 1 - place);
        let url = match backend {
            Authority::Http(number) => format!("backend http://127.0.0.1:9/auth/{number}"),
            Authority::Iptv => "backend iptv://localhost".to_owned(),
        };
        lines.insert(place, url);
        place += 1;
    }
    if policy.default_allow {
        lines.insert(style.below(lines.len() + 1), "allow default".to_owned());
    }
    let mut text = format!("auth_backend {} {{\n", policy.name);
    for line in lines {
        let comment = if style.one_in(6) { " # comment; }" } else { "" };
        writeln!(text, "{}{line};{comment}", style.gap()).expect("a string can always be written to");
    }
    text + "}\n"
}

/// Writes that a gate trusts proxies: each by a header or by the PROXY protocol.
fn write_proxies(proxies: &[Prefix], style: &mut Style) -> String {
    let headers =
        ["", "header X-Forwarded-For;", "header x-real-ip;", "header Forwarded;", "header CF-Connecting-IP;"];
    let header = headers[style.below(headers.len())];
    let mut text = String::new();
    for proxy in proxies {
        let prefix = style.prefix(proxy);
        match (style.below(3), header) {
            (0, _) => write!(text, "proxy_protocol from {prefix}; "),
            (_, "") => write!(text, "real_ip from {prefix}; "),
            (_, header) => write!(text, "real_ip from {prefix} {{ {header} }} "),
        }
        .expect("a string can always be written to");
    }
    text
}

/// Writes a configuration: the main file is [`MAIN`]. Different seeds write the same meaning differently.
pub fn write(config: &Config, style: u64) -> MemoryFiles {
    let style = &mut Style(style);
    let mut files = MemoryFiles::default();
    let mut access: Vec<(u8, String)> = Vec::new();
    for policy in &config.policies {
        access.push((1, write_policy(policy, style, &mut files)));
    }
    for stream in &config.streams {
        let mut lines = vec!["input udp://239.0.0.1:1234".to_owned()];
        let name = |i: usize| format!("auth://{}", config.policies[i].name);
        lines.extend(stream.on_play.map(|i| format!("on_play {}", name(i))));
        if let Some(publish) = stream.publish {
            lines.push("input publish://".to_owned());
            lines.extend(publish.map(|i| format!("on_publish {}", name(i))));
        }
        style.shuffle(&mut lines);
        access.push((0, format!("stream {} {{ {}; }}\n", stream.name, lines.join("; "))));
    }
    let mut own: Vec<(u8, String)> = vec![
        (0, "geoip /conf/country.mmdb;\n".to_owned()),
        // Random lists hold everybody now and then.
        (0, "list_guard off;\n".to_owned()),
    ];
    for service in &config.services {
        let port = service.port;
        let line = match &service.kind {
            ServiceKind::Gate => {
                let proxies = write_proxies(&service.proxies, style);
                format!("gate {port} {{ upstream http://127.0.0.1:8080; {proxies}}}\n")
            }
            ServiceKind::GuardStreams => format!("guard {} {port} streams;\n", service.proto),
            ServiceKind::GuardPolicies(policies) => {
                let names: Vec<String> =
                    policies.iter().map(|i| format!("auth://{}", config.policies[*i].name)).collect();
                format!("guard {} {port} {};\n", service.proto, names.join(" "))
            }
        };
        own.push((2, line));
    }
    for prefix in &config.never_drop {
        own.push((0, format!("never_drop {};\n", style.prefix(prefix))));
    }
    if config.shadow {
        own.push((0, "shadow;\n".to_owned()));
    }
    if style.one_in(2) {
        files.0.insert("/conf/flussonic.conf".into(), in_any_order(&access, style));
        own.push((0, "include \"flussonic.conf\";\n".to_owned()));
    } else {
        own.extend(access);
    }
    files.0.insert(MAIN.into(), in_any_order(&own, style));
    files
}

/// Statements of kind 0 may stand anywhere; those of another kind keep their order among themselves.
fn in_any_order(statements: &[(u8, String)], style: &mut Style) -> String {
    let mut order: Vec<usize> = (0..statements.len()).collect();
    style.shuffle(&mut order);
    for kind in 1..=2 {
        let slots: Vec<usize> = (0..order.len()).filter(|slot| statements[order[*slot]].0 == kind).collect();
        let mut sorted: Vec<usize> = slots.iter().map(|slot| order[*slot]).collect();
        sorted.sort_unstable();
        for (slot, statement) in slots.into_iter().zip(sorted) {
            order[slot] = statement;
        }
    }
    order.into_iter().map(|i| statements[i].1.as_str()).collect()
}
