//! Which bytecode a piece of machine code came from, and which functions are inlined there.
//!
//! A trace has snapshots: what the interpreter's stack looks like where the trace may be left (lj_snap.c).
//! Each says which bytecode comes next and which frames lie above the trace's entry, and, since 2021-03-23
//! (a32aeadc, `SnapShot.mcofs`), where in the machine code it begins to hold. Code between two snapshots
//! belongs to the first.

use super::Trace;
use super::branch::{Bytecode, settle};
use crate::Vm;
use crate::detect::reference;
use crate::layout::gct;
use std::collections::HashMap;
use std::ops::Range;
use upprof_memory::{Memory, ReadError};

/// A function that a trace runs, as the interpreter's stack would show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inlined {
    /// A Lua function.
    Lua {
        /// Its `GCproto`.
        proto: u64,
        /// Index of the bytecode instruction that runs.
        pos: u32,
        /// `sizebc ^ numparams << 24 ^ framesize << 16`, as the kernel side makes it.
        check: u32,
    },
    /// A C or fast function that has a frame, such as `pcall`.
    C {
        /// `lua_CFunction`.
        function: u64,
        /// Fast function id.
        ffid: u8,
    },
}

/// One snapshot: the frames that hold from an offset in the machine code on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Offset in the machine code, bytes.
    start: u32,
    /// Address of the bytecode instruction that runs in the frame at the trace's base; `None` where that
    /// frame is the fixed part of the vararg function above it.
    base_pc: Option<u64>,
    /// The function that replaced the one at the trace's base, by a tail call inside the trace.
    replaced: Option<Inlined>,
    /// Frames above the base's, innermost last. `None` when one of them could not be told.
    above: Option<Vec<Inlined>>,
}

impl Site {
    /// How many frames lie above the trace's base. None of them is looked at where one is not known.
    pub(super) fn depth(&self) -> usize {
        self.above.as_ref().map_or(0, Vec::len)
    }

    /// Where the frame at this depth is: 0 is the base's.
    pub(super) fn pc(&self, depth: usize, proto_size: u64) -> Option<u64> {
        let above = self.above.as_ref()?;
        let frame = match depth.checked_sub(1) {
            None if self.replaced.is_none() => return self.base_pc,
            None => self.replaced.as_ref()?,
            Some(i) => above.get(i)?,
        };
        match frame {
            Inlined::Lua { proto, pos, .. } => Some(proto + proto_size + 4 * u64::from(*pos)),
            Inlined::C { .. } => None,
        }
    }

    /// Moves the innermost frame to another instruction of its function.
    pub(super) fn set_pc(&mut self, pc: u64, proto_size: u64) {
        let frame = match self.above.as_mut().and_then(|above| above.last_mut()) {
            Some(frame) => Some(frame),
            None => self.replaced.as_mut(),
        };
        match frame {
            Some(Inlined::Lua { proto, pos, .. }) => {
                // A search for it may have left the function.
                *pos = pc.checked_sub(*proto + proto_size).map_or(*pos, |bytes| (bytes / 4) as u32);
            }
            Some(Inlined::C { .. }) => {}
            None => self.base_pc = Some(pc),
        }
    }

    /// Whether the function at this depth is the same in both, and all that called it.
    pub(super) fn same_function(&self, other: &Self, depth: usize) -> bool {
        let function = |frame: &Inlined| match *frame {
            Inlined::Lua { proto, .. } => proto,
            Inlined::C { function, .. } => function,
        };
        let chain = |site: &Self| -> Option<Vec<u64>> {
            let above = site.above.as_ref()?.get(..depth)?;
            Some(site.replaced.iter().chain(above).map(function).collect())
        };
        chain(self).is_some_and(|own| chain(other) == Some(own))
    }
}

/// All snapshots of a trace, in the order of the machine code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sites {
    sites: Vec<Site>,
    proto_size: u64,
}

/// Why a trace's machine code cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSites {
    /// The version keeps no `mcofs`.
    #[error("this LuaJIT (before 2021-03-23) does not keep where in the machine code its snapshots hold")]
    NoOffsets,
    /// Not what a trace looks like.
    #[error("the trace's snapshots do not check out: {0}")]
    Malformed(&'static str),
    /// Memory not there.
    #[error(transparent)]
    Memory(#[from] ReadError),
}

/// Why a snapshot's frames are not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The function at the trace's base is not the one that lies there on the Lua stack.
    #[error("the trace's frames do not fit the Lua stack below them")]
    Base,
    /// A function inlined in the trace is not among its constants.
    #[error("a function inlined in the trace could not be told")]
    Function,
}

/// More snapshots than that make no trace (`nsnap` has 16 bits); more map entries none that fits the limit
/// of 250 slots a snapshot by far.
const MAX_MAP: u32 = 1 << 20;
/// Refs of constants lie below (lj_ir.h REF_BIAS).
const REF_BIAS: u32 = 0x8000;
/// lj_jit.h: flags of a snapshot map's entry; slot << 24 | flags | ref.
const SNAP_FRAME: u32 = 0x10000;
const SNAP_CONT: u32 = 0x20000;
/// lj_frame.h
const FRAME_TYPE: u64 = 3;
const FRAME_CONT: u64 = 2;
const FRAME_VARG: u64 = 3;
const FRAME_TYPEP: u64 = 7;

/// `SnapShot`, 12 bytes (lj_jit.h).
#[derive(Debug, Clone, Copy)]
struct Snap {
    mapofs: u32,
    mcofs: u16,
    nent: u8,
}
const SNAP_BYTES: usize = 12;

impl Snap {
    fn parse(b: &[u8]) -> Self {
        Self {
            mapofs: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            mcofs: u16::from_le_bytes([b[6], b[7]]),
            nent: b[10],
        }
    }
}

impl Sites {
    /// Reads all snapshots of a trace. `related` are traces whose constants may hold functions that this one
    /// only inherited: its root.
    ///
    /// # Errors
    /// [`NoSites`]: nothing of it is used then.
    pub fn read(mem: &dyn Memory, vm: &Vm, trace: &Trace, related: &[Trace]) -> Result<Self, NoSites> {
        let (snaps, map) = snapshots(mem, trace)?;
        let mut functions = Functions::of(mem, vm, trace, related)?;
        let mut sites = Vec::with_capacity(snaps.len());
        for (i, snap) in snaps.iter().enumerate() {
            let end = snaps.get(i + 1).map_or(trace.parts.nsnapmap, |next| next.mapofs);
            let from = snap.mapofs as usize;
            let entries = map.get(from..from + usize::from(snap.nent)).ok_or(OUTSIDE)?;
            let links = map.get(from + usize::from(snap.nent)..end as usize).ok_or(OUTSIDE)?;
            sites.push(functions.site(u32::from(snap.mcofs), entries, links)?);
        }
        let mut code = Bytecode::of(mem);
        for t in related.iter().chain([trace]) {
            code.replaced(t.number, t.parts.startpc, t.parts.startins);
        }
        let again = if trace.link == trace.number && trace.parts.mcloop != 0 {
            sites.partition_point(|s| s.start <= trace.parts.mcloop).checked_sub(1)
        } else {
            None
        };
        settle(&mut sites, again, vm.fixed.pt_size, &mut code);
        Ok(Self { sites, proto_size: vm.fixed.pt_size })
    }

    /// The snapshot that holds at an offset in the machine code: the last one that begins at or before it.
    #[must_use]
    pub fn at(&self, offset: u32) -> Option<&Site> {
        self.sites.partition_point(|s| s.start <= offset).checked_sub(1).and_then(|i| self.sites.get(i))
    }

    /// The frames at a site, outermost first, with the one at the trace's base, `base`, as it lies on the
    /// Lua stack: its prototype, number of bytecodes, and check value.
    ///
    /// # Errors
    /// [`Misfit`]: the stack is shown as it is then.
    pub fn frames(&self, site: &Site, base: (u64, u32, u32)) -> Result<Vec<Inlined>, Misfit> {
        let (proto, sizebc, check) = base;
        let above = site.above.as_ref().ok_or(Misfit::Function)?;
        let code = code_of(proto, self.proto_size, sizebc);
        let at = |pc: u64| Inlined::Lua { proto, pos: ((pc - code.start) / 4) as u32, check };
        let first = match (site.replaced, site.base_pc) {
            (Some(function), _) => Some(function),
            (None, Some(pc)) if code.contains(&pc) => Some(at(pc)),
            // The fixed part of the vararg function that is the first above.
            (None, None) if is_lua(above.first(), proto) => None,
            // At its end a trace makes its frames real, moves its base to the newest, and jumps.
            _ if is_lua(above.last(), proto) => return Ok(above.last().copied().into_iter().collect()),
            _ => return Err(Misfit::Base),
        };
        Ok(first.into_iter().chain(above.iter().copied()).collect())
    }
}

const OUTSIDE: NoSites = NoSites::Malformed("a snapshot outside of the map");

fn is_lua(frame: Option<&Inlined>, of: u64) -> bool {
    matches!(frame, Some(Inlined::Lua { proto, .. }) if *proto == of)
}

fn code_of(proto: u64, proto_size: u64, sizebc: u32) -> Range<u64> {
    let start = proto.wrapping_add(proto_size);
    start..start.saturating_add(4 * u64::from(sizebc))
}

/// The snapshots and their map, which follow each other in memory (lj_trace.c trace_save).
fn snapshots(mem: &dyn Memory, trace: &Trace) -> Result<(Vec<Snap>, Vec<u32>), NoSites> {
    let p = &trace.parts;
    let len = usize::from(p.nsnap) * SNAP_BYTES;
    if p.nsnap == 0 || p.nsnapmap > MAX_MAP {
        return Err(NoSites::Malformed("their number"));
    }
    if p.snapmap.wrapping_sub(p.snap) != len as u64 {
        // Eight bytes each before 2019, and the number of them was elsewhere.
        return Err(NoSites::NoOffsets);
    }
    let all = mem.bytes(p.snap, len + p.nsnapmap as usize * 4, len + MAX_MAP as usize * 4)?;
    let snaps: Vec<Snap> = all[..len].chunks_exact(SNAP_BYTES).map(Snap::parse).collect();
    if snaps[0].mcofs != 0 {
        // These bytes were the number of slots, which is never 0.
        return Err(NoSites::NoOffsets);
    }
    let ordered = snaps.is_sorted_by(|a, b| a.mapofs <= b.mapofs && a.mcofs <= b.mcofs);
    let last = snaps.last().map_or(0, |s| u32::from(s.mcofs));
    if !ordered || last > trace.mcode.1 {
        return Err(NoSites::Malformed("their order"));
    }
    let map = all[len..].chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok((snaps, map))
}

/// What a prototype's header says.
#[derive(Debug, Clone, Copy)]
struct Code {
    proto: u64,
    sizebc: u32,
    check: u32,
}

/// The functions that a trace's constants name.
struct Functions<'a> {
    mem: &'a dyn Memory,
    vm: &'a Vm,
    consts: Consts,
    /// Prototypes that may own a frame whose function is not constant: that of a closure that is made anew
    /// each time. Read when first needed.
    related: &'a [Trace],
    start_proto: u64,
    candidates: Option<Vec<Code>>,
    known: HashMap<u64, Option<Function>>,
}

#[derive(Debug, Clone, Copy)]
enum Function {
    Lua(Code),
    C { function: u64, ffid: u8 },
}

/// One frame above the base while a snapshot is read: where its function is, and its link.
struct Link {
    slot: u32,
    link: u64,
    /// Of a continuation: where the interrupted function goes on.
    cont_pc: Option<u64>,
}

impl<'a> Functions<'a> {
    fn of(mem: &'a dyn Memory, vm: &'a Vm, trace: &Trace, related: &'a [Trace]) -> Result<Self, NoSites> {
        Ok(Self {
            mem,
            vm,
            consts: Consts::read(mem, vm, trace)?,
            related,
            start_proto: trace.start_proto,
            candidates: None,
            known: HashMap::new(),
        })
    }

    fn two_slots(&self) -> bool {
        self.vm.fixed.ref_size == 8
    }

    /// One snapshot, from its entries and what follows them in the map.
    fn site(&mut self, start: u32, entries: &[u32], links: &[u32]) -> Result<Site, NoSites> {
        let (pc, frames) =
            if self.two_slots() { self.links64(entries, links)? } else { links32(entries, links)? };
        let mut above = Some(Vec::new());
        // From the innermost frame down; the address is of the instruction that runs in it.
        let mut pc = Some(pc);
        let mut same_call = false;
        for frame in frames.iter().rev() {
            if !same_call {
                let inlined = self.inlined(entries, frame.slot, pc);
                above = above.zip(inlined).map(|(mut all, one)| {
                    all.push(one);
                    all
                });
            }
            same_call = frame.link & FRAME_TYPEP == FRAME_VARG;
            pc = match (frame.link & FRAME_TYPE, frame.link & FRAME_TYPEP) {
                (0, _) => frame.link.checked_sub(4),
                (_, FRAME_CONT) => frame.cont_pc.and_then(|pc| pc.checked_sub(4)),
                (1, _) => return Err(NoSites::Malformed("a C frame in a trace")),
                _ => None,
            };
        }
        let tail_called =
            entries.iter().any(|e| e & SNAP_FRAME != 0 && e >> 24 == u32::from(self.two_slots()));
        let replaced = if tail_called && !same_call { self.inlined(entries, 0, pc) } else { None };
        if tail_called && !same_call && replaced.is_none() {
            above = None;
        }
        if let Some(above) = &mut above {
            above.reverse();
        }
        Ok(Site { start, base_pc: if same_call { None } else { pc }, replaced, above })
    }

    /// GC64: the PC of the bytecode and the base are behind the entries; links are constants in their own
    /// slots, above their functions' (lj_snap.c snapshot_framelinks).
    fn links64(&self, entries: &[u32], behind: &[u32]) -> Result<(u64, Vec<Link>), NoSites> {
        let [low, high] = behind else { return Err(NoSites::Malformed("no PC")) };
        let word = u64::from(*high) << 32 | u64::from(*low);
        let (pc, base) = (word >> 8, (word & 0xff) as u32);
        let constant = |flag: u32, slot: u32| {
            let entry = entries.iter().find(|e| *e & flag != 0 && *e >> 24 == slot)?;
            self.consts.wide(entry & 0xffff)
        };
        let mut links = Vec::new();
        for slot in entries.iter().filter(|e| *e & SNAP_FRAME != 0).map(|e| e >> 24).filter(|s| *s > 1) {
            let link = constant(SNAP_FRAME, slot).ok_or(NoSites::Malformed("a frame without a link"))?;
            links.push(Link { slot: slot - 1, link, cont_pc: constant(SNAP_CONT, slot.wrapping_sub(2)) });
        }
        if links.last().map_or(0, |l| l.slot) != base {
            return Err(NoSites::Malformed("frames that do not lead to the base"));
        }
        Ok((pc, links))
    }

    /// What runs in the frame whose function is in this slot.
    fn inlined(&mut self, entries: &[u32], slot: u32, pc: Option<u64>) -> Option<Inlined> {
        let entry = entries.iter().find(|e| *e >> 24 == slot)?;
        let constant = self.consts.object(entry & 0xffff, gct::FUNC);
        let function = match constant {
            Some(at) => self.function(at)?,
            None => Function::Lua(self.owner(pc?)?),
        };
        match (function, pc) {
            (Function::Lua(code), Some(pc)) => {
                let range = code_of(code.proto, self.vm.fixed.pt_size, code.sizebc);
                let pos = ((pc.wrapping_sub(range.start)) / 4) as u32;
                range.contains(&pc).then_some(Inlined::Lua { proto: code.proto, pos, check: code.check })
            }
            (Function::C { function, ffid }, _) => Some(Inlined::C { function, ffid }),
            (Function::Lua(_), None) => None,
        }
    }

    fn function(&mut self, at: u64) -> Option<Function> {
        let (mem, vm) = (self.mem, self.vm);
        *self.known.entry(at).or_insert_with(|| read_function(mem, vm, at))
    }

    /// The candidate whose bytecode holds this address.
    fn owner(&mut self, pc: u64) -> Option<Code> {
        if self.candidates.is_none() {
            self.candidates = Some(self.read_candidates());
        }
        let size = self.vm.fixed.pt_size;
        let holds = |c: &&Code| code_of(c.proto, size, c.sizebc).contains(&pc);
        self.candidates.iter().flatten().find(holds).copied()
    }

    /// The prototypes among the constants of this trace and the related ones.
    fn read_candidates(&mut self) -> Vec<Code> {
        let (mem, vm) = (self.mem, self.vm);
        let mut protos = vec![self.start_proto];
        let related = self.related.iter();
        protos.extend(related.clone().map(|t| t.start_proto));
        let others: Vec<Consts> = related.filter_map(|t| Consts::read(mem, vm, t).ok()).collect();
        for consts in others.iter().chain([&self.consts]) {
            protos.extend(consts.objects(gct::PROTO));
            protos.extend(consts.objects(gct::FUNC).filter_map(|f| match read_function(mem, vm, f)? {
                Function::Lua(code) => Some(code.proto),
                Function::C { .. } => None,
            }));
        }
        protos.sort_unstable();
        protos.dedup();
        protos.into_iter().filter_map(|p| read_code(mem, vm, p)).collect()
    }
}

/// GC32: behind the entries are the PC, then the links from the innermost frame down, where a continuation
/// has two: its own, and where the interrupted function goes on.
fn links32(entries: &[u32], behind: &[u32]) -> Result<(u64, Vec<Link>), NoSites> {
    let (pc, mut rest) = behind.split_first().ok_or(NoSites::Malformed("no PC"))?;
    let mut links = Vec::new();
    let mut cont_pc = None;
    let of_frames = entries.iter().filter(|e| *e & (SNAP_FRAME | SNAP_CONT) != 0 && *e >> 24 != 0);
    for entry in of_frames {
        let (link, others) = rest.split_last().ok_or(NoSites::Malformed("a frame without a link"))?;
        rest = others;
        if entry & SNAP_CONT != 0 {
            cont_pc = Some(u64::from(*link));
        } else {
            links.push(Link { slot: entry >> 24, link: u64::from(*link), cont_pc: cont_pc.take() });
        }
    }
    if !rest.is_empty() {
        return Err(NoSites::Malformed("links without a frame"));
    }
    Ok((u64::from(*pc), links))
}

fn read_function(mem: &dyn Memory, vm: &Vm, at: u64) -> Option<Function> {
    let f = vm.fixed;
    if mem.u8(at.wrapping_add(f.gct)).ok()? != gct::FUNC {
        return None;
    }
    match mem.u8(at.wrapping_add(f.fn_ffid)).ok()? {
        0 => {
            let code = reference(mem, f, at.wrapping_add(f.fn_pc)).ok()?;
            read_code(mem, vm, code.wrapping_sub(f.pt_size)).map(Function::Lua)
        }
        ffid => Some(Function::C { function: mem.u64(at.wrapping_add(f.fn_f)).ok()?, ffid }),
    }
}

fn read_code(mem: &dyn Memory, vm: &Vm, proto: u64) -> Option<Code> {
    let (sizebc, check) = crate::Proto::identity(mem, vm, proto).ok()?;
    Some(Code { proto, sizebc, check })
}

/// A trace's constants: instructions below `REF_BIAS`, 8 bytes each (lj_ir.h).
struct Consts {
    bytes: Vec<u8>,
    lowest: u32,
    gc64: bool,
}

impl Consts {
    fn read(mem: &dyn Memory, vm: &Vm, trace: &Trace) -> Result<Self, NoSites> {
        let p = &trace.parts;
        let count = REF_BIAS.checked_sub(p.nk).ok_or(NoSites::Malformed("the number of constants"))?;
        let at = p.ir.wrapping_add(u64::from(p.nk) * 8);
        let bytes = mem.bytes(at, count as usize * 8, REF_BIAS as usize * 8)?;
        Ok(Self { bytes, lowest: p.nk, gc64: vm.fixed.ref_size == 8 })
    }

    fn word(&self, reference: u32) -> Option<u64> {
        let at = reference.checked_sub(self.lowest)? as usize * 8;
        Some(u64::from_le_bytes(self.bytes.get(at..at + 8)?.try_into().ok()?))
    }

    /// The value of a constant that takes two instructions: the second is the value.
    fn wide(&self, reference: u32) -> Option<u64> {
        self.word(reference)?;
        self.word(reference + 1)
    }

    /// A constant object of this type. In GC64 the object is the second of two instructions, in GC32 the
    /// low half of the only one. Types of constants have the numbers of object types (lj_ir.h IRTDEF).
    fn object(&self, reference: u32, kind: u8) -> Option<u64> {
        const TYPE: u64 = 0x1f;
        let ins = self.word(reference)?;
        if ins >> 32 & TYPE != u64::from(kind) {
            return None;
        }
        if self.gc64 { self.word(reference + 1) } else { Some(ins & 0xffff_ffff) }
    }

    /// May hold others: the second word of a constant can look like an instruction.
    fn objects(&self, kind: u8) -> impl Iterator<Item = u64> {
        (self.lowest..REF_BIAS).filter_map(move |reference| self.object(reference, kind))
    }
}
