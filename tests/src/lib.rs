//! What the tests and benchmarks share: a real target, an independent oracle, saved memory.

pub mod accuracy;
pub mod bench;
pub mod harness;
pub mod oracle;
pub mod snapshot;
