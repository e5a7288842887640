//! Profiles to export: one like a real capture, one as nasty as a target can make it, one empty.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses a part of this module")]

mod gateway;
mod hostile;

pub use gateway::gateway;
pub use hostile::{HOSTILE, hostile};

use upprof_profile::{
    Counter, Frame, FrameKind, Location, OriginId, Process, Profile, Role, Sample, Severity, VmState,
};

/// Builds frames and samples in few words.
#[derive(Default)]
pub struct Maker {
    pub profile: Profile,
}

impl Maker {
    pub fn process(&mut self, pid: u32, role: Role, cpu_ns: Option<u64>) -> usize {
        self.profile.processes.push(Process {
            pid,
            ns_pid: Some(pid % 100),
            role,
            cpu_ns,
            lua_unavailable: None,
        });
        self.profile.processes.len() - 1
    }

    /// `spec` is root first: `lua NAME FILE LINE`, `cfunc NAME`, `trace NAME`, `native NAME MODULE`,
    /// `kernel NAME`, `marker NAME`, `unknown`.
    pub fn sample(&mut self, process: usize, vmstate: VmState, count: u64, spec: &[&str]) {
        let stack = spec.iter().map(|s| self.location(s)).collect();
        self.profile.samples.push(Sample {
            stack,
            count,
            process,
            vmstate,
            origin: OriginId(0),
            phase: None,
        });
    }

    fn location(&mut self, spec: &str) -> Location {
        let (kind, rest) = spec.split_once(' ').unwrap_or((spec, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        let (kind, name, file, line) = match kind {
            "lua" => (FrameKind::Lua, words[0], Some(words[1]), words[2].parse().expect("a line")),
            "cfunc" => (FrameKind::LuaC, rest, None, 0),
            "trace" => (FrameKind::Trace, rest, None, 0),
            "native" => (FrameKind::Native, words[0], words.get(1).copied(), 0),
            "kernel" => (FrameKind::Kernel, rest, None, 0),
            "marker" => (FrameKind::Marker, rest, None, 0),
            "unknown" => (FrameKind::Unknown, rest, None, 0),
            other => panic!("no such kind: {other}"),
        };
        self.frame(Frame { kind, name: name.to_owned(), file: file.map(str::to_owned), line })
    }

    pub fn frame(&mut self, frame: Frame) -> Location {
        let (line, address) = match frame.kind {
            FrameKind::Lua => (frame.line + 2, 0),
            FrameKind::Native | FrameKind::Kernel => (0, 0x5555_0000 + frame.name.len() as u64),
            _ => (0, 0),
        };
        Location { frame: self.profile.intern(frame), line, address }
    }

    pub fn counter(&mut self, name: &str, count: u64, severity: Severity, meaning: &str) {
        self.profile.counters.push(Counter { name: name.into(), count, meaning: meaning.into(), severity });
    }
}

/// Small enough to check by hand: the golden files are made from it.
pub fn tiny() -> Profile {
    let mut m = Maker::default();
    m.profile.container = "gateway".into();
    m.profile.frequency_hz = 100;
    m.profile.started_unix_ns = 1_776_161_472_000_000_000;
    m.profile.duration_ns = 10_000_000_000;
    let master = m.process(1001, Role::Master, Some(0));
    let first = m.process(1002, Role::Worker, Some(1_230_000_000));
    let second = m.process(1003, Role::Worker, None);
    m.profile.processes[second].ns_pid = None;
    m.profile.processes[second].lua_unavailable = Some("layout not known, see \"doctor\"".into());
    m.sample(master, VmState::NotLua, 1, &["native main nginx", "kernel do_syscall_64"]);
    let run = ["native main nginx", "lua access /app/main.lua 10"];
    m.sample(first, VmState::Interpreted, 30, &run);
    m.sample(
        first,
        VmState::Compiled,
        50,
        &[&run[..], &["lua hot /app/hot.lua 5", "trace loop@/app/hot.lua:7"]].concat(),
    );
    m.sample(
        first,
        VmState::C,
        9,
        &[&run[..], &["cfunc string.gsub", "native lj_str_new libluajit.so"]].concat(),
    );
    m.sample(first, VmState::Gc, 6, &[&run[..], &["marker GC", "native gc_sweep libluajit.so"]].concat());
    m.sample(second, VmState::Interpreted, 3, &run);
    m.sample(second, VmState::NotLua, 1, &["native main nginx", "unknown"]);
    m.counter("ring_full", 0, Severity::Loss, "Samples the kernel had no room for.");
    m.counter("stack_too_deep", 2, Severity::Doubt, "Stacks cut at the root.");
    m.profile
}

/// Nobody was on a CPU.
pub fn idle() -> Profile {
    let mut m = Maker::default();
    m.profile.container = "quiet".into();
    m.profile.frequency_hz = 99;
    m.profile.duration_ns = 5_000_000_000;
    m.process(7, Role::Worker, Some(20_000_000));
    m.profile
}
