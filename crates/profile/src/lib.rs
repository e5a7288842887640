//! What was measured, and how it is written down.
//!
//! Owns the profile model ([`Profile`]: interned frames, weighted stacks, processes, counters) and
//! one exporter a file format ([`export`]). It never looks at a process, a kernel or a file system:
//! exporters write to any [`std::io::Write`].

pub mod export;
mod focus;
mod model;
pub mod number;
mod origin;
pub mod raw;
mod summary;
mod top;
mod uncertain;

pub use model::{
    Counter, Focus, Frame, FrameId, FrameKind, Location, OriginId, Process, Profile, Role, Sample, Severity,
    VmState,
};
pub use origin::{Origin, Phase};
pub use top::{TopRow, TopView, by_total, top};
pub use uncertain::{Doubt, Uncertainty};
