//! The collector: how much memory a VM has, and how far its collector is.

use super::NotTrusted;
use crate::Vm;
use crate::block::Block;
use serde::Serialize;
use upprof_memory::Memory;

/// The collector's state (`GCState`, lj_obj.h).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gc {
    /// Memory that the VM has allocated now, bytes: what `collectgarbage("count")` gives, times 1024.
    pub total_bytes: u64,
    /// Above this the collector works, bytes; `None` when it is stopped.
    pub threshold_bytes: Option<u64>,
    /// How much the collector is behind, bytes.
    pub debt_bytes: u64,
    /// What the last cycle left, bytes: the live memory as the collector sees it.
    pub estimate_bytes: u64,
    /// What it does now.
    pub state: GcState,
    /// `setpause`: a new cycle starts when memory is this many percent of the estimate.
    pub pause_percent: u32,
    /// `setstepmul`: how fast it works relative to allocation, percent.
    pub stepmul_percent: u32,
    /// Only after a second look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<GcRates>,
}

/// What two or more looks tell. Both are lower bounds: what is allocated and freed between two looks
/// at the total is not seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GcRates {
    /// Rises of the total, bytes a second.
    pub allocated_bytes_per_s: f64,
    /// Falls of the total, bytes a second.
    pub freed_bytes_per_s: f64,
    /// How often the total was looked at.
    pub looks: u32,
}

/// `gc.state` (lj_gc.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GcState {
    /// Between two cycles.
    Pause,
    /// Marking.
    Propagate,
    /// The end of marking, done at once.
    Atomic,
    /// Freeing strings.
    SweepString,
    /// Freeing all other objects.
    Sweep,
    /// Calling finalizers.
    Finalize,
}

impl GcState {
    const ALL: [Self; 6] =
        [Self::Pause, Self::Propagate, Self::Atomic, Self::SweepString, Self::Sweep, Self::Finalize];

    /// As tables spell it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Propagate => "propagate",
            Self::Atomic => "atomic",
            Self::SweepString => "sweep strings",
            Self::Sweep => "sweep",
            Self::Finalize => "finalize",
        }
    }
}

/// Offsets in `GCState` from `total` (lj_obj.h): the same in every version since 2017, by mode.
struct Offsets {
    threshold: u64,
    currentwhite: u64,
    state: u64,
    root: u64,
    debt: u64,
    estimate: u64,
    stepmul: u64,
    pause: u64,
    size: u64,
}

const GC64: Offsets = Offsets {
    threshold: 8,
    currentwhite: 16,
    state: 17,
    root: 24,
    debt: 72,
    estimate: 80,
    stepmul: 88,
    pause: 92,
    size: 96,
};
const GC32: Offsets = Offsets {
    threshold: 4,
    currentwhite: 8,
    state: 9,
    root: 16,
    debt: 40,
    estimate: 44,
    stepmul: 48,
    pause: 52,
    size: 56,
};

fn offsets(vm: &Vm) -> &'static Offsets {
    if vm.fixed.ref_size == 8 { &GC64 } else { &GC32 }
}

/// Address of `global_State.gc.total`.
fn total_at(vm: &Vm) -> u64 {
    vm.g.wrapping_add(u64::from(vm.era.gc_total))
}

/// Address of `global_State.gc.root`: the list of all objects but strings.
pub(super) fn root_at(vm: &Vm) -> u64 {
    total_at(vm).wrapping_add(offsets(vm).root)
}

impl Gc {
    /// Reads it, in one read.
    ///
    /// # Errors
    /// [`NotTrusted`].
    pub fn read(mem: &dyn Memory, vm: &Vm) -> Result<Self, NotTrusted> {
        let at = offsets(vm);
        let block = Block::read(mem, vm.fixed, total_at(vm), at.size)?;
        let total = checked_total(vm, block.word(0))?;
        let state = block.u8(at.state);
        let state = *GcState::ALL.get(usize::from(state)).ok_or(implausible("gc.state", state))?;
        // lj_gc.h: one of two whites is the current one; which, changes with every cycle.
        let white = block.u8(at.currentwhite);
        if !matches!(white & 3, 1 | 2) {
            return Err(implausible("gc.currentwhite", white));
        }
        let threshold = block.word(at.threshold);
        // LUA_GCSTOP sets LJ_MAX_MEM (lj_api.c lua_gc), half of what a word holds or all of it.
        let stopped = threshold >= if vm.fixed.ref_size == 8 { 1 << 47 } else { 0x7fff_ff00 };
        Ok(Self {
            total_bytes: total,
            threshold_bytes: (!stopped).then_some(threshold),
            debt_bytes: block.word(at.debt),
            estimate_bytes: block.word(at.estimate),
            state,
            pause_percent: block.u32(at.pause),
            stepmul_percent: block.u32(at.stepmul),
            rates: None,
        })
    }

    /// The total alone, for looking often.
    ///
    /// # Errors
    /// [`NotTrusted`].
    pub fn total(mem: &dyn Memory, vm: &Vm) -> Result<u64, NotTrusted> {
        let word = Block::read(mem, vm.fixed, total_at(vm), vm.fixed.ref_size.into())?.word(0);
        checked_total(vm, word)
    }
}

/// A VM counts at least its own `GG_State`, and at most what can be addressed.
fn checked_total(vm: &Vm, total: u64) -> Result<u64, NotTrusted> {
    let least = vm.dispatch.wrapping_sub(vm.main_thread);
    if total < least || total >= 1 << 47 {
        return Err(NotTrusted::Implausible { what: "gc.total", value: total });
    }
    Ok(total)
}

fn implausible(what: &'static str, value: u8) -> NotTrusted {
    NotTrusted::Implausible { what, value: value.into() }
}
