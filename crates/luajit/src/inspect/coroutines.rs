//! Coroutines: how many there are, in which state, and where those that wait do so.

use super::Place;
use super::heap::Heap;
use crate::Vm;
use crate::block::Block;
use crate::detect::reference;
use crate::layout::gct;
use serde::Serialize;
use upprof_memory::Memory;

/// Places that are told.
const MAX_PLACES: usize = 100;

/// The coroutines of a VM, its main thread left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Coroutines {
    /// All that were not collected yet.
    pub all: u64,
    /// Not started, or waiting after a yield.
    pub suspended: u64,
    /// Running, or having resumed another one.
    pub running: u64,
    /// Finished or failed, and not collected yet.
    pub dead: u64,
    /// Memory of their stacks, bytes.
    pub stack_bytes: u64,
    /// The largest stack, bytes.
    pub largest_stack_bytes: u64,
    /// Where suspended ones wait, most first: the Lua line that called what yielded.
    pub waiting: Vec<Waiting>,
    /// Why the numbers are not of one moment, or not complete, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<String>,
}

/// Coroutines that wait in the same line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Waiting {
    /// The line.
    pub at: Place,
    /// How many.
    pub count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Suspended,
    Running,
    Dead,
}

impl Coroutines {
    /// Looks at the threads that a walk over the heap has found.
    #[must_use]
    pub fn read(mem: &dyn Memory, vm: &Vm, heap: &Heap) -> Self {
        let mut all = Self { torn: heap.torn.clone(), ..Self::default() };
        let mut waiting = std::collections::BTreeMap::new();
        for at in heap.threads.iter().filter(|at| **at != vm.main_thread) {
            let Some(thread) = Thread::read(mem, vm, *at) else { continue };
            all.all += 1;
            all.stack_bytes += thread.stack_bytes;
            all.largest_stack_bytes = all.largest_stack_bytes.max(thread.stack_bytes);
            match thread.state {
                State::Suspended => all.suspended += 1,
                State::Running => all.running += 1,
                State::Dead => all.dead += 1,
            }
            if thread.state == State::Suspended
                && let Some(place) = thread.waits_at(mem, vm)
            {
                *waiting.entry(place).or_insert(0) += 1;
            }
        }
        all.waiting = waiting.into_iter().map(|(at, count)| Waiting { at, count }).collect();
        all.waiting.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.at.cmp(&b.at)));
        all.waiting.truncate(MAX_PLACES);
        all
    }
}

struct Thread {
    base: u64,
    stack: u64,
    stack_bytes: u64,
    state: State,
}

impl Thread {
    fn read(mem: &dyn Memory, vm: &Vm, at: u64) -> Option<Self> {
        const LUA_YIELD: u8 = 1;
        let f = vm.fixed;
        let b = Block::read(mem, f, at, f.l_stacksize + 4).ok()?;
        if b.u8(f.gct) != gct::THREAD {
            return None;
        }
        let (base, top, stack) = (b.u64(f.l_base), b.u64(f.l_base + 8), b.word(f.l_stack));
        // lib_base.c coroutine.status: the bottom frame begins behind the thread's own slot.
        let bottom = stack.wrapping_add(8 * slots_of_frame(vm));
        let state = match b.u8(f.l_status) {
            LUA_YIELD => State::Suspended,
            0 if b.u64(f.l_cframe) != 0 || base > bottom => State::Running,
            0 if top == base => State::Dead,
            0 => State::Suspended,
            _ => State::Dead,
        };
        Some(Self { base, stack, stack_bytes: u64::from(b.u32(f.l_stacksize)) * 8, state })
    }

    /// The Lua function that called what yielded: down the frames (lj_frame.h) to the first of Lua code.
    fn waits_at(&self, mem: &dyn Memory, vm: &Vm) -> Option<Place> {
        const MAX_FRAMES: usize = 32;
        const LUA: u64 = 0;
        const CONTINUATION: u64 = 2;
        let mut base = self.base;
        for _ in 0..MAX_FRAMES {
            if base <= self.stack.wrapping_add(8 * slots_of_frame(vm)) {
                return None;
            }
            let (_, link) = frame(mem, vm, base)?;
            let below = if link & 3 == LUA {
                // The caller's PC; its frame begins below the A operand of the CALL before PC.
                let call = mem.u32(link.checked_sub(4)?).ok()?;
                let below = base.checked_sub(8 * (u64::from(call >> 8 & 0xff) + slots_of_frame(vm)))?;
                let (caller, _) = frame(mem, vm, below)?;
                if let Some(place) = place(mem, vm, caller, link) {
                    return Some(place);
                }
                below
            } else {
                let below = base.checked_sub(link & !7)?;
                // A trace that is stitched around a C function leaves a continuation, and PC below it.
                if link & 3 == CONTINUATION
                    && let (Some(pc), Some((caller, _))) =
                        (continuation_pc(mem, vm, base), frame(mem, vm, below))
                    && let Some(place) = place(mem, vm, caller, pc)
                {
                    return Some(place);
                }
                below
            };
            if below >= base {
                return None;
            }
            base = below;
        }
        None
    }
}

/// Slots of function and link below a frame's base: two with GC64.
fn slots_of_frame(vm: &Vm) -> u64 {
    if vm.fixed.ref_size == 8 { 2 } else { 1 }
}

/// Function and link of the frame with this base.
fn frame(mem: &dyn Memory, vm: &Vm, base: u64) -> Option<(u64, u64)> {
    if vm.fixed.ref_size == 8 {
        let func = mem.u64(base.checked_sub(16)?).ok()? & ((1 << 47) - 1);
        Some((func, mem.u64(base - 8).ok()?))
    } else {
        let slot = base.checked_sub(8)?;
        Some((mem.u32(slot).ok()?.into(), mem.u32(slot + 4).ok()?.into()))
    }
}

/// PC of a continuation's frame (lj_frame.h `frame_contpc`).
fn continuation_pc(mem: &dyn Memory, vm: &Vm, base: u64) -> Option<u64> {
    if vm.fixed.ref_size == 8 {
        mem.u64(base.checked_sub(24)?).ok()
    } else {
        mem.u32(base.checked_sub(12)?).ok().map(u64::from)
    }
}

/// The line of the instruction before `pc`, if the function is one of Lua and holds it.
fn place(mem: &dyn Memory, vm: &Vm, func: u64, pc: u64) -> Option<Place> {
    let f = vm.fixed;
    let head = Block::read(mem, f, func, f.fn_pc + 8).ok()?;
    if head.u8(f.gct) != gct::FUNC || head.u8(f.fn_ffid) != 0 {
        return None;
    }
    let code = reference(mem, f, func.wrapping_add(f.fn_pc)).ok()?;
    let pos = u32::try_from(pc.checked_sub(code)? / 4).ok()?.checked_sub(1)?;
    let proto = code.checked_sub(f.pt_size)?;
    let size = mem.u32(proto.wrapping_add(f.pt_sizebc)).ok()?;
    (pos < size).then(|| Place::of(mem, vm, proto, pos))?
}
