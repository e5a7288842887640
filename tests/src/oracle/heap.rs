//! All prototypes and traces of a VM, from the garbage collector's own list of objects.

use super::build::View;
use super::layout::gct;
use std::collections::BTreeMap;
use upprof_memory::Memory as _;

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
    g: u64,
    protos: BTreeMap<u64, Proto>,
    traces: BTreeMap<u64, (u64, Trace)>,
}

impl Heap {
    /// The prototype whose bytecode holds the instruction *before* `pc`.
    pub fn proto_of_pc(&mut self, view: &View, g: u64, pc: u64) -> Option<Proto> {
        let find = |heap: &Self| {
            let (_, proto) = heap.protos.range(..pc).next_back()?;
            let inside = pc > proto.code && pc <= proto.code + 4 * u64::from(proto.size);
            (inside && heap.g == g && read_proto(view, proto.at) == Some(*proto)).then_some(*proto)
        };
        if let Some(proto) = find(self) {
            return Some(proto);
        }
        self.read(view, g);
        find(self)
    }

    /// Whether this is a living prototype.
    pub fn is_proto(&mut self, view: &View, g: u64, at: u64) -> bool {
        self.proto_of_pc(view, g, at.wrapping_add(view.layout().proto.size + 4)).is_some_and(|p| p.at == at)
    }

    /// The trace whose machine code holds `ip`.
    pub fn trace_of_ip(&mut self, view: &View, g: u64, ip: u64) -> Option<Trace> {
        let find = |heap: &Self| {
            let (start, (at, trace)) = heap.traces.range(..=ip).next_back()?;
            let inside = ip - start <= u64::from(trace.size) && heap.g == g;
            (inside && read_trace(view, *at) == Some((*start, *trace))).then_some(*trace)
        };
        if let Some(trace) = find(self) {
            return Some(trace);
        }
        self.read(view, g);
        find(self)
    }

    /// Walks the list.
    fn read(&mut self, view: &View, g: u64) {
        const MOST: usize = 4_000_000;
        *self = Self { g, ..Self::default() };
        let wide = view.layout().reference == 8;
        let Ok(mut at) = view.reference(g + view.build.gc_root) else { return };
        for _ in 0..MOST {
            let mut head = [0; 12];
            if at == 0 || view.memory.read(at, &mut head).is_err() {
                return;
            }
            match head[if wide { 9 } else { 5 }] {
                gct::PROTO => {
                    if let Some(proto) = read_proto(view, at) {
                        self.protos.insert(proto.code, proto);
                    }
                }
                gct::TRACE => {
                    if let Some((code, trace)) = read_trace(view, at) {
                        self.traces.insert(code, (at, trace));
                    }
                }
                _ => {}
            }
            let mut next = [0; 8];
            let bytes = if wide { 8 } else { 4 };
            next[..bytes].copy_from_slice(&head[..bytes]);
            at = u64::from_le_bytes(next);
        }
    }
}

fn read_proto(view: &View, at: u64) -> Option<Proto> {
    let layout = view.layout();
    let is_proto = view.memory.u8(at.checked_add(layout.gct)?).ok()? == gct::PROTO;
    let size = view.memory.u32(at + layout.proto.sizebc).ok()?;
    is_proto.then_some(Proto { at, code: at + layout.proto.size, size })
}

fn read_trace(view: &View, at: u64) -> Option<(u64, Trace)> {
    let (layout, memory) = (view.layout(), view.memory);
    if memory.u8(at + layout.gct).ok()? != gct::TRACE {
        return None;
    }
    let trace = Trace {
        number: memory.u16(at + layout.trace.traceno).ok()?,
        root: memory.u16(at + layout.trace.root).ok()?,
        start_proto: view.reference(at + layout.trace.startpt).ok()?,
        size: memory.u32(at + layout.trace.szmcode).ok()?,
    };
    Some((memory.u64(at + layout.trace.mcode).ok()?, trace))
}
