//! From raw samples to named frames.
//!
//! Owns the collection of distinct stacks ([`Recording`]), the address spaces they are read in
//! ([`AddressSpace`], [`Object`]), the symbols of native and kernel code ([`Symbols`]), and the merge of
//! C and Lua into one [`upprof_profile::Profile`] ([`build`]). It reads no process and opens no file of a
//! target: what a Lua frame is called, it is told ([`LuaNames`]); which bytes an object has, likewise.

mod build;
mod recording;
mod space;
mod symbols;

pub use build::{LuaName, LuaNames, build};
pub use recording::{FrameRef, Recording, Stack};
pub use space::{AddressSpace, Mapped, Object, ObjectId, Objects};
pub use symbols::Symbols;
