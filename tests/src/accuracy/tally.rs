//! What the stops of one workload gave.

use std::fmt;

/// Counts over the stops of one workload.
#[derive(Debug, Default)]
pub struct Tally {
    /// Stops in all.
    pub stops: usize,
    /// Stops without Lua on the stack.
    pub idle: usize,
    /// Stops whose Lua the oracle cannot tell.
    pub undecided: usize,
    /// Stops with Lua on the stack that both could read: what the following are of.
    pub lua: usize,
    /// The walkers' leaf function is the oracle's.
    pub leaf: usize,
    /// Every frame equal, C and Lua.
    pub whole: usize,
    /// Of these: with a trace in a VM that nobody told of, whose address is left out.
    pub unplaced: usize,
    /// The Lua functions equal.
    pub lua_chain: usize,
    /// The native frames equal.
    pub native_chain: usize,
    /// The order of C and Lua equal.
    pub interleaving: usize,
    /// Stops between two bytecode instructions: in the middle of a call or a return.
    pub boundary: usize,
    /// The oracle has a proof of its leaf.
    pub proven: usize,
    /// C functions as leaf whose native frame is known.
    pub c_leaf: usize,
    /// Of these, those whose native frame is their own code (else: tail calls in C).
    pub c_leaf_agrees: usize,
    /// Stops in machine code, or in C called from it.
    pub in_trace: usize,
    /// Of these: no number told, only the address.
    pub trace_unnumbered: usize,
    /// Of these: the same number.
    pub trace_number_equal: usize,
    /// Stops where the walk reached the process's entry.
    pub complete: usize,
    /// Stops where the oracle did.
    pub oracle_root: usize,
    /// Stops with something in doubt, by the walkers' own counters.
    pub uncertain: usize,
    /// Stacks that no process can have, told.
    pub impossible: Vec<String>,
    /// Differences, told.
    pub disagreements: Vec<String>,
}

/// Parts of a hundred; of nothing, all.
fn percent(part: usize, of: usize) -> f64 {
    if of == 0 { 100.0 } else { part as f64 / of as f64 * 100.0 }
}

impl Tally {
    /// Stops with Lua whose leaf function is right, in percent.
    #[must_use]
    pub fn leaf_right(&self) -> f64 {
        percent(self.leaf, self.lua)
    }

    /// Stops with Lua whose whole stack is right, in percent.
    #[must_use]
    pub fn whole_right(&self) -> f64 {
        percent(self.whole, self.lua)
    }

    /// Stops whose walk reached the process's entry, in percent.
    #[must_use]
    pub fn root_reached(&self) -> f64 {
        percent(self.complete, self.stops)
    }

    /// Stops that the walkers themselves call uncertain, in percent.
    #[must_use]
    pub fn uncertainty(&self) -> f64 {
        percent(self.uncertain, self.stops)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |what: &str, part: usize, of: usize| {
            writeln!(f, "  {what:<64} {part:>5} of {of:<5} {:6.2} %", percent(part, of))
        };
        row("stops where the walk reaches the process's entry", self.complete, self.stops)?;
        row("  and the oracle does", self.oracle_root, self.stops)?;
        row("stops without Lua on the stack", self.idle, self.stops)?;
        row("stops that the oracle cannot decide", self.undecided, self.stops)?;
        row("stops with something in doubt", self.uncertain, self.stops)?;
        row("Lua on the stack: leaf function equal", self.leaf, self.lua)?;
        row("  every frame equal, C and Lua", self.whole, self.lua)?;
        row("    but for where in a trace, in a VM that is new", self.unplaced, self.lua)?;
        row("  chain of Lua functions equal", self.lua_chain, self.lua)?;
        row("  chain of native frames equal", self.native_chain, self.lua)?;
        row("  interleaving of C and Lua equal", self.interleaving, self.lua)?;
        row("  in the middle of a call or a return", self.boundary, self.lua)?;
        row("  leaf proven by the oracle", self.proven, self.lua)?;
        row(
            "leaf is a C function whose own code was called (else: tail calls)",
            self.c_leaf_agrees,
            self.c_leaf,
        )?;
        row("in a trace, or C called from one: the same number", self.trace_number_equal, self.in_trace)?;
        row("  no number, only the address", self.trace_unnumbered, self.in_trace)?;
        row("impossible stacks", self.impossible.len(), self.stops)
    }
}
