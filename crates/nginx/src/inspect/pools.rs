//! Pools of kept-alive connections: of `upstream { keepalive }`, and of cosockets.

use crate::inspect::view::MAX_NAME;
use crate::inspect::{Nginx, Untrusted};
use serde::Serialize;
use std::collections::BTreeMap;

/// `keepalive` of more than this is not believed.
const MAX_CACHED: u64 = 1 << 20;
/// `ngx_http_upstream_keepalive_srv_conf_t`: the limit first; the two queues at its end, behind one
/// setting more since 1.19.10 (`keepalive_time`).
const QUEUES_SINCE_1_19_10: u64 = 32;
const QUEUES_BEFORE: u64 = 24;
/// `ngx_http_upstream_keepalive_cache_t`: conf, queue, connection.
const ITEM_QUEUE: u64 = 8;
const ITEM_CONNECTION: u64 = 24;

/// A pool of connections to servers behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpstreamPool {
    /// The name of the `upstream` block.
    pub upstream: String,
    /// `keepalive`: how many it keeps.
    pub max_idle: u64,
    /// Kept now, idle.
    pub idle: u64,
    /// Requests that these connections have served, of the most used.
    pub most_requests: u64,
    /// Idle connections by server.
    pub peers: Vec<(String, u64)>,
}

/// The keepalive pools of a worker. An `upstream` without `keepalive` has none.
///
/// # Errors
/// [`Untrusted`] when the configuration does not check out.
pub fn upstream_pools(nginx: &Nginx<'_>) -> Result<Vec<UpstreamPool>, Untrusted> {
    const MAX_UPSTREAMS: u64 = 1 << 16;
    let conf = nginx.http_main_conf("ngx_http_upstream_module")?;
    let of = nginx.at.upstream_conf;
    let index = nginx.ctx_index("ngx_http_upstream_keepalive_module")?;
    let array = nginx.array(conf.wrapping_add(of.upstreams))?;
    if array.len > MAX_UPSTREAMS || (array.len > 0 && array.size != 8) {
        return Err(Untrusted::Check { what: "the number of upstreams", value: array.len });
    }
    let mut pools = Vec::new();
    for upstream in nginx.words(array.elts, array.len)? {
        let srv_conf = nginx.u64(upstream.wrapping_add(of.srv_conf))?;
        // Those that proxy_pass makes of an address have no block.
        if srv_conf == 0 {
            continue;
        }
        let keepalive = nginx.u64(srv_conf.wrapping_add(index * 8))?;
        if keepalive != 0 && nginx.u64(keepalive)? != 0 {
            let name = nginx.string(upstream.wrapping_add(of.host), MAX_NAME)?;
            pools.push(upstream_pool(nginx, name, keepalive)?);
        }
    }
    Ok(pools)
}

fn upstream_pool(nginx: &Nginx<'_>, upstream: String, at: u64) -> Result<UpstreamPool, Untrusted> {
    let max_idle = nginx.u64(at)?;
    if max_idle > MAX_CACHED {
        return Err(Untrusted::Check { what: "the size of a keepalive pool", value: max_idle });
    }
    let queues = if nginx.at.version >= 1_019_010 { QUEUES_SINCE_1_19_10 } else { QUEUES_BEFORE };
    let cached = nginx.queue(at.wrapping_add(queues), max_idle as usize)?;
    let mut peers: BTreeMap<String, u64> = BTreeMap::new();
    let mut most_requests = 0;
    for link in &cached {
        let item = link.wrapping_sub(ITEM_QUEUE);
        if nginx.u64(item)? != at {
            return Err(Untrusted::Check { what: "an entry of a keepalive pool, not its own,", value: item });
        }
        let connection = nginx.u64(item.wrapping_add(ITEM_CONNECTION))?;
        most_requests = most_requests.max(nginx.u64(connection.wrapping_add(nginx.at.connection.requests))?);
        *peers.entry(peer(nginx, item)?).or_default() += 1;
    }
    Ok(UpstreamPool {
        upstream,
        max_idle,
        idle: cached.len() as u64,
        most_requests,
        peers: peers.into_iter().collect(),
    })
}

/// The address of an entry: `socklen_t` and the address itself behind the connection.
fn peer(nginx: &Nginx<'_>, item: u64) -> Result<String, Untrusted> {
    const SOCKLEN: u64 = ITEM_CONNECTION + 8;
    let len = nginx.u32(item.wrapping_add(SOCKLEN))? as usize;
    let bytes = nginx.mem.bytes(item.wrapping_add(SOCKLEN + 4), len.min(110), 110)?;
    Ok(address(&bytes))
}

/// A `sockaddr` as text.
fn address(bytes: &[u8]) -> String {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let port = |b: &[u8]| u16::from_be_bytes([b[2], b[3]]);
    match bytes {
        [2, 0, _, _, a, b, c, d, ..] => format!("{}:{}", Ipv4Addr::new(*a, *b, *c, *d), port(bytes)),
        [10, 0, ..] if bytes.len() >= 24 => {
            let ip: [u8; 16] = bytes[8..24].try_into().unwrap_or_default();
            format!("[{}]:{}", Ipv6Addr::from(ip), port(bytes))
        }
        [1, 0, path @ ..] => {
            let path = path.split(|b| *b == 0).next().unwrap_or_default();
            format!("unix:{}", String::from_utf8_lossy(path))
        }
        _ => "unknown".into(),
    }
}

/// A pool of cosockets: one for each address, or name, that Lua has connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CosocketPool {
    /// What it is of: `host:port`, or the name Lua gave it.
    pub pool: String,
    /// How many idle connections it keeps at most.
    pub max_idle: u64,
    /// Kept now, idle.
    pub idle: u64,
    /// Connections it counts: those in use and, since ngx_lua 0.10.14, attempts to connect.
    pub connections: u64,
    /// Lua code that waits for a connection, with `backlog`; not told before ngx_lua 0.10.14.
    pub waiting: Option<u64>,
    /// Times that an idle connection was used again, of the most used.
    pub most_reused: u64,
}

/// Where things are in `ngx_http_lua_socket_pool_t` (ngx_http_lua_socket_tcp.h).
struct PoolAt {
    connections: u64,
    cache: u64,
    free: u64,
    waiting: Option<u64>,
    key: u64,
}

/// Since 0.10.14, and before: a pool is of the kind whose key is where it should be.
const POOLS: [PoolAt; 2] = [
    PoolAt { connections: 48, cache: 56, free: 72, waiting: Some(32), key: 96 },
    PoolAt { connections: 8, cache: 16, free: 32, waiting: None, key: 48 },
];
/// `ngx_http_lua_socket_pool_item_t`: its pool, its queue, …, how often it was used again.
const COSOCKET_QUEUE: u64 = 8;
const COSOCKET_REUSED: u64 = 168;

/// The pools of cosockets among userdata that Lua keeps by name (`kept` as name and address), of the VM
/// whose main thread is `lua`. A pool starts with that address and has its own name in it: what does not
/// is another module's userdata and left out.
///
/// # Errors
/// [`Untrusted`] when a pool's queue does not check out.
pub fn cosocket_pools(
    nginx: &Nginx<'_>,
    lua: u64,
    kept: &[(String, u64)],
) -> Result<Vec<CosocketPool>, Untrusted> {
    let mut pools = Vec::new();
    for (name, at) in kept {
        let layout = POOLS.iter().find(|of| is_pool(nginx, of, lua, name, *at));
        if let Some(of) = layout {
            pools.push(cosocket_pool(nginx, of, name, *at)?);
        }
    }
    Ok(pools)
}

fn is_pool(nginx: &Nginx<'_>, of: &PoolAt, lua: u64, name: &str, at: u64) -> bool {
    let key = nginx.mem.bytes(at.wrapping_add(of.key), name.len() + 1, MAX_NAME + 1);
    nginx.u64(at) == Ok(lua) && key.is_ok_and(|k| k.strip_suffix(&[0]) == Some(name.as_bytes()))
}

fn cosocket_pool(nginx: &Nginx<'_>, of: &PoolAt, name: &str, at: u64) -> Result<CosocketPool, Untrusted> {
    const MAX_ITEMS: usize = 1 << 16;
    let queue = |member: u64| nginx.queue(at.wrapping_add(member), MAX_ITEMS);
    let (cached, free) = (queue(of.cache)?, queue(of.free)?);
    let mut most_reused = 0;
    for link in &cached {
        let item = link.wrapping_sub(COSOCKET_QUEUE);
        if nginx.u64(item)? != at {
            return Err(Untrusted::Check { what: "an entry of a cosocket pool, not its own,", value: item });
        }
        most_reused = most_reused.max(nginx.u64(item.wrapping_add(COSOCKET_REUSED))?);
    }
    Ok(CosocketPool {
        pool: name.to_owned(),
        max_idle: (cached.len() + free.len()) as u64,
        idle: cached.len() as u64,
        connections: nginx.u64(at.wrapping_add(of.connections))?,
        waiting: of.waiting.map(|w| queue(w).map(|q| q.len() as u64)).transpose()?,
        most_reused,
    })
}
