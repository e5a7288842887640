//! The compiler's own lists: of traces, and of the areas where their machine code lies.

use super::{Trace, some_reference};
use crate::Vm;
use crate::layout::little_endian;
use std::ops::Range;
use upprof_memory::Memory;

/// Where a VM's compiler keeps its lists (`jit_State`). Both places are candidates that live memory
/// confirmed, so there is nothing to find before the first trace was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jit {
    /// Address of `jit_State.trace`.
    traces: u64,
    /// Address of `jit_State.mcarea`.
    areas: Option<u64>,
}

/// The list of traces: its address, and how many entries it has, the first of which is never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceList {
    array: u64,
    size: u32,
}

/// From `jit_State.trace`, a pointer of 8 bytes in both modes, over `freetrace` to `sizetrace`
/// (lj_jit.h).
const SIZETRACE: u64 = 12;
/// LuaJIT's own limit of traces (`maxtrace` is at most 65535, lj_jit.h).
const MAX_TRACES: u32 = 65_535;
/// Pages and areas of machine code are whole ones (lj_mcode.c).
const PAGE: u64 = 4096;

impl Jit {
    /// Finds the lists. `None` when there is no trace yet, or no candidate is confirmed.
    #[must_use]
    pub fn find(mem: &dyn Memory, vm: &Vm) -> Option<Self> {
        let traces = find_traces(mem, vm)?;
        Some(Self { traces, areas: find_areas(mem, vm, traces) })
    }

    /// The lists at places that are known otherwise: `jit_State.trace` and `jit_State.mcarea`.
    pub(crate) fn at(traces: u64, areas: u64) -> Self {
        Self { traces, areas: Some(areas) }
    }

    /// Address of `jit_State.trace`.
    pub(crate) fn traces_at(&self) -> u64 {
        self.traces
    }

    /// Every trace there is now, by number. One read of the list, and one a trace.
    #[must_use]
    pub fn all(&self, mem: &dyn Memory, vm: &Vm) -> Vec<Trace> {
        let one = usize::from(vm.fixed.ref_size);
        let Some(TraceList { array, size }) = self.list(mem) else { return Vec::new() };
        let bytes = size.min(MAX_TRACES) as usize * one;
        let Ok(entries) = mem.bytes(array, bytes, bytes) else { return Vec::new() };
        let numbered = entries.chunks_exact(one).map(little_endian).zip(0..).skip(1);
        numbered
            .filter(|(at, _)| *at != 0)
            .filter_map(|(at, number)| Trace::read(mem, vm, at, number))
            .collect()
    }

    /// Trace `number`, if there is one now.
    #[must_use]
    pub fn trace(&self, mem: &dyn Memory, vm: &Vm, number: u32) -> Option<Trace> {
        self.list(mem)?.trace(mem, vm, number)
    }

    /// Where the list of traces is now: it moves when it grows.
    #[must_use]
    pub fn list(&self, mem: &dyn Memory) -> Option<TraceList> {
        let head = mem.bytes(self.traces, 16, 16).ok()?;
        let size = u32::from_le_bytes(head[SIZETRACE as usize..].try_into().ok()?);
        Some(TraceList { array: u64::from_le_bytes(head[..8].try_into().ok()?), size })
    }

    /// The areas that hold the machine code of all traces, and their exits. `None` where the list was not
    /// found or does not hold together.
    #[must_use]
    pub fn areas(&self, mem: &dyn Memory) -> Option<Vec<Range<u64>>> {
        chain(mem, self.areas?)
    }
}

impl TraceList {
    /// Trace `number`, if there is one now.
    #[must_use]
    pub fn trace(&self, mem: &dyn Memory, vm: &Vm, number: u32) -> Option<Trace> {
        if number == 0 || number >= self.size {
            return None;
        }
        let entry = self.array.wrapping_add(u64::from(number) * u64::from(vm.fixed.ref_size));
        Trace::read(mem, vm, some_reference(mem, vm, entry)?, number)
    }
}

/// `jit_State.trace`: an array of references whose entry i is null or a trace with number i, with
/// its size 12 bytes behind the pointer (lj_jit.h: trace, freetrace, sizetrace).
fn find_traces(mem: &dyn Memory, vm: &Vm) -> Option<u64> {
    const SPREAD: u64 = 64;
    let step = usize::from(vm.fixed.ref_size);
    vm.era.g2trace.of(vm.fork).iter().find_map(|near| {
        let mut offsets = (near.saturating_sub(SPREAD)..=near + SPREAD).step_by(step);
        offsets.find(|o| traces_plausible(mem, vm, vm.g.wrapping_add(*o))).map(|o| vm.g.wrapping_add(o))
    })
}

fn traces_plausible(mem: &dyn Memory, vm: &Vm, at: u64) -> bool {
    /// Enough to tell.
    const LOOK_AT: u32 = 64;
    let (Ok(array), Ok(size)) = (mem.u64(at), mem.u32(at.wrapping_add(SIZETRACE))) else { return false };
    if array == 0 || size == 0 || size > MAX_TRACES + 1 {
        return false;
    }
    let mut seen = 0;
    for number in 1..size.min(LOOK_AT) {
        let entry = array.wrapping_add(u64::from(number) * u64::from(vm.fixed.ref_size));
        match crate::detect::reference(mem, vm.fixed, entry) {
            Ok(0) => {}
            Ok(trace) if Trace::read(mem, vm, trace, number).is_some() => seen += 1,
            _ => return false,
        }
    }
    seen > 0
}

/// `jit_State.mcarea` lies somewhere between `trace` and the dispatch table: five words (mcarea, mctop,
/// mcbot, szmcarea, szallmcarea) that must agree with each other and with the list that they begin.
fn find_areas(mem: &dyn Memory, vm: &Vm, traces: u64) -> Option<u64> {
    const LARGEST: usize = 8192;
    let len = usize::try_from(vm.dispatch.checked_sub(traces)?).ok()?;
    let bytes = mem.bytes(traces, len, LARGEST).ok()?;
    (16..bytes.len().saturating_sub(AREA_WORDS * 8))
        .step_by(8)
        // A first look at what was read already: hardly anything is a page's address.
        .filter(|i| page_like(u64::from_le_bytes(bytes[*i..*i + 8].try_into().unwrap_or_default())))
        .map(|i| traces.wrapping_add(i as u64))
        .find(|at| chain(mem, *at).is_some())
}

const AREA_WORDS: usize = 5;

fn page_like(address: u64) -> bool {
    address != 0 && address.is_multiple_of(PAGE) && address >> 47 == 0
}

/// The list of areas that begins at `at`, where `jit_State.mcarea` is or may be. Each area begins with its
/// link: the next one, and its own size (lj_jit.h MCLink).
fn chain(mem: &dyn Memory, at: u64) -> Option<Vec<Range<u64>>> {
    const MOST: usize = 65_536;
    let bytes = mem.bytes(at, AREA_WORDS * 8, AREA_WORDS * 8).ok()?;
    let word = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().unwrap_or_default());
    let (newest, top, bottom, size, total) = (word(0), word(1), word(2), word(3), word(4));
    let end = newest.checked_add(size)?;
    if bottom <= newest || bottom > top || top > end {
        return None;
    }
    let mut areas = Vec::new();
    let (mut area, mut sum) = (newest, 0_u64);
    while area != 0 {
        if !page_like(area) || areas.len() == MOST {
            return None;
        }
        let (next, size) = (mem.u64(area).ok()?, mem.u64(area.wrapping_add(8)).ok()?);
        sum = sum.checked_add(size)?;
        if size == 0 || !size.is_multiple_of(PAGE) || sum > total {
            return None;
        }
        areas.push(area..area.checked_add(size)?);
        area = next;
    }
    (sum == total && areas.first()?.end == end).then_some(areas)
}
