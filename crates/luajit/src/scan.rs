//! VMs that nobody points at: a main thread by what it looks like in memory. For processes without nginx's
//! symbols; what is found is no more than a candidate for [`crate::attach`].

use crate::layout::{Fixed, GC32, GC64, gct, little_endian};
use std::ops::Range;
use upprof_memory::Memory;

/// Memory that is looked through in one process, in bytes.
const MOST_BYTES: usize = 256 << 20;
/// What is read at once, in bytes.
const CHUNK: usize = 1 << 20;
/// Candidates that are returned at most.
const MOST_FOUND: usize = 64;

/// Addresses where a VM's main thread may lie, in these ranges: an object of type thread whose
/// `global_State` is right behind it (`GG_State`, lj_dispatch.h).
#[must_use]
pub fn main_threads(mem: &dyn Memory, ranges: &[Range<u64>]) -> Vec<u64> {
    let mut found = Vec::new();
    let mut left = MOST_BYTES;
    for range in ranges {
        let mut at = range.start.next_multiple_of(8);
        while at < range.end && left > 0 && found.len() < MOST_FOUND {
            let len = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK).min(left);
            left -= len;
            // A piece that cannot be read holds nothing that could be verified.
            if let Ok(bytes) = mem.bytes(at, len, CHUNK) {
                found.extend(in_bytes(&bytes, at).take(MOST_FOUND - found.len()));
            }
            at += len as u64;
        }
    }
    found
}

/// Candidates in one piece. One that a piece's end cuts is missed: a VM's memory begins with it, on a page
/// of its own (lj_alloc.c) or behind an allocator's header.
fn in_bytes(bytes: &[u8], start: u64) -> impl Iterator<Item = u64> {
    (0..bytes.len()).step_by(8).filter_map(move |i| {
        let at = start + i as u64;
        let looks = [&GC64, &GC32].into_iter().any(|fixed| looks_like(fixed, &bytes[i..], at));
        looks.then_some(at)
    })
}

fn looks_like(fixed: &Fixed, object: &[u8], at: u64) -> bool {
    let wide = fixed.ref_size == 8;
    let glref = fixed.l_glref as usize;
    if object.get(fixed.gct as usize) != Some(&gct::THREAD) || (!wide && at >> 32 != 0) {
        return false;
    }
    let Some(reference) = object.get(glref..glref + usize::from(fixed.ref_size)) else { return false };
    let g = little_endian(reference);
    fixed.fork(g.wrapping_sub(at)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use upprof_memory::Snapshot;

    /// A page with a thread at `at`, whose `global_State` is `distance` behind it.
    fn page(at: u64, fixed: &Fixed, kind: u8, distance: u64) -> Snapshot {
        let base = at & !0xfff;
        let mut bytes = vec![0; 4096];
        let from = (at - base) as usize;
        bytes[from + fixed.gct as usize] = kind;
        let glref = (at + distance).to_le_bytes();
        let to = from + fixed.l_glref as usize;
        bytes[to..to + usize::from(fixed.ref_size)].copy_from_slice(&glref[..usize::from(fixed.ref_size)]);
        let mut memory = Snapshot::default();
        memory.insert(base, bytes);
        memory
    }

    fn found(memory: &Snapshot, at: u64) -> Vec<u64> {
        let base = at & !0xfff;
        main_threads(memory, std::slice::from_ref(&(base..base + 4096)))
    }

    #[test]
    fn main_threads_of_both_modes_and_forks_are_found() {
        let high = 0x7f00_0000_0390;
        for distance in [96, 104, 112] {
            assert_eq!(found(&page(high, &GC64, gct::THREAD, distance), high), [high]);
        }
        let low = 0x4000_0390;
        for distance in [64, 72, 80] {
            assert_eq!(found(&page(low, &GC32, gct::THREAD, distance), low), [low]);
        }
    }

    #[test]
    fn coroutines_and_other_objects_are_not() {
        let at = 0x7f00_0000_0390;
        assert_eq!(found(&page(at, &GC64, gct::THREAD, 4096), at), []);
        assert_eq!(found(&page(at, &GC64, gct::TAB, 112), at), []);
        // GC32 keeps its objects below 4 GiB.
        assert_eq!(found(&page(at, &GC32, gct::THREAD, 64), at), []);
    }

    #[test]
    fn what_cannot_be_read_holds_none() {
        assert_eq!(main_threads(&Snapshot::default(), std::slice::from_ref(&(0..u64::MAX))), []);
    }
}
