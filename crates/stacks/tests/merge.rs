//! The merge of C and Lua, over the code of this very test: its own file is the object, its own functions
//! are the native frames.

use std::collections::HashMap;
use upprof_binary::{Elf, Limits, UnwindTable};
use upprof_profile::raw::{Outcome, PackedFrame, RawStack, StackKey};
use upprof_profile::{FrameKind, Process, Profile, Role, VmState};
use upprof_stacks::{AddressSpace, LuaName, LuaNames, Mapped, Object, ObjectId, Objects, Recording, build};

const PID: u32 = 42;

#[unsafe(no_mangle)]
extern "C" fn upprof_test_outer() -> u32 {
    std::hint::black_box(1)
}

#[unsafe(no_mangle)]
extern "C" fn upprof_test_c_function() -> u32 {
    std::hint::black_box(2)
}

/// Names that no symbol table has, so that a wrong source shows.
struct Names;

impl LuaNames for Names {
    fn lua(&self, pid: u32, frame: PackedFrame) -> Option<LuaName> {
        // A prototype at an odd address was freed.
        (pid == PID && frame.word & 1 == 0).then(|| LuaName {
            name: "handler".into(),
            file: Some("/app/x.lua".into()),
            definition: 7,
            line: frame.pc,
        })
    }

    fn c_function(&self, _: u32, _: u64, ffid: u8) -> Option<String> {
        (ffid == 1).then(|| "table.sort".into())
    }
}

fn packed(kind: u64, addr: u64, pc: u32) -> PackedFrame {
    PackedFrame { word: kind << 56 | addr, pc, check: 0 }
}

const NATIVE: u64 = 1;
const NATIVE_CALL: u64 = 2;
const LUA: u64 = 3;
const LUA_C: u64 = 4;
const MARK: u64 = 6;

/// This test's own code as the target's.
fn own_code() -> (Objects, AddressSpace, u64) {
    let path = std::fs::canonicalize("/proc/self/exe").expect("own file");
    let data = std::fs::read(&path).expect("own file is readable");
    let elf = Elf::parse(&data).expect("an ELF file");
    let table = UnwindTable::compile(&elf, Limits::default()).expect("it has .eh_frame");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
    let mut objects = Objects::default();
    let object: ObjectId = objects.add(Object { name: "own".into(), bytes_at: path.clone(), table });
    let number = |s: &str| u64::from_str_radix(s, 16).expect("hexadecimal");
    let mut mapped = Vec::new();
    for line in maps.lines().filter(|l| l.ends_with(path.to_str().expect("UTF-8")) && l.contains("r-xp")) {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next().and_then(|r| r.split_once('-')).expect("a range");
        let offset = number(fields.nth(1).expect("an offset"));
        let bias = elf.bias(number(start), offset).expect("a segment");
        mapped.push(Mapped { start: number(start), end: number(end), bias, object });
    }
    let bias = mapped.first().expect("own code is mapped").bias;
    (objects, AddressSpace::new(mapped), bias)
}

fn profile_of(frames: &[PackedFrame], outcome: Outcome, count: u64, uncounted: bool) -> Profile {
    let (objects, space, _) = own_code();
    let mut recording = Recording::default();
    let raw = RawStack {
        key: StackKey(1, 2),
        pid: PID,
        frames: frames.to_vec(),
        kernel: vec![],
        outcome,
        vmstate: VmState::C,
        label: 7,
        phase: None,
        uncounted,
    };
    recording.add(&raw, |_, _| {});
    let mut profile = Profile::default();
    profile.processes.push(Process {
        pid: PID,
        ns_pid: None,
        role: Role::Worker,
        cpu_ns: None,
        lua_unavailable: None,
    });
    let counts = HashMap::from([(StackKey(1, 2), count)]);
    let spaces = HashMap::from([(PID, space)]);
    build(&mut profile, &recording, &counts, &objects, &spaces, &Names, &|pid| (pid == PID).then_some(0));
    profile
}

/// Kind and name of each frame of the only stack, root first.
fn stack(profile: &Profile) -> Vec<(FrameKind, String)> {
    assert_eq!(profile.samples.len(), 1);
    let frames = profile.samples[0].stack.iter().map(|l| profile.frame(l.frame));
    frames.map(|f| (f.kind, f.name.clone())).collect()
}

#[test]
fn a_c_function_and_the_code_it_runs_in_are_one_frame() {
    let outer = upprof_test_outer as *const () as u64;
    let c = upprof_test_c_function as *const () as u64;
    let leaf_first = [
        packed(NATIVE, c + 1, 0),
        packed(LUA_C, c | 1 << 48, 0),
        packed(LUA, 0x1000, 9),
        packed(NATIVE_CALL, outer + 1, 0),
    ];
    let profile = profile_of(&leaf_first, Outcome::Complete, 5, false);
    assert_eq!(
        stack(&profile),
        [
            (FrameKind::Native, "upprof_test_outer".into()),
            (FrameKind::Lua, "handler".into()),
            (FrameKind::LuaC, "table.sort".into()),
        ]
    );
    let sample = &profile.samples[0];
    assert_eq!((sample.count, sample.stack[1].line, sample.stack[2].address), (5, 9, c + 1));
    let lua = profile.frame(sample.stack[1].frame);
    assert_eq!((lua.file.as_deref(), lua.line), (Some("/app/x.lua"), 7));
}

#[test]
fn native_code_of_another_function_stays_a_frame_of_its_own() {
    let outer = upprof_test_outer as *const () as u64;
    let c = upprof_test_c_function as *const () as u64;
    // No name for this one: ffid 9. The symbol of its code stands in.
    let profile =
        profile_of(&[packed(NATIVE, outer, 0), packed(LUA_C, c | 9 << 48, 0)], Outcome::Complete, 1, false);
    assert_eq!(
        stack(&profile),
        [(FrameKind::LuaC, "upprof_test_c_function".into()), (FrameKind::Native, "upprof_test_outer".into()),]
    );
}

/// A return address may be the first byte of the next function: the call before it counts.
#[test]
fn return_addresses_belong_to_the_call_before_them() {
    let outer = upprof_test_outer as *const () as u64;
    let (objects, space, bias) = own_code();
    let m = space.find(outer).expect("own code");
    let end = objects.get(m.object).table.function_at(outer - bias).expect("it has a rule").end;
    let profile = profile_of(&[packed(NATIVE_CALL, u64::from(end) + bias, 0)], Outcome::Complete, 1, false);
    assert_eq!(stack(&profile), [(FrameKind::Native, "upprof_test_outer".into())]);
}

#[test]
fn what_is_missing_is_said() {
    let lost = [packed(MARK, 1, 0), packed(LUA, 0x1001, 0), packed(NATIVE, 0x10, 0)];
    let profile = profile_of(&lost, Outcome::NoMapping, 1, false);
    assert_eq!(
        stack(&profile),
        [
            (FrameKind::Marker, "outer frames lost".into()),
            (FrameKind::Unknown, "code in no file".into()),
            (FrameKind::Unknown, "Lua function, freed before it was read".into()),
            (FrameKind::Marker, "native lost".into()),
        ]
    );
    let empty = profile_of(&[], Outcome::NotReady, 1, false);
    assert_eq!(stack(&empty), [(FrameKind::Marker, "new process, no stack".into())]);
}

#[test]
fn counts_are_the_kernels_plus_those_sent_one_by_one() {
    let frame = [packed(LUA, 0x1000, 1)];
    assert_eq!(profile_of(&frame, Outcome::Complete, 3, true).total(), 4);
    // Lost to a full ring buffer before it was counted: nothing to show.
    assert!(profile_of(&frame, Outcome::Complete, 0, false).samples.is_empty());
}
