//! A second opinion on stacks, of a process that is stopped with ptrace.
//!
//! What is independent of the product: the native unwinder ([`native`]: DWARF rules evaluated in full, for
//! all registers, straight from each file's own `.eh_frame`; no compiled tables), the reader of Lua
//! stacks ([`lua`]) and its offsets ([`layout`]), the way from C to Lua ([`stack`]: C frames are found
//! where native unwinding meets the interpreter, or by a search of the stack, and not by
//! `global_State.cur_L`, on which the product builds), and the proof of the leaf (the prototype that
//! holds PC, of all prototypes in the collector's list). What is shared: the crate gimli as a parser of
//! DWARF, `process_vm_readv`, and the facts of LuaJIT's design, such as which registers may hold BASE.

pub mod build;
pub mod heap;
pub mod hosted;
pub mod layout;
pub mod lua;
pub mod maps;
pub mod native;
pub mod stack;
pub mod tracee;
