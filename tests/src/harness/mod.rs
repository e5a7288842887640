//! What the container tests are made of: real containers, a real load, the real program, and its
//! bundle read back strictly.
//!
//! Everything that is started is owned by a guard that removes it, also when a test panics. Nothing
//! waits for a fixed time: [`wait::until`] polls for what has to become true. A failed step panics with
//! what the program or engine said: these are tests, and there is nobody to hand an error to.

pub mod bundle;
pub mod docker;
pub mod host;
pub mod inspect;
pub mod load;
pub mod pprof;
pub mod process;
pub mod run;
pub mod source;
pub mod stacks;
pub mod target;
pub mod wait;
pub mod xml;
