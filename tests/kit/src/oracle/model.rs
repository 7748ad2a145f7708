//! What the oracle knows of policies: rules, values, and when a value matches a request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4-mapped IPv6 addresses are judged as the IPv4 address.
pub fn mapped_to_v4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let octets = v6.octets();
    let mapped = octets[..10].iter().all(|octet| *octet == 0) && octets[10] == 0xff && octets[11] == 0xff;
    if mapped { IpAddr::V4(Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15])) } else { address }
}

/// The bits of an address, the highest first.
fn bits(address: IpAddr) -> impl Iterator<Item = bool> {
    let (value, count) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    (0..count).rev().map(move |bit| value >> bit & 1 == 1)
}

/// A prefix: an address, which may have bits below the mask, and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// Any address in the prefix.
    pub address: IpAddr,
    /// How many leading bits count.
    pub len: usize,
}

impl Prefix {
    /// Whether an address is in the prefix.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = mapped_to_v4(address);
        address.is_ipv4() == self.address.is_ipv4()
            && bits(self.address).take(self.len).eq(bits(address).take(self.len))
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.ending_with(false)
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        self.ending_with(true)
    }

    /// The address whose bits below the mask are all alike.
    fn ending_with(&self, host: bool) -> IpAddr {
        let value = bits(self.address)
            .enumerate()
            .fold(0u128, |value, (i, bit)| value << 1 | u128::from(if i < self.len { bit } else { host }));
        match self.address {
            IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(value).expect("32 bits")).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(value).into(),
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `allow`
    Allow,
    /// `deny`
    Deny,
    /// `drop`
    Drop,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The token.
    Token,
    /// The source address.
    Ip,
    /// The country of the source address.
    Country,
    /// The User-Agent.
    Ua,
    /// The page that shows the stream.
    Page,
}

/// The value of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One token.
    Token(String),
    /// The tokens of the file with this path.
    TokenFile(String, Vec<String>),
    /// One prefix.
    Ip(Prefix),
    /// The prefixes of the file with this path.
    IpFile(String, Vec<Prefix>),
    /// A country code, in either case; or `unknown`, for an address without a country.
    Country(String),
    /// A part of a User-Agent.
    Ua(String),
    /// Every country but these, `unknown` being one: `allowed_countries`.
    CountryOutside(Vec<String>),
    /// Every page but those on these hosts, of which some begin with `*.`, and no page: `domains`.
    PageElsewhere(Vec<String>),
}

/// One value of one line; a list file is one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// To what.
    pub value: Value,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The source address.
    pub address: IpAddr,
    /// The token, if there is one.
    pub token: Option<String>,
    /// The User-Agent, if there is one.
    pub ua: Option<String>,
    /// The host of the page that shows the stream, if one is named.
    pub page: Option<String>,
}

impl Rule {
    /// What the rule looks at.
    pub fn kind(&self) -> Kind {
        match self.value {
            Value::Token(_) | Value::TokenFile(..) => Kind::Token,
            Value::Ip(_) | Value::IpFile(..) => Kind::Ip,
            Value::Country(_) | Value::CountryOutside(_) => Kind::Country,
            Value::Ua(_) => Kind::Ua,
            Value::PageElsewhere(_) => Kind::Page,
        }
    }

    /// Whether the rule matches a request from a country.
    pub fn matches(&self, request: &Request, country: Option<&str>) -> bool {
        match &self.value {
            Value::Token(token) => request.token.as_ref() == Some(token),
            Value::TokenFile(_, tokens) => tokens.iter().any(|token| request.token.as_ref() == Some(token)),
            Value::Ip(prefix) => prefix.contains(request.address),
            Value::IpFile(_, prefixes) => prefixes.iter().any(|prefix| prefix.contains(request.address)),
            Value::Country(code) if code == "unknown" => country.is_none(),
            Value::Country(code) => country.is_some_and(|country| country.eq_ignore_ascii_case(code)),
            Value::Ua(part) => request.ua.as_ref().is_some_and(|ua| ua.contains(part.as_str())),
            Value::CountryOutside(codes) => {
                !codes.iter().any(|code| code.eq_ignore_ascii_case(country.unwrap_or("unknown")))
            }
            Value::PageElsewhere(hosts) => !request.page.as_ref().is_some_and(|page| {
                hosts.iter().any(|host| match host.strip_prefix('*') {
                    None => page == host,
                    Some(ending) => page.ends_with(ending),
                })
            }),
        }
    }
}

/// Who is asked at step 9. What they answer is not for the oracle to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// An HTTP backend with this number in its path.
    Http(u8),
    /// Flussonic's own subscriber database.
    Iptv,
}

/// An `auth_backend`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its rules, in file order.
    pub rules: Vec<Rule>,
    /// Its backends, in file order.
    pub backends: Vec<Authority>,
    /// Whether it has `allow default`.
    pub default_allow: bool,
}

impl Policy {
    /// A page that may show what the policy judges; `None` where every one may.
    pub fn page(&self) -> Option<String> {
        self.rules.iter().find_map(|rule| match &rule.value {
            Value::PageElsewhere(hosts) => Some(hosts[0].replace('*', "below")),
            _ => None,
        })
    }
}

/// Which country each address belongs to: disjoint prefixes with a code each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountryTable(pub Vec<(Prefix, String)>);

impl CountryTable {
    /// The country of an address, if it is known.
    pub fn country(&self, address: IpAddr) -> Option<&str> {
        self.0.iter().find(|(prefix, _)| prefix.contains(address)).map(|(_, code)| code.as_str())
    }
}
