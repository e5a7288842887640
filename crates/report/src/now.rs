//! One stack a process, as it is now: text for people, JSON for programs.

use std::io::Write;

use serde::Serialize;
use upprof_profile::export::{ExportError, escape_up_to, located_text, write_json};
use upprof_profile::{Frame, FrameKind, Process, Profile, Role, Sample, VmState};

/// Longest reason that is shown, in characters.
const MAX_REASON: usize = 300;
/// Version of the JSON's layout; grows when a field changes its meaning or goes away.
const VERSION: u32 = 1;

/// What a process was doing when its stack was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// It was on a CPU.
    Running,
    /// It could have run and waited for a CPU.
    WaitingForCpu,
    /// It slept in the kernel.
    Waiting,
    /// There is no stack, and why.
    Unknown(String),
}

/// The stacks of one moment.
#[derive(Debug)]
pub struct Now<'a> {
    /// One sample a process; none for those without a stack.
    pub profile: &'a Profile,
    /// By process, in the order of [`Profile::processes`].
    pub doing: &'a [Doing],
}

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    version: u32,
    container: &'a str,
    processes: Vec<Stack<'a>>,
}

#[derive(Serialize)]
struct Stack<'a> {
    pid: u32,
    ns_pid: Option<u32>,
    role: Role,
    doing: &'static str,
    vmstate: Option<VmState>,
    /// Why there is no stack.
    missing: Option<&'a str>,
    lua_unavailable: Option<&'a str>,
    /// Root first.
    stack: Vec<StackFrame<'a>>,
}

#[derive(Serialize)]
struct StackFrame<'a> {
    kind: FrameKind,
    text: String,
    name: &'a str,
    file: Option<&'a str>,
    definition: u32,
    line: u32,
}

impl Doing {
    fn text(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::WaitingForCpu => "waiting for a CPU",
            Self::Waiting => "waiting",
            Self::Unknown(_) => "unknown",
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::WaitingForCpu => "waiting_for_cpu",
            Self::Waiting => "waiting",
            Self::Unknown(_) => "unknown",
        }
    }

    fn missing(&self) -> Option<&str> {
        match self {
            Self::Unknown(why) => Some(why),
            _ => None,
        }
    }
}

impl Now<'_> {
    fn each(&self) -> impl Iterator<Item = (usize, &Process, &Doing, Option<&Sample>)> {
        let sample = |index| self.profile.samples.iter().find(|s| s.process == index);
        let both = self.profile.processes.iter().zip(self.doing).enumerate();
        both.map(move |(index, (process, doing))| (index, process, doing, sample(index)))
    }

    /// For people: a line for each process, then its frames from the leaf down to the root.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write_text(&self, out: &mut dyn Write) -> Result<(), ExportError> {
        for (index, process, doing, sample) in self.each() {
            let label = match self.profile.has_nginx_roles() {
                true => self.profile.process_label(index).unwrap_or_default() + ", ",
                false => String::new(),
            };
            let inside = process.ns_pid.filter(|ns| *ns != process.pid);
            let inside = inside.map(|ns| format!(" ({ns} in the container)")).unwrap_or_default();
            let lua = sample.map(|s| s.vmstate).filter(|state| *state != VmState::NotLua);
            let lua = lua.map(|state| format!(", Lua: {state}")).unwrap_or_default();
            writeln!(out, "{label}pid {}{inside}: {}{lua}", process.pid, doing.text())?;
            for location in sample.iter().flat_map(|s| s.stack.iter().rev()) {
                writeln!(out, "  {}", located_text(self.profile.frame(location.frame), location.line))?;
            }
            if let Some(why) = doing.missing() {
                writeln!(out, "  no stack: {}", escape_up_to(why, MAX_REASON))?;
            }
            if let Some(why) = &process.lua_unavailable {
                writeln!(out, "  Lua is not shown: {}", escape_up_to(why, MAX_REASON))?;
            }
        }
        Ok(())
    }

    /// For programs: frames from the root to the leaf, as in every format.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write_json(&self, out: &mut dyn Write) -> Result<(), ExportError> {
        let processes = self.each().map(|(_, process, doing, sample)| Stack {
            pid: process.pid,
            ns_pid: process.ns_pid,
            role: process.role,
            doing: doing.name(),
            vmstate: sample.map(|s| s.vmstate),
            missing: doing.missing(),
            lua_unavailable: process.lua_unavailable.as_deref(),
            stack: sample
                .iter()
                .flat_map(|s| &s.stack)
                .map(|l| stack_frame(self.profile.frame(l.frame), l.line))
                .collect(),
        });
        let document = Document {
            format: "upprof-stacks",
            version: VERSION,
            container: &self.profile.container,
            processes: processes.collect(),
        };
        Ok(write_json(out, &document)?)
    }
}

fn stack_frame(frame: &Frame, line: u32) -> StackFrame<'_> {
    StackFrame {
        kind: frame.kind,
        text: located_text(frame, line),
        name: &frame.name,
        file: frame.file.as_deref(),
        definition: frame.line,
        line,
    }
}
