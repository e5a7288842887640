//! What `./dev bench` measures with: a target of its own, captures of it by the shipped binary, and the
//! statistics that say how much the numbers are worth.

mod capture;
mod inspect;
mod pairs;
mod stats;
mod table;
mod target;

pub use capture::{Capture, Depth, Upprof};
pub use inspect::{Gateway, Looks, Watch};
pub use pairs::{Pairs, Watching};
pub use stats::Spread;
pub use table::{Row, Table, Verdict};
pub use target::{answer_load, worker_cpu_ns};
