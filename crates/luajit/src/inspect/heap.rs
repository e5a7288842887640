//! A walk over every collected object but strings: the list that starts at `gc.root` (lj_gc.c).

use super::{NotTrusted, gc};
use crate::Vm;
use crate::block::Block;
use crate::detect::reference;
use crate::layout::gct;
use serde::Serialize;
use std::collections::BinaryHeap;
use upprof_memory::{Cached, Memory};

/// Types as `type()` and LuaJIT name them, in the order of their numbers.
const TYPES: [(u8, &str); 8] = [
    (gct::UPVAL, "upvalue"),
    (gct::THREAD, "thread"),
    (gct::PROTO, "proto"),
    (gct::FUNC, "function"),
    (gct::TRACE, "trace"),
    (gct::CDATA, "cdata"),
    (gct::TAB, "table"),
    (gct::UDATA, "userdata"),
];

/// Objects of one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The type.
    #[serde(rename = "type")]
    pub name: &'static str,
    /// How many.
    pub count: u64,
    /// Their memory, bytes.
    pub bytes: u64,
    /// The largest one, bytes.
    pub largest_bytes: u64,
}

/// A prototype that the walk came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProtoSeen {
    pub(super) at: u64,
    pub(super) sizebc: u32,
    pub(super) flags: u8,
    pub(super) trace: u16,
}

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heap {
    /// By type, in LuaJIT's order; strings are not among them.
    pub counts: Vec<Count>,
    /// Why the walk is not of one moment, or not whole.
    pub torn: Option<String>,
    /// Whether the list was walked to its end.
    whole: bool,
    /// In address order.
    pub(super) protos: Vec<ProtoSeen>,
    pub(super) threads: Vec<u64>,
    /// The largest tables: bytes and address, largest first.
    pub(super) largest: Vec<(u64, u64)>,
}

/// How many of the largest tables are kept.
pub(super) const LARGEST: usize = 20;
/// Prototypes and threads that are kept: as many as anyone has loaded, and a bound for what is hostile.
const MAX_KEPT: usize = 1 << 20;
/// Copies of memory that a walk may hold, bytes.
const MAX_COPY: usize = 256 << 20;
/// A single object cannot be larger than this and be believed.
const MAX_OBJECT: u64 = 1 << 36;

/// What must stay the same for a walk to be of one moment.
fn mark(mem: &dyn Memory, vm: &Vm) -> Result<(u64, u64), NotTrusted> {
    Ok((gc::Gc::total(mem, vm)?, root(mem, vm)?))
}

fn root(mem: &dyn Memory, vm: &Vm) -> Result<u64, NotTrusted> {
    Ok(reference(mem, vm.fixed, gc::root_at(vm))?)
}

impl Heap {
    /// Walks at most `max_objects` objects.
    ///
    /// # Errors
    /// [`NotTrusted`] when there is no list of objects. What breaks later is told in [`Heap::torn`].
    pub fn walk(live: &dyn Memory, vm: &Vm, max_objects: u32) -> Result<Self, NotTrusted> {
        Self::walk_copied(live, vm, max_objects).map(|(heap, _)| heap)
    }

    /// The same, with the copy of the memory that was walked. A VM that goes on may free the object that
    /// the walk is at, most often the newest: then it is tried again from a new copy.
    pub(super) fn walk_copied<'m>(
        live: &'m dyn Memory,
        vm: &Vm,
        max_objects: u32,
    ) -> Result<(Self, Cached<'m>), NotTrusted> {
        const TRIES: usize = 5;
        let mut best: Option<(Self, Cached<'m>)> = None;
        let mut refused = None;
        for _ in 0..TRIES {
            let copy = Cached::new(live, MAX_COPY);
            match Self::walk_once(&copy, live, vm, max_objects) {
                Ok(heap) if heap.whole => return Ok((heap, copy)),
                Ok(heap) if best.as_ref().is_none_or(|(b, _)| b.len() < heap.len()) => {
                    best = Some((heap, copy))
                }
                Ok(_) => {}
                Err(e @ NotTrusted::Implausible { .. }) => refused = Some(e),
                Err(e) => return Err(e),
            }
        }
        best.ok_or(refused.unwrap_or(NotTrusted::Layout("the list of objects cannot be walked")))
    }

    /// Objects that were walked.
    fn len(&self) -> u64 {
        self.counts.iter().map(|c| c.count).sum()
    }

    fn walk_once(mem: &dyn Memory, now: &dyn Memory, vm: &Vm, max_objects: u32) -> Result<Self, NotTrusted> {
        let before = mark(now, vm)?;
        let mut walk = Walk::new(mem, vm);
        let broken = walk.list(before.1, max_objects).err();
        if walk.seen == 0 {
            return Err(NotTrusted::Implausible { what: "gc.root", value: before.1 });
        }
        let after = mark(now, vm)?;
        let mut heap = walk.finish();
        heap.whole = broken.is_none();
        heap.torn = broken.or_else(|| {
            (before != after).then(|| {
                format!(
                    "the VM went on while it was read: its memory went from {} to {} bytes",
                    before.0, after.0
                )
            })
        });
        Ok(heap)
    }

    /// The prototype whose bytecode holds `pc`.
    pub(super) fn proto_of(&self, vm: &Vm, pc: u64) -> Option<ProtoSeen> {
        let i = self.protos.partition_point(|p| p.at <= pc);
        let proto = *self.protos[..i].last()?;
        let offset = pc.checked_sub(proto.at.wrapping_add(vm.fixed.pt_size))?;
        (offset / 4 < proto.sizebc.into()).then_some(proto)
    }
}

struct Walk<'a> {
    mem: &'a dyn Memory,
    vm: &'a Vm,
    ctypes: Option<CTypes>,
    counts: [Count; TYPES.len()],
    protos: Vec<ProtoSeen>,
    threads: Vec<u64>,
    largest: BinaryHeap<std::cmp::Reverse<(u64, u64)>>,
    seen: u64,
}

impl<'a> Walk<'a> {
    fn new(mem: &'a dyn Memory, vm: &'a Vm) -> Self {
        Self {
            mem,
            vm,
            ctypes: CTypes::read(mem, vm),
            counts: TYPES.map(|(_, name)| Count { name, ..Count::default() }),
            protos: Vec::new(),
            threads: Vec::new(),
            largest: BinaryHeap::new(),
            seen: 0,
        }
    }

    fn list(&mut self, first: u64, max: u32) -> Result<(), String> {
        let mut at = first;
        while at != 0 {
            if self.seen >= u64::from(max) {
                return Err(format!("more than {max} objects: see --max-objects"));
            }
            let broken =
                |what: &str| format!("after {} objects the list leads to {at:#x}, {what}", self.seen);
            let head = self.head(at).ok_or_else(|| broken("which is not mapped"))?;
            let kind = head.u8(self.vm.fixed.gct);
            let Some(i) = TYPES.iter().position(|(k, _)| *k == kind) else {
                return Err(broken("which is no object"));
            };
            if head.len() < self.needed(kind) {
                return Err(broken("which is not mapped as a whole"));
            }
            let bytes = self.size(kind, at, &head);
            if bytes > MAX_OBJECT {
                return Err(broken("which is too large"));
            }
            let count = &mut self.counts[i];
            count.count += 1;
            count.bytes += bytes;
            count.largest_bytes = count.largest_bytes.max(bytes);
            self.keep(kind, at, bytes, &head);
            self.seen += 1;
            if kind == gct::THREAD {
                self.open_upvalues(head.word(self.vm.fixed.l_openupval));
            }
            at = head.word(0);
        }
        Ok(())
    }

    /// As much of an object's beginning as is mapped: shorter ones may lie at the end of a mapping.
    fn head(&self, at: u64) -> Option<Block> {
        HEADS.iter().find_map(|len| Block::read(self.mem, self.vm.fixed, at, *len).ok())
    }

    /// How much of an object of this type is looked at.
    fn needed(&self, kind: u8) -> u64 {
        let f = self.vm.fixed;
        match kind {
            gct::THREAD => f.l_stacksize + 4,
            gct::PROTO => f.pt_trace + 2,
            gct::FUNC => f.fn_ffid + 2,
            gct::TRACE => f.tr_nk + 4,
            gct::TAB => f.tab_hmask + 4,
            gct::UDATA => f.ud_len + 4,
            _ => SHORTEST_HEAD,
        }
    }

    fn keep(&mut self, kind: u8, at: u64, bytes: u64, head: &Block) {
        let f = self.vm.fixed;
        match kind {
            gct::PROTO if self.protos.len() < MAX_KEPT => self.protos.push(ProtoSeen {
                at,
                sizebc: head.u32(f.pt_sizebc),
                flags: head.u8(f.pt_flags),
                trace: head.u16(f.pt_trace),
            }),
            gct::THREAD if self.threads.len() < MAX_KEPT => self.threads.push(at),
            gct::TAB => {
                self.largest.push(std::cmp::Reverse((bytes, at)));
                if self.largest.len() > LARGEST {
                    self.largest.pop();
                }
            }
            _ => {}
        }
    }

    /// Upvalues that still are on a stack hang on their thread (lj_func.c `func_finduv`).
    fn open_upvalues(&mut self, first: u64) {
        const MAX: usize = 1 << 16;
        let f = self.vm.fixed;
        let mut at = first;
        for _ in 0..MAX {
            let Ok(head) = Block::read(self.mem, f, at, SHORTEST_HEAD) else { return };
            if at == 0 || head.u8(f.gct) != gct::UPVAL {
                return;
            }
            self.counts[0].count += 1;
            self.counts[0].bytes += f.uv_size;
            at = head.word(0);
        }
    }

    /// Bytes of an object and of what only it owns, as lj_*_free gives them back.
    fn size(&self, kind: u8, at: u64, head: &Block) -> u64 {
        let f = self.vm.fixed;
        let size = u64::from(f.ref_size);
        match kind {
            gct::UPVAL => f.uv_size,
            gct::THREAD => {
                // The main thread is part of GG_State, its stack is not.
                let own =
                    if at == self.vm.main_thread { 0 } else { self.vm.g.wrapping_sub(self.vm.main_thread) };
                own + u64::from(head.u32(f.l_stacksize)) * 8
            }
            gct::PROTO => head.u32(f.pt_sizept).into(),
            gct::FUNC if head.u8(f.fn_ffid) == 0 => f.fn_uvptr + u64::from(head.u8(f.fn_nupvalues)) * size,
            gct::FUNC => f.fn_upvalue + u64::from(head.u8(f.fn_nupvalues)) * 8,
            gct::TRACE => trace_bytes(self.vm, head),
            gct::CDATA => self
                .ctypes
                .as_ref()
                .and_then(|c| c.cdata_bytes(self.mem, self.vm, at, head))
                .unwrap_or(f.cd_size),
            gct::TAB => table_bytes(self.vm, head),
            _ => f.ud_size + u64::from(head.u32(f.ud_len)),
        }
    }

    fn finish(mut self) -> Heap {
        self.protos.sort_unstable();
        let largest = self.largest.into_sorted_vec().into_iter().map(|std::cmp::Reverse(x)| x).collect();
        Heap {
            counts: self.counts.to_vec(),
            torn: None,
            whole: false,
            protos: self.protos,
            threads: self.threads,
            largest,
        }
    }
}

/// Enough of every object to tell its size, and less where there is not so much.
const HEADS: [u64; 3] = [96, 64, SHORTEST_HEAD];
/// The shortest objects: a boxed cdata of GC32.
const SHORTEST_HEAD: u64 = 16;

/// lj_tab.c `lj_tab_free`: the array part may lie behind the table itself (`colo`).
fn table_bytes(vm: &Vm, head: &Block) -> u64 {
    let f = vm.fixed;
    let colo = head.u8(f.tab_colo).cast_signed();
    let hmask = u64::from(head.u32(f.tab_hmask));
    let nodes = if hmask > 0 { (hmask + 1) * crate::value::NODE as u64 } else { 0 };
    let array = if colo <= 0 { u64::from(head.u32(f.tab_asize)) * 8 } else { 0 };
    f.tab_size + u64::from(colo.cast_unsigned() & 0x7f) * 8 + nodes + array
}

/// lj_trace.c `lj_trace_free`, without the snapshots: their size differs between versions.
fn trace_bytes(vm: &Vm, head: &Block) -> u64 {
    let f = vm.fixed;
    let instructions = u64::from(head.u32(f.tr_nins).wrapping_sub(head.u32(f.tr_nk)) & 0xffff);
    f.tr_size.next_multiple_of(8) + instructions * 8
}

/// The table of C types (`CTState`, lj_ctype.h), for the sizes of cdata.
struct CTypes {
    table: u64,
    count: u32,
}

impl CTypes {
    /// `global_State.ctype_state` follows `jit_base`.
    fn read(mem: &dyn Memory, vm: &Vm) -> Option<Self> {
        const MAX_TYPES: u32 = 65_536;
        let size = u64::from(vm.fixed.ref_size);
        let at = vm.g.wrapping_add(u64::from(vm.era.jit_base) + size);
        let state = reference(mem, vm.fixed, at).ok().filter(|s| *s != 0)?;
        let (table, count) = (mem.u64(state).ok()?, mem.u32(state.wrapping_add(8)).ok()?);
        (table != 0 && count <= MAX_TYPES).then_some(Self { table, count })
    }

    /// lj_cdata.c `lj_cdata_free`.
    fn cdata_bytes(&self, mem: &dyn Memory, vm: &Vm, at: u64, head: &Block) -> Option<u64> {
        const VARIABLE: u8 = 0x80;
        let f = vm.fixed;
        if head.u8(f.gct - 1) & VARIABLE != 0 {
            // GCcdataVar stands before the object: offset, extra, len.
            let var = Block::read(mem, f, at.wrapping_sub(8), 8).ok()?;
            return Some(u64::from(var.u32(4)) + u64::from(var.u16(2)));
        }
        Some(f.cd_size + self.type_bytes(mem, vm, head.u16(f.cd_ctypeid).into())?)
    }

    /// `ctype_raw`, then the size if the type has one.
    fn type_bytes(&self, mem: &dyn Memory, vm: &Vm, id: u32) -> Option<u64> {
        const ATTRIB: u32 = 8;
        const MAX_ATTRIBUTES: u32 = 8;
        // CType: info 4, size 4, sib 2, next 2, name.
        let stride = if vm.fixed.ref_size == 8 { 24 } else { 16 };
        let mut id = id;
        for _ in 0..MAX_ATTRIBUTES {
            if id >= self.count {
                return None;
            }
            let b = Block::read(mem, vm.fixed, self.table.wrapping_add(u64::from(id) * stride), 8).ok()?;
            let info = b.u32(0);
            match info >> 28 {
                ATTRIB => id = info & 0xffff,
                // CT_HASSIZE is everything up to CT_ARRAY and enumerations.
                0..=5 => return Some(b.u32(4).into()).filter(|n| *n != u64::from(u32::MAX)),
                _ => return Some(8),
            }
        }
        None
    }
}
