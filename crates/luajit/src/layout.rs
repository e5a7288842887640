//! Offsets: what is the same everywhere since 2017, and what `layouts.yaml` and `layouts-arm64.yaml` say of each era.

use serde::Deserialize;

/// One era of one mode: a row of `layouts.yaml` or `layouts-arm64.yaml`.
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
    /// `global_State.gc.total`
    pub gc_total: u16,
    /// The string table in `global_State`: anchors, then `mask` 8 and `num` 12 bytes behind.
    pub str_tab: u16,
    /// `global_State.registrytv`
    pub registry: u16,
    /// `GCstr.len`
    pub str_len: u16,
    /// Known values of `GG_G2DISP`.
    pub g2disp: ByFork,
    /// Known values of the offset of `jit_State.trace` from `global_State`.
    pub g2trace: ByFork,
    /// Known places of `jit_State`'s members.
    pub jit: Vec<JitOffsets>,
    /// Known layouts of the C frame, of arm64 only: x86-64's has never moved and is compiled into the walkers.
    #[serde(default)]
    pub cframes: Vec<CFrame>,
}

/// What each entry from C into the interpreter leaves on the native stack (lj_frame.h): where it keeps what, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CFrame {
    /// `CFRAME_SIZE`
    pub size: u64,
    /// `SAVE_CFRAME`: the C frame before.
    pub prev: u64,
    /// `SAVE_PC`
    pub pc: u64,
    /// `SAVE_L`
    pub l: u64,
    /// `SAVE_NRES`
    pub nres: u64,
}

/// Where `jit_State` (lj_jit.h) keeps what inspectors read, from `global_State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JitOffsets {
    /// `GG_G2DISP` of the builds that this is for.
    pub g2disp: u64,
    /// `jit_State.trace`
    pub trace: u64,
    /// `jit_State.flags`
    pub flags: u64,
    /// `jit_State.param`
    pub param: u64,
    /// `jit_State.penalty`
    pub penalty: u64,
    /// `jit_State.mcarea`; `szmcarea` lies 24 and `szallmcarea` 32 bytes behind.
    pub mcarea: u64,
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

/// A number as memory has it, lowest byte first; of 8 bytes at most.
pub(crate) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What LuaJIT was compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// In both modes.
    X86_64,
    /// In GC64 only.
    Arm64,
}

/// All eras of this architecture, in the modes that it has.
///
/// # Panics
/// Never in a build whose tests pass: the files are compiled in and parsed by a test.
#[must_use]
pub fn eras(arch: Arch) -> Vec<Era> {
    let rows = match arch {
        Arch::X86_64 => include_str!("../layouts.yaml"),
        Arch::Arm64 => include_str!("../layouts-arm64.yaml"),
    };
    serde_yaml::from_str(rows).expect("both files are tested")
}

/// Offsets that no version since 2017 has changed (lj_obj.h), by mode, on both architectures.
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
    /// `lua_State.status`
    pub l_status: u64,
    /// `lua_State.base`, 8 bytes in both modes; `top` follows.
    pub l_base: u64,
    /// `lua_State.openupval`
    pub l_openupval: u64,
    /// `lua_State.cframe`, 8 bytes in both modes.
    pub l_cframe: u64,
    /// `lua_State.stacksize`, in slots.
    pub l_stacksize: u64,
    /// `GCproto.k`, from which references to constants go down.
    pub pt_k: u64,
    /// `GCproto.sizekgc`
    pub pt_sizekgc: u64,
    /// `GCproto.sizept`: bytes of the whole object.
    pub pt_sizept: u64,
    /// `GCproto.flags`
    pub pt_flags: u64,
    /// `GCproto.trace`
    pub pt_trace: u64,
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
    /// `GCproto.uvinfo`
    pub pt_uvinfo: u64,
    /// `GCproto.varinfo`
    pub pt_varinfo: u64,
    /// `GCfunc.nupvalues`
    pub fn_nupvalues: u64,
    /// `GCfunc.env`
    pub fn_env: u64,
    /// `GCfuncL.uvptr`: references to upvalues.
    pub fn_uvptr: u64,
    /// `GCfuncC.upvalue`: values.
    pub fn_upvalue: u64,
    /// `GCfunc.ffid`
    pub fn_ffid: u64,
    /// `GCfunc.pc`: of a Lua function its first bytecode.
    pub fn_pc: u64,
    /// `GCupval.v`: where the value is.
    pub uv_v: u64,
    /// `GCfuncC.f`
    pub fn_f: u64,
    /// `GCtab.colo`: slots of the array part that lie behind the table itself, negative once it moved.
    pub tab_colo: u64,
    /// `GCtab.array`
    pub tab_array: u64,
    /// `GCtab.metatable`
    pub tab_metatable: u64,
    /// `GCtab.asize`
    pub tab_asize: u64,
    /// `sizeof(GCtab)`
    pub tab_size: u64,
    /// `GCupval.closed`, `.tv`, `.v` and size
    pub uv_closed: u64,
    /// `GCupval.tv`: the value of a closed one.
    pub uv_tv: u64,
    /// `sizeof(GCupval)`
    pub uv_size: u64,
    /// `GCudata.env`
    pub ud_env: u64,
    /// `GCudata.len`
    pub ud_len: u64,
    /// `GCudata.metatable`
    pub ud_metatable: u64,
    /// `sizeof(GCudata)`: the payload follows.
    pub ud_size: u64,
    /// `GCcdata.ctypeid`
    pub cd_ctypeid: u64,
    /// `sizeof(GCcdata)`: the payload follows.
    pub cd_size: u64,
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
    /// `GCtrace.nins`.
    pub tr_nins: u64,
    /// `GCtrace.nchild`
    pub tr_nchild: u64,
    /// `sizeof(GCtrace)`
    pub tr_size: u64,
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
    /// `GCtrace.mcloop`
    pub tr_mcloop: u64,
    /// `GCtrace.spadjust`
    pub tr_spadjust: u64,
    /// `GCtrace.traceno`
    pub tr_traceno: u64,
    /// `GCtrace.link`
    pub tr_link: u64,
    /// `GCtrace.root`
    pub tr_root: u64,
}

impl Fixed {
    /// Whose LuaJIT has `global_State` so many bytes behind the start of its main thread: `GG_State` begins with
    /// the thread (lj_dispatch.h), so that is `sizeof(lua_State)`.
    pub(crate) fn fork(&self, distance: u64) -> Option<Fork> {
        match distance.checked_sub(self.l_size)? {
            0 => Some(Fork::Upstream),
            // exdata; exdata and exdata2
            8 | 16 => Some(Fork::Luajit2),
            _ => None,
        }
    }
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
    l_status: 11,
    l_base: 32,
    l_openupval: 64,
    l_cframe: 80,
    l_stacksize: 88,
    pt_k: 32,
    pt_sizekgc: 48,
    pt_sizept: 56,
    pt_flags: 61,
    pt_trace: 62,
    pt_sizebc: 12,
    pt_chunkname: 64,
    pt_firstline: 72,
    pt_lineinfo: 80,
    pt_size: 104,
    pt_uvinfo: 88,
    pt_varinfo: 96,
    fn_nupvalues: 11,
    fn_env: 16,
    fn_pc: 32,
    fn_uvptr: 40,
    fn_upvalue: 48,
    fn_ffid: 10,
    fn_f: 40,
    tab_colo: 11,
    tab_array: 16,
    tab_metatable: 32,
    tab_asize: 48,
    tab_size: 64,
    uv_closed: 10,
    uv_tv: 16,
    uv_size: 48,
    ud_env: 16,
    ud_len: 24,
    ud_metatable: 32,
    ud_size: 48,
    cd_ctypeid: 10,
    cd_size: 16,
    uv_v: 32,
    tab_node: 40,
    tab_hmask: 52,
    tr_nsnap: 10,
    tr_ir: 32,
    tr_nk: 40,
    tr_snap: 48,
    tr_snapmap: 56,
    tr_nins: 12,
    tr_nchild: 100,
    tr_size: 120,
    tr_startpt: 64,
    tr_startpc: 72,
    tr_startins: 80,
    tr_szmcode: 84,
    tr_mcode: 88,
    tr_mcloop: 96,
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
    l_status: 7,
    l_base: 16,
    l_openupval: 40,
    l_cframe: 48,
    l_stacksize: 56,
    pt_k: 16,
    pt_sizekgc: 24,
    pt_sizept: 32,
    pt_flags: 37,
    pt_trace: 38,
    pt_sizebc: 8,
    pt_chunkname: 40,
    pt_firstline: 44,
    pt_lineinfo: 52,
    pt_size: 64,
    pt_uvinfo: 56,
    pt_varinfo: 60,
    fn_nupvalues: 7,
    fn_env: 8,
    fn_pc: 16,
    fn_uvptr: 20,
    fn_upvalue: 32,
    fn_ffid: 6,
    fn_f: 24,
    tab_colo: 7,
    tab_array: 8,
    tab_metatable: 16,
    tab_asize: 24,
    tab_size: 32,
    uv_closed: 6,
    uv_tv: 8,
    uv_size: 24,
    ud_env: 8,
    ud_len: 12,
    ud_metatable: 16,
    ud_size: 24,
    cd_ctypeid: 6,
    cd_size: 8,
    uv_v: 16,
    tab_node: 20,
    tab_hmask: 28,
    tr_nsnap: 6,
    tr_ir: 16,
    tr_nk: 24,
    tr_snap: 32,
    tr_snapmap: 40,
    tr_nins: 8,
    tr_nchild: 76,
    tr_size: 96,
    tr_startpt: 48,
    tr_startpc: 52,
    tr_startins: 56,
    tr_szmcode: 60,
    tr_mcode: 64,
    tr_mcloop: 72,
    tr_spadjust: 78,
    tr_traceno: 80,
    tr_link: 82,
    tr_root: 84,
};

/// Type numbers of collectable objects (`~LJ_T*`, lj_obj.h).
pub(crate) mod gct {
    /// String.
    pub(crate) const STR: u8 = 4;
    /// Upvalue.
    pub(crate) const UPVAL: u8 = 5;
    /// Thread.
    pub(crate) const THREAD: u8 = 6;
    /// Prototype.
    pub(crate) const PROTO: u8 = 7;
    /// Function.
    pub(crate) const FUNC: u8 = 8;
    /// Trace.
    pub(crate) const TRACE: u8 = 9;
    /// cdata.
    pub(crate) const CDATA: u8 = 10;
    /// Table.
    pub(crate) const TAB: u8 = 11;
    /// Userdata.
    pub(crate) const UDATA: u8 = 12;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_files_parse_and_their_rows_make_sense() {
        let (own, arm64) = (eras(Arch::X86_64), eras(Arch::Arm64));
        assert_eq!(own.iter().filter(|e| e.gc64).count(), 4);
        assert_eq!(own.iter().filter(|e| !e.gc64).count(), 6);
        assert!(own.iter().all(|e| e.cframes.is_empty()));
        for e in own.iter().chain(&arm64) {
            makes_sense(e);
        }
    }

    fn makes_sense(e: &Era) {
        let step: u64 = if e.gc64 { 8 } else { 4 };
        // lj_obj.h: `GCRef cur_L; MRef jit_base;` follow each other in every version.
        assert_eq!(u64::from(e.jit_base), u64::from(e.cur_l) + step, "{}", e.id);
        assert!(!e.g2disp.upstream.is_empty() && !e.g2disp.luajit2.is_empty(), "{}", e.id);
        // GG_State starts with the main thread; J lies between g and the dispatch table.
        for fork in [Fork::Upstream, Fork::Luajit2] {
            assert!(e.g2trace.of(fork).iter().max() < e.g2disp.of(fork).iter().min(), "{}", e.id);
            for disp in e.g2disp.of(fork) {
                assert!(e.jit.iter().any(|j| j.g2disp == *disp), "{}: no jit row for {disp}", e.id);
            }
        }
        for j in &e.jit {
            // lj_jit.h: 15 parameters, exit stub groups, 64 penalty slots, machine code areas.
            let ordered = j.flags < j.trace && j.trace < j.param && j.param + 60 <= j.penalty;
            assert!(ordered && j.penalty + 64 * step < j.mcarea && j.mcarea + 40 <= j.g2disp, "{j:?}");
        }
    }

    /// lj_obj.h: no member of `global_State` depends on the architecture but by the size of references.
    #[test]
    fn an_era_of_arm64_has_the_global_state_of_gc64() {
        let gc64: Vec<Era> = eras(Arch::X86_64).into_iter().filter(|e| e.gc64).collect();
        let arm64 = eras(Arch::Arm64);
        assert_eq!(arm64.len(), gc64.len());
        for (own, e) in arm64.into_iter().zip(gc64) {
            let id = e.id.replace("gc64", "arm64");
            let Era { g2disp, g2trace, jit, cframes, .. } = own.clone();
            assert_eq!(own, Era { id, g2disp, g2trace, jit, cframes, ..e });
        }
    }

    /// lj_frame.h: `SAVE_CFRAME`, `SAVE_PC` and `SAVE_L` follow each other in both layouts.
    #[test]
    fn c_frames_of_arm64_make_sense() {
        for e in eras(Arch::Arm64) {
            assert!(!e.cframes.is_empty(), "{}", e.id);
            for f in e.cframes {
                assert!(f.pc == f.prev + 8 && f.l == f.pc + 8, "{}: {f:?}", e.id);
                assert!(f.l < f.nres && f.nres < f.size, "{}: {f:?}", e.id);
            }
        }
    }
}
