//! All prototypes and traces of a VM, from the garbage collector's own list of objects.

use super::layout::GC64;
use std::collections::BTreeMap;
use upprof_memory::{Live, Memory as _};

/// Offsets in `global_State` of luajit2 from 2020-09-30 to 2025-11 in GC64: what Debian 12 ships. The test
/// that uses them checks that the main thread and `global_State` point at each other.
pub mod global {
    /// `gc.root`: the list of all objects.
    pub const GC_ROOT: u64 = 40;
    /// `mainthref`
    pub const MAINTHREF: u64 = 192;
    /// `jit_base`
    pub const JIT_BASE: u64 = 376;
}

const TYPE_PROTO: u8 = 7;
const TYPE_TRACE: u8 = 9;

/// A prototype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proto {
    /// `GCproto`
    pub at: u64,
    /// First bytecode.
    pub code: u64,
    /// Number of bytecodes.
    pub size: u32,
}

/// A trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Its number.
    pub number: u16,
    /// Its root's number, 0 when it is one.
    pub root: u16,
    /// Where it starts.
    pub start_proto: u64,
    /// Bytes of machine code.
    pub size: u32,
}

/// What was found in one VM, and is checked again at each use.
#[derive(Debug, Default)]
pub struct Heap {
    protos: BTreeMap<u64, Proto>,
    traces: BTreeMap<u64, (u64, Trace)>,
}

impl Heap {
    /// The prototype whose bytecode holds the instruction *before* `pc`.
    pub fn proto_of_pc(&mut self, memory: &Live, g: u64, pc: u64) -> Option<Proto> {
        let find = |heap: &Self| {
            let (_, proto) = heap.protos.range(..pc).next_back()?;
            let inside = pc > proto.code && pc <= proto.code + 4 * u64::from(proto.size);
            (inside && read_proto(memory, proto.at) == Some(*proto)).then_some(*proto)
        };
        if let Some(proto) = find(self) {
            return Some(proto);
        }
        self.read(memory, g);
        find(self)
    }

    /// Whether this is a living prototype.
    pub fn is_proto(&mut self, memory: &Live, g: u64, at: u64) -> bool {
        self.proto_of_pc(memory, g, at + GC64.proto.size + 4).is_some_and(|p| p.at == at)
    }

    /// The trace whose machine code holds `ip`.
    pub fn trace_of_ip(&mut self, memory: &Live, g: u64, ip: u64) -> Option<Trace> {
        let find = |heap: &Self| {
            let (start, (at, trace)) = heap.traces.range(..=ip).next_back()?;
            let inside = ip - start <= u64::from(trace.size);
            (inside && read_trace(memory, *at) == Some((*start, *trace))).then_some(*trace)
        };
        if let Some(trace) = find(self) {
            return Some(trace);
        }
        self.read(memory, g);
        find(self)
    }

    /// Walks the list.
    fn read(&mut self, memory: &Live, g: u64) {
        const MOST: usize = 4_000_000;
        *self = Self::default();
        let Ok(mut at) = memory.u64(g + global::GC_ROOT) else { return };
        for _ in 0..MOST {
            let mut head = [0; 16];
            if at == 0 || memory.read(at, &mut head).is_err() {
                return;
            }
            match head[9] {
                TYPE_PROTO => {
                    if let Some(proto) = read_proto(memory, at) {
                        self.protos.insert(proto.code, proto);
                    }
                }
                TYPE_TRACE => {
                    if let Some((code, trace)) = read_trace(memory, at) {
                        self.traces.insert(code, (at, trace));
                    }
                }
                _ => {}
            }
            at = u64::from_le_bytes(head[..8].try_into().unwrap_or_default());
        }
    }
}

fn read_proto(memory: &Live, at: u64) -> Option<Proto> {
    let is_proto = memory.u8(at + GC64.gct).ok()? == TYPE_PROTO;
    let size = memory.u32(at + GC64.proto.sizebc).ok()?;
    is_proto.then_some(Proto { at, code: at + GC64.proto.size, size })
}

fn read_trace(memory: &Live, at: u64) -> Option<(u64, Trace)> {
    // GCtrace (lj_jit.h), GC64: startpt 64, szmcode 84, mcode 88, traceno 104, root 108.
    if memory.u8(at + GC64.gct).ok()? != TYPE_TRACE {
        return None;
    }
    let trace = Trace {
        number: memory.u16(at + 104).ok()?,
        root: memory.u16(at + 108).ok()?,
        start_proto: memory.u64(at + 64).ok()?,
        size: memory.u32(at + 84).ok()?,
    };
    Some((memory.u64(at + 88).ok()?, trace))
}
