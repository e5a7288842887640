//! All that upprof knows of LuaJIT's memory.
//!
//! Owns: the offsets of every era (`layouts.yaml`, `layouts-arm64.yaml`), the detection of mode and
//! layout checked against live memory ([`attach`]), prototypes and their lines, traces, the names of
//! builtins, and the parsing of Lua source for the name at a definition site. It reads through
//! [`upprof_memory::Memory`] only, opens no file and never writes. What cannot be verified is
//! refused with the check that failed.

mod block;
mod builtins;
mod bytecode;
mod chunk;
mod debug_info;
mod detect;
mod global;
pub mod inspect;
mod layout;
mod proto;
mod reach;
mod roots;
mod scan;
pub mod source;
mod tables;
mod trace;
mod value;

pub use builtins::{Builtins, builtins};
pub use chunk::Chunk;
pub use debug_info::{STRUCTS, from_debug_info};
pub use detect::{CodeMap, Refusal, Vm, attach};
pub use global::global_number;
pub use layout::{Arch, ByFork, CFrame, Era, Fixed, Fork, GC32, GC64, JitOffsets, eras};
pub use proto::{Proto, ProtoError, Told};
pub use reach::Reach;
pub use scan::main_threads;
pub use trace::{Inlined, Jit, Misfit, NoSites, Site, Sites, Trace, TraceList};
