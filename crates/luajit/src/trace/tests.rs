//! Traces built by hand, in both modes, from lj_jit.h, lj_snap.c and lj_frame.h.

use super::{Inlined, Jit, Misfit, NoSites, Sites, Trace};
use crate::Vm;
use crate::layout::{Arch, Fixed, Fork, GC32, GC64, eras};
use upprof_memory::Snapshot;

const BASE: u64 = 0x1_0000;
const LEN: usize = 0x1_0000;
/// `global_State`
const G: u64 = BASE + 0x100;
const DISPATCH: u64 = G + 4008;
const CALLER: u64 = BASE + 0x2000;
const CALLEE: u64 = BASE + 0x3000;
const VARARG: u64 = BASE + 0x4000;
/// Functions: of the prototypes, and `pcall`.
const F_CALLER: u64 = BASE + 0x5000;
const F_CALLEE: u64 = BASE + 0x5100;
const F_VARARG: u64 = BASE + 0x5200;
const F_PCALL: u64 = BASE + 0x5300;
const PCALL: u64 = 0x7fff_1234;
const PCALL_FFID: u8 = 20;
const TRACE: u64 = BASE + 0x6000;
const ARRAY: u64 = BASE + 0x7000;
const SNAPS: u64 = BASE + 0x8000;
const CONSTS: u64 = BASE + 0xa000;
/// Machine code areas: the newest, and the one before.
const AREA: u64 = BASE + 0xc000;
const OLDER_AREA: u64 = BASE + 0xe000;
const MCODE: u64 = AREA + 0x40;
const SZMCODE: u32 = 0x400;
const NUMBER: u16 = 3;
const BYTECODES: u32 = 40;

const FRAME: u32 = 0x1_0000;
const CONT: u32 = 0x2_0000;
const BIAS: u32 = 0x8000;

struct Image {
    bytes: Vec<u8>,
    vm: Vm,
    constants: Vec<[u8; 8]>,
    snaps: Vec<[u8; 12]>,
    map: Vec<u32>,
}

impl Image {
    fn new(fixed: &'static Fixed) -> Self {
        let gc64 = fixed.ref_size == 8;
        let id = if gc64 { "gc64-2020-09" } else { "gc32-2021-06" };
        let era = eras(Arch::X86_64).into_iter().find(|e| e.id == id).expect("in the table");
        let vm = Vm {
            main_thread: G - 112,
            g: G,
            fixed,
            era,
            fork: Fork::Luajit2,
            dispatch: DISPATCH,
            vm_text: 0x7fff_0000..0x7fff_4000,
        };
        let mut image =
            Self { bytes: vec![0; LEN], vm, constants: Vec::new(), snaps: Vec::new(), map: Vec::new() };
        let f = image.vm.fixed;
        for proto in [CALLER, CALLEE, VARARG] {
            image.put(proto + f.gct, 1, 7);
            image.put(proto + f.pt_sizebc, 4, BYTECODES.into());
        }
        for (function, proto) in [(F_CALLER, CALLER), (F_CALLEE, CALLEE), (F_VARARG, VARARG)] {
            image.put(function + f.gct, 1, 8);
            image.reference(function + f.fn_pc, proto + f.pt_size);
        }
        image.put(F_PCALL + f.gct, 1, 8);
        image.put(F_PCALL + f.fn_ffid, 1, PCALL_FFID.into());
        image.put(F_PCALL + f.fn_f, 8, PCALL);
        image.put(TRACE + f.gct, 1, 9);
        image.put(TRACE + f.tr_traceno, 2, NUMBER.into());
        image.reference(TRACE + f.tr_startpt, CALLER);
        image.reference(TRACE + f.tr_startpc, CALLER + f.pt_size + 4 * 5);
        image.put(TRACE + f.tr_mcode, 8, MCODE);
        image.put(TRACE + f.tr_szmcode, 4, SZMCODE.into());
        let jit = G + image.vm.era.g2trace.of(Fork::Luajit2)[0];
        image.put(jit, 8, ARRAY);
        image.put(jit + 12, 4, 8);
        image.reference(ARRAY + u64::from(NUMBER) * u64::from(f.ref_size), TRACE);
        let areas = jit + 0x200;
        for (i, word) in [AREA, AREA + 0x1800, AREA + 0x100, 0x2000, 0x3000].into_iter().zip(0..) {
            image.put(areas + word * 8, 8, i);
        }
        image.put(AREA, 8, OLDER_AREA);
        image.put(AREA + 8, 8, 0x2000);
        image.put(OLDER_AREA + 8, 8, 0x1000);
        image
    }

    fn gc64(&self) -> bool {
        self.vm.fixed.ref_size == 8
    }

    fn put(&mut self, at: u64, len: usize, value: u64) {
        let at = usize::try_from(at - BASE).expect("inside");
        self.bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }

    fn reference(&mut self, at: u64, value: u64) {
        self.put(at, self.vm.fixed.ref_size.into(), value);
    }

    /// The address of a prototype's bytecode.
    fn pc(&self, proto: u64, pos: u32) -> u64 {
        proto + self.vm.fixed.pt_size + 4 * u64::from(pos)
    }

    /// Adds a constant of type `kind` (lj_ir.h); returns its ref, which is lower the later it is added.
    fn constant(&mut self, kind: u8, value: u64) -> u32 {
        let head = u64::from(kind) << 32;
        if self.gc64() {
            self.constants.insert(0, value.to_le_bytes());
            self.constants.insert(0, head.to_le_bytes());
        } else {
            self.constants.insert(0, (head | value).to_le_bytes());
        }
        BIAS - self.constants.len() as u32
    }

    fn function(&mut self, function: u64) -> u32 {
        self.constant(8, function)
    }

    /// Adds a snapshot that holds from `mcofs` on.
    fn snap(&mut self, mcofs: u16, entries: &[u32], behind: &[u32]) {
        let mut snap = [0; 12];
        snap[..4].copy_from_slice(&(self.map.len() as u32).to_le_bytes());
        snap[6..8].copy_from_slice(&mcofs.to_le_bytes());
        snap[8] = 9;
        snap[10] = entries.len() as u8;
        self.snaps.push(snap);
        self.map.extend(entries);
        self.map.extend(behind);
    }

    /// A snapshot whose frames are these: slot of the function, what the function is, and the link; from the
    /// outermost above the base on.
    fn frames(&mut self, mcofs: u16, pc: u64, frames: &[(u32, u32, u64)]) {
        let mut entries = Vec::new();
        let mut links = Vec::new();
        for (slot, function, link) in frames {
            if self.gc64() {
                let link = self.constant(14, *link);
                entries.extend([slot << 24 | function, (slot + 1) << 24 | FRAME | link]);
            } else {
                entries.push(slot << 24 | FRAME | function);
                links.insert(0, *link as u32);
            }
        }
        let top = frames.last().map_or(0, |f| f.0);
        let behind = self.behind(pc, top, &links);
        self.snap(mcofs, &entries, &behind);
    }

    /// What follows a snapshot's entries.
    fn behind(&self, pc: u64, top: u32, links: &[u32]) -> Vec<u32> {
        if self.gc64() {
            let word = pc << 8 | u64::from(top);
            vec![word as u32, (word >> 32) as u32]
        } else {
            [pc as u32].into_iter().chain(links.iter().copied()).collect()
        }
    }

    /// Writes the trace out.
    fn finish(&mut self) -> (Snapshot, Trace) {
        let f = self.vm.fixed;
        let constants: Vec<u8> = self.constants.concat();
        let nk = u64::from(BIAS) - self.constants.len() as u64;
        self.put(TRACE + f.tr_nk, 4, nk);
        self.put(TRACE + f.tr_ir, 8, CONSTS.wrapping_sub(nk * 8));
        let mut at = (CONSTS - BASE) as usize;
        self.bytes[at..at + constants.len()].copy_from_slice(&constants);
        let snaps = self.snaps.concat();
        at = (SNAPS - BASE) as usize;
        self.bytes[at..at + snaps.len()].copy_from_slice(&snaps);
        self.put(TRACE + f.tr_nsnap, 2, self.snaps.len() as u64);
        self.put(TRACE + f.tr_snap, 8, SNAPS);
        let map = SNAPS + snaps.len() as u64;
        self.put(TRACE + f.tr_snapmap, 8, map);
        self.put(TRACE + f.tr_nk + 4, 4, self.map.len() as u64);
        for (entry, i) in self.map.clone().into_iter().zip(0..) {
            self.put(map + i * 4, 4, entry.into());
        }
        let mut memory = Snapshot::default();
        memory.insert(BASE, self.bytes.clone());
        let jit = Jit::find(&memory, &self.vm).expect("the lists");
        let trace = jit.trace(&memory, &self.vm, NUMBER.into()).expect("the trace");
        (memory, trace)
    }

    fn sites(&mut self) -> Result<Sites, NoSites> {
        let (memory, trace) = self.finish();
        Sites::read(&memory, &self.vm, &trace, &[])
    }

    /// The frames at an offset, with the caller as the function at the trace's base.
    fn at(&mut self, offset: u32) -> Result<Vec<Inlined>, Misfit> {
        let sites = self.sites().expect("sound");
        let site = sites.at(offset).expect("a snapshot");
        sites.frames(site, (CALLER, BYTECODES, BYTECODES))
    }
}

fn lua(proto: u64, pos: u32) -> Inlined {
    Inlined::Lua { proto, pos, check: BYTECODES }
}

const PCALL_FRAME: Inlined = Inlined::C { function: PCALL, ffid: PCALL_FFID };

fn both(test: impl Fn(Image)) {
    test(Image::new(&GC64));
    test(Image::new(&GC32));
}

#[test]
fn an_offset_is_in_the_last_snapshot_that_begins_before_it() {
    both(|mut image| {
        let callee = image.function(F_CALLEE);
        let (first, inner, last) = (image.pc(CALLER, 6), image.pc(CALLEE, 2), image.pc(CALLER, 21));
        let link = image.pc(CALLER, 11);
        image.frames(0, first, &[]);
        image.frames(0x20, inner, &[(4, callee, link)]);
        image.frames(0x30, last, &[]);
        assert_eq!(image.at(0), Ok(vec![lua(CALLER, 6)]));
        assert_eq!(image.at(0x1f), Ok(vec![lua(CALLER, 6)]));
        // The caller is at its call, one before where it goes on.
        let inlined = Ok(vec![lua(CALLER, 10), lua(CALLEE, 2)]);
        assert_eq!(image.at(0x20), inlined);
        assert_eq!(image.at(0x2f), inlined);
        assert_eq!(image.at(0x3ff), Ok(vec![lua(CALLER, 21)]));
    });
}

#[test]
fn protected_calls_have_the_frame_of_the_fast_function() {
    both(|mut image| {
        let (callee, pcall) = (image.function(F_CALLEE), image.function(F_PCALL));
        let (pc, link) = (image.pc(CALLEE, 3), image.pc(CALLER, 8));
        // Distance 2 slots, type 6 (lj_frame.h FRAME_PCALL).
        image.frames(0, pc, &[(4, pcall, link), (6, callee, 2 << 3 | 6)]);
        assert_eq!(image.at(0), Ok(vec![lua(CALLER, 7), PCALL_FRAME, lua(CALLEE, 3)]));
    });
}

#[test]
fn a_vararg_function_is_one_frame() {
    both(|mut image| {
        let vararg = image.function(F_VARARG);
        let (pc, link) = (image.pc(VARARG, 3), image.pc(CALLER, 8));
        image.frames(0, pc, &[(4, vararg, link), (8, vararg, 4 << 3 | 3)]);
        assert_eq!(image.at(0), Ok(vec![lua(CALLER, 7), lua(VARARG, 3)]));
    });
    // Entered at its head: the fixed part is the trace's base, and on the Lua stack.
    both(|mut image| {
        let caller = image.function(F_CALLER);
        let pc = image.pc(CALLER, 3);
        image.frames(0, pc, &[(4, caller, 4 << 3 | 3)]);
        assert_eq!(image.at(0), Ok(vec![lua(CALLER, 3)]));
    });
}

#[test]
fn a_metamethods_caller_is_where_its_instruction_was_interrupted() {
    both(|mut image| {
        let callee = image.function(F_CALLEE);
        let (pc, goes_on) = (image.pc(CALLEE, 3), image.pc(CALLER, 8));
        let link = 6 << 3 | 2;
        if image.gc64() {
            let (goes_on, link) = (image.constant(14, goes_on), image.constant(14, link));
            let behind = image.behind(pc, 8, &[]);
            image.snap(0, &[7 << 24 | CONT | goes_on, 8 << 24 | callee, 9 << 24 | FRAME | link], &behind);
        } else {
            let behind = image.behind(pc, 8, &[link as u32, goes_on as u32]);
            image.snap(0, &[7 << 24 | CONT, 8 << 24 | FRAME | callee], &behind);
        }
        assert_eq!(image.at(0), Ok(vec![lua(CALLER, 7), lua(CALLEE, 3)]));
    });
}

#[test]
fn a_tail_call_inside_the_trace_replaces_the_function_at_its_base() {
    both(|mut image| {
        let callee = image.function(F_CALLEE);
        let pc = image.pc(CALLEE, 3);
        let behind = image.behind(pc, 0, &[]);
        if image.gc64() {
            image.snap(0, &[callee, 1 << 24 | FRAME], &behind);
        } else {
            image.snap(0, &[FRAME | callee], &behind);
        }
        assert_eq!(image.at(0), Ok(vec![lua(CALLEE, 3)]));
    });
}

#[test]
fn at_its_end_a_trace_has_made_its_frames_real() {
    both(|mut image| {
        let callee = image.function(F_CALLEE);
        let (pc, link) = (image.pc(CALLEE, 2), image.pc(CALLER, 11));
        image.frames(0, pc, &[(4, callee, link)]);
        let sites = image.sites().expect("sound");
        let site = sites.at(9).expect("a snapshot");
        assert_eq!(sites.frames(site, (CALLEE, BYTECODES, BYTECODES)), Ok(vec![lua(CALLEE, 2)]));
        assert_eq!(sites.frames(site, (VARARG, BYTECODES, BYTECODES)), Err(Misfit::Base));
    });
}

#[test]
fn a_closure_made_anew_is_told_by_the_prototype_that_holds_its_pc() {
    both(|mut image| {
        let (pc, link) = (image.pc(CALLEE, 2), image.pc(CALLER, 11));
        // An instruction of the trace: its value is not known.
        image.frames(0, pc, &[(4, BIAS + 7, link)]);
        assert_eq!(image.at(0), Err(Misfit::Function));
        image.constant(7, CALLEE);
        assert_eq!(image.at(0), Ok(vec![lua(CALLER, 10), lua(CALLEE, 2)]));
    });
}

#[test]
fn a_function_that_does_not_hold_its_pc_is_not_shown() {
    both(|mut image| {
        let callee = image.function(F_CALLEE);
        let (pc, link) = (image.pc(CALLEE, BYTECODES), image.pc(CALLER, 11));
        image.frames(0, pc, &[(4, callee, link)]);
        assert_eq!(image.at(0), Err(Misfit::Function));
    });
}

#[test]
fn versions_without_offsets_say_so() {
    both(|mut image| {
        let pc = image.pc(CALLER, 6);
        // From 2019 to 2021 the number of slots was where mcofs is.
        image.frames(9, pc, &[]);
        assert_eq!(image.sites(), Err(NoSites::NoOffsets));
    });
    both(|mut image| {
        let pc = image.pc(CALLER, 6);
        image.frames(0, pc, &[]);
        image.frames(1, pc, &[]);
        let (_, mut trace) = image.finish();
        trace.parts.snapmap = trace.parts.snap + 2 * 8;
        let mut memory = Snapshot::default();
        memory.insert(BASE, image.bytes.clone());
        assert_eq!(Sites::read(&memory, &image.vm, &trace, &[]), Err(NoSites::NoOffsets));
    });
}

#[test]
fn the_lists_are_found_and_an_area_is_not_a_trace() {
    both(|mut image| {
        let pc = image.pc(CALLER, 6);
        image.frames(0, pc, &[]);
        let (memory, trace) = image.finish();
        assert_eq!((trace.number, trace.start_proto, trace.start_pos), (3, CALLER, 5));
        assert!(trace.holds(MCODE) && trace.holds(MCODE + u64::from(SZMCODE) - 1));
        assert!(!trace.holds(MCODE - 1) && !trace.holds(MCODE + u64::from(SZMCODE)));
        let jit = Jit::find(&memory, &image.vm).expect("the lists");
        assert_eq!(jit.all(&memory, &image.vm), [trace]);
        assert_eq!(jit.trace(&memory, &image.vm, 4), None);
        assert_eq!(jit.trace(&memory, &image.vm, 8), None, "outside of the list");
        let areas = [AREA..AREA + 0x2000, OLDER_AREA..OLDER_AREA + 0x1000];
        assert_eq!(jit.areas(&memory).as_deref(), Some(&areas[..]));
        // A list that leads in circles, and one whose sizes do not add up.
        for (at, value) in [(OLDER_AREA, AREA), (OLDER_AREA + 8, 0x2000)] {
            let before = image.bytes.clone();
            image.put(at, 8, value);
            let mut memory = Snapshot::default();
            memory.insert(BASE, image.bytes.clone());
            assert_eq!(jit.areas(&memory), None);
            image.bytes = before;
        }
    });
}

/// Whatever the target's memory holds, reading ends, and in a value.
#[test]
fn torn_and_hostile_traces_are_refused_or_read_never_more() {
    both(|mut image| {
        let (callee, pcall) = (image.function(F_CALLEE), image.function(F_PCALL));
        let (pc, link) = (image.pc(CALLEE, 3), image.pc(CALLER, 8));
        for i in 0..20 {
            image.frames(i * 0x10, pc, &[(4, pcall, link), (6, callee, 2 << 3 | 6)]);
        }
        image.finish();
        let clean = image.bytes.clone();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let (mut read, mut refused) = (0, 0);
        for _ in 0..3000 {
            image.bytes.copy_from_slice(&clean);
            for _ in 0..1 + next() % 4 {
                let places = [TRACE, SNAPS, CONSTS, CALLEE, F_CALLEE];
                let at = places[(next() % 5) as usize] + next() % 160;
                let value = next();
                image.put(at, 1 + (value % 2) as usize, value >> 8);
            }
            let mut memory = Snapshot::default();
            memory.insert(BASE, image.bytes.clone());
            let trace = Jit::find(&memory, &image.vm).and_then(|j| j.trace(&memory, &image.vm, 3));
            match trace.map(|t| Sites::read(&memory, &image.vm, &t, &[t])) {
                Some(Ok(sites)) => {
                    read += 1;
                    for offset in (0..0x400).step_by(7) {
                        let site = sites.at(offset).expect("the first begins at 0");
                        let _ = sites.frames(site, (CALLER, BYTECODES, BYTECODES));
                    }
                }
                Some(Err(_)) | None => refused += 1,
            }
        }
        assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
    });
}

/// An instruction whose D operand is a jump to `to` from `at`, or a number.
fn jump(op: u32, at: u32, to: u32) -> u32 {
    op | (0x8000 + to - (at + 1)) << 16
}

const ISLT: u32 = 0;
const FORL: u32 = 79;
const JFORL: u32 = 81;
const JMP: u32 = 88;

impl Image {
    fn code(&mut self, pos: u32, instruction: u32) {
        let at = self.pc(CALLER, pos);
        self.put(at, 4, instruction.into());
    }

    /// Snapshots of the caller that point to these instructions, ten bytes of machine code each.
    fn pointing(&mut self, to: &[u32]) {
        for (pos, i) in to.iter().zip(0..) {
            let pc = self.pc(CALLER, *pos);
            self.frames(i * 10, pc, &[]);
        }
    }

    /// Where the snapshots are in the caller.
    fn positions(&mut self) -> Vec<u32> {
        let sites = self.sites().expect("sound");
        let mut positions = Vec::new();
        for offset in (0..10 * self.snaps.len() as u32).step_by(10) {
            let site = sites.at(offset).expect("a snapshot");
            let frames = sites.frames(site, (CALLER, BYTECODES, BYTECODES)).expect("the caller");
            let [Inlined::Lua { pos, .. }] = frames[..] else { panic!("{frames:?}") };
            positions.push(pos);
        }
        positions
    }
}

#[test]
fn the_guard_of_a_comparison_is_at_the_comparison() {
    // 6: if a < b, else to 20.
    both(|mut image| {
        image.code(6, ISLT);
        image.code(7, jump(JMP, 7, 20));
        // The trace goes on behind it, right there, or further on in the branch.
        image.pointing(&[3, 20, 8, 30]);
        assert_eq!(image.positions(), [3, 6, 8, 30]);
    });
    both(|mut image| {
        image.code(6, ISLT);
        image.code(7, jump(JMP, 7, 20));
        image.pointing(&[3, 20, 12, 30]);
        assert_eq!(image.positions(), [3, 6, 12, 30]);
    });
    // The trace jumps: the guard points behind it.
    both(|mut image| {
        image.code(6, ISLT);
        image.code(7, jump(JMP, 7, 20));
        image.pointing(&[3, 8, 20, 30]);
        assert_eq!(image.positions(), [3, 6, 20, 30]);
    });
    // Where nothing leads there, it is taken as it is.
    both(|mut image| {
        image.pointing(&[3, 20, 8, 30]);
        assert_eq!(image.positions(), [3, 20, 8, 30]);
    });
}

#[test]
fn the_guard_of_a_loop_is_at_its_end() {
    // The body from 5, its end at 9 with what the compiler put there, the trace starting there.
    both(|mut image| {
        let f = image.vm.fixed;
        let forl = image.pc(CALLER, 9);
        image.reference(TRACE + f.tr_startpc, forl);
        image.put(TRACE + f.tr_startins, 4, jump(FORL, 9, 5).into());
        image.code(9, JFORL | u32::from(NUMBER) << 16);
        image.put(TRACE + f.tr_link, 2, NUMBER.into());
        image.put(TRACE + f.tr_mcloop, 4, 20);
        image.pointing(&[5, 10, 5, 10]);
        assert_eq!(image.positions(), [5, 9, 5, 9]);
    });
    // A trace that goes on behind the loop is there.
    both(|mut image| {
        image.code(9, jump(FORL, 9, 5));
        image.pointing(&[3, 10, 14]);
        assert_eq!(image.positions(), [3, 10, 14]);
    });
}
