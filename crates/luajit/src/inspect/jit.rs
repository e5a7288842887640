//! The JIT compiler: its settings, its machine code, its traces, and what it could not compile.

use super::heap::{Heap, ProtoSeen};
use super::{Checked, NotTrusted, Place};
use crate::block::Block;
use crate::detect::reference;
use crate::layout::{JitOffsets, gct};
use crate::{Jit as Lists, Trace, Vm};
use serde::Serialize;
use std::collections::BTreeMap;
use upprof_memory::Memory;

/// Parameters in the order of `JIT_PARAMDEF` (lj_jit.h); the sizes are KiB.
const PARAMETERS: [&str; 15] = [
    "maxtrace",
    "maxrecord",
    "maxirconst",
    "maxside",
    "maxsnap",
    "minstitch",
    "hotloop",
    "hotexit",
    "tryside",
    "instunroll",
    "loopunroll",
    "callunroll",
    "recunroll",
    "sizemcode",
    "maxmcode",
];

/// Reasons of aborts by number (lj_traceerr.h), as LuaJIT's own `-jv` says them.
const REASONS: [&str; 35] = [
    "error thrown or hook called during recording",
    "trace too short",
    "trace too long",
    "trace too deep",
    "too many snapshots",
    "blacklisted",
    "retry recording",
    "NYI: bytecode",
    "leaving loop in root trace",
    "inner loop in root trace",
    "loop unroll limit reached",
    "bad argument type",
    "JIT compilation disabled for function",
    "call unroll limit reached",
    "down-recursion, restarting",
    "NYI: unsupported variant of FastFunc",
    "NYI: return to lower frame",
    "store with nil or NaN key",
    "missing metamethod",
    "looping index lookup",
    "NYI: mixed sparse/dense table",
    "symbol not in cache",
    "NYI: unsupported C type conversion",
    "NYI: unsupported C function type",
    "guard would always fail",
    "too many PHIs",
    "persistent type instability",
    "failed to allocate mcode memory",
    "machine code too long",
    "hit mcode limit (retrying)",
    "too many spill slots",
    "inconsistent register allocation",
    "NYI: cannot assemble IR instruction",
    "NYI: PHI shuffling too complex",
    "NYI: register coalescing too complex",
];

/// The compiler of one VM.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Jit {
    /// Whether it is on: `jit.status()`.
    pub on: bool,
    /// Its parameters by name; `sizemcode` and `maxmcode` are KiB.
    pub parameters: BTreeMap<&'static str, i32>,
    /// Machine code.
    pub mcode: Checked<MachineCode>,
    /// Every trace there is, by number.
    pub traces: Vec<TraceRow>,
    /// Where root traces were given up lately: the penalty table, worst first. Side traces are not in it.
    pub aborts: Vec<Abort>,
    /// Aborts in functions that have been collected since, or that could not be found.
    pub aborts_elsewhere: u32,
    /// Functions by what became of them.
    pub functions: Functions,
    /// Loops and functions that LuaJIT has given up for good.
    pub blacklisted: Vec<Blacklisted>,
    /// Functions with compilation turned off (`jit.off`), by where they are defined.
    pub never_compiled: Vec<Place>,
    /// Why functions are not complete or not of one moment, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<String>,
}

/// Memory for machine code (`MCLink`, lj_mcode.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MachineCode {
    /// Areas.
    pub areas: u64,
    /// Their size, bytes.
    pub allocated_bytes: u64,
    /// What traces use of it, bytes; each area has exit stubs as well.
    pub traces_bytes: u64,
    /// `maxmcode`, bytes: when it is reached all traces are thrown away.
    pub limit_bytes: u64,
}

/// A trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TraceRow {
    /// Its number.
    pub number: u32,
    /// The root trace's number; 0 for a root trace.
    pub root: u32,
    /// The trace it goes on to; 0 for none.
    pub link: u32,
    /// How it ends, as `jit.util.traceinfo` says it.
    pub link_type: Option<&'static str>,
    /// Where it starts; `None` when its prototype is not readable.
    pub start: Option<Place>,
    /// Machine code, bytes.
    pub mcode_bytes: u32,
    /// Side traces of a root trace.
    pub side_traces: u32,
}

/// Where recording of a root trace was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Abort {
    /// The line that was hot.
    pub at: Place,
    /// Why, the last time.
    pub reason: &'static str,
    /// Doubles with each abort from 72; above 60,000 the place is blacklisted.
    pub penalty: u16,
}

/// How many functions (prototypes) there are, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Functions {
    /// All that are loaded.
    pub all: u64,
    /// Root traces start in them.
    pub compiled: u64,
    /// Something in them is blacklisted.
    pub blacklisted: u64,
    /// Compilation is turned off for them.
    pub never_compiled: u64,
}

/// What is blacklisted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Blacklisted {
    /// The loop, or the function's definition.
    pub at: Place,
    /// `loop` or `function`.
    pub what: &'static str,
}

/// Flags of a prototype (lj_obj.h).
const PROTO_NOJIT: u8 = 0x08;
const PROTO_ILOOP: u8 = 0x10;
/// Opcodes of loops that are interpreted for good: IFORL, IITERL, ILOOP (lj_bc.h, the same since 2.1).
const BLACKLISTED_LOOPS: [u8; 3] = [80, 83, 86];
/// Hostile lists end.
const MAX_LISTED: usize = 10_000;

/// `jit_State`, verified.
struct State {
    at: JitOffsets,
    parameters: [i32; 15],
}

impl State {
    /// The row of the layout that live memory agrees with.
    fn read(mem: &dyn Memory, vm: &Vm) -> Result<Self, NotTrusted> {
        let g2disp = vm.dispatch.wrapping_sub(vm.g);
        let mut fitting = None;
        let mut looked = false;
        let lists = Lists::find(mem, vm);
        for at in vm.era.jit.iter().filter(|j| j.g2disp == g2disp) {
            looked = true;
            let Some(parameters) = parameters(mem, vm, *at) else { continue };
            if lists.is_some_and(|l| l.traces_at() != vm.g.wrapping_add(at.trace)) {
                continue;
            }
            if fitting.replace(Self { at: *at, parameters }).is_some() {
                return Err(NotTrusted::Layout("more than one known layout of jit_State fits"));
            }
        }
        fitting.ok_or(NotTrusted::Layout(match looked {
            true => "no known layout of jit_State fits: its parameters are not plausible",
            false => "the layout of jit_State is not known for this place of the dispatch table",
        }))
    }

    fn parameter(&self, name: &str) -> i32 {
        PARAMETERS.iter().position(|p| *p == name).map_or(0, |i| self.parameters[i])
    }
}

/// The parameters at a place, if they can be ones: `jit.opt.start` takes any number, so only what breaks
/// LuaJIT itself is refused.
fn parameters(mem: &dyn Memory, vm: &Vm, at: JitOffsets) -> Option<[i32; 15]> {
    let block = Block::read(mem, vm.fixed, vm.g.wrapping_add(at.param), 60).ok()?;
    let all: [i32; 15] = std::array::from_fn(|i| block.u32(4 * i as u64).cast_signed());
    let [maxtrace, maxrecord, .., sizemcode, maxmcode] = all;
    let plausible = (1..=65_535).contains(&maxtrace)
        && (1..=65_535).contains(&maxrecord)
        && all[2..13].iter().all(|p| (0..=65_535).contains(p))
        && (4..=1 << 20).contains(&sizemcode)
        && (sizemcode..=1 << 22).contains(&maxmcode);
    plausible.then_some(all)
}

impl Jit {
    /// Reads it. Functions and aborts need the prototypes that a walk over the heap has found.
    ///
    /// # Errors
    /// [`NotTrusted`] when `jit_State` is not where it is known to be.
    pub fn read(mem: &dyn Memory, vm: &Vm, heap: &Heap) -> Result<Self, NotTrusted> {
        const JIT_F_ON: u32 = 1;
        let state = State::read(mem, vm)?;
        let lists = Lists::at(vm.g.wrapping_add(state.at.trace), vm.g.wrapping_add(state.at.mcarea));
        let traces = traces(mem, vm, lists);
        let (aborts, aborts_elsewhere) = aborts(mem, vm, state.at, heap)?;
        let used = traces.iter().map(|t| u64::from(t.mcode_bytes)).sum();
        let limit = u64::try_from(state.parameter("maxmcode")).unwrap_or(0) << 10;
        let mut jit = Self {
            on: mem.u32(vm.g.wrapping_add(state.at.flags))? & JIT_F_ON != 0,
            parameters: PARAMETERS.iter().copied().zip(state.parameters).collect(),
            mcode: machine_code(mem, vm, state.at, lists, used, limit).into(),
            traces,
            aborts,
            aborts_elsewhere,
            functions: Functions::default(),
            blacklisted: Vec::new(),
            never_compiled: Vec::new(),
            torn: heap.torn.clone(),
        };
        heap.protos.iter().for_each(|p| jit.add_function(mem, vm, *p));
        jit.blacklisted.sort();
        jit.blacklisted.dedup();
        jit.never_compiled.sort();
        jit.never_compiled.dedup();
        Ok(jit)
    }

    fn add_function(&mut self, mem: &dyn Memory, vm: &Vm, proto: ProtoSeen) {
        self.functions.all += 1;
        self.functions.compiled += u64::from(proto.trace != 0);
        // What is turned off has its loops patched as soon as they are hot (lj_trace.c): no news.
        if proto.flags & (PROTO_ILOOP | PROTO_NOJIT) == PROTO_ILOOP {
            self.functions.blacklisted += 1;
            if self.blacklisted.len() < MAX_LISTED {
                self.blacklisted.extend(blacklisted(mem, vm, proto));
            }
        }
        if proto.flags & PROTO_NOJIT != 0 {
            self.functions.never_compiled += 1;
            if self.never_compiled.len() < MAX_LISTED {
                self.never_compiled.extend(Place::of_definition(mem, vm, proto.at));
            }
        }
    }
}

/// The list of areas must agree with `szallmcarea`: that is what makes the numbers trustworthy.
fn machine_code(
    mem: &dyn Memory,
    vm: &Vm,
    at: JitOffsets,
    lists: Lists,
    traces_bytes: u64,
    limit_bytes: u64,
) -> Result<MachineCode, NotTrusted> {
    const SZALLMCAREA: u64 = 32;
    let head = Block::read(mem, vm.fixed, vm.g.wrapping_add(at.mcarea), SZALLMCAREA + 8)?;
    let areas = match (head.u64(0), head.u64(SZALLMCAREA)) {
        // Nothing was compiled yet.
        (0, 0) => Vec::new(),
        (_, all) => lists.areas(mem).ok_or(NotTrusted::Implausible { what: "szallmcarea", value: all })?,
    };
    Ok(MachineCode {
        areas: areas.len() as u64,
        allocated_bytes: areas.iter().map(|a| a.end - a.start).sum(),
        traces_bytes,
        limit_bytes,
    })
}

fn traces(mem: &dyn Memory, vm: &Vm, lists: Lists) -> Vec<TraceRow> {
    let traces = lists.all(mem, vm).into_iter();
    let heads: Vec<(Trace, Block)> =
        traces.filter_map(|t| Some((t, trace_head(mem, vm, lists, t.number)?))).collect();
    let link_type_at = link_type_at(vm, &heads);
    let row = |(t, head): &(Trace, Block)| TraceRow {
        number: t.number,
        root: t.root,
        link: t.link,
        link_type: link_type_at.and_then(|at| LINKS.get(usize::from(head.u8(at))).copied()),
        start: Place::of(mem, vm, t.start_proto, t.start_pos),
        mcode_bytes: t.mcode.1,
        side_traces: head.u16(vm.fixed.tr_nchild).into(),
    };
    heads.iter().map(row).collect()
}

fn trace_head(mem: &dyn Memory, vm: &Vm, lists: Lists, number: u32) -> Option<Block> {
    let f = vm.fixed;
    let array = mem.u64(lists.traces_at()).ok()?;
    let trace = reference(mem, f, array.wrapping_add(u64::from(number) * u64::from(f.ref_size))).ok()?;
    Block::read(mem, f, trace, f.tr_size).ok().filter(|b| b.u8(f.gct) == gct::TRACE)
}

/// `TraceLink` (lj_jit.h), as lib_jit.c names them.
const LINKS: [&str; 9] = [
    "none",
    "root",
    "loop",
    "tail-recursion",
    "up-recursion",
    "down-recursion",
    "interpreter",
    "return",
    "stitch",
];

/// `GCtrace.linktype` moved in 2019. A finished trace has one that is not 0: the place where all do.
fn link_type_at(vm: &Vm, heads: &[(Trace, Block)]) -> Option<u64> {
    let (new, old) = if vm.fixed.ref_size == 8 { (116, 11) } else { (92, 7) };
    let fits = |at: u64| !heads.is_empty() && heads.iter().all(|(_, h)| (1..=8).contains(&h.u8(at)));
    [new, old].into_iter().find(|at| fits(*at))
}

/// `J->penalty` (lj_trace.c `penalty_pc`). A slot may be of a function that is gone: it counts only
/// with a living prototype around its address.
fn aborts(mem: &dyn Memory, vm: &Vm, at: JitOffsets, heap: &Heap) -> Result<(Vec<Abort>, u32), NotTrusted> {
    const SLOTS: u64 = 64;
    let size = u64::from(vm.fixed.ref_size);
    let stride = size * 2;
    let table = Block::read(mem, vm.fixed, vm.g.wrapping_add(at.penalty), SLOTS * stride)?;
    let mut aborts = Vec::new();
    let mut elsewhere = 0;
    for slot in (0..SLOTS).map(|i| i * stride) {
        let (pc, penalty, reason) = (table.word(slot), table.u16(slot + size), table.u16(slot + size + 2));
        if pc == 0 {
            continue;
        }
        let Some(reason) = REASONS.get(usize::from(reason)) else {
            return Err(NotTrusted::Implausible { what: "penalty.reason", value: reason.into() });
        };
        let place = heap.proto_of(vm, pc).and_then(|p| {
            let pos = (pc - p.at - vm.fixed.pt_size) / 4;
            Place::of(mem, vm, p.at, u32::try_from(pos).ok()?)
        });
        match place {
            Some(at) => aborts.push(Abort { at, reason, penalty }),
            None => elsewhere += 1,
        }
    }
    aborts.sort_by(|a, b| b.penalty.cmp(&a.penalty).then_with(|| a.at.cmp(&b.at)));
    Ok((aborts, elsewhere))
}

/// The loops of a prototype that were patched not to become hot again; none means the function itself.
fn blacklisted(mem: &dyn Memory, vm: &Vm, proto: ProtoSeen) -> Vec<Blacklisted> {
    const MAX_BYTECODE: usize = 1 << 20;
    let start = proto.at.wrapping_add(vm.fixed.pt_size);
    let code = mem.bytes(start, proto.sizebc as usize * 4, MAX_BYTECODE).unwrap_or_default();
    let positions = code.chunks_exact(4).zip(0u32..).filter(|(ins, _)| BLACKLISTED_LOOPS.contains(&ins[0]));
    let mut found: Vec<Blacklisted> = positions
        .filter_map(|(_, pos)| Some(Blacklisted { at: Place::of(mem, vm, proto.at, pos)?, what: "loop" }))
        .collect();
    if found.is_empty() {
        let at = Place::of_definition(mem, vm, proto.at);
        found.extend(at.map(|at| Blacklisted { at, what: "function" }));
    }
    found
}
