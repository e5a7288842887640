//! How right stacks are, target by target: a process of a real target is stopped with ptrace at random moments
//! under load; the kernel's walkers (compiled for the host) and an independent reader
//! ([`crate::oracle`]) look at the same registers and the same memory, and are compared.

mod compare;
mod matrix;
mod observe;
mod tally;

pub use matrix::{Matter, TARGETS, Work};
pub use observe::Observatory;
pub use tally::Tally;
