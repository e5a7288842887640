//! One `ngx_http_request_t`: what the kernel side needs to know to read it, and reading it from here.

use crate::layout::{Layout, NoLayout};
use upprof_memory::{Memory, ReadError};

/// `NGX_HTTP_MODULE`, "HTTP": what every request begins with (ngx_http_config.h).
pub const SIGNATURE: u32 = 0x5054_5448;

const REQUEST: &str = "ngx_http_request_t";

/// Where the members of a request are that a sample reads. Their neighbours are found from them: the
/// same in every version, checked by a test of `layouts.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestOffsets {
    /// `method`; `http_version`, `request_line` and `uri` follow.
    pub method: u16,
    /// `headers_in.server`: the host as nginx takes it, in lower case and without a port.
    pub server: u16,
}

impl RequestOffsets {
    /// Takes them from a layout.
    ///
    /// # Errors
    /// [`NoLayout::Member`].
    pub fn of(layout: &Layout) -> Result<Self, NoLayout> {
        let at = |member: &str| {
            let byte = layout.at(REQUEST, member)?;
            u16::try_from(byte).map_err(|_| NoLayout::Member(format!("{REQUEST}.{member}")))
        };
        Ok(Self { method: at("method")?, server: at("headers_in.server")? })
    }
}

/// A request as memory tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A client's, or a subrequest of one.
    Real {
        /// The method's name.
        method: Method,
        /// The path as nginx matched it: decoded, no query string. At most [`MAX_PATH`] bytes; hostile.
        path: Vec<u8>,
        /// `headers_in.server`; empty where the client named none. At most [`MAX_HOST`] bytes; hostile.
        host: Vec<u8>,
    },
    /// Made by ngx_lua for code that runs outside requests: timers, init_worker_by_lua, TLS handshakes.
    Fake,
}

/// Bytes of a path that are kept.
pub const MAX_PATH: usize = 128;
/// Bytes of a host that are kept.
pub const MAX_HOST: usize = 64;

/// A request's method: `NGX_HTTP_GET` and so on, one bit each (ngx_http_request.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(u32);

impl Method {
    /// By the number that `ngx_http_request_t.method` holds; `None` for what is no method.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        let bits = u32::try_from(number).ok()?;
        (bits.is_power_of_two() && (bits.trailing_zeros() as usize) < METHODS.len()).then_some(Self(bits))
    }

    /// Its name, or "other" for one that nginx does not know.
    #[must_use]
    pub fn name(self) -> &'static str {
        METHODS.get(self.0.trailing_zeros() as usize).copied().unwrap_or(METHODS[0])
    }
}

/// In the order of their bits; the first is `NGX_HTTP_UNKNOWN`. CONNECT is new in 1.21.1.
const METHODS: [&str; 17] = [
    "other",
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "MKCOL",
    "COPY",
    "MOVE",
    "OPTIONS",
    "PROPFIND",
    "PROPPATCH",
    "LOCK",
    "UNLOCK",
    "PATCH",
    "TRACE",
    "CONNECT",
];

/// Why an address is not taken for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRequest {
    /// Memory is not there.
    #[error(transparent)]
    Memory(#[from] ReadError),
    /// It does not begin with "HTTP".
    #[error("its signature is {0:#x}")]
    Signature(u32),
    /// A member holds what none can hold: another layout, or memory that is no request any more.
    #[error("its {what} is {value:#x}")]
    Implausible {
        /// Which member.
        what: &'static str,
        /// What it holds.
        value: u64,
    },
}

/// Reads and checks a request. probes/bpf/request.bpf.h makes the same checks.
///
/// # Errors
/// [`NotRequest`] says which check failed.
pub fn read_request(mem: &dyn Memory, at: RequestOffsets, addr: u64) -> Result<Request, NotRequest> {
    /// What a length can be at all: `large_client_header_buffers` is 8 KiB by default.
    const SANE_LEN: u64 = 1 << 20;
    let signature = mem.u32(addr)?;
    if signature != SIGNATURE {
        return Err(NotRequest::Signature(signature));
    }
    let word = |offset: u64| mem.u64(addr.wrapping_add(offset));
    let (number, version) = (word(u64::from(at.method))?, word(u64::from(at.method) + 8)?);
    let (uri_len, uri) = (word(u64::from(at.method) + 32)?, word(u64::from(at.method) + 40)?);
    let (host_len, host) = (word(u64::from(at.server))?, word(u64::from(at.server) + 8)?);
    let implausible = |what, value| Err(NotRequest::Implausible { what, value });
    let Some(method) = Method::new(number) else { return implausible("method", number) };
    // ngx_http_lua_create_fake_request zeroes it and sets the method only.
    if version == 0 && uri_len == 0 && number == 1 {
        return Ok(Request::Fake);
    }
    // NGX_HTTP_VERSION_9 to _30.
    if ![9, 1000, 1001, 2000, 3000].contains(&version) {
        return implausible("HTTP version", version);
    }
    if uri_len == 0 || uri_len > SANE_LEN {
        return implausible("URI's length", uri_len);
    }
    if host_len > SANE_LEN {
        return implausible("host's length", host_len);
    }
    let text = |at, len: u64, max: usize| mem.bytes(at, (len as usize).min(max), max);
    let path = text(uri, uri_len, MAX_PATH)?;
    match path.first() {
        Some(b'/') => {}
        // OPTIONS * and CONNECT have no path.
        Some(b'*') if uri_len == 1 => {}
        first => return implausible("URI's first byte", first.copied().unwrap_or(0).into()),
    }
    Ok(Request::Real { method, path, host: text(host, host_len, MAX_HOST)? })
}
