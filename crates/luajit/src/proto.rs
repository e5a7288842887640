//! Prototypes: where a function was defined, and which line a bytecode index belongs to.

use crate::Vm;
use crate::detect::reference;
use upprof_memory::{Memory, ReadError};

/// Longest chunk name that is read; longer ones (source text as chunk name) are cut, and say so.
const MAX_CHUNKNAME: usize = 512;
/// Bytecode of one function: LuaJIT's own limit is far below (BCMAX_D, 65535 jumps).
const MAX_BYTECODE: u32 = 1 << 24;

/// What a prototype says of its function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proto {
    /// As LuaJIT keeps it: `@file`, `=name`, or source text. At most 512 bytes.
    pub chunkname: Vec<u8>,
    /// Whether the chunk name was longer.
    pub chunkname_cut: bool,
    /// Line of the `function` keyword; 0 for a main chunk.
    pub firstline: u32,
    /// Lines it spans.
    pub numline: u32,
    /// Bytecode instructions.
    pub sizebc: u32,
    /// Address of the line table, 0 when stripped.
    lineinfo: u64,
}

/// Why a prototype was not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// Memory not there.
    #[error(transparent)]
    Memory(#[from] ReadError),
    /// Another object lives there now: the prototype was collected.
    #[error("the prototype was freed or replaced")]
    Replaced,
}

/// The check value that the kernel side sends along, from three fields of the header.
fn check_value(numparams: u8, framesize: u8, sizebc: u32) -> u32 {
    sizebc ^ u32::from(numparams) << 24 ^ u32::from(framesize) << 16
}

impl Proto {
    /// Reads the prototype at `addr`, if it still is the one that was sampled with `check`.
    ///
    /// # Errors
    /// [`ProtoError::Replaced`] when it is not.
    pub fn read(mem: &dyn Memory, vm: &Vm, addr: u64, check: u32) -> Result<Self, ProtoError> {
        let proto = Self::read_unsampled(mem, vm, addr)?;
        // numparams and framesize follow gct in both modes.
        let header = addr + vm.fixed.gct;
        let (numparams, framesize) = (mem.u8(header + 1)?, mem.u8(header + 2)?);
        if check_value(numparams, framesize, proto.sizebc) != check {
            return Err(ProtoError::Replaced);
        }
        Ok(proto)
    }

    /// Reads the prototype at `addr`, whichever it is.
    ///
    /// # Errors
    /// [`ProtoError::Replaced`] when there is none.
    pub fn read_unsampled(mem: &dyn Memory, vm: &Vm, addr: u64) -> Result<Self, ProtoError> {
        let f = vm.fixed;
        if mem.u8(addr + f.gct)? != crate::layout::gct::PROTO {
            return Err(ProtoError::Replaced);
        }
        let sizebc = mem.u32(addr + f.pt_sizebc)?;
        if sizebc > MAX_BYTECODE {
            return Err(ProtoError::Replaced);
        }
        let firstline = mem.u32(addr + f.pt_firstline)?;
        let numline = mem.u32(addr + f.pt_firstline + 4)?;
        let name = reference(mem, f, addr + f.pt_chunkname)?;
        let (chunkname, chunkname_cut) = read_string(mem, vm, name, MAX_CHUNKNAME)?;
        if chunkname.contains(&0) {
            // Chunk names are C strings (lj_load.c): this one's memory is somebody else's now.
            return Err(ProtoError::Replaced);
        }
        let lineinfo = reference(mem, f, addr + f.pt_lineinfo)?;
        Ok(Self { chunkname, chunkname_cut, firstline, numline, sizebc, lineinfo })
    }

    /// The line of the instruction at index `pos`, as `lj_debug_line` finds it. `None` without a line
    /// table, past the end, or when the line found is not one of the function's.
    #[must_use]
    pub fn line(&self, mem: &dyn Memory, pos: u32) -> Option<u32> {
        if self.lineinfo == 0 || pos > self.sizebc {
            return None;
        }
        if pos == self.sizebc {
            return self.firstline.checked_add(self.numline);
        }
        if pos == 0 {
            return Some(self.firstline);
        }
        let i = u64::from(pos - 1);
        let delta = match self.numline {
            0..256 => u32::from(mem.u8(self.lineinfo + i).ok()?),
            256..65536 => u32::from(mem.u16(self.lineinfo + i * 2).ok()?),
            _ => mem.u32(self.lineinfo + i * 4).ok()?,
        };
        (delta <= self.numline).then(|| self.firstline.saturating_add(delta))
    }
}

/// A Lua string's bytes, at most `max`; the flag tells whether it was longer.
pub(crate) fn read_string(
    mem: &dyn Memory,
    vm: &Vm,
    addr: u64,
    max: usize,
) -> Result<(Vec<u8>, bool), ProtoError> {
    if mem.u8(addr + vm.fixed.gct)? != crate::layout::gct::STR {
        return Err(ProtoError::Replaced);
    }
    let len_at = u64::from(vm.era.str_len);
    let len = mem.u32(addr + len_at)? as usize;
    // GC64 aligns the data to 8: 24 in both layouts.
    let data = addr + if vm.fixed.ref_size == 8 { 24 } else { len_at + 4 };
    Ok((mem.bytes(data, len.min(max), max)?, len > max))
}
