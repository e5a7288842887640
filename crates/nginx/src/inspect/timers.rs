//! Timers: those of Lua against their limits, and all of nginx's by what they call.

use crate::inspect::view::word_at;
use crate::inspect::{Nginx, Untrusted};
use serde::Serialize;
use std::collections::HashMap;

/// `ngx_http_lua_main_conf_t` (ngx_http_lua_common.h, the same from 0.10.13 to 0.10.29): the cycle, the
/// pool, then `max_pending_timers`, `pending_timers`, `max_running_timers`, `running_timers`.
const LUA_CYCLE: u64 = 48;
const LUA_TIMERS: u64 = 64;
const LUA_CONF: usize = 96;
/// `lua_max_pending_timers` of more than this is not believed.
const MAX_LIMIT: u64 = 1 << 32;
/// Longest path in a red-black tree of 2^32 entries.
const MAX_DEPTH: usize = 64;
const MAX_TIMERS: usize = 1 << 20;
const ATTEMPTS: usize = 3;

/// The timers of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timers {
    /// Of Lua; `None` when nginx has no Lua module.
    pub lua: Option<LuaTimers>,
    /// All of nginx's, by what they call, the most first.
    pub handlers: Vec<Handler>,
    /// All of nginx's.
    pub total: u64,
    /// Past their time: the worker has not come to them.
    pub overdue: u64,
    /// Milliseconds until the next; negative when it is overdue.
    pub next_ms: Option<i64>,
    /// The tree changed while it was read: some may be missing.
    pub torn: bool,
}

/// `ngx.timer.at` and `ngx.timer.every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LuaTimers {
    /// Waiting for their time.
    pub pending: u64,
    /// `lua_max_pending_timers`: more are refused.
    pub max_pending: u64,
    /// Running now.
    pub running: u64,
    /// `lua_max_running_timers`: more are dropped, with a line in the error log.
    pub max_running: u64,
}

/// Timers that call the same function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Handler {
    /// What they call, by symbol where there is one.
    pub handler: String,
    /// How many.
    pub count: u64,
    /// Of those, past their time.
    pub overdue: u64,
    /// Milliseconds until the next of them.
    pub next_ms: i64,
}

/// The timers of a process, `now_ms` being the machine's `CLOCK_MONOTONIC` in milliseconds, which nginx
/// counts in too (ngx_times.c).
///
/// # Errors
/// [`Untrusted`] when the tree, or ngx_lua's configuration, does not check out.
pub fn timers(nginx: &Nginx<'_>, now_ms: u64) -> Result<Timers, Untrusted> {
    let lua = match lua_timers(nginx) {
        Ok(lua) => Some(lua),
        Err(Untrusted::Symbol(_) | Untrusted::None(_)) => None,
        Err(e) => return Err(e),
    };
    let mut events = Vec::new();
    let mut torn = true;
    for _ in 0..ATTEMPTS {
        (events, torn) = tree(nginx)?;
        if !torn {
            break;
        }
    }
    let mut by_handler: HashMap<u64, Handler> = HashMap::new();
    let mut timers =
        Timers { lua, handlers: Vec::new(), total: events.len() as u64, overdue: 0, next_ms: None, torn };
    for (handler, key) in events {
        let left = key.wrapping_sub(now_ms).cast_signed();
        timers.overdue += u64::from(left < 0);
        timers.next_ms = Some(timers.next_ms.map_or(left, |next| next.min(left)));
        let of = by_handler.entry(handler).or_insert_with(|| Handler {
            handler: (nginx.name)(handler),
            count: 0,
            overdue: 0,
            next_ms: left,
        });
        of.count += 1;
        of.overdue += u64::from(left < 0);
        of.next_ms = of.next_ms.min(left);
    }
    timers.handlers = by_handler.into_values().collect();
    timers.handlers.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.handler.cmp(&b.handler)));
    Ok(timers)
}

fn lua_timers(nginx: &Nginx<'_>) -> Result<LuaTimers, Untrusted> {
    let conf = nginx.http_main_conf("ngx_http_lua_module")?;
    let bytes = nginx.mem.bytes(conf, LUA_CONF, LUA_CONF)?;
    let get = |i: u64| word_at(&bytes, LUA_TIMERS + i * 8);
    if word_at(&bytes, LUA_CYCLE) != nginx.cycle {
        let value = word_at(&bytes, LUA_CYCLE);
        return Err(Untrusted::Check { what: "ngx_http_lua_main_conf_t.cycle, not the cycle,", value });
    }
    let timers = LuaTimers { max_pending: get(0), pending: get(1), max_running: get(2), running: get(3) };
    // The pending ones may exceed their limit by those that are being made.
    let plausible = |n: u64, max: u64| max < MAX_LIMIT && n <= max + 1;
    if !plausible(timers.pending, timers.max_pending) {
        return Err(Untrusted::Check {
            what: "ngx_http_lua_main_conf_t.pending_timers",
            value: timers.pending,
        });
    }
    if !plausible(timers.running, timers.max_running) {
        return Err(Untrusted::Check {
            what: "ngx_http_lua_main_conf_t.running_timers",
            value: timers.running,
        });
    }
    Ok(timers)
}

/// `ngx_event_timer_rbtree`: each event as (handler, time), and whether a link did not point back.
fn tree(nginx: &Nginx<'_>) -> Result<(Vec<(u64, u64)>, bool), Untrusted> {
    let of = &nginx.at.event;
    let name = "ngx_event_timer_rbtree";
    let tree = nginx.words((nginx.symbol)(name).ok_or(Untrusted::Symbol(name))?, 2)?;
    let (root, sentinel) = (tree[0], tree[1]);
    let mut events = Vec::new();
    let mut torn = false;
    if root == 0 || root == sentinel {
        return Ok((events, torn));
    }
    let mut open = vec![(root, None, 0)];
    while let Some((at, parent, depth)) = open.pop() {
        // ngx_rbtree_node_t: key, left, right, parent.
        let start = at.wrapping_sub(of.timer);
        let Ok(bytes) = nginx.mem.bytes(start, of.size as usize, 1024) else {
            torn = true;
            continue;
        };
        let node = |i: u64| word_at(&bytes, of.timer + i * 8);
        if parent.is_some_and(|p| p != node(3)) || depth == MAX_DEPTH || events.len() == MAX_TIMERS {
            torn = true;
            continue;
        }
        for next in [node(1), node(2)] {
            if next != sentinel {
                open.push((next, Some(at), depth + 1));
            }
        }
        events.push((word_at(&bytes, of.handler), node(0)));
    }
    Ok((events, torn))
}
