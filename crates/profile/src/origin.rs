//! Whose work a sample was: a request's, or what stands for one; and in which phase of it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Whose work a sample was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A request, or a subrequest of one.
    Request {
        /// `GET`, or "other" for one that nginx does not know.
        method: String,
        /// The host asked for, in lower case, without a port; empty where the client named none. Hostile.
        host: String,
        /// The path as nginx matched it: decoded, no query string; ends in `…` where it was cut. Hostile.
        path: String,
    },
    /// Lua code that runs for no request: timers, init_worker_by_lua, TLS handshakes. The phase tells
    /// which.
    Outside,
    /// A request, but more distinct ones were seen than are told apart.
    Other,
    /// Lua code whose request is not known.
    Unknown,
    /// No Lua on the stack: native code works for many requests, and nobody says for which.
    NotLua,
}

impl Origin {
    /// What stands in place of a route for what is no request: in brackets, as no path is.
    #[must_use]
    pub fn stand_in(&self) -> Option<&'static str> {
        match self {
            Self::Request { .. } => None,
            Self::Outside => Some("(no request: timer or other)"),
            Self::Other => Some("(other requests)"),
            Self::Unknown => Some("(not known)"),
            Self::NotLua => Some("(no Lua on the stack)"),
        }
    }
}

/// The phase that ngx_lua runs a piece of Lua in: `NGX_HTTP_LUA_CONTEXT_*` (ngx_http_lua_common.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// `set_by_lua`
    Set,
    /// `rewrite_by_lua`
    Rewrite,
    /// `access_by_lua`
    Access,
    /// `content_by_lua`
    Content,
    /// `log_by_lua`
    Log,
    /// `header_filter_by_lua`
    HeaderFilter,
    /// `body_filter_by_lua`
    BodyFilter,
    /// `ngx.timer.at`
    Timer,
    /// `init_worker_by_lua`
    InitWorker,
    /// `balancer_by_lua`
    Balancer,
    /// `ssl_certificate_by_lua`
    SslCert,
    /// `ssl_session_store_by_lua`
    SslSessionStore,
    /// `ssl_session_fetch_by_lua`
    SslSessionFetch,
    /// `exit_worker_by_lua`
    ExitWorker,
    /// `ssl_client_hello_by_lua`
    SslClientHello,
    /// `server_rewrite_by_lua`
    ServerRewrite,
    /// `proxy_ssl_verify_by_lua`
    ProxySslVerify,
    /// `precontent_by_lua`
    Precontent,
    /// `proxy_ssl_certificate_by_lua`
    ProxySslCert,
}

impl Phase {
    const ALL: [(Self, &str); 19] = [
        (Self::Set, "set"),
        (Self::Rewrite, "rewrite"),
        (Self::Access, "access"),
        (Self::Content, "content"),
        (Self::Log, "log"),
        (Self::HeaderFilter, "header_filter"),
        (Self::BodyFilter, "body_filter"),
        (Self::Timer, "timer"),
        (Self::InitWorker, "init_worker"),
        (Self::Balancer, "balancer"),
        (Self::SslCert, "ssl_cert"),
        (Self::SslSessionStore, "ssl_session_store"),
        (Self::SslSessionFetch, "ssl_session_fetch"),
        (Self::ExitWorker, "exit_worker"),
        (Self::SslClientHello, "ssl_client_hello"),
        (Self::ServerRewrite, "server_rewrite"),
        (Self::ProxySslVerify, "proxy_ssl_verify"),
        (Self::Precontent, "precontent"),
        (Self::ProxySslCert, "proxy_ssl_cert"),
    ];

    /// By the number of its bit, counted from 1, as the kernel side tells it.
    #[must_use]
    pub fn from_abi(n: u8) -> Option<Self> {
        Self::ALL.get(usize::from(n).checked_sub(1)?).map(|(phase, _)| *phase)
    }
}

impl fmt::Display for Phase {
    /// As `ngx.get_phase()` names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(phase, _)| phase == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_numbered_as_their_bits() {
        assert_eq!(Phase::from_abi(0), None);
        assert_eq!(Phase::from_abi(1), Some(Phase::Set));
        assert_eq!(Phase::from_abi(8), Some(Phase::Timer));
        assert_eq!(Phase::from_abi(19), Some(Phase::ProxySslCert));
        assert_eq!(Phase::from_abi(20), None);
        for (index, (phase, name)) in Phase::ALL.iter().enumerate() {
            assert_eq!(*phase as usize, index);
            assert_eq!(phase.to_string(), *name);
        }
    }
}
