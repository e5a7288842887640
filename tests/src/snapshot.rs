//! Made-up processes for tests without root: native code with unwind rules, a native stack, and a LuaJIT
//! VM in GC64 or GC32, all in a [`upprof_memory::Snapshot`]. A [`Machine`] calls and returns as the real
//! thing does, so that a test says what ran and expects exactly those frames.

mod globals;
pub mod host;
mod image;
mod inspectable;
mod lua;
mod machine;
pub mod ngx_lua;
pub mod random;
pub mod scenes;
mod view;

pub use globals::{Code, Value};
pub use image::Image;
pub use lua::{CFunc, LuaFunc};
pub use machine::{BIAS, Link, Machine};
