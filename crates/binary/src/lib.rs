//! ELF files as a profiler needs them.
//!
//! Owns: build ids, dynamic symbols, load segments, and the compilation of `.eh_frame` into
//! [`UnwindTable`]s compact enough for the kernel, and struct layouts
//! from DWARF where there is some. Bytes in, tables out: it opens nothing, maps
//! nothing and knows no process. Every byte may come from a hostile file; a malformed part is an
//! [`Error`] or a gap, never a panic.

mod cfi;
mod dwarf;
mod elf;
mod row;

pub use cfi::{Limits, UnwindTable};
pub use dwarf::{StructLayout, struct_layouts};
pub use elf::{Elf, Segment};
pub use row::{Cfa, Row, Saved};

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an ELF file of this machine (x86-64, 64-bit, little-endian), or damaged.
    #[error("not a usable x86-64 ELF file: {0}")]
    Elf(#[from] object::Error),
    /// The ELF file is for another machine.
    #[error("an ELF file for another machine (e_machine {0})")]
    Machine(u16),
    /// `.eh_frame` or DWARF does not parse.
    #[error("unwind or debug information does not parse: {0}")]
    Cfi(#[from] gimli::Error),
    /// More rows than the caller allows.
    #[error("more than {0} unwind rows")]
    TooManyRows(usize),
}
