//! Lua stacks, as lj_frame.h and lj_debug.c read them.

use super::build::View;
use super::layout::gct;
use upprof_memory::Memory as _;

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
    pub fn read(view: &View, at: u64) -> Option<Self> {
        const USER: u64 = 1 << 47;
        let (layout, memory) = (view.layout(), view.memory);
        let t = layout.thread;
        let thread = |l: u64| -> Option<u64> {
            let possible = l != 0 && l < USER && l.is_multiple_of(8);
            (possible && memory.u8(l + layout.gct).ok()? == gct::THREAD).then_some(())?;
            view.reference(l + t.glref).ok()
        };
        let g = thread(at).filter(|g| *g < USER)?;
        let main = view.reference(g + view.build.mainthref).ok()?;
        if main.wrapping_add(view.build.thread_size) != g || thread(main)? != g {
            return None;
        }
        Some(Self {
            at,
            g,
            base: memory.u64(at + t.base).ok()?,
            cframe: memory.u64(at + t.cframe).ok()? & !3,
            stack: view.reference(at + t.stack).ok()?,
            maxstack: view.reference(at + t.maxstack).ok()?,
        })
    }

    /// Where on its stack a saved offset is (lj_state.h restorestack).
    #[must_use]
    pub fn restore(&self, offset: u64) -> u64 {
        self.stack + offset
    }

    /// The function of the frame with this base; `Ok(None)` for the thread itself, which is no function.
    fn function(&self, view: &View, base: u64) -> Result<Option<Function>, &'static str> {
        let object = view.frame_object(base).map_err(|_| "frame not readable")?;
        if object == self.at {
            return Ok(None);
        }
        function(view, object).map(Some).ok_or("no function in a frame")
    }

    /// Whether a frame with this base is possible at all.
    #[must_use]
    pub fn holds(&self, view: &View, base: u64) -> bool {
        base.is_multiple_of(8) && base > self.stack + view.frame_bytes() && base <= self.maxstack
    }

    /// The function that a frame with this base would have.
    #[must_use]
    pub fn function_at(&self, view: &View, base: u64) -> Option<Function> {
        if !self.holds(view, base) {
            return None;
        }
        self.function(view, base).ok().flatten()
    }

    /// The frames of one segment, newest first, and the base below it: of the frame of the next segment.
    /// A vararg function is one frame.
    ///
    /// # Errors
    /// What is wrong with the chain.
    pub fn segment(&self, view: &View, from: u64) -> Result<(Vec<Frame>, u64), &'static str> {
        const MOST: usize = 100_000;
        let mut frames = Vec::new();
        let mut base = from;
        let mut same_call = false;
        for _ in 0..MOST {
            if base == self.stack + view.frame_bytes() {
                return Ok((frames, base));
            }
            if !self.holds(view, base) {
                return Err("a frame outside of the stack");
            }
            let function = self.function(view, base)?;
            let link = view.frame_link(base).map_err(|_| "link not readable")?;
            let size = link & !7;
            let (entered, below, again) = match link & 7 {
                0 | 4 => {
                    let below = view.caller_base(base, link).map_err(|_| "bytecode not readable")?;
                    (Entered::ByLua(link), below, false)
                }
                1 | 5 => (Entered::ByC, base.wrapping_sub(size), false),
                2 => {
                    let (goes_on, pc) = view.continuation(base).map_err(|_| "continuation not readable")?;
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
pub fn function(view: &View, at: u64) -> Option<Function> {
    let (layout, memory) = (view.layout(), view.memory);
    if memory.u8(at.wrapping_add(layout.gct)).ok()? != gct::FUNC {
        return None;
    }
    if memory.u8(at + layout.func.ffid).ok()? == 0 {
        let proto = view.reference(at + layout.func.pc).ok()?.checked_sub(layout.proto.size)?;
        return (memory.u8(proto + layout.gct).ok()? == gct::PROTO).then_some(Function::Lua(proto));
    }
    Some(Function::C(memory.u64(at + layout.func.f).ok()?))
}

/// Whether the instruction before this address is one that calls (lj_bc.h: CALLM, CALL, ITERC, ITERN; the
/// numbers of 2.1).
#[must_use]
pub fn behind_a_call(view: &View, pc: u64) -> bool {
    const CALLS: [u32; 4] = [65, 66, 69, 70];
    view.memory.u32(pc.wrapping_sub(4)).is_ok_and(|word| CALLS.contains(&(word & 0xff)))
}
