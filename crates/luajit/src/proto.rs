//! Prototypes: where a function was defined, and which line a bytecode index belongs to.

use crate::Vm;
use crate::bytecode::Body;
use crate::layout::little_endian;
use crate::source::Shape;
use std::cell::OnceCell;
use upprof_memory::{Memory, ReadError};

/// Longest chunk name that is read; longer ones (source text as chunk name) are cut, and say so.
const MAX_CHUNKNAME: usize = 512;
/// Bytecode of one function: LuaJIT's own limit is far below (BCMAX_D, 65535 jumps).
const MAX_BYTECODE: u32 = 1 << 24;

/// `GCproto.flags` (lj_obj.h).
const PROTO_VARARG: u8 = 2;

/// What a prototype says of its function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proto {
    /// Where it is.
    pub address: u64,
    /// `sizebc ^ numparams << 24 ^ framesize << 16`: tells whether another one is there now.
    pub check: u32,
    /// As LuaJIT keeps it: `@file`, `=name`, or source text. At most 512 bytes.
    pub chunkname: Vec<u8>,
    /// The string it is in.
    chunkname_at: u64,
    /// Whether the chunk name was longer.
    pub chunkname_cut: bool,
    /// Line of the `function` keyword; 0 for a main chunk, and without debug information.
    pub firstline: u32,
    /// Lines it spans.
    pub numline: u32,
    /// Bytecode instructions.
    pub sizebc: u32,
    /// Parameters, `...` not counted.
    pub numparams: u8,
    /// Whether it takes `...`.
    pub vararg: bool,
    lines: Lines,
    /// The line table, once it was asked for.
    line_table: OnceCell<Vec<u8>>,
}

/// How the lines of instructions are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// Stripped.
    None,
    /// The line table's address.
    Table(u64),
    /// Frames carry lines in place of indexes.
    Told,
}

/// A function that was read by somebody else: nothing of it can be read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// In place of an address.
    pub id: u64,
    /// `sizebc ^ numparams << 24 ^ framesize << 16`
    pub check: u32,
    /// As LuaJIT keeps it.
    pub chunkname: Vec<u8>,
    /// Whether the chunk name was longer.
    pub chunkname_cut: bool,
    /// Line of the `function` keyword; 0 for a main chunk.
    pub firstline: u32,
    /// Lines it spans.
    pub numline: u32,
    /// Bytecode instructions.
    pub sizebc: u32,
    /// `GCproto.flags`
    pub flags: u8,
    /// Whether it has no lines.
    pub stripped: bool,
}

impl From<Told> for Proto {
    fn from(told: Told) -> Self {
        Self {
            address: told.id,
            check: told.check,
            chunkname: told.chunkname,
            chunkname_at: 0,
            chunkname_cut: told.chunkname_cut,
            firstline: told.firstline,
            numline: told.numline,
            sizebc: told.sizebc,
            numparams: ((told.check ^ told.sizebc) >> 24) as u8,
            vararg: told.flags & PROTO_VARARG != 0,
            lines: if told.stripped { Lines::None } else { Lines::Told },
            line_table: OnceCell::new(),
        }
    }
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

/// The bytes of a `GCproto`, read at once: what is looked at belongs together.
struct Header {
    bytes: Vec<u8>,
    gct: usize,
}

impl Header {
    fn read(mem: &dyn Memory, vm: &Vm, addr: u64) -> Result<Self, ProtoError> {
        const LARGEST: usize = 104;
        let bytes = mem.bytes(addr, usize::try_from(vm.fixed.pt_size).unwrap_or(LARGEST), LARGEST)?;
        let gct = usize::try_from(vm.fixed.gct).unwrap_or_default();
        if bytes[gct] != crate::layout::gct::PROTO {
            return Err(ProtoError::Replaced);
        }
        Ok(Self { bytes, gct })
    }

    /// The check value that the kernel side sends along: numparams and framesize follow gct.
    fn check(&self) -> u32 {
        let (numparams, framesize) = (self.bytes[self.gct + 1], self.bytes[self.gct + 2]);
        let sizebc = self.u32(self.gct as u64 + 3);
        sizebc ^ u32::from(numparams) << 24 ^ u32::from(framesize) << 16
    }

    /// Offsets are those of `Fixed`, all inside the header.
    fn u32(&self, at: u64) -> u32 {
        let at = at as usize;
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap_or_default())
    }

    fn reference(&self, vm: &Vm, at: u64) -> u64 {
        let low = u64::from(self.u32(at));
        if vm.fixed.ref_size == 8 { low | u64::from(self.u32(at + 4)) << 32 } else { low }
    }
}

impl Proto {
    /// Reads the prototype at `addr`, if it still is the one that was sampled with `check`.
    ///
    /// # Errors
    /// [`ProtoError::Replaced`] when it is not.
    pub fn read(mem: &dyn Memory, vm: &Vm, addr: u64, check: u32) -> Result<Self, ProtoError> {
        let header = Header::read(mem, vm, addr)?;
        if header.check() != check {
            return Err(ProtoError::Replaced);
        }
        Self::from_header(mem, vm, addr, &header)
    }

    /// Reads the prototype at `addr`, whichever it is.
    ///
    /// # Errors
    /// [`ProtoError::Replaced`] when there is none.
    pub fn read_unsampled(mem: &dyn Memory, vm: &Vm, addr: u64) -> Result<Self, ProtoError> {
        Self::from_header(mem, vm, addr, &Header::read(mem, vm, addr)?)
    }

    /// Number of bytecodes, and the check value that the kernel side sends along, of the prototype at
    /// `addr`.
    ///
    /// # Errors
    /// [`ProtoError::Replaced`] when there is none.
    pub fn identity(mem: &dyn Memory, vm: &Vm, addr: u64) -> Result<(u32, u32), ProtoError> {
        let header = Header::read(mem, vm, addr)?;
        let sizebc = header.u32(vm.fixed.pt_sizebc);
        if sizebc > MAX_BYTECODE {
            return Err(ProtoError::Replaced);
        }
        Ok((sizebc, header.check()))
    }

    fn from_header(mem: &dyn Memory, vm: &Vm, address: u64, header: &Header) -> Result<Self, ProtoError> {
        let f = vm.fixed;
        let sizebc = header.u32(f.pt_sizebc);
        if sizebc > MAX_BYTECODE {
            return Err(ProtoError::Replaced);
        }
        let chunkname_at = header.reference(vm, f.pt_chunkname);
        let (chunkname, chunkname_cut) = read_string(mem, vm, chunkname_at, MAX_CHUNKNAME)?;
        if chunkname.contains(&0) {
            // Chunk names are C strings (lj_load.c): this one's memory is somebody else's now.
            return Err(ProtoError::Replaced);
        }
        Ok(Self {
            address,
            check: header.check(),
            chunkname,
            chunkname_at,
            chunkname_cut,
            numparams: header.bytes[header.gct + 1],
            vararg: header.bytes[f.pt_flags as usize] & PROTO_VARARG != 0,
            firstline: header.u32(f.pt_firstline),
            numline: header.u32(f.pt_firstline + 4),
            sizebc,
            lines: match header.reference(vm, f.pt_lineinfo) {
                0 => Lines::None,
                at => Lines::Table(at),
            },
            line_table: OnceCell::new(),
        })
    }

    /// Whether the module was compiled without debug information (`luajit -b`, `string.dump(f, true)`):
    /// no lines and no names. The parser gives every function a line table (lj_parse.c).
    #[must_use]
    pub fn stripped(&self) -> bool {
        self.lines == Lines::None
    }

    /// What tells which function of its source this is; `None` without debug information, and for a main
    /// chunk, which is no function in its source.
    #[must_use]
    pub fn shape(&self, mem: &dyn Memory, vm: &Vm) -> Option<Shape> {
        (self.firstline > 0 && !self.stripped()).then(|| Shape {
            first_line: self.firstline,
            last_line: self.firstline.saturating_add(self.numline),
            parameters: self.numparams,
            vararg: self.vararg,
            names: Body::read(mem, vm, self.address).and_then(|body| body.parameters()),
        })
    }

    /// A number for what the function does, the same in every process that loaded the same module: tells
    /// functions apart that have neither a name nor a line.
    #[must_use]
    pub fn fingerprint(&self, mem: &dyn Memory, vm: &Vm) -> Option<u32> {
        Body::read(mem, vm, self.address).map(|body| body.fingerprint())
    }

    /// The source itself, when it is the chunk name (`load(string)`) and at most `max` bytes.
    #[must_use]
    pub fn own_text(&self, mem: &dyn Memory, vm: &Vm, max: usize) -> Option<Vec<u8>> {
        if matches!(self.chunkname.first(), Some(b'@' | b'=')) {
            return None;
        }
        let (text, cut) = read_string(mem, vm, self.chunkname_at, max).ok()?;
        (!cut).then_some(text)
    }

    /// The line of the instruction at index `pos`, as `lj_debug_line` finds it. `None` without a line
    /// table, past the end, or when the line found is not one of the function's.
    #[must_use]
    pub fn line(&self, mem: &dyn Memory, pos: u32) -> Option<u32> {
        let table = match self.lines {
            Lines::None => return None,
            Lines::Told => return (pos <= self.numline).then(|| self.firstline.saturating_add(pos)),
            Lines::Table(at) => at,
        };
        if pos > self.sizebc {
            return None;
        }
        if pos == self.sizebc {
            return self.firstline.checked_add(self.numline);
        }
        if pos == 0 {
            return Some(self.firstline);
        }
        let delta = self.line_delta(mem, table, pos as usize - 1)?;
        (delta <= self.numline).then(|| self.firstline.saturating_add(delta))
    }

    /// Entry `i` of the line table: it has one for each instruction but the first. A function that runs is
    /// asked for many of its lines: the table is read once, unless it is very long.
    fn line_delta(&self, mem: &dyn Memory, table: u64, i: usize) -> Option<u32> {
        const MAX_TABLE: usize = 16 << 10;
        let width = match self.numline {
            0..256 => 1,
            256..65536 => 2,
            _ => 4,
        };
        let (at, len) = (i * width, (self.sizebc as usize - 1) * width);
        if len > MAX_TABLE {
            let entry = mem.bytes(table.wrapping_add(at as u64), width, width).ok()?;
            return Some(little_endian(&entry) as u32);
        }
        let read = self.line_table.get_or_init(|| mem.bytes(table, len, len).unwrap_or_default());
        read.get(at..at + width).map(|entry| little_endian(entry) as u32)
    }
}

/// A Lua string's bytes, at most `max`; the flag tells whether it was longer.
pub(crate) fn read_string(
    mem: &dyn Memory,
    vm: &Vm,
    addr: u64,
    max: usize,
) -> Result<(Vec<u8>, bool), ProtoError> {
    /// Most strings are shorter: header and text come in one read.
    const USUAL: usize = 64;
    let len_at = usize::from(vm.era.str_len);
    // GC64 aligns the data to 8: 24 in both layouts.
    let data = if vm.fixed.ref_size == 8 { 24 } else { len_at + 4 };
    let head = match mem.bytes(addr, data + USUAL, data + USUAL) {
        Ok(head) => head,
        // At the end of what is mapped.
        Err(_) => mem.bytes(addr, data, data)?,
    };
    if head[usize::try_from(vm.fixed.gct).unwrap_or_default()] != crate::layout::gct::STR {
        return Err(ProtoError::Replaced);
    }
    let len = u32::from_le_bytes(head[len_at..len_at + 4].try_into().unwrap_or_default()) as usize;
    let take = len.min(max);
    let text = match head.get(data..data + take) {
        Some(text) => text.to_vec(),
        None => mem.bytes(addr.wrapping_add(data as u64), take, max)?,
    };
    Ok((text, len > max))
}
