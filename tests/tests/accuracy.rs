//! The kernel's walkers against a second opinion, on real stacks: a worker of a target of our own is stopped
//! with ptrace at random moments under load; the walkers (compiled for the host) and an independent reader
//! (`upprof_tests::oracle`) look at the same registers and the same memory. They must agree.
//!
//! Needs root and a Docker engine.

use anyhow::Result;
use std::fmt;
use std::time::Duration;
use upprof_luajit::{Jit, Vm};
use upprof_memory::{Live, Memory};
use upprof_probes::hostsim::Walked;
use upprof_profile::raw::{Mark, Outcome, RawFrame};
use upprof_tests::harness::load::{DEMO, Load};
use upprof_tests::harness::target::Target;
use upprof_tests::oracle::heap::Heap;
use upprof_tests::oracle::hosted::{Hosted, Library};
use upprof_tests::oracle::layout::GC64;
use upprof_tests::oracle::lua::Function;
use upprof_tests::oracle::maps::Contents;
use upprof_tests::oracle::native::Code;
use upprof_tests::oracle::stack::{Item, Oracle, Proof, Stack};
use upprof_tests::oracle::tracee::{Registers, Tracee, reg};

/// Stops with Lua on the stack that count.
const STOPS: usize = 400;
/// Tries before a test gives up.
const TRIES: usize = 20 * STOPS;

/// Everything that stays in the interpreter, and C called from it.
const INTERPRETED: [&str; 18] = [
    "/recursion",
    "/deep",
    "/pcall",
    "/xpcall",
    "/vararg",
    "/tailcall",
    "/sort",
    "/gsub",
    "/meta",
    "/ffi/callback",
    "/finalizer",
    "/coroutine",
    "/coroutine/nested",
    "/coroutine/raw",
    "/thread",
    "/strings",
    "/cjson",
    "/phases",
];
const COMPILED: [&str; 6] =
    ["/jit/loop", "/jit/recursion", "/jit/inline", "/jit/branches", "/jit/ffi", "/jit/garbage"];

/// One process under observation.
struct Observed {
    pid: u32,
    tracee: Tracee,
    hosted: Hosted,
    heap: Heap,
}

/// What the stops of one workload gave.
#[derive(Debug, Default)]
struct Tally {
    stops: usize,
    /// Stops without Lua on the stack.
    idle: usize,
    /// Stops whose Lua the oracle cannot tell.
    undecided: usize,
    /// Stops with Lua on the stack that both could read: what all following are of.
    lua: usize,
    whole: usize,
    lua_chain: usize,
    native_chain: usize,
    interleaving: usize,
    leaf_proven: usize,
    leaf_equal: usize,
    c_leaf: usize,
    c_leaf_agrees: usize,
    in_trace: usize,
    trace_unnumbered: usize,
    trace_number_equal: usize,
    /// Over all stops.
    complete: usize,
    oracle_root: usize,
    unsure: usize,
    impossible: Vec<String>,
    disagreements: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |what: &str, part: usize, of: usize| {
            let percent = part as f64 / of.max(1) as f64 * 100.0;
            writeln!(f, "  {what:<64} {part:>5} of {of:<5} {percent:6.2} %")
        };
        row("stops where the walk reaches the process's entry", self.complete, self.stops)?;
        row("  and the oracle does", self.oracle_root, self.stops)?;
        row("stops without Lua on the stack", self.idle, self.stops)?;
        row("stops that the oracle cannot decide", self.undecided, self.stops)?;
        row("Lua on the stack: every frame equal, C and Lua", self.whole, self.lua)?;
        row("  chain of Lua functions equal", self.lua_chain, self.lua)?;
        row("  chain of native frames equal", self.native_chain, self.lua)?;
        row("  interleaving of C and Lua equal", self.interleaving, self.lua)?;
        row("  leaf marked unsure by the walkers", self.unsure, self.lua)?;
        row("leaf proven by PC in the collector's list", self.leaf_proven, self.lua)?;
        row("  of these, the walkers' leaf is the same", self.leaf_equal, self.leaf_proven)?;
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

/// Stops the target's workers in turn until enough stops had Lua on the stack.
fn observe(purpose: &str, paths: &[&str]) -> Result<Tally> {
    let target = Target::ticking(purpose);
    let load = Load::on_all_workers(&target, paths);
    target.burn(2.0);
    let (mut library, mut contents) = (Library::default(), Contents::default());
    let mut workers = Vec::new();
    for pid in target.workers() {
        let hosted = library.describe(pid)?;
        workers.push(Observed { pid, tracee: Tracee::attach(pid)?, hosted, heap: Heap::default() });
    }
    let mut tally = Tally::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    while tally.lua < STOPS && tally.stops < TRIES {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_micros(500 + (random >> 33) % 4500));
        let turn = tally.stops % workers.len();
        let worker = &mut workers[turn];
        let registers = worker.tracee.stop()?;
        let code = Code::of(worker.pid, &mut contents)?;
        let memory = Live::new(worker.pid);
        let interpreter = code.interpreter().expect("the file that holds LuaJIT");
        let mut oracle = Oracle { memory, code: &code, interpreter, heap: &mut worker.heap };
        let seen = oracle.stack(&registers);
        let walked = library.walk(&worker.hosted, &registers);
        let items = items(&walked, &memory, &worker.hosted.vm);
        let stop = Stop { registers: &registers, seen: &seen, walked: &walked, items, memory: &memory };
        stop.compare(&mut worker.heap, &mut tally);
        worker.tracee.run()?;
    }
    drop(workers);
    drop(load);
    Ok(tally)
}

struct Stop<'a> {
    registers: &'a Registers,
    seen: &'a Stack,
    walked: &'a Walked,
    items: Vec<Item>,
    memory: &'a Live,
}

impl Stop<'_> {
    fn compare(&self, heap: &mut Heap, tally: &mut Tally) {
        let (seen, walked, items) = (self.seen, self.walked, &self.items);
        tally.stops += 1;
        tally.complete += usize::from(walked.outcome == Outcome::Complete);
        tally.oracle_root += usize::from(seen.root);
        if let Some(why) = self.impossible(heap) {
            tally.impossible.push(self.describe(&why));
        }
        if seen.undecided.is_some() {
            tally.undecided += 1;
            return;
        }
        let Some(leaf) = seen.leaf else {
            tally.idle += 1;
            if *items != seen.items {
                tally.disagreements.push(self.describe("without Lua"));
            }
            return;
        };
        tally.lua += 1;
        let is_lua = |i: &Item| matches!(i, Item::Lua(_) | Item::C(_));
        let only = |all: &[Item], lua: bool| -> Vec<Item> {
            all.iter().filter(|i| is_lua(i) == lua && !matches!(i, Item::Trace(_))).copied().collect()
        };
        let kinds = |all: &[Item]| -> Vec<bool> {
            all.iter().filter(|i| !matches!(i, Item::Trace(_) | Item::Lost)).map(is_lua).collect()
        };
        tally.whole += usize::from(*items == seen.items);
        tally.lua_chain += usize::from(only(items, true) == only(&seen.items, true));
        tally.native_chain += usize::from(only(items, false) == only(&seen.items, false));
        tally.interleaving += usize::from(kinds(items) == kinds(&seen.items));
        tally.unsure += usize::from(walked.count("lua_leaf_unsure") > 0);
        if *items != seen.items {
            tally.disagreements.push(self.describe("frames differ"));
        }
        let first = items.iter().find(|i| is_lua(i)).copied();
        let expected = leaf.function.map(|f| match f {
            Function::Lua(proto) => Item::Lua(proto),
            Function::C(f) => Item::C(f),
        });
        if leaf.proof != Proof::None {
            tally.leaf_proven += 1;
            tally.leaf_equal += usize::from(first == expected);
        }
        if let Some(agrees) = leaf.native_agrees {
            tally.c_leaf += 1;
            tally.c_leaf_agrees += usize::from(agrees);
        }
        if let Some(trace) = leaf.trace {
            tally.in_trace += 1;
            let number = walked.frames.iter().find_map(|f| match f.unpack() {
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
        let decided = self.seen.undecided.is_none();
        let has_lua = self.items.iter().any(|i| matches!(i, Item::Lua(_) | Item::C(_)));
        if decided && self.seen.leaf.is_none() && has_lua {
            return Some("Lua where none runs".into());
        }
        let mut above: Option<RawFrame> = None;
        for frame in self.walked.frames.iter().map(|f| f.unpack()) {
            if let RawFrame::Lua { proto, pc, .. } = frame {
                if self.seen.g.is_some_and(|g| !heap.is_proto(self.memory, g, proto)) {
                    return Some(format!("{proto:#x} is no prototype of this VM"));
                }
                // A caller in Lua, directly below what it called, is behind an instruction that can call.
                let called = matches!(above, Some(RawFrame::Lua { .. } | RawFrame::LuaC { .. }));
                if let (true, Some(pc)) = (called, pc)
                    && !self.can_call(proto + GC64.proto.size + u64::from(pc) * 4)
                {
                    let code = proto + GC64.proto.size;
                    let opcodes: Vec<u8> =
                        (0..pc + 2).filter_map(|i| self.memory.u8(code + u64::from(i) * 4).ok()).collect();
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
        self.memory.u32(pc - 4).is_ok_and(|word| CAN.iter().any(|r| r.contains(&(word & 0xff))))
    }

    fn describe(&self, what: &str) -> String {
        let items = &self.items;
        let word = |i: usize| self.registers[i].unwrap_or_default();
        let same = items.iter().zip(&self.seen.items).take_while(|(a, b)| a == b).count();
        let tail = |all: &[Item]| format!("{:x?}", &all[same.min(all.len())..(same + 6).min(all.len())]);
        let counted: Vec<_> = self.walked.counted().collect();
        format!(
            "{what}: ip {:x} sp {:x} rbx {:x} rdx {:x} rbp {:x} r14 {:x}\n    {:?} {:?} {counted:?}; oracle: \
             root {}, {:?}, {:x?}\n    first {same} frames equal, then walkers {}\n    and oracle {}",
            word(reg::RIP),
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
/// list of traces tells, which the kernel side does not have.
fn items(walked: &Walked, memory: &Live, vm: &Vm) -> Vec<Item> {
    let traces = Jit::find(memory, vm).map(|jit| jit.all(memory, vm)).unwrap_or_default();
    let in_a_trace = |ip: u64| traces.iter().any(|t| t.holds(ip));
    let mut items = Vec::new();
    for frame in walked.frames.iter().map(|f| f.unpack()) {
        match frame {
            RawFrame::Native { addr, .. } => items.push(Item::Native(addr)),
            RawFrame::Lua { proto, .. } => items.push(Item::Lua(proto)),
            RawFrame::LuaC { function, .. } => items.push(Item::C(function)),
            RawFrame::Trace { ip: Some(ip), .. } if !in_a_trace(ip) => {
                items.extend([Item::Native(ip), Item::Lost]);
            }
            RawFrame::Trace { ip, .. } => {
                // Of a call the walkers tell an address inside the instruction, the oracle where it returns.
                let called = items.iter().any(|i| matches!(i, Item::Native(_)));
                items.push(Item::Trace(ip.unwrap_or_default() + u64::from(called)));
            }
            RawFrame::Mark(Mark::NativeLost) => items.push(Item::Lost),
            RawFrame::Mark(_) | RawFrame::Unknown(_) => {}
        }
    }
    items
}

/// What must hold for every workload.
fn judge(what: &str, tally: &Tally) {
    const SHOWN: usize = 6;
    println!("{what}\n{tally}");
    for text in tally.impossible.iter().chain(&tally.disagreements).take(SHOWN) {
        println!("  {text}");
    }
    let at_least_99 = |part: usize, of: usize| part * 100 >= of * 99;
    assert!(tally.lua >= 300, "only {} stops had Lua on the stack", tally.lua);
    assert!(tally.impossible.is_empty(), "{}", tally.impossible.join("\n"));
    assert!(at_least_99(tally.complete, tally.stops), "the entry was reached too seldom\n{tally}");
    assert!(at_least_99(tally.lua_chain, tally.lua), "Lua functions differ\n{tally}");
    assert!(at_least_99(tally.interleaving, tally.lua), "interleaving differs\n{tally}");
    assert!(at_least_99(tally.native_chain, tally.lua), "native frames differ\n{tally}");
    assert!(at_least_99(tally.leaf_equal, tally.leaf_proven), "leaves differ\n{tally}");
    // The kernel side tells vmstate's number, which is the trace before for an instant after a jump from
    // trace to trace (3 in 244, docs/luajit.md 3.5); the launcher takes the trace that holds the address.
    let told = tally.trace_number_equal + tally.trace_unnumbered;
    assert!(told * 100 >= tally.in_trace * 95, "traces differ\n{tally}");
    // An oracle that abstains often would prove little.
    assert!(tally.undecided * 50 <= tally.stops, "the oracle cannot tell too often\n{tally}");
}

#[test]
fn interpreted_stacks_agree_with_a_second_opinion() {
    let tally = observe("oracle-interp", &INTERPRETED).expect("a target of our own can be stopped and read");
    judge("interpreted", &tally);
    assert!(tally.leaf_proven * 10 >= tally.lua * 9, "too few leaves could be proven\n{tally}");
}

#[test]
fn compiled_stacks_agree_with_a_second_opinion() {
    let tally = observe("oracle-jit", &COMPILED).expect("a target of our own can be stopped and read");
    judge("compiled", &tally);
    assert!(tally.in_trace * 2 >= tally.lua, "too few stops in machine code\n{tally}");
}

/// All mechanisms mixed, with machine code of PCRE, a VM for each request, and every phase.
#[test]
fn the_demos_stacks_agree_with_a_second_opinion() {
    let tally = observe("oracle-demo", &DEMO).expect("a target of our own can be stopped and read");
    judge("the demo", &tally);
}
