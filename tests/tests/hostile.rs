//! Stacks that lie: whatever the memory holds, every walk ends, within its bounds, and says how.

use std::cell::Cell;
use std::ops::Range;
use upprof_memory::Memory;
use upprof_probes::hostsim::{Described, limits};
use upprof_profile::raw::{Outcome, RawFrame};
use upprof_tests::oracle::layout::{GC32, GC64, Layout};
use upprof_tests::snapshot::Machine;
use upprof_tests::snapshot::random::{Noise, Random};
use upprof_tests::snapshot::scenes::{compiled, nested};

#[test]
fn what_is_corrupted_here_is_whole_before() {
    for layout in [GC64, GC32] {
        for mut m in [nested(layout), compiled(layout)] {
            let walked = m.walk();
            let shown = m.shown(&walked.frames);
            assert_eq!(walked.outcome, Outcome::Complete, "{shown:#?}");
            assert_eq!(walked.counted().count(), 0, "{:?}", walked.counted().collect::<Vec<_>>());
            assert!(shown.len() > 55, "{shown:#?}");
            assert_eq!(shown.last().map(String::as_str), Some("start"));
        }
    }
}

/// Walks, counting reads; asserts all that holds for any memory.
fn walk_within_bounds(m: &Machine, live: &[Range<u64>; 2], random: &mut Random, what: &str) -> Outcome {
    let (sim, mut spec) = m.described();
    if random.below(4) == 0 {
        spec.stack_span = u64::MAX >> random.below(64);
        for vm in &mut spec.vms {
            vm.g = if random.below(2) == 0 { random.word(live) } else { vm.g };
        }
    }
    let reads = Cell::new(0_u32);
    let memory = |at: u64, to: &mut [u8]| {
        reads.set(reads.get() + 1);
        m.image.read(at, to).is_ok()
    };
    let walked = sim.walk(memory, &Described::from(&spec), &m.regs);
    let count =
        |wanted: fn(&RawFrame) -> bool| walked.frames.iter().map(|f| f.unpack()).filter(wanted).count();
    assert!(walked.steps <= limits::MAX_WALK_STEPS, "{what}: {} steps", walked.steps);
    assert!(walked.frames.len() <= limits::MAX_FRAMES, "{what}");
    // One more where the walk got stuck in code of no file, which is told before it goes on.
    let native = count(|f| matches!(f, RawFrame::Native { .. }));
    assert!(native <= limits::MAX_NATIVE_FRAMES + walked.frames.len() / 2, "{what}: {native} native");
    let lua = count(|f| matches!(f, RawFrame::Lua { .. } | RawFrame::LuaC { .. }));
    assert!(lua <= limits::MAX_LUA_FRAMES, "{what}: {lua} Lua frames");
    assert_eq!(count(|f| matches!(f, RawFrame::Unknown(_))), 0, "{what}");
    assert_ne!(walked.outcome, Outcome::Unknown, "{what}");
    // Every step reads a handful of things: the cost of a sample is bounded as its steps are. Once a walk,
    // the C frame of an unknown VM is looked for in some 66 places.
    assert!(
        reads.get() <= 256 + 16 * walked.steps,
        "{what}: {} reads in {} steps",
        reads.get(),
        walked.steps
    );
    walked.outcome
}

#[test]
fn walks_over_corrupted_memory_end_within_bounds() {
    const ROUNDS: u64 = 6000;
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for (layout, make) in
        [(GC64, nested as fn(Layout) -> Machine), (GC64, compiled), (GC32, nested), (GC32, compiled)]
    {
        let mut m = make(layout);
        let (registers, live) = (m.regs, m.live());
        for round in 0..ROUNDS {
            let random = &mut Random(round << 8 | layout.reference);
            let mut undo = Vec::new();
            for _ in 0..=random.below(12) {
                let range = &live[random.below(2) as usize];
                let at = (range.start + random.below(range.end - range.start - 8)) & !3;
                undo.push((at, m.image.get64(at)));
                let word = random.word(&live);
                m.image.put64(at, word);
            }
            if random.below(2) == 0 {
                let word = random.word(&live);
                let regs = &mut m.regs;
                let all =
                    [&mut regs.ip, &mut regs.sp, &mut regs.bp, &mut regs.bx, &mut regs.r14, &mut regs.dx];
                let i = random.below(6) as usize;
                for (at, register) in all.into_iter().enumerate() {
                    if at == i {
                        *register = word;
                    }
                }
            }
            let what = format!("{} byte references, round {round}", layout.reference);
            let outcome = walk_within_bounds(&m, &live, random, &what);
            *seen.entry(format!("{outcome:?}")).or_default() += 1;
            m.regs = registers;
            for (at, word) in undo.into_iter().rev() {
                m.image.put64(at, word);
            }
        }
    }
    // The corruption is neither so mild nor so wild that only one thing ever happens.
    for outcome in ["Complete", "NoMapping", "ReadFailed", "NoProgress"] {
        assert!(seen.get(outcome).is_some_and(|n| *n > 20), "{seen:?}");
    }
}

#[test]
fn frames_that_lead_back_to_themselves_end() {
    for layout in [GC64, GC32] {
        // A Lua link that leads upwards, or nowhere.
        for delta in [0_i64, -8, -64, 1 << 40] {
            let mut m = nested(layout);
            let at = if layout.two_slots { m.base - 8 } else { m.base - 4 };
            let link = (delta as u64) << 3 | 1;
            if layout.two_slots {
                m.image.put64(at, link)
            } else {
                m.image.put32(at, link as u32)
            }
            m.walk();
        }
        // A C frame that is its own predecessor, or an earlier one's.
        for back in [0, 80, 4096] {
            let mut m = nested(layout);
            let cf = m.cframe();
            m.image.put64(cf + layout.cframe.prev, cf.wrapping_sub(back));
            let walked = m.walk();
            assert!(walked.steps < limits::MAX_WALK_STEPS);
        }
        // A return address into the interpreter, again and again.
        let mut m = nested(layout);
        let vm = m.described().1.vms[0].vm_text.0 + 0x20;
        for at in (m.regs.sp..m.live()[1].end - 8).step_by(8) {
            m.image.put64(at, vm);
        }
        m.walk();
    }
}

#[test]
fn walks_over_noise_end_within_bounds() {
    for layout in [GC64, GC32] {
        let m = nested(layout);
        let (sim, spec) = m.described();
        for seed in 0..2000 {
            let noise = Noise { seed, read: Cell::new(0) };
            let walked = sim.walk(|at, to| noise.read(at, to).is_ok(), &Described::from(&spec), &m.regs);
            assert!(walked.steps <= limits::MAX_WALK_STEPS && walked.frames.len() <= limits::MAX_FRAMES);
        }
    }
}
