//! Where a guard's own instruction is.
//!
//! A snapshot says where the interpreter would go on if the trace were left there. For a comparison, and for
//! the end of a numeric loop, that is the way that the trace does not take (lj_record.c rec_comp_fixup,
//! rec_for): the line after an `if`, or after the loop. The instruction is found from both ways: it is the
//! one that leads to where the snapshot points, and to where the trace is next.

use super::snapshot::Site;
use std::collections::HashMap;
use upprof_memory::Memory;

/// lj_bc.h: numbers that no version since 2017 has changed.
const LAST_COMPARISON: u8 = 11;
const FORL: u8 = 79;
const IFORL: u8 = 80;
const JFORL: u8 = 81;
const JMP: u8 = 88;

/// The target's bytecode, read in pieces that never cross a page.
pub(super) struct Bytecode<'a> {
    mem: &'a dyn Memory,
    blocks: HashMap<u64, Option<Vec<u8>>>,
    /// Of traces that start at the end of a numeric loop, by number: where the loop's body begins. The
    /// compiler overwrote that with the number.
    loops: HashMap<u32, u64>,
}

impl<'a> Bytecode<'a> {
    pub(super) fn of(mem: &'a dyn Memory) -> Self {
        Self { mem, blocks: HashMap::new(), loops: HashMap::new() }
    }

    /// Remembers the instruction that a trace replaced, if it ended a numeric loop.
    pub(super) fn replaced(&mut self, number: u32, at: u64, instruction: u32) {
        if op(instruction) == FORL {
            self.loops.insert(number, target(at, instruction));
        }
    }

    fn at(&mut self, address: u64) -> Option<u32> {
        const BLOCK: u64 = 1024;
        let start = address / BLOCK * BLOCK;
        let mem = self.mem;
        let block = self
            .blocks
            .entry(start)
            .or_insert_with(|| mem.bytes(start, BLOCK as usize, BLOCK as usize).ok())
            .as_ref()?;
        let at = (address - start) as usize;
        Some(u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?))
    }

    /// Where the jump behind a comparison at this address leads; `None` if there is none.
    fn jump_of_comparison(&mut self, address: u64) -> Option<u64> {
        let (compares, jumps) = (self.at(address)?, self.at(address + 4)?);
        (op(compares) <= LAST_COMPARISON && op(jumps) == JMP).then(|| target(address + 4, jumps))
    }

    /// Where the body begins of the numeric loop that ends at this address.
    fn body_of_loop(&mut self, address: u64) -> Option<u64> {
        let ins = self.at(address)?;
        match op(ins) {
            FORL | IFORL => Some(target(address, ins)),
            JFORL => self.loops.get(&(ins >> 16)).copied(),
            _ => None,
        }
    }
}

fn op(instruction: u32) -> u8 {
    instruction as u8
}

/// Where a jump at this address leads: its D operand, biased, from the next instruction on.
fn target(address: u64, instruction: u32) -> u64 {
    const BIAS: i64 = 0x8000;
    (address + 4).wrapping_add_signed((i64::from(instruction >> 16) - BIAS) * 4)
}

/// Puts each guard's snapshot to the guard's own instruction. `again` is where the trace goes on from its
/// end, if that is in itself.
pub(super) fn settle(sites: &mut [Site], again: Option<usize>, proto_size: u64, code: &mut Bytecode<'_>) {
    // From the end: what comes next must be known.
    for i in (0..sites.len()).rev() {
        let depth = sites[i].depth();
        let next = if i + 1 < sites.len() { Some(i + 1) } else { again };
        let Some((points_to, next)) =
            sites[i].pc(depth, proto_size).zip(next.and_then(|n| following(sites, i, n, proto_size)))
        else {
            continue;
        };
        let before = i.checked_sub(1).and_then(|b| following(sites, i, b, proto_size));
        if let Some(own) = guard(points_to, next, before, code) {
            sites[i].set_pc(own, proto_size);
        }
    }
}

/// Where site `other` is in the function that site `i` is in, if it still is, or is called by it.
fn following(sites: &[Site], i: usize, other: usize, proto_size: u64) -> Option<u64> {
    let depth = sites[i].depth();
    sites[i].same_function(&sites[other], depth).then(|| sites[other].pc(depth, proto_size)).flatten()
}

/// The comparison or end of a loop that leads to `points_to` if the guard fails, and to `next` else.
fn guard(points_to: u64, next: u64, before: Option<u64>, code: &mut Bytecode<'_>) -> Option<u64> {
    // Behind the end of a loop, and next inside of it.
    let ends = points_to.checked_sub(4)?;
    if code.body_of_loop(ends).is_some_and(|body| (body..points_to).contains(&next)) {
        return Some(ends);
    }
    // Behind a comparison and its jump, and next where that leads, or on from there. A snapshot that was
    // taken here because the comparison went this way is preceded by the comparison's.
    let compares = points_to.checked_sub(8)?;
    if let Some(jump) = code.jump_of_comparison(compares) {
        let jumped = if jump < points_to { (jump..points_to).contains(&next) } else { next >= jump };
        if jumped && before != Some(jump) {
            return Some(compares);
        }
    }
    // Where the jump behind a comparison leads, and next between the two.
    const FAR: u64 = 256 * 4;
    if next >= points_to {
        return None;
    }
    let mut at = next.checked_sub(8)?;
    while next - at <= FAR {
        if code.jump_of_comparison(at) == Some(points_to) {
            return Some(at);
        }
        at = at.checked_sub(4)?;
    }
    None
}
