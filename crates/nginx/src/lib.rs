//! All that upprof knows of nginx's and ngx_lua's memory.
//!
//! For now: the way from nginx's exported symbols to the Lua VMs of a process. It reads through
//! [`upprof_memory::Memory`] only, opens no file and never writes; symbols come from the caller.

pub mod inspect;
mod layout;
mod request;

pub use layout::{Identity, Layout, NoLayout, Place, identity, version_text};
pub use request::{Method, RequestOffsets};

use upprof_memory::{Memory, ReadError};

/// Who owns a Lua VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// `http {}`: `ngx_http_lua_module`.
    Http,
    /// `stream {}`: `ngx_stream_lua_module`.
    Stream,
    /// No part of nginx: the process is another program.
    Host,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Stream => "stream",
            Self::Host => "host",
        })
    }
}

/// Why no Lua VM was found for an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// A symbol that the way goes through is not exported.
    #[error("the symbol {0} is not exported")]
    Symbol(&'static str),
    /// The owner is not nginx.
    #[error("it is no VM of nginx's")]
    NotNginx,
    /// A pointer on the way is null: no such block in the configuration, or no Lua in it.
    #[error("{0} is null: no such block in the configuration, or no Lua code in it")]
    Null(&'static str),
    /// A module's index is out of range: not an `ngx_module_t`.
    #[error("the index of {0} is {1}: not a module of this nginx")]
    Index(&'static str, u64),
    /// Memory is not there.
    #[error(transparent)]
    Memory(#[from] ReadError),
}

/// Every symbol that [`lua_state`] asks for.
pub const SYMBOLS: [&str; 5] =
    ["ngx_cycle", "ngx_http_module", "ngx_http_lua_module", "ngx_stream_module", "ngx_stream_lua_module"];

/// Modules of one nginx; auto/modules makes about 60, Debian with every package about 100.
const MAX_MODULES: u64 = 1024;

/// The main `lua_State` of the owner's VM: `ngx_cycle->conf_ctx[module]->main_conf[lua]->lua`.
///
/// Offsets: `ngx_cycle_t.conf_ctx` 0 (ngx_cycle.h); `ngx_module_t.ctx_index` 0 and `.index` 8
/// (ngx_module.h, since 1.9.11); `ngx_http_conf_ctx_t.main_conf` 0 (ngx_http_config.h; stream alike);
/// `ngx_http_lua_main_conf_t.lua` 0 (ngx_http_lua_common.h; stream alike).
///
/// `symbol` gives the address of an exported symbol in this process, whichever file exports it.
///
/// # Errors
/// [`Missing`] says where the way ended.
pub fn lua_state(
    mem: &dyn Memory,
    symbol: &dyn Fn(&str) -> Option<u64>,
    owner: Owner,
) -> Result<u64, Missing> {
    let (block, lua) = match owner {
        Owner::Http => ("ngx_http_module", "ngx_http_lua_module"),
        Owner::Stream => ("ngx_stream_module", "ngx_stream_lua_module"),
        Owner::Host => return Err(Missing::NotNginx),
    };
    let at = |name: &'static str| symbol(name).ok_or(Missing::Symbol(name));
    let (cycle, block_at, lua_at) = (at("ngx_cycle")?, at(block)?, at(lua)?);
    let cycle = pointer(mem, cycle, "ngx_cycle")?;
    let conf_ctx = pointer(mem, cycle, "ngx_cycle->conf_ctx")?;
    let index = small(mem, block_at.wrapping_add(8), block)?;
    let ctx = pointer(mem, conf_ctx.wrapping_add(index * 8), "the block's configuration context")?;
    let main_conf = pointer(mem, ctx, "main_conf")?;
    let lua_index = small(mem, lua_at, lua)?;
    let conf = pointer(mem, main_conf.wrapping_add(lua_index * 8), "the Lua module's configuration")?;
    pointer(mem, conf, "the Lua module's VM")
}

fn pointer(mem: &dyn Memory, at: u64, what: &'static str) -> Result<u64, Missing> {
    match mem.u64(at)? {
        0 => Err(Missing::Null(what)),
        p => Ok(p),
    }
}

fn small(mem: &dyn Memory, at: u64, what: &'static str) -> Result<u64, Missing> {
    match mem.u64(at)? {
        n if n < MAX_MODULES => Ok(n),
        n => Err(Missing::Index(what, n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upprof_memory::Snapshot;

    fn world() -> Snapshot {
        let mut s = Snapshot::default();
        let mut put = |addr: u64, words: &[u64]| {
            s.insert(addr, words.iter().flat_map(|w| w.to_le_bytes()).collect());
        };
        put(0x100, &[0x1000]); // ngx_cycle
        put(0x200, &[u64::MAX, 2]); // ngx_http_module: ctx_index, index
        put(0x300, &[1, 7]); // ngx_http_lua_module
        put(0x1000, &[0x2000]); // conf_ctx
        put(0x2000, &[0, 0, 0x3000]);
        put(0x3000, &[0x4000]); // main_conf
        put(0x4000, &[0, 0x5000]);
        put(0x5000, &[0x6000]); // lua
        s
    }

    fn symbol(name: &str) -> Option<u64> {
        Some(match name {
            "ngx_cycle" => 0x100,
            "ngx_http_module" => 0x200,
            "ngx_http_lua_module" => 0x300,
            _ => return None,
        })
    }

    #[test]
    fn the_chain_leads_to_the_state() {
        assert_eq!(lua_state(&world(), &symbol, Owner::Http), Ok(0x6000));
    }

    #[test]
    fn each_break_is_named() {
        assert_eq!(lua_state(&world(), &symbol, Owner::Stream), Err(Missing::Symbol("ngx_stream_module")));
        let mut s = world();
        s.insert(0x2000, vec![0; 24]);
        let e = lua_state(&s, &symbol, Owner::Http);
        assert_eq!(e, Err(Missing::Null("the block's configuration context")));
        let mut s = world();
        s.insert(0x300, vec![0xff; 16]);
        let e = lua_state(&s, &symbol, Owner::Http);
        assert_eq!(e, Err(Missing::Index("ngx_http_lua_module", u64::MAX)));
    }
}
