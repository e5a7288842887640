//! Traces: compiled code, where it came from, and what it runs.

mod branch;
mod jit;
mod snapshot;
#[cfg(test)]
mod tests;

pub use jit::{Jit, TraceList};
pub use snapshot::{Inlined, Misfit, NoSites, Site, Sites};

use crate::Vm;
use crate::detect::reference;
use crate::layout::{gct, little_endian};
use upprof_memory::Memory;

/// A compiled trace: its `GCtrace`. Two reads that are equal are of the same trace, for all that is used of
/// it: its places in memory are part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trace {
    /// Its number.
    pub number: u32,
    /// The prototype it starts in.
    pub start_proto: u64,
    /// Index of the bytecode instruction it starts at.
    pub start_pos: u32,
    /// Root trace's number; 0 for a root.
    pub root: u32,
    /// Number of the trace that it goes on with at its end: its own for a loop, 0 for none.
    pub link: u32,
    /// Machine code: address and bytes.
    pub mcode: (u64, u32),
    parts: Parts,
}

/// Where a trace's snapshots and constants are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Parts {
    ir: u64,
    /// Lowest constant.
    nk: u32,
    snap: u64,
    nsnap: u16,
    snapmap: u64,
    nsnapmap: u32,
    /// Address of the instruction that the trace starts at, and what it was.
    startpc: u64,
    startins: u32,
    /// Offset in the machine code of where its loop begins, 0 for none.
    mcloop: u32,
}

impl Trace {
    /// Whether an instruction at this address is of the trace's machine code.
    #[must_use]
    pub fn holds(&self, address: u64) -> bool {
        address.checked_sub(self.mcode.0).is_some_and(|ofs| ofs < u64::from(self.mcode.1))
    }

    /// Reads the `GCtrace` at `at`, which must have this number. `None` when there is no such trace now, or
    /// its header does not check out.
    fn read(mem: &dyn Memory, vm: &Vm, at: u64, number: u32) -> Option<Self> {
        const LARGEST: usize = 112;
        let f = vm.fixed;
        let header = mem.bytes(at, usize::try_from(f.tr_root + 2).ok()?, LARGEST).ok()?;
        let word = |at: u64, n: usize| -> u64 {
            let at = at as usize;
            little_endian(&header[at..at + n])
        };
        let small = |at: u64| word(at, 4) as u32;
        if header[usize::try_from(f.gct).ok()?] != gct::TRACE || word(f.tr_traceno, 2) != u64::from(number) {
            return None;
        }
        let size = usize::from(f.ref_size);
        let start_proto = word(f.tr_startpt, size);
        let startpc = word(f.tr_startpc, size);
        let bytes = startpc.checked_sub(start_proto.wrapping_add(f.pt_size))?;
        Some(Self {
            number,
            start_proto,
            start_pos: u32::try_from(bytes / 4).ok()?,
            root: word(f.tr_root, 2) as u32,
            link: word(f.tr_link, 2) as u32,
            mcode: (word(f.tr_mcode, 8), small(f.tr_szmcode)),
            parts: Parts {
                ir: word(f.tr_ir, 8),
                nk: small(f.tr_nk),
                snap: word(f.tr_snap, 8),
                nsnap: word(f.tr_nsnap, 2) as u16,
                snapmap: word(f.tr_snapmap, 8),
                nsnapmap: small(f.tr_nk + 4),
                startpc,
                startins: small(f.tr_startins),
                mcloop: small(f.tr_mcloop),
            },
        })
    }
}

/// Reads a reference as [`Trace::read`] and its neighbours need it: null is none.
fn some_reference(mem: &dyn Memory, vm: &Vm, at: u64) -> Option<u64> {
    reference(mem, vm.fixed, at).ok().filter(|r| *r != 0)
}
