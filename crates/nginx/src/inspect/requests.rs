//! Requests that are being served now, and timers of Lua, which nginx serves as requests of nobody.

use crate::inspect::connections::Table;
use crate::inspect::memory_pools::{self, PoolSize};
use crate::inspect::phases::Phases;
use crate::inspect::view::{MAX_NAME, word_at};
use crate::inspect::{Nginx, Untrusted};
use serde::Serialize;
use std::collections::HashSet;

/// `NGX_HTTP_MODULE`: the first word of a request (ngx_http_request.h, `signature`).
const SIGNATURE: u32 = 0x5054_5448;
/// Longest URI that is shown.
const MAX_URI: usize = 512;
/// Longest method that is shown.
const MAX_METHOD: usize = 32;
/// A request older than this is no request: a hundred days.
const MAX_AGE_MS: i64 = 100 * 86_400_000;

/// A request that is being served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// What asked for it.
    pub kind: Kind,
    /// `GET` and so on; empty until the request line was read.
    pub method: String,
    /// The `Host` of the request, or what its line names.
    pub host: String,
    /// The path, after rewrites, without arguments; cut at 512 bytes.
    pub uri: String,
    /// The client's address as nginx prints it.
    pub client: String,
    /// Since its start, by the host's clock: nginx's own is stale while a worker waits. ngx_lua does not
    /// note it for timers.
    pub age_ms: Option<i64>,
    /// The phase it is in.
    pub phase: Option<&'static str>,
    /// The status to answer with; 0 while undecided.
    pub status: u64,
    /// Its server behind, if it has gone to one.
    pub upstream: Option<Upstream>,
    /// Servers tried so far.
    pub upstream_tries: u64,
    /// What its memory pool has taken.
    pub pool: PoolSize,
    /// Its file descriptor.
    pub fd: Option<i32>,
    /// Requests on this connection so far, this one included.
    pub requests_on_connection: u64,
}

/// What asked for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A client.
    Client,
    /// A client, over HTTP/2 or HTTP/3.
    ClientStream,
    /// A timer of Lua (`ngx.timer.at`), or another of ngx_lua's pretended requests. It has no URI.
    Timer,
}

/// The server behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// Its address as nginx prints it.
    pub peer: Option<String>,
    /// How far it is.
    pub state: UpstreamState,
    /// Milliseconds until it was connected.
    pub connect_ms: Option<u64>,
    /// Milliseconds until its header was there.
    pub header_ms: Option<u64>,
    /// The status it answered; 0 until then.
    pub status: u64,
}

/// How far a request is with the server behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamState {
    /// Not tried to connect yet.
    Starting,
    /// Connecting.
    Connecting,
    /// Connected; no header yet.
    WaitingForHeader,
    /// Its header was there, its body is read.
    ReadingBody,
    /// Done with it.
    Finished,
}

/// The requests that a worker serves now. `now_unix_ms` is the host's clock, milliseconds since 1970.
///
/// Found through the connection table: main requests, those that a client is kept waiting for. Of a
/// request over HTTP/2 only what has a connection of its own, to a server behind, can be found.
///
/// # Errors
/// [`Untrusted`] when the connection table does not check out, or no request does that there is: one alone may
/// be gone while it is read, a build that has moved members refuses all.
pub fn requests(nginx: &Nginx<'_>, now_unix_ms: u64) -> Result<Vec<Request>, Untrusted> {
    let table = Table::read(nginx)?;
    let phases = Phases::read(nginx).ok();
    let mut seen = HashSet::new();
    let mut requests = Vec::new();
    let mut refused = None;
    let data = table.places().map(|place| word_at(place.bytes, nginx.at.connection.data));
    // Most places are free, and say so without a look at what they point at.
    for data in data.filter(|data| !table.holds(*data)) {
        let found = match main_request(nginx, data) {
            Some(main) if seen.insert(main) => request(nginx, &phases, main, now_unix_ms),
            None if is_request(nginx, data) => {
                Err(Untrusted::Check { what: "r->main of a request, not one,", value: data })
            }
            _ => continue,
        };
        match found {
            Ok(request) => requests.extend(request),
            Err(why @ Untrusted::Check { .. }) => refused = Some(why),
            Err(_) => {}
        }
    }
    if let (true, Some(why)) = (requests.is_empty(), refused) {
        return Err(why);
    }
    requests.sort_by_key(|r| std::cmp::Reverse(r.age_ms));
    Ok(requests)
}

/// Whether a connection's `data` begins as a request does.
fn is_request(nginx: &Nginx<'_>, data: u64) -> bool {
    data != 0 && data.is_multiple_of(8) && nginx.u32(data) == Ok(SIGNATURE)
}

/// The main request of what a connection's `data` points at, if that is a request: it starts with its
/// signature, and its main request is its own main request.
pub(crate) fn main_request(nginx: &Nginx<'_>, data: u64) -> Option<u64> {
    if !is_request(nginx, data) {
        return None;
    }
    let main = nginx.u64(data.wrapping_add(nginx.at.request.main)).ok()?;
    let own = nginx.u32(main).ok()? == SIGNATURE
        && nginx.u64(main.wrapping_add(nginx.at.request.main)).ok()? == main;
    own.then_some(main)
}

/// `None` for what is left of a request that has ended.
fn request(
    nginx: &Nginx<'_>,
    phases: &Option<Phases>,
    at: u64,
    now_unix_ms: u64,
) -> Result<Option<Request>, Untrusted> {
    let of = &nginx.at.request;
    let bytes = nginx.mem.bytes(at, of.size as usize, 8192)?;
    let get = |member| word_at(&bytes, member);
    let connection = nginx.mem.bytes(get(of.connection), nginx.at.connection.size as usize, 4096)?;
    let started = get(of.start_sec).wrapping_mul(1000).wrapping_add(get(of.start_msec));
    let age_ms = now_unix_ms.wrapping_sub(started).cast_signed();
    // A second of a clock that was set back; and memory of a request long gone.
    let plausible = started == 0 || (-1000..MAX_AGE_MS).contains(&age_ms);
    if get(of.pool) == 0 || !plausible {
        return Ok(None);
    }
    let fd = (word_at(&connection, nginx.at.connection.fd) as u32).cast_signed();
    let kind = match (get(of.stream), fd) {
        (0, -1) => Kind::Timer,
        (0, _) => Kind::Client,
        _ => Kind::ClientStream,
    };
    if started == 0 && kind != Kind::Timer {
        return Ok(None);
    }
    let text = |member, max| match kind {
        Kind::Timer => Ok(String::new()),
        _ => nginx.text(get(member + 8), get(member), max),
    };
    Ok(Some(Request {
        kind,
        method: method(text(of.method_name, MAX_METHOD)?)?,
        host: match kind {
            Kind::Timer => String::new(),
            _ => host(nginx, &bytes)?,
        },
        uri: text(of.uri, MAX_URI)?,
        client: match kind {
            Kind::Timer => String::new(),
            _ => {
                let member = nginx.at.connection.addr_text;
                nginx.text(word_at(&connection, member + 8), word_at(&connection, member), MAX_NAME)?
            }
        },
        age_ms: (started != 0).then_some(age_ms.max(0)),
        phase: match kind {
            Kind::Timer => None,
            _ => phases.as_ref().and_then(|p| p.phase_of(get(of.phase_handler))),
        },
        status: get(of.status),
        upstream: upstream(nginx, get(of.upstream))?,
        upstream_tries: tries(nginx, get(of.upstream_states))?,
        pool: memory_pools::size(nginx, get(of.pool))?,
        fd: (fd >= 0).then_some(fd),
        requests_on_connection: word_at(&connection, nginx.at.connection.requests),
    }))
}

/// What nginx takes for a method (ngx_http_parse.c); in its place another text of a moved struct may stand,
/// arguments among them.
fn method(text: String) -> Result<String, Untrusted> {
    let letter = |b: u8| b.is_ascii_uppercase() || b == b'_' || b == b'-';
    match text.bytes().find(|b| !letter(*b)) {
        None => Ok(text),
        Some(b) => Err(Untrusted::Check { what: "a letter of r->method_name", value: b.into() }),
    }
}

/// `headers_in.server` is set once the name was looked at; until then the header itself.
fn host(nginx: &Nginx<'_>, request: &[u8]) -> Result<String, Untrusted> {
    let of = &nginx.at.request;
    let server = nginx.text(word_at(request, of.server + 8), word_at(request, of.server), MAX_NAME)?;
    match word_at(request, of.host) {
        // ngx_table_elt_t: hash, key, value.
        header if server.is_empty() && header != 0 => nginx.string(header.wrapping_add(24), MAX_NAME),
        _ => Ok(server),
    }
}

fn upstream(nginx: &Nginx<'_>, at: u64) -> Result<Option<Upstream>, Untrusted> {
    if at == 0 {
        return Ok(None);
    }
    let (of, state_at) = (&nginx.at.upstream, &nginx.at.upstream_state);
    let name = nginx.u64(at.wrapping_add(of.peer_name))?;
    let peer = if name == 0 { None } else { Some(nginx.string(name, MAX_NAME)?) };
    let state = nginx.u64(at.wrapping_add(of.state))?;
    let mut upstream =
        Upstream { peer, state: UpstreamState::Starting, connect_ms: None, header_ms: None, status: 0 };
    if state == 0 {
        return Ok(Some(upstream));
    }
    let bytes = nginx.mem.bytes(state, state_at.size as usize, 1024)?;
    // -1 until it is known (ngx_http_upstream.c, ngx_http_upstream_connect).
    let time = |member| Some(word_at(&bytes, member)).filter(|t| *t != u64::MAX);
    upstream.connect_ms = time(state_at.connect_time);
    upstream.header_ms = time(state_at.header_time);
    upstream.status = word_at(&bytes, state_at.status);
    let connected = nginx.u64(at.wrapping_add(of.peer_connection))? != 0;
    upstream.state = match (upstream.connect_ms, upstream.header_ms) {
        _ if !connected => UpstreamState::Finished,
        (None, _) => UpstreamState::Connecting,
        (Some(_), None) => UpstreamState::WaitingForHeader,
        _ => UpstreamState::ReadingBody,
    };
    Ok(Some(upstream))
}

/// The length of `r->upstream_states`: one for each server that was tried.
fn tries(nginx: &Nginx<'_>, states: u64) -> Result<u64, Untrusted> {
    if states == 0 {
        return Ok(0);
    }
    let array = nginx.array(states)?;
    if array.size != nginx.at.upstream_state.size || array.len > 1 << 16 {
        return Err(Untrusted::Check {
            what: "r->upstream_states, the size of an element,",
            value: array.size,
        });
    }
    Ok(array.len)
}
