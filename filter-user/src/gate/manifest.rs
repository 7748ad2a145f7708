//! Playlists and manifests on their way to a player: the token is written into them.
//!
//! What can be a manifest is asked for without compression, whole, and without conditions that only the upstream's own
//! bytes could meet. Whether an answer is one is for its type to say, or for its name where the type says nothing, and
//! then for its first line. A short one is written whole, with its length. A long playlist is written line by line as it
//! comes; a long DASH manifest passes as it is, and so does what is compressed all the same, or cannot be read.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, response::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{
    body::ResponseBody,
    connection::Connection,
    counters::add,
    kind::{Kind, Named, kind, named},
    player_token::Keep,
    upstream::FaultKind,
    validators,
};
use crate::{
    http::{read_target, read_target_with_segment},
    judge::Request,
    manifest::{Carrier, Form, Place, Places, Playlist, carry_mpd},
    model::{Gate, TokenFrom},
    session::{Cut, Snapshot, Transfer},
};

/// How much of a playlist is kept until it goes on, in bytes: almost every one is shorter.
const SHORT: usize = 128 * 1024;
/// The longest DASH manifest that is read, in bytes.
const LONGEST_MPD: usize = 1024 * 1024;

/// What has to be done with an answer, if it is a manifest.
#[derive(Debug)]
pub(super) struct Plan {
    carrier: Carrier,
    path: Arc<str>,
    named: Named,
    /// Stands for the token in entity tags.
    mark: String,
    from: TokenFrom,
    head: bool,
    /// A condition of the request was about an answer that was changed.
    by_tag: bool,
}

/// Knows which targets are those of the player's stream.
struct OfTheStream {
    snapshot: Arc<Snapshot>,
    stream: Arc<str>,
    segment: bool,
    /// What the gate's paths begin with.
    prefix: Arc<str>,
}

impl Places for OfTheStream {
    fn place(&self, target: &str) -> Place {
        let name = &self.snapshot.config.token_name;
        let read = if self.segment { read_target_with_segment } else { read_target };
        let target = read(target.as_bytes(), name).ok().and_then(|target| target.below(&self.prefix));
        let Some(target) = target else { return Place::Elsewhere };
        let named = |query: &str| query.split('&').any(|one| one.split('=').next() == Some(&**name));
        match self.snapshot.config.stream_for(&target.path) {
            Some(stream) if stream.name == self.stream => {
                let there = target.path_token.is_some() || target.forward_query.as_deref().is_some_and(named);
                if there { Place::WithToken } else { Place::Bare }
            }
            _ => Place::Elsewhere,
        }
    }
}

impl Plan {
    /// Whether the answer to a request for this path is likely enough to be a manifest that the request is changed for
    /// it. Of everything else, segments above all, only the answer's type can say so.
    pub(super) fn expected(path: &str) -> bool {
        named(path) != Named::Other
    }

    /// Whether an answer that nobody expected to be a manifest says that it is one.
    pub(super) fn is_due(headers: &HeaderMap) -> bool {
        kind(headers.get(header::CONTENT_TYPE), Named::Other).is_some()
    }

    /// `None` when nothing is to be written, or the request cannot ask for a manifest.
    pub(super) fn new(
        connection: &Connection,
        snapshot: &Arc<Snapshot>,
        gate: &Gate,
        keep: &Keep,
        (method, request, raw_target): (&Method, &Request, &[u8]),
    ) -> Option<Self> {
        let form = keep.written?;
        let named = named(&request.path);
        let stream = snapshot.config.stream_for(&request.path)?.name.clone();
        let (segment, prefix) = (gate.reads().path, gate.prefix.clone());
        let places = OfTheStream { snapshot: snapshot.clone(), stream, segment, prefix };
        let raw_target = std::str::from_utf8(raw_target).ok()?;
        let name = &*snapshot.config.token_name;
        let token = (name, &*keep.token);
        let written = if form == Form::Query { "query" } else { "path" };
        let carrier = Carrier::new(request.host.as_deref(), raw_target, token, form, Box::new(places))?;
        Some(Self {
            carrier: carrier.in_front_of(gate.upstream.urls()),
            path: request.path.clone(),
            named,
            mark: connection.shared.player_tokens.mark(&[name, &keep.token, written]),
            from: gate.reads(),
            head: method == Method::HEAD,
            by_tag: false,
        })
    }

    /// Whether a token that is new to the player should reach the upstream: one that writes tokens into its playlists
    /// itself then writes this one.
    pub(super) fn asks_for_manifest(&self) -> bool {
        matches!(self.named, Named::Manifest(_))
    }

    /// Makes the request one whose answer can be changed.
    pub(super) fn ask(&mut self, headers: &mut HeaderMap) {
        // Who accepts nothing in particular gets nothing compressed.
        if headers.contains_key(header::ACCEPT_ENCODING) {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let surely = self.named != Named::Unknown;
        if surely {
            validators::ask_for_all(headers);
        }
        self.by_tag = validators::ask_by_tag(headers, &self.mark, surely);
    }

    /// What the answer is, if it is a manifest that can be changed.
    fn kind(&self, connection: &Connection, parts: &Parts) -> Option<Kind> {
        let whole = match parts.status {
            StatusCode::OK => true,
            StatusCode::PARTIAL_CONTENT => is_whole(&parts.headers),
            _ => false,
        };
        let kind = kind(parts.headers.get(header::CONTENT_TYPE), self.named).filter(|_| whole)?;
        let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if !parts.headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
            unread(connection, &self.path, "it is compressed though nobody asked for that");
            return None;
        }
        Some(kind)
    }

    /// Passes an answer on, with the token if it is a manifest.
    ///
    /// # Errors
    ///
    /// When the transfer is cut, or the upstream breaks off, before the answer has begun.
    pub(super) async fn pass(
        self,
        connection: &Connection,
        mut parts: Parts,
        body: Incoming,
        transfer: Transfer,
    ) -> Result<Response<ResponseBody>, Broken> {
        let gate = &connection.gate;
        if parts.status == StatusCode::NOT_MODIFIED && self.by_tag {
            validators::changed(&mut parts.headers, &self.mark, self.from);
        }
        let Some(kind) = self.kind(connection, &parts) else {
            return Ok(Response::from_parts(parts, ResponseBody::upstream(gate, body, transfer)));
        };
        if self.head {
            // How long it would be is only known with its body.
            validators::changed(&mut parts.headers, &self.mark, self.from);
            parts.headers.remove(header::ETAG);
            return Ok(Response::from_parts(parts, ResponseBody::upstream(gate, body, transfer)));
        }
        let most = if kind == Kind::Hls { SHORT } else { LONGEST_MPD };
        let (read, rest) = begin(connection, body, &transfer, most).await?;
        match kind {
            Kind::Hls => Ok(self.playlist(connection, parts, read, rest, transfer)),
            Kind::Dash => Ok(self.mpd(connection, parts, read, rest, transfer)),
        }
    }

    fn playlist(
        self,
        connection: &Connection,
        mut parts: Parts,
        read: Bytes,
        rest: Option<Incoming>,
        transfer: Transfer,
    ) -> Response<ResponseBody> {
        let gate = &connection.gate;
        let mut playlist = Playlist::new(self.carrier);
        let mut out = Vec::with_capacity(read.len() * 2);
        playlist.push(&read, &mut out);
        match rest {
            Some(rest) if playlist.is_none() => {
                Response::from_parts(parts, ResponseBody::begun(gate, read, rest, transfer))
            }
            Some(rest) => {
                validators::changed(&mut parts.headers, &self.mark, self.from);
                parts.status = StatusCode::OK;
                add(&gate.manifests, 1);
                Response::from_parts(parts, ResponseBody::playlist(gate, out, rest, playlist, transfer))
            }
            None => {
                playlist.finish(&mut out);
                if playlist.is_multivariant() {
                    connection.shared.player_tokens.begins_at(&self.path);
                }
                if !playlist.changed() {
                    return Response::from_parts(parts, ResponseBody::whole(gate, read, transfer));
                }
                whole(&mut parts, (&self.mark, self.from), out.len());
                add(&gate.manifests, 1);
                Response::from_parts(parts, ResponseBody::whole(gate, out, transfer))
            }
        }
    }

    fn mpd(
        self,
        connection: &Connection,
        mut parts: Parts,
        read: Bytes,
        rest: Option<Incoming>,
        transfer: Transfer,
    ) -> Response<ResponseBody> {
        let gate = &connection.gate;
        if let Some(rest) = rest {
            unread(connection, &self.path, "it is too long");
            return Response::from_parts(parts, ResponseBody::begun(gate, read, rest, transfer));
        }
        match carry_mpd(&self.carrier, &read) {
            Ok(Some(new)) => {
                whole(&mut parts, (&self.mark, self.from), new.len());
                add(&gate.manifests, 1);
                return Response::from_parts(parts, ResponseBody::whole(gate, new, transfer));
            }
            Ok(None) => {}
            Err(why) => unread(connection, &self.path, &why.to_string()),
        }
        Response::from_parts(parts, ResponseBody::whole(gate, read, transfer))
    }
}

/// Headers and status of an answer that was changed as a whole.
fn whole(parts: &mut Parts, (mark, from): (&str, TokenFrom), length: usize) {
    validators::changed(&mut parts.headers, mark, from);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    // What was a part, and all of it.
    parts.status = StatusCode::OK;
}

/// What could be a manifest and passes as it is.
fn unread(connection: &Connection, path: &str, why: &str) {
    add(&connection.gate.manifests_unread, 1);
    tracing::debug!(service = %connection.gate.key, ?path, why, "a manifest passes without tokens");
}

/// Why an answer cannot begin.
#[derive(Debug)]
pub(super) enum Broken {
    Cut(Cut),
    /// The upstream broke off, in what way, and why.
    Upstream(FaultKind, String),
}

/// Reads `most` bytes of a body and a little more, or all of it: then there is no rest.
async fn begin(
    connection: &Connection,
    mut body: Incoming,
    transfer: &Transfer,
    most: usize,
) -> Result<(Bytes, Option<Incoming>), Broken> {
    let patience = connection.shared.limits.answer_time;
    let mut read = Vec::new();
    let reading = async {
        while read.len() <= most {
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        read.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(Broken::Upstream(FaultKind::BadGateway, error.to_string())),
                None => return Ok(true),
            }
        }
        Ok(false)
    };
    let ended = tokio::select! {
        ended = reading => ended?,
        why = transfer.cut() => return Err(Broken::Cut(why)),
        () = tokio::time::sleep(patience) => {
            let why = format!("the manifest did not come whole within {patience:?}");
            return Err(Broken::Upstream(FaultKind::Timeout, why));
        }
    };
    Ok((read.into(), (!ended).then_some(body)))
}

/// Whether a part is all of it: some players ask for everything from byte 0 on.
fn is_whole(headers: &HeaderMap) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let range = range.and_then(|range| range.strip_prefix("bytes 0-")?.split_once('/'));
    range.is_some_and(|(last, length)| {
        let number = |text: &str| text.parse::<u64>().ok();
        number(last).and_then(|last| last.checked_add(1)) == number(length) && number(length).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_can_be_all_of_it() {
        for (range, whole) in
            [("bytes 0-9/10", true), ("bytes 0-8/10", false), ("bytes 1-9/10", false), ("bytes 0-9/*", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_static(range));
            assert_eq!(is_whole(&headers), whole, "{range}");
        }
    }
}
