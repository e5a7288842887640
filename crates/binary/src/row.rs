//! One rule of an unwind table. The kernel's `struct unwind_row` (`probes/bpf/abi.h`) has the same
//! fields; `upprof-probes` converts, so that this crate stays a leaf.

/// How the canonical frame address (the caller's stack pointer) is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cfa {
    /// No rule here: a gap between functions, or a rule this table cannot express.
    None,
    /// `rsp + offset`
    Rsp(i16),
    /// `rbp + offset`
    Rbp(i16),
    /// `rbx + offset`
    Rbx(i16),
    /// `*(rsp + offset) + addend` (hand-written assembly in libcrypto)
    DerefRsp(i16, i16),
    /// `*(rbp + offset) + addend` (functions that realign the stack)
    DerefRbp(i16, i16),
    /// A PLT stub: `rsp + 8`, plus 8 more once the relocation index is pushed (at byte `.0` of 16).
    Plt(i16),
    /// A signal trampoline: every register is in the `ucontext` at `rsp`.
    Signal,
    /// The outermost frame: the return address is undefined (`_start`, `clone`).
    End,
}

/// Where the caller's value of a callee-saved register is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Unchanged since the caller.
    Same,
    /// At `cfa + offset`.
    At(i16),
    /// Not recoverable from here.
    Lost,
}

/// From `pc` on, until the next row, these rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Virtual address in the file, before relocation.
    pub pc: u32,
    /// The caller's stack pointer; the return address is always at `cfa - 8`.
    pub cfa: Cfa,
    /// rbp: frame pointer, and BASE in helpers that LuaJIT's interpreter calls.
    pub rbp: Saved,
    /// rbx: LuaJIT's PC.
    pub rbx: Saved,
    /// r14: LuaJIT's DISPATCH.
    pub r14: Saved,
}

impl Row {
    /// A row that says "nothing is known from here".
    #[must_use]
    pub const fn gap(pc: u32) -> Self {
        Self { pc, cfa: Cfa::None, rbp: Saved::Lost, rbx: Saved::Lost, r14: Saved::Lost }
    }

    /// Whether both rows say the same, whatever their address.
    #[must_use]
    pub fn same_rule(&self, other: &Self) -> bool {
        Self { pc: 0, ..*self } == Self { pc: 0, ..*other }
    }
}
