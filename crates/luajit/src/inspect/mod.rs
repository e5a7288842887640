//! What `upprof inspect` shows of a VM: one file an artifact. Each reads through
//! [`upprof_memory::Memory`] with bounds, checks what it reads against live memory, and refuses with
//! the check that failed rather than showing something wrong.

mod coroutines;
mod gc;
mod heap;
mod jit;
mod modules;
mod objects;
mod path;
mod place;
mod registry;
mod strings;

pub use coroutines::{Coroutines, Waiting};
pub use gc::{Gc, GcRates, GcState};
pub use heap::{Count, Heap};
pub use jit::{Abort, Blacklisted, Functions, Jit, MachineCode, TraceRow};
pub use modules::{Module, Modules};
pub use objects::{Change, LargeTable, Objects};
pub use place::Place;
pub use registry::kept_userdata;
pub use strings::{HashKind, Strings};

use crate::Vm;
use crate::layout::gct;
use crate::value::Value;
use serde::Serialize;
use upprof_memory::{Memory, ReadError};

/// Why an artifact is not shown: a check that failed, and the values read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// The memory is not there.
    #[error(transparent)]
    Memory(#[from] ReadError),
    /// What was read cannot be what it should be.
    #[error("{what} is {value:#x}: not the layout that is known")]
    Implausible {
        /// The field, as LuaJIT names it.
        what: &'static str,
        /// What was read there.
        value: u64,
    },
    /// The layout is not known, or was not verified.
    #[error("{0}")]
    Layout(&'static str),
}

/// A part of an artifact that degrades alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Checked<T> {
    /// Read and validated.
    Known(T),
    /// The check that failed.
    NotTrusted {
        /// In words.
        not_trusted: String,
    },
}

impl<T> Checked<T> {
    /// What was read, if it was.
    #[must_use]
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(known) => Some(known),
            Self::NotTrusted { .. } => None,
        }
    }
}

impl<T> From<Result<T, NotTrusted>> for Checked<T> {
    fn from(result: Result<T, NotTrusted>) -> Self {
        match result {
            Ok(known) => Self::Known(known),
            Err(e) => Self::NotTrusted { not_trusted: e.to_string() },
        }
    }
}

/// The registry's table (`global_State.registrytv`).
fn registry(mem: &dyn Memory, vm: &Vm) -> Result<u64, NotTrusted> {
    let word = mem.u64(vm.g.wrapping_add(vm.era.registry.into()))?;
    let table = Value::decode(vm, word).object(gct::TAB);
    table.ok_or(NotTrusted::Implausible { what: "registrytv", value: word })
}
