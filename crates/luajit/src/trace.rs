//! Traces: where compiled code came from.

use crate::Vm;
use crate::detect::{SIZETRACE, reference};
use crate::layout::gct;
use upprof_memory::Memory;

/// A compiled trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Its number.
    pub number: u32,
    /// The prototype it starts in.
    pub start_proto: u64,
    /// Index of the bytecode instruction it starts at.
    pub start_pos: u32,
    /// Root trace's number; 0 for a root.
    pub root: u32,
    /// Machine code: address and bytes.
    pub mcode: (u64, u32),
}

/// LuaJIT's own limit of traces (`maxtrace` is at most 65535, lj_jit.h).
const MAX_TRACES: u32 = 65_535;

impl Trace {
    /// Every trace there is now, by number. At most a few reads a trace.
    #[must_use]
    pub fn all(mem: &dyn Memory, vm: &Vm) -> Vec<Self> {
        let Some(Ok(size)) = vm.traces.map(|at| mem.u32(at.wrapping_add(SIZETRACE))) else {
            return Vec::new();
        };
        (1..size.min(MAX_TRACES)).filter_map(|number| Self::read(mem, vm, number)).collect()
    }

    /// Whether this address, of an instruction or behind a call, is in the trace's machine code.
    #[must_use]
    pub fn holds(&self, address: u64) -> bool {
        address >= self.mcode.0 && address - self.mcode.0 <= u64::from(self.mcode.1)
    }

    /// Reads trace `number` of this VM. `None` when there is no such trace now, or its header does
    /// not check out.
    #[must_use]
    pub fn read(mem: &dyn Memory, vm: &Vm, number: u32) -> Option<Self> {
        let f = vm.fixed;
        let at = vm.traces?;
        let size = mem.u32(at.wrapping_add(SIZETRACE)).ok()?;
        if number == 0 || number >= size {
            return None;
        }
        let array = mem.u64(at).ok()?;
        let trace = reference(mem, f, array.wrapping_add(u64::from(number) * u64::from(f.ref_size))).ok()?;
        if trace == 0
            || mem.u8(trace.wrapping_add(f.gct)).ok()? != gct::TRACE
            || u32::from(mem.u16(trace.wrapping_add(f.tr_traceno)).ok()?) != number
        {
            return None;
        }
        let start_proto = reference(mem, f, trace.wrapping_add(f.tr_startpt)).ok()?;
        let start_pc = reference(mem, f, trace.wrapping_add(f.tr_startpc)).ok()?;
        let bytes = start_pc.checked_sub(start_proto.wrapping_add(f.pt_size))?;
        Some(Self {
            number,
            start_proto,
            start_pos: u32::try_from(bytes / 4).ok()?,
            root: mem.u16(trace.wrapping_add(f.tr_root)).ok()?.into(),
            mcode: (
                mem.u64(trace.wrapping_add(f.tr_mcode)).ok()?,
                mem.u32(trace.wrapping_add(f.tr_szmcode)).ok()?,
            ),
        })
    }
}
