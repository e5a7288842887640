//! Offsets: what is the same everywhere since 2017, and what `layouts.yaml` says of each era.

use serde::Deserialize;

/// One era of one mode: a row of `layouts.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Era {
    /// Its name in tables and manifests.
    pub id: String,
    /// The first version or commit.
    pub since: String,
    /// GC64 (64-bit references, two-slot frames) or GC32.
    pub gc64: bool,
    /// `global_State.vmstate`
    pub vmstate: u16,
    /// `global_State.mainthref`
    pub mainthref: u16,
    /// `global_State.cur_L`
    pub cur_l: u16,
    /// `global_State.jit_base`
    pub jit_base: u16,
    /// `GCstr.len`
    pub str_len: u16,
    /// Known values of `GG_G2DISP`.
    pub g2disp: ByFork,
    /// Known values of the offset of `jit_State.trace` from `global_State`.
    pub g2trace: ByFork,
}

/// Values by fork.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByFork {
    /// luajit.org's.
    pub upstream: Vec<u64>,
    /// OpenResty's.
    pub luajit2: Vec<u64>,
}

/// Whose LuaJIT: told by the size of `lua_State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// luajit.org's.
    Upstream,
    /// OpenResty's luajit2: `lua_State` has `exdata`, later `exdata2`.
    Luajit2,
}

impl ByFork {
    /// The values of this fork.
    #[must_use]
    pub fn of(&self, fork: Fork) -> &[u64] {
        match fork {
            Fork::Upstream => &self.upstream,
            Fork::Luajit2 => &self.luajit2,
        }
    }
}

/// All eras of both modes.
///
/// # Panics
/// Never in a build whose tests pass: the file is compiled in and parsed by a test.
#[must_use]
pub fn eras() -> Vec<Era> {
    serde_yaml::from_str(include_str!("../layouts.yaml")).expect("layouts.yaml is tested")
}

/// Offsets that no version since 2017 has changed (lj_obj.h; x86-64), by mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// Bytes of a GC reference.
    pub ref_size: u8,
    /// `GChead.gct`: the object's type.
    pub gct: u64,
    /// `lua_State.glref`
    pub l_glref: u64,
    /// `lua_State.stack`, `.maxstack`, `.env`, `.cframe`, `.base`
    pub l_stack: u64,
    /// `lua_State.maxstack`
    pub l_maxstack: u64,
    /// `lua_State.env`: the globals of a thread.
    pub l_env: u64,
    /// `sizeof(lua_State)` upstream.
    pub l_size: u64,
    /// `GCproto.sizebc`
    pub pt_sizebc: u64,
    /// `GCproto.chunkname`
    pub pt_chunkname: u64,
    /// `GCproto.firstline`; `numline` follows.
    pub pt_firstline: u64,
    /// `GCproto.lineinfo`
    pub pt_lineinfo: u64,
    /// `sizeof(GCproto)`: the bytecode follows.
    pub pt_size: u64,
    /// `GCfunc.ffid`
    pub fn_ffid: u64,
    /// `GCfunc.pc`: the first bytecode; of a Lua function it follows the prototype.
    pub fn_pc: u64,
    /// `GCfuncC.f`
    pub fn_f: u64,
    /// `GCtab.node`
    pub tab_node: u64,
    /// `GCtab.hmask`
    pub tab_hmask: u64,
    /// `GCtrace.nsnap`, since 2019-01-10 (749e99ce): no version with `SnapShot.mcofs` has it elsewhere.
    pub tr_nsnap: u64,
    /// `GCtrace.ir`
    pub tr_ir: u64,
    /// `GCtrace.nk`; `nsnapmap` follows.
    pub tr_nk: u64,
    /// `GCtrace.snap`
    pub tr_snap: u64,
    /// `GCtrace.snapmap`
    pub tr_snapmap: u64,
    /// `GCtrace.startpt`
    pub tr_startpt: u64,
    /// `GCtrace.startpc`
    pub tr_startpc: u64,
    /// `GCtrace.startins`
    pub tr_startins: u64,
    /// `GCtrace.szmcode`
    pub tr_szmcode: u64,
    /// `GCtrace.mcode`
    pub tr_mcode: u64,
    /// `GCtrace.spadjust`
    pub tr_spadjust: u64,
    /// `GCtrace.traceno`
    pub tr_traceno: u64,
    /// `GCtrace.link`
    pub tr_link: u64,
    /// `GCtrace.root`
    pub tr_root: u64,
}

/// GC64.
pub const GC64: Fixed = Fixed {
    ref_size: 8,
    gct: 9,
    l_glref: 16,
    l_stack: 56,
    l_maxstack: 48,
    l_env: 72,
    l_size: 96,
    pt_sizebc: 12,
    pt_chunkname: 64,
    pt_firstline: 72,
    pt_lineinfo: 80,
    pt_size: 104,
    fn_ffid: 10,
    fn_pc: 32,
    fn_f: 40,
    tab_node: 40,
    tab_hmask: 52,
    tr_nsnap: 10,
    tr_ir: 32,
    tr_nk: 40,
    tr_snap: 48,
    tr_snapmap: 56,
    tr_startpt: 64,
    tr_startpc: 72,
    tr_startins: 80,
    tr_szmcode: 84,
    tr_mcode: 88,
    tr_spadjust: 102,
    tr_traceno: 104,
    tr_link: 106,
    tr_root: 108,
};

/// GC32.
pub const GC32: Fixed = Fixed {
    ref_size: 4,
    gct: 5,
    l_glref: 8,
    l_stack: 36,
    l_maxstack: 32,
    l_env: 44,
    l_size: 64,
    pt_sizebc: 8,
    pt_chunkname: 40,
    pt_firstline: 44,
    pt_lineinfo: 52,
    pt_size: 64,
    fn_ffid: 6,
    fn_pc: 16,
    fn_f: 24,
    tab_node: 20,
    tab_hmask: 28,
    tr_nsnap: 6,
    tr_ir: 16,
    tr_nk: 24,
    tr_snap: 32,
    tr_snapmap: 40,
    tr_startpt: 48,
    tr_startpc: 52,
    tr_startins: 56,
    tr_szmcode: 60,
    tr_mcode: 64,
    tr_spadjust: 78,
    tr_traceno: 80,
    tr_link: 82,
    tr_root: 84,
};

/// Type numbers of collectable objects (`~LJ_T*`, lj_obj.h).
pub(crate) mod gct {
    /// String.
    pub(crate) const STR: u8 = 4;
    /// Thread.
    pub(crate) const THREAD: u8 = 6;
    /// Prototype.
    pub(crate) const PROTO: u8 = 7;
    /// Function.
    pub(crate) const FUNC: u8 = 8;
    /// Trace.
    pub(crate) const TRACE: u8 = 9;
    /// Table.
    pub(crate) const TAB: u8 = 11;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_file_parses_and_its_rows_make_sense() {
        let all = eras();
        assert_eq!(all.iter().filter(|e| e.gc64).count(), 4);
        assert_eq!(all.iter().filter(|e| !e.gc64).count(), 5);
        for e in &all {
            let step = if e.gc64 { 8 } else { 4 };
            // lj_obj.h: `GCRef cur_L; MRef jit_base;` follow each other in every version.
            assert_eq!(e.jit_base, e.cur_l + step, "{}", e.id);
            assert!(!e.g2disp.upstream.is_empty() && !e.g2disp.luajit2.is_empty(), "{}", e.id);
            // GG_State starts with the main thread; J lies between g and the dispatch table.
            for fork in [Fork::Upstream, Fork::Luajit2] {
                assert!(e.g2trace.of(fork).iter().max() < e.g2disp.of(fork).iter().min(), "{}", e.id);
            }
        }
    }
}
