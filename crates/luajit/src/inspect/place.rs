//! Where in the Lua sources something is.

use crate::Chunk;
use crate::{Proto, Vm};
use serde::Serialize;
use upprof_memory::Memory;

/// A line of a chunk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file, or the name that a chunk without a file has. Hostile.
    pub chunk: String,
    /// The line, from 1; 0 where the chunk has no line table.
    pub line: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.chunk, self.line)
    }
}

impl Place {
    /// Of the bytecode with index `pos` of the prototype at `at`.
    pub(super) fn of(mem: &dyn Memory, vm: &Vm, at: u64, pos: u32) -> Option<Self> {
        let proto = Proto::read_unsampled(mem, vm, at).ok()?;
        let line = proto.line(mem, pos).unwrap_or(0);
        Some(Self { chunk: Chunk::parse(&proto.chunkname).display().to_owned(), line })
    }

    /// Where the function was defined.
    pub(super) fn of_definition(mem: &dyn Memory, vm: &Vm, at: u64) -> Option<Self> {
        Self::of(mem, vm, at, 0)
    }
}
