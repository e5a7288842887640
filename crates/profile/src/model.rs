//! The profile: interned frames, weighted stacks, the processes they came from, and what was lost.

use crate::origin::{Origin, Phase};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

/// What a frame is. Every exporter shows it, in its own way: see `docs/formats.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// A Lua function. Interpreted, unless a [`FrameKind::Trace`] frame sits on it.
    Lua,
    /// A C function or a fast function that Lua called (`string.gsub`, `ngx.say`).
    LuaC,
    /// Machine code that LuaJIT compiled: the leaf above the Lua function that entered the trace.
    Trace,
    /// Native code of the process.
    Native,
    /// The kernel, on behalf of the process.
    Kernel,
    /// Not a function: a state (`[GC]`) or a gap (`[native lost]`) that is told rather than hidden.
    Marker,
    /// An address nothing is known of.
    Unknown,
}

/// One frame, as a reader sees it. Equal frames are one box in a flame graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// Function name, or the marker's text without brackets. Hostile: may hold any character.
    pub name: String,
    /// Lua: the chunk's file; native: the module's file name. Hostile.
    pub file: Option<String>,
    /// Line of definition (1-based), 0 where there is none.
    pub line: u32,
}

/// Index of a [`Frame`] in its [`Profile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(pub u32);

/// A frame of one stack: which function, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// The function.
    pub frame: FrameId,
    /// Lua: the line being executed (1-based), 0 where unknown.
    pub line: u32,
    /// Native and kernel: the instruction's address in the process, 0 for Lua.
    pub address: u64,
}

/// What LuaJIT was doing: `global_State.vmstate`, told only when Lua is on the stack (`lj_obj.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// No Lua on the stack, or no Lua VM at all.
    NotLua,
    /// Interpreting bytecode.
    Interpreted,
    /// Running a trace, or a helper called from one.
    Compiled,
    /// A C function called from Lua.
    C,
    /// Garbage collection, entered from the interpreter or C.
    Gc,
    /// Garbage collection, entered from a trace.
    GcCompiled,
    /// Leaving a trace.
    Exit,
    /// Recording a trace.
    Record,
    /// Optimising a trace.
    Optimize,
    /// Assembling a trace.
    Assemble,
}

impl VmState {
    /// Every state, in the order of tables.
    pub const ALL: [Self; 10] = [
        Self::NotLua,
        Self::Interpreted,
        Self::Compiled,
        Self::C,
        Self::Gc,
        Self::GcCompiled,
        Self::Exit,
        Self::Record,
        Self::Optimize,
        Self::Assemble,
    ];
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLua => "not in Lua",
            Self::Interpreted => "interpreted",
            Self::Compiled => "compiled",
            Self::C => "C function",
            Self::Gc => "GC",
            Self::GcCompiled => "GC (compiled)",
            Self::Exit => "trace exit",
            Self::Record => "JIT recorder",
            Self::Optimize => "JIT optimiser",
            Self::Assemble => "JIT assembler",
        })
    }
}

/// A process's part in the server, from its title (nginx `ngx_setproctitle`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// `nginx: master process`.
    Master,
    /// `nginx: worker process`.
    Worker,
    /// `nginx: worker process is shutting down`: draining after a reload.
    DrainingWorker,
    /// `nginx: cache manager process`.
    CacheManager,
    /// `nginx: cache loader process`.
    CacheLoader,
    /// `nginx: privileged agent process` (OpenResty).
    PrivilegedAgent,
    /// Anything else.
    Other,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Worker => "worker",
            Self::DrainingWorker => "draining worker",
            Self::CacheManager => "cache manager",
            Self::CacheLoader => "cache loader",
            Self::PrivilegedAgent => "privileged agent",
            Self::Other => "other",
        })
    }
}

/// A sampled process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Pid in our (the host's) pid namespace.
    pub pid: u32,
    /// Pid inside the container, where known.
    pub ns_pid: Option<u32>,
    /// Its part in the server.
    pub role: Role,
    /// User + system CPU time the process spent during the window, nanoseconds, from
    /// `/proc/PID/stat` (10 ms steps). `None` when it could not be read at both ends.
    pub cpu_ns: Option<u64>,
    /// Why its Lua stacks are not shown, when they are not.
    pub lua_unavailable: Option<String>,
}

/// Samples with the same stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Root first.
    pub stack: Vec<Location>,
    /// How many samples.
    pub count: u64,
    /// Index into [`Profile::processes`].
    pub process: usize,
    /// What LuaJIT was doing.
    pub vmstate: VmState,
    /// Whose work it was.
    pub origin: OriginId,
    /// The phase that ngx_lua ran it in, where known.
    pub phase: Option<Phase>,
}

/// Index of an [`Origin`] in its [`Profile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OriginId(pub u32);

/// A named loss or doubt, with its count. Nothing is dropped without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Stable machine name, `snake_case`.
    pub name: String,
    /// How many samples (or events, as the text says).
    pub count: u64,
    /// One sentence for people: what happened and what it means for the numbers.
    pub meaning: String,
    /// Whether this is a loss (samples missing), a doubt (samples less exact) or plain information.
    pub severity: Severity,
}

/// How much a [`Counter`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Samples are missing from the profile.
    Loss,
    /// Samples are there but a frame is missing or uncertain, and says so.
    Doubt,
    /// Good to know.
    Info,
}

/// What a profile was cut down to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Focus {
    /// What a frame had to match. Typed by the user.
    pub pattern: String,
    /// Samples before.
    pub of_samples: u64,
}

/// A finished profile.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// Interned frames, by [`FrameId`].
    pub frames: Vec<Frame>,
    /// Weighted stacks.
    pub samples: Vec<Sample>,
    /// Who was sampled.
    pub processes: Vec<Process>,
    /// Whose work samples were, by [`OriginId`]; interned.
    pub origins: Vec<Origin>,
    /// Losses and doubts; zero counts included, so that "0 lost" can be said.
    pub counters: Vec<Counter>,
    /// Container name, empty for a capture by pid. Hostile.
    pub container: String,
    /// Samples a second on each CPU, as asked for.
    pub frequency_hz: u32,
    /// Start of the window, nanoseconds since the Unix epoch (the host's clock).
    pub started_unix_ns: u64,
    /// Length of the window, nanoseconds (monotonic clock).
    pub duration_ns: u64,
    /// Set when samples were left out on request.
    pub focus: Option<Focus>,
    index: HashMap<Frame, FrameId>,
}

impl Profile {
    /// The id of this frame, adding it on first sight.
    ///
    /// # Panics
    /// After four billion distinct frames.
    pub fn intern(&mut self, frame: Frame) -> FrameId {
        if let Some(id) = self.index.get(&frame) {
            return *id;
        }
        let id = FrameId(u32::try_from(self.frames.len()).expect("fewer than 2^32 distinct frames"));
        self.frames.push(frame.clone());
        self.index.insert(frame, id);
        id
    }

    /// The frame behind an id.
    #[must_use]
    pub fn frame(&self, id: FrameId) -> &Frame {
        &self.frames[id.0 as usize]
    }

    /// Whose work a sample was.
    #[must_use]
    pub fn origin(&self, sample: &Sample) -> &Origin {
        self.origins.get(sample.origin.0 as usize).unwrap_or(&Origin::Unknown)
    }

    /// The id of this origin, adding it on first sight. There are about a thousand at most.
    ///
    /// # Panics
    /// After four billion distinct origins.
    pub fn intern_origin(&mut self, origin: &Origin) -> OriginId {
        let known = self.origins.iter().position(|o| o == origin);
        let index = known.unwrap_or_else(|| {
            self.origins.push(origin.clone());
            self.origins.len() - 1
        });
        OriginId(u32::try_from(index).expect("fewer than 2^32 distinct origins"))
    }

    /// All samples, counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.samples.iter().map(|s| s.count).sum()
    }
}
