//! From a whole request to a judgement.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Decision, Subject, Verdict};
use crate::{
    address::canonical,
    bans::{Ban, BanIndex, Boottime},
    model::{Access, Config, Countries, Limit, Operation, PolicyId, Proto, Purpose, Stage},
};

/// A request, as it is judged and as backends are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Playing or publishing.
    pub operation: Operation,
    /// The normalised path, without the leading `/`.
    pub path: Arc<str>,
    /// The media protocol: `hls`, `dash`, `mpegts` …
    pub proto: &'static str,
    /// The client.
    pub address: IpAddr,
    /// The TCP port that it came to; 0 when that is not known, and no ban of one port applies.
    pub port: u16,
    /// The token, when the client gave one.
    pub token: Option<Arc<str>>,
    /// What nicgate gave a player that came without a token: it tells sessions apart, and is part of no judgement.
    pub auto_token: Option<Arc<str>>,
    /// The User-Agent, when the client gave one.
    pub ua: Option<Arc<str>>,
    /// The Referer, when the client gave one.
    pub referer: Option<Arc<str>>,
    /// The Origin, when the client gave one: browsers send it also where a page keeps its Referer to itself.
    pub origin: Option<Arc<str>>,
    /// The Host that the client named.
    pub host: Option<Arc<str>>,
    /// The query string as it is forwarded.
    pub query: Option<Arc<str>>,
}

/// Why a session is refused, whatever its policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Its user, its token or its address has as many sessions as it may.
    SessionLimit,
    /// An operator ended it, and its token is refused for a time.
    Kicked,
    /// Its token is in use from another address.
    Elsewhere,
}

impl Refusal {
    /// The word for clients and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionLimit => "sessions",
            Self::Kicked => "kicked",
            Self::Elsewhere => "elsewhere",
        }
    }
}

impl Request {
    /// The URL of the page that shows the stream, as far as the client names one.
    pub fn page(&self) -> Option<&str> {
        self.referer.as_deref().filter(|referer| !referer.is_empty()).or(self.origin.as_deref())
    }
}

/// On what ground a request is admitted or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// No stream has this path.
    NoStream,
    /// Nothing judges this operation on this stream.
    Open,
    /// The operation does not exist on this stream.
    Closed,
    /// `no_auto_token`, and the request has no token.
    NoToken,
    /// A limit of nicgate's own kept it from being judged. That says nothing about the client: it should come back.
    Limited(Limit),
    /// An operator banned the address.
    Banned,
    /// Its session is refused.
    Refused(Refusal),
    /// A policy judged; with the verdict [`Verdict::Ask`] its backends have to be asked.
    Judged(PolicyId, Decision),
}

impl Ground {
    /// Whether the request may pass.
    pub fn admits(&self) -> bool {
        match self {
            Self::Open => true,
            Self::Judged(_, decision) => decision.verdict == Verdict::Allow,
            Self::NoStream
            | Self::Closed
            | Self::NoToken
            | Self::Limited(_)
            | Self::Banned
            | Self::Refused(_) => false,
        }
    }

    /// The policy whose backends have to be asked, when the lists leave the request to them.
    pub fn asks(&self) -> Option<PolicyId> {
        match self {
            Self::Judged(id, Decision { verdict: Verdict::Ask, .. }) => Some(*id),
            _ => None,
        }
    }

    /// The step that decided, where one did.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Banned => Some(Stage::Ban),
            Self::NoToken => Some(Stage::Token),
            Self::Judged(_, decision) => Some(decision.stage),
            Self::NoStream | Self::Open | Self::Closed | Self::Limited(_) | Self::Refused(_) => None,
        }
    }
}

/// What is said of a request.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The name of the stream that it is for, unless there is none.
    pub stream: Option<Arc<str>>,
    /// Why it is admitted or refused, or that backends have to be asked.
    pub ground: Ground,
    /// The ban, when that is why.
    pub ban: Option<Arc<Ban>>,
}

/// Judges a request by everything but its backends, at a moment of CLOCK_BOOTTIME.
pub fn judge(
    config: &Config,
    countries: &dyn Countries,
    bans: &BanIndex,
    now: Boottime,
    request: &Request,
) -> Judgement {
    let stream = config.stream_for(&request.path);
    let name = stream.map(|stream| stream.name.clone());
    // Shadow mode lets the banned pass, too, but not to where there is nothing.
    let nowhere = config.shadow && stream.is_none();
    let ban = bans.find(request.address, Proto::Tcp, request.port, now).filter(|_| !nowhere);
    if let Some(ban) = ban {
        return Judgement { stream: name, ground: Ground::Banned, ban: Some(ban.clone()) };
    }
    let ground = match stream.map(|stream| stream.access(request.operation)) {
        None => Ground::NoStream,
        Some(Access::Open) => Ground::Open,
        Some(Access::Closed) => Ground::Closed,
        // Where nobody judges, nobody asks for a token.
        Some(Access::Policy(id))
            if config.no_auto_token
                && request.token.is_none()
                && config.policy(*id).purpose() != Purpose::Restricts(None) =>
        {
            Ground::NoToken
        }
        Some(Access::Policy(id)) => {
            let address = canonical(request.address);
            let subject = Subject {
                address,
                country: countries.country(address),
                token: request.token.as_deref(),
                ua: request.ua.as_deref(),
                page: request.page(),
                query: request.query.as_deref(),
            };
            Ground::Judged(*id, config.policy(*id).judge(&subject))
        }
    };
    Judgement { stream: name, ground, ban: None }
}
