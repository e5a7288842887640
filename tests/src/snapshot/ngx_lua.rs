//! ngx_lua's part in a made-up process: its bookkeeping of Lua threads, and threads that wait.

use super::Machine;
use super::lua::{CFunc, LuaFunc};

/// How a Lua thread came to run, as its bookkeeping says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// By `coroutine.create`: LUA_NOREF, running.
    Coroutine,
    /// By `ngx.thread.spawn`: a reference in the registry, and the bit `is_uthread`.
    LightThread,
    /// Neither: an entry thread, or another version's layout.
    Otherwise,
}

/// Where the pair {co_ref, bits} lies in `ngx_http_lua_co_ctx_t`: stream's, http's since 2020-11, http's
/// since 2022-06.
pub const ANCHORS: [u64; 3] = [152, 200, 208];

impl Machine {
    fn exdata2(&self) -> u64 {
        self.layout().thread.size_luajit2 - 8
    }

    /// Makes ngx_lua's bookkeeping of a thread; `parent` is another's, or 0.
    pub fn bookkeep(&mut self, l: u64, parent: u64, begun: Begun, anchors: u64) -> u64 {
        let ctx = self.heap.take(256);
        self.image.put64(ctx + 8, l);
        self.image.put64(ctx + 16, parent);
        let (co_ref, bits) = match begun {
            Begun::Coroutine => (-2_i32, 0),
            Begun::LightThread => (17, 1 << 5),
            Begun::Otherwise => (17, 0),
        };
        self.image.put32(ctx + anchors, co_ref.cast_unsigned());
        self.image.put32(ctx + anchors + 4, bits);
        self.set_exdata2(l, ctx);
        ctx
    }

    /// Sets `lua_State.exdata2`.
    pub fn set_exdata2(&mut self, l: u64, ctx: u64) {
        self.image.put64(l + self.exdata2(), ctx);
    }

    /// The thread that runs calls a C function of ngx_lua's, which yields to the scheduler (lua_yield): its
    /// C frame is gone, its Lua stack stays as it is.
    pub fn yields_in(&mut self, caller: LuaFunc, at: u32, callee: CFunc) {
        self.lua_calls_fast(caller, at, callee);
        self.store_base();
        self.set_cframe(0);
        self.leave_vm();
    }
}
