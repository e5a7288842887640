//! One stop: the walkers' stack against the oracle's.

use super::tally::Tally;
use crate::oracle::build::View;
use crate::oracle::heap::Heap;
use crate::oracle::stack::{Item, Proof, Stack};
use crate::oracle::tracee::{Registers, reg};
use std::ops::Range;
use upprof_memory::Memory as _;
use upprof_probes::hostsim::Walked;
use upprof_profile::raw::{Mark, Outcome, RawFrame};

/// A stop and what both made of it.
pub(super) struct Stop<'a> {
    pub(super) registers: &'a Registers,
    pub(super) seen: &'a Stack,
    /// The same after the call or return that was under way.
    pub(super) settled: Option<&'a Stack>,
    /// Where it was stopped, for people.
    pub(super) place: String,
    pub(super) walked: &'a Walked,
    pub(super) items: Vec<Item>,
    pub(super) view: &'a View,
    pub(super) interpreter: &'a Range<u64>,
}

fn is_lua(item: &Item) -> bool {
    matches!(item, Item::Lua(_) | Item::C(_))
}

/// A trace of a VM that nobody told of: the walkers say that one runs, and not where.
fn is_unplaced(ours: &Item, theirs: &Item) -> bool {
    matches!((ours, theirs), (Item::Trace(0), Item::Trace(_)))
}

/// Whether all frames are equal, but for the places of such traces.
fn all_equal(ours: &[Item], theirs: &[Item]) -> bool {
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| a == b || is_unplaced(a, b))
}

impl Stop<'_> {
    pub(super) fn compare(&self, heap: &mut Heap, tally: &mut Tally) {
        tally.stops += 1;
        tally.complete += usize::from(self.walked.outcome == Outcome::Complete);
        tally.oracle_root += usize::from(self.seen.root);
        tally.uncertain += usize::from(self.walked.counted().next().is_some());
        if let Some(why) = self.impossible(heap) {
            tally.impossible.push(self.describe(&why));
        }
        if let Some(settled) = self.settled {
            self.compare_between(settled, tally);
            return;
        }
        if self.seen.undecided.is_some() || (self.seen.leaf.is_none() && !self.seen.root) {
            tally.undecided += 1;
            tally.disagreements.push(self.describe("undecided"));
            return;
        }
        if self.seen.leaf.is_none() {
            tally.idle += 1;
            if self.items != self.seen.items {
                tally.disagreements.push(self.describe("without Lua"));
            }
            return;
        }
        self.compare_frames(tally);
        self.compare_leaf(tally);
    }

    /// Between two instructions of bytecode, right is what was before or what comes after: the two differ by
    /// the frames that the call or return makes or drops, two at most (`pcall` and what it calls).
    /// The leaf itself may be the interpreter's own code as C sees it, which is over by then.
    fn compare_between(&self, after: &Stack, tally: &mut Tally) {
        const MOST: usize = 2;
        let of_vm = matches!(self.items.first(), Some(Item::Native(ip)) if self.interpreter.contains(ip));
        let items = &self.items[usize::from(of_vm)..];
        let lua_from = after.items.iter().position(is_lua).unwrap_or(after.items.len());
        let agrees = [&after.items[..], &after.items[lua_from..]].iter().any(|after| {
            (0..=MOST).any(|more| {
                (0..=MOST).any(|less| {
                    let (ours, theirs) = (items.get(more..), after.get(less..));
                    let dropped = items.iter().take(more).chain(after.iter().take(less));
                    ours.is_some() && ours == theirs && dropped.into_iter().all(is_lua)
                })
            })
        });
        tally.lua += 1;
        tally.boundary += 1;
        for count in [
            &mut tally.leaf,
            &mut tally.whole,
            &mut tally.lua_chain,
            &mut tally.native_chain,
            &mut tally.interleaving,
            &mut tally.proven,
        ] {
            *count += usize::from(agrees);
        }
        if !agrees {
            let all = |items: &[Item]| format!("{:x?}", &items[..items.len().min(8)]);
            let what = format!("between: walkers {}\n    after {}\n   ", all(&self.items), all(&after.items));
            tally.disagreements.push(self.describe(&what));
        }
    }

    fn compare_frames(&self, tally: &mut Tally) {
        let (seen, items) = (&self.seen.items, &self.items);
        let only = |all: &[Item], lua: bool| -> Vec<Item> {
            all.iter().filter(|i| is_lua(i) == lua && !matches!(i, Item::Trace(_))).copied().collect()
        };
        let kinds = |all: &[Item]| -> Vec<bool> {
            all.iter().filter(|i| !matches!(i, Item::Trace(_) | Item::Lost)).map(is_lua).collect()
        };
        tally.lua += 1;
        tally.leaf += usize::from(only(items, true).first() == only(seen, true).first());
        let whole = all_equal(items, seen);
        tally.whole += usize::from(whole);
        tally.unplaced += usize::from(whole && items != seen);
        tally.lua_chain += usize::from(only(items, true) == only(seen, true));
        tally.native_chain += usize::from(only(items, false) == only(seen, false));
        tally.interleaving += usize::from(kinds(items) == kinds(seen));
        if !whole {
            tally.disagreements.push(self.describe("frames differ"));
        }
    }

    fn compare_leaf(&self, tally: &mut Tally) {
        let Some(leaf) = self.seen.leaf else { return };
        tally.proven += usize::from(leaf.proof != Proof::None);
        if let Some(agrees) = leaf.native_agrees {
            tally.c_leaf += 1;
            tally.c_leaf_agrees += usize::from(agrees);
        }
        if let Some(trace) = leaf.trace {
            tally.in_trace += 1;
            let number = self.walked.frames.iter().find_map(|f| match f.unpack() {
                RawFrame::Trace { number, .. } => Some(number),
                _ => None,
            });
            // None is honest: the collector hides the number, and user space finds it by address.
            tally.trace_unnumbered += usize::from(number == Some(None));
            tally.trace_number_equal += usize::from(number == Some(Some(trace.number.into())));
        }
    }

    /// What no stack of this process can be.
    fn impossible(&self, heap: &mut Heap) -> Option<String> {
        let decided = self.seen.undecided.is_none() && self.settled.is_none() && self.seen.root;
        let code_from = self.view.layout().proto.size;
        if decided && self.seen.leaf.is_none() && self.items.iter().any(is_lua) {
            return Some("Lua where none runs".into());
        }
        let mut above: Option<RawFrame> = None;
        for frame in self.walked.frames.iter().map(|f| f.unpack()) {
            if let RawFrame::Lua { proto, pc, .. } = frame {
                if self.seen.g.is_some_and(|g| !heap.is_proto(self.view, g, proto)) {
                    return Some(format!("{proto:#x} is no prototype of this VM"));
                }
                // A caller in Lua, directly below what it called, is behind an instruction that can call.
                let called = matches!(above, Some(RawFrame::Lua { .. } | RawFrame::LuaC { .. }));
                if let (true, Some(pc)) = (called, pc)
                    && !self.can_call(proto + code_from + u64::from(pc) * 4)
                {
                    let opcodes: Vec<u8> = (0..pc + 2)
                        .filter_map(|i| self.view.memory.u8(proto + code_from + u64::from(i) * 4).ok())
                        .collect();
                    return Some(format!("{proto:#x} calls at bytecode {pc} of {opcodes:?}, which cannot"));
                }
            }
            if !matches!(frame, RawFrame::Mark(_)) {
                above = Some(frame);
            }
        }
        None
    }

    /// lj_bc.h of 2.1: calls; all that may lead to a metamethod (comparisons, some with PC behind the JMP
    /// that follows them, arithmetic, concatenation, table access).
    fn can_call(&self, pc: u64) -> bool {
        const CAN: [std::ops::RangeInclusive<u32>; 6] = [0..=11, 19..=38, 54..=64, 65..=68, 69..=70, 88..=88];
        let word = self.view.memory.u32(pc - 4);
        word.is_ok_and(|word| CAN.iter().any(|r| r.contains(&(word & 0xff))))
    }

    fn describe(&self, what: &str) -> String {
        let items = &self.items;
        let word = |i: usize| self.registers[i].unwrap_or_default();
        let same = items.iter().zip(&self.seen.items).take_while(|(a, b)| a == b).count();
        let tail = |all: &[Item]| format!("{:x?}", &all[same.min(all.len())..(same + 6).min(all.len())]);
        let counted: Vec<_> = self.walked.counted().collect();
        format!(
            "{what}: {} sp {:x} rbx {:x} rdx {:x} rbp {:x} r14 {:x}\n    {:?} {:?} {counted:?}; oracle: \
             root {}, {:?}, {:x?}\n    first {same} frames equal, then walkers {}\n    and oracle {}",
            self.place,
            word(reg::RSP),
            word(reg::RBX),
            word(reg::RDX),
            word(reg::RBP),
            word(reg::R14),
            self.walked.outcome,
            self.walked.vm_state,
            self.seen.root,
            self.seen.undecided.or(self.seen.stuck),
            self.seen.leaf,
            tail(items),
            tail(&self.seen.items),
        )
    }
}

/// The walkers' frames in the oracle's words. Markers of states are left out. As in the launcher
/// (`launcher/src/session/traces.rs`), an address that is in no trace is code that the trace called: only the
/// list of traces tells, which the kernel side does not have. What stands behind the mark of a coroutine or
/// light thread runs on no C stack: the oracle has no opinion of parents (tests/tests/mechanisms has).
pub(super) fn items(walked: &Walked, view: &View, g: Option<u64>, heap: &mut Heap) -> Vec<Item> {
    let mut in_a_trace = |ip: u64| g.is_none_or(|g| heap.trace_of_ip(view, g, ip).is_some());
    let mut items = Vec::new();
    let mut in_parents = false;
    for frame in walked.frames.iter().map(|f| f.unpack()) {
        match frame {
            RawFrame::Mark(Mark::Coroutine | Mark::LightThread) => in_parents = true,
            RawFrame::Native { .. } => in_parents = false,
            _ => {}
        }
        if in_parents {
            continue;
        }
        match frame {
            RawFrame::Native { addr, .. } => items.push(Item::Native(addr)),
            RawFrame::Lua { proto, .. } => items.push(Item::Lua(proto)),
            RawFrame::LuaC { function, .. } => items.push(Item::C(function)),
            RawFrame::Trace { ip: Some(ip), .. } if !in_a_trace(ip) => {
                items.extend([Item::Native(ip), Item::Lost]);
            }
            RawFrame::Trace { ip, .. } => items.push(Item::Trace(ip.unwrap_or_default())),
            RawFrame::Mark(Mark::NativeLost) => items.push(Item::Lost),
            RawFrame::Mark(_) | RawFrame::Unknown(_) => {}
        }
    }
    items
}
