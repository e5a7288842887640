//! Lua stacks, as lj_frame.h and lj_debug.c read them. GC64 only: what the live target is.

use super::layout::{GC64, gct};
use upprof_memory::{Live, Memory as _};

/// A function on a Lua stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `GCproto`
    Lua(u64),
    /// `lua_CFunction`
    C(u64),
}

/// One frame: whose, and where its caller goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its function.
    pub function: Function,
    /// How it was entered.
    pub entered: Entered,
}

/// How a frame was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// By a call in bytecode; the address behind that instruction.
    ByLua(u64),
    /// As a metamethod; the address behind the interrupted instruction.
    Continuation(u64),
    /// By a fast function (`pcall`).
    ByFast,
    /// By C: the segment ends here.
    ByC,
}

const ADDRESS: u64 = (1 << 47) - 1;

/// A thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread {
    /// `lua_State`
    pub at: u64,
    /// `global_State`
    pub g: u64,
    /// Base of its newest frame, as stored.
    pub base: u64,
    /// Newest C frame, without the flag bits.
    pub cframe: u64,
    stack: u64,
    maxstack: u64,
}

impl Thread {
    /// Reads and checks one: its VM's main thread must lie right before `global_State`, and point there.
    #[must_use]
    pub fn read(memory: &Live, at: u64) -> Option<Self> {
        let t = GC64.thread;
        let thread = |l: u64| -> Option<u64> {
            (l.is_multiple_of(8) && memory.u8(l + GC64.gct).ok()? == gct::THREAD).then_some(())?;
            memory.u64(l + t.glref).ok()
        };
        if at == 0 || at > ADDRESS {
            return None;
        }
        let g = thread(at)?;
        if g > ADDRESS {
            return None;
        }
        let main = memory.u64(g + super::heap::global::MAINTHREF).ok()?;
        if main + t.size_luajit2 != g || thread(main)? != g {
            return None;
        }
        Some(Self {
            at,
            g,
            base: memory.u64(at + t.base).ok()?,
            cframe: memory.u64(at + t.cframe).ok()? & !3,
            stack: memory.u64(at + t.stack).ok()?,
            maxstack: memory.u64(at + t.maxstack).ok()?,
        })
    }

    /// Where on its stack a saved offset is (lj_state.h restorestack).
    #[must_use]
    pub fn restore(&self, offset: u64) -> u64 {
        self.stack + offset
    }

    /// The function of the frame with this base; `Ok(None)` for the thread itself, which is no function.
    fn function(&self, memory: &Live, base: u64) -> Result<Option<Function>, &'static str> {
        let slot = memory.u64(base - 16).map_err(|_| "frame not readable")? & ADDRESS;
        if slot == self.at {
            return Ok(None);
        }
        function(memory, slot).map(Some).ok_or("no function in a frame")
    }

    /// Whether a frame with this base is possible at all.
    #[must_use]
    pub fn holds(&self, base: u64) -> bool {
        base.is_multiple_of(8) && base > self.stack + 16 && base <= self.maxstack
    }

    /// The function that a frame with this base would have.
    #[must_use]
    pub fn function_at(&self, memory: &Live, base: u64) -> Option<Function> {
        if !self.holds(base) {
            return None;
        }
        self.function(memory, base).ok().flatten()
    }

    /// The frames of one segment, newest first, and the base below it: of the frame of the next segment.
    /// A vararg function is one frame.
    ///
    /// # Errors
    /// What is wrong with the chain.
    pub fn segment(&self, memory: &Live, from: u64) -> Result<(Vec<Frame>, u64), &'static str> {
        const MOST: usize = 100_000;
        let mut frames = Vec::new();
        let mut base = from;
        let mut same_call = false;
        for _ in 0..MOST {
            if base == self.stack + 16 {
                return Ok((frames, base));
            }
            if !self.holds(base) {
                return Err("a frame outside of the stack");
            }
            let function = self.function(memory, base)?;
            let link = memory.u64(base - 8).map_err(|_| "link not readable")?;
            let size = link & !7;
            let (entered, below, again) = match link & 7 {
                0 | 4 => {
                    // The CALL's A operand is its second byte; FR2 has two slots between (lj_frame.h).
                    let call = memory.u32(link - 4).map_err(|_| "bytecode not readable")?;
                    let a = u64::from(call >> 8 & 0xff);
                    (Entered::ByLua(link), base.wrapping_sub((a + 2) * 8), false)
                }
                1 | 5 => (Entered::ByC, base.wrapping_sub(size), false),
                2 => {
                    let goes_on = memory.u64(base - 32).map_err(|_| "continuation not readable")?;
                    let pc = memory.u64(base - 24).map_err(|_| "continuation not readable")?;
                    let from_ffi_callback = goes_on == 1;
                    let entered = if from_ffi_callback { Entered::ByC } else { Entered::Continuation(pc) };
                    (entered, base.wrapping_sub(size), false)
                }
                3 => (Entered::ByFast, base.wrapping_sub(size), true),
                _ => (Entered::ByFast, base.wrapping_sub(size), false),
            };
            if below >= base {
                return Err("a frame that leads upwards");
            }
            match frames.last_mut() {
                // The lower half of a vararg function says how the call came about.
                Some(Frame { entered: e, .. }) if same_call => *e = entered,
                _ => frames.extend(function.map(|function| Frame { function, entered })),
            }
            same_call = again;
            base = below;
            if entered == Entered::ByC {
                return Ok((frames, base));
            }
        }
        Err("a chain without end")
    }
}

/// Reads a `GCfunc`.
#[must_use]
pub fn function(memory: &Live, at: u64) -> Option<Function> {
    if memory.u8(at + GC64.gct).ok()? != gct::FUNC {
        return None;
    }
    if memory.u8(at + GC64.func.ffid).ok()? == 0 {
        let proto = memory.u64(at + GC64.func.pc).ok()?.checked_sub(GC64.proto.size)?;
        return (memory.u8(proto + GC64.gct).ok()? == gct::PROTO).then_some(Function::Lua(proto));
    }
    Some(Function::C(memory.u64(at + GC64.func.f).ok()?))
}

/// Whether the instruction before this address is one that calls (lj_bc.h: CALLM, CALL, ITERC, ITERN; the
/// numbers of 2.1).
#[must_use]
pub fn behind_a_call(memory: &Live, pc: u64) -> bool {
    const CALLS: [u32; 4] = [65, 66, 69, 70];
    memory.u32(pc.wrapping_sub(4)).is_ok_and(|word| CALLS.contains(&(word & 0xff)))
}
