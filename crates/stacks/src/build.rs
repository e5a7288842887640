//! The merge: raw stacks, counts, symbols and Lua names become a profile.

use crate::{AddressSpace, FrameRef, Objects, Recording, Stack, Symbols};
use std::collections::{BTreeSet, HashMap};
use upprof_profile::raw::{Outcome, PackedFrame, RawFrame, StackKey};
use upprof_profile::{Doubt, Frame, FrameKind, Location, Profile, Sample};

/// What a Lua frame is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LuaName {
    /// Function name, or a stand-in such as `(anonymous)`.
    pub name: String,
    /// The chunk's file, or what stands for it.
    pub file: Option<String>,
    /// Line of definition, 0 for none.
    pub definition: u32,
    /// Line being executed, 0 where unknown.
    pub line: u32,
}

/// Who knows the names of Lua frames, C functions and traces of a process.
pub trait LuaNames {
    /// A frame of kind Lua or trace.
    fn lua(&self, pid: u32, frame: PackedFrame) -> Option<LuaName>;
    /// A C or fast function, by its address and fast function id.
    fn c_function(&self, pid: u32, function: u64, ffid: u8) -> Option<String>;
}

/// Where everything is found that turns a recording into a profile.
struct Context<'a> {
    recording: &'a Recording,
    objects: &'a Objects,
    spaces: &'a HashMap<u32, AddressSpace>,
    names: &'a dyn LuaNames,
    symbols: Symbols,
}

/// Adds every stack with its count to `profile`, whose `processes` must be filled already: `process`
/// gives the index of a pid. Returns why kernel names are missing, if they are.
///
/// A stack whose count is zero (its samples were lost to a full ring buffer) adds nothing.
pub fn build(
    profile: &mut Profile,
    recording: &Recording,
    counts: &HashMap<StackKey, u64>,
    objects: &Objects,
    spaces: &HashMap<u32, AddressSpace>,
    names: &dyn LuaNames,
    process: &dyn Fn(u32) -> Option<usize>,
) -> Option<String> {
    let (native, kernel) = addresses(recording, spaces);
    let symbols = Symbols::look_up(objects, &native, &kernel);
    let context = Context { recording, objects, spaces, names, symbols };
    let mut cache = HashMap::new();
    for (key, stack) in recording.stacks() {
        let count = counts.get(&key).copied().unwrap_or(0) + stack.uncounted;
        let Some(process) = process(stack.pid) else { continue };
        if count > 0 {
            let stack_frames = context.locations(profile, &mut cache, stack);
            let origin = profile.intern_origin(recording.origin(stack));
            profile.samples.push(Sample {
                stack: stack_frames,
                count,
                process,
                vmstate: stack.vmstate,
                origin,
                phase: stack.phase,
            });
        }
    }
    // The recording's order is a hash map's: make results comparable.
    profile.samples.sort_by(|a, b| {
        b.count.cmp(&a.count).then_with(|| {
            let ids = |s: &Sample| s.stack.iter().map(|l| (l.frame, l.line, l.address)).collect::<Vec<_>>();
            ids(a).cmp(&ids(b))
        })
    });
    context.symbols.kernel_unavailable
}

/// The address to look up: a return address may already be the next function's.
fn call_site(addr: u64, leaf: bool) -> u64 {
    if leaf { addr } else { addr.wrapping_sub(1) }
}

type NativeAddresses = HashMap<crate::ObjectId, BTreeSet<u64>>;

fn addresses(recording: &Recording, spaces: &HashMap<u32, AddressSpace>) -> (NativeAddresses, BTreeSet<u64>) {
    let mut native = NativeAddresses::new();
    for (pid, frame) in recording.frames() {
        let addr = match frame.unpack() {
            RawFrame::Native { addr, leaf } => call_site(addr, leaf),
            RawFrame::LuaC { function, .. } => function,
            _ => continue,
        };
        if let Some(m) = spaces.get(&pid).and_then(|s| s.find(addr)) {
            native.entry(m.object).or_default().insert(addr.wrapping_sub(m.bias));
        }
    }
    let kernel = recording.stacks().flat_map(|(_, s)| s.kernel.iter().copied()).collect();
    (native, kernel)
}

impl Context<'_> {
    /// Root first, kernel frames last.
    fn locations(
        &self,
        profile: &mut Profile,
        cache: &mut HashMap<FrameRef, Location>,
        stack: &Stack,
    ) -> Vec<Location> {
        let mut out = Vec::with_capacity(stack.frames.len() + stack.kernel.len());
        out.extend(missing_root(stack.outcome).map(|text| marker(profile, FrameKind::Marker, text)));
        let mut frames = stack.frames.iter().rev().peekable();
        while let Some(frame) = frames.next() {
            let mut location = *cache.entry(*frame).or_insert_with(|| self.location(profile, *frame));
            // The C function that Lua called and the native frame it runs in are the same call.
            if let Some(above) = frames.peek()
                && let Some(address) = self.same_call(*frame, **above)
            {
                location.address = address;
                frames.next();
            }
            out.push(location);
        }
        out.extend(stack.kernel.iter().rev().map(|addr| self.kernel(profile, *addr)));
        out
    }

    /// If `lua` is a C function and `native` runs inside it: the address in it.
    fn same_call(&self, lua: FrameRef, native: FrameRef) -> Option<u64> {
        let (pid, lua) = self.recording.frame(lua);
        let RawFrame::LuaC { function, .. } = lua.unpack() else { return None };
        let RawFrame::Native { addr, leaf } = self.recording.frame(native).1.unpack() else { return None };
        let m = self.spaces.get(&pid)?.find(addr)?;
        let vaddr = call_site(addr, leaf).wrapping_sub(m.bias);
        let start = u64::from(self.objects.get(m.object).table.function_at(vaddr)?.start);
        (start.wrapping_add(m.bias) == function).then_some(addr)
    }

    fn location(&self, profile: &mut Profile, frame: FrameRef) -> Location {
        let (pid, packed) = self.recording.frame(frame);
        match packed.unpack() {
            RawFrame::Native { addr, leaf } => {
                let (kind, name, file) = self.native(pid, call_site(addr, leaf));
                let frame = profile.intern(Frame { kind, name, file, line: 0 });
                Location { frame, line: 0, address: addr }
            }
            RawFrame::LuaC { function, ffid } => {
                let name = self.names.c_function(pid, function, ffid);
                let (_, symbol, file) = self.native(pid, function);
                let name = name.unwrap_or(symbol);
                let frame = profile.intern(Frame { kind: FrameKind::LuaC, name, file, line: 0 });
                Location { frame, line: 0, address: function }
            }
            RawFrame::Lua { .. } => self.lua(profile, pid, packed, FrameKind::Lua, Doubt::FUNCTION_GONE),
            RawFrame::Trace { number, ip, .. } => {
                let missing =
                    if number.is_some() || ip.is_some() { Doubt::TRACE_GONE } else { Doubt::TRACE_UNKNOWN };
                self.lua(profile, pid, packed, FrameKind::Trace, missing)
            }
            RawFrame::Mark(mark) => marker(profile, FrameKind::Marker, mark.text()),
            RawFrame::Unknown(_) => marker(profile, FrameKind::Unknown, "frame of unknown kind"),
        }
    }

    /// A Lua function or a trace; `missing` stands for what nobody could read.
    fn lua(
        &self,
        profile: &mut Profile,
        pid: u32,
        packed: PackedFrame,
        kind: FrameKind,
        missing: &str,
    ) -> Location {
        let Some(found) = self.names.lua(pid, packed) else {
            let kind = if kind == FrameKind::Trace { kind } else { FrameKind::Unknown };
            return marker(profile, kind, missing);
        };
        let frame =
            profile.intern(Frame { kind, name: found.name, file: found.file, line: found.definition });
        Location { frame, line: found.line, address: 0 }
    }

    /// Kind, name and module of a native address. A stripped function is named by where it starts, so
    /// that all of its addresses are one function.
    fn native(&self, pid: u32, addr: u64) -> (FrameKind, String, Option<String>) {
        let Some(m) = self.spaces.get(&pid).and_then(|s| s.find(addr)) else {
            return (FrameKind::Unknown, "code in no file".into(), None);
        };
        let object = self.objects.get(m.object);
        let vaddr = addr.wrapping_sub(m.bias);
        let name = match self.symbols.native(m.object, vaddr) {
            Some(name) => name.to_owned(),
            None => {
                let start = object.table.function_at(vaddr).map_or(vaddr, |f| u64::from(f.start));
                format!("{}+{start:#x}", object.name)
            }
        };
        (FrameKind::Native, name, Some(object.name.clone()))
    }

    fn kernel(&self, profile: &mut Profile, addr: u64) -> Location {
        let frame = match self.symbols.kernel(addr) {
            Some(name) => Frame { kind: FrameKind::Kernel, name: name.to_owned(), file: None, line: 0 },
            None => Frame { kind: FrameKind::Kernel, name: "unknown".into(), file: None, line: 0 },
        };
        Location { frame: profile.intern(frame), line: 0, address: addr }
    }
}

/// What stands in place of the outer frames when a stack does not reach the process's entry.
fn missing_root(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Complete => None,
        Outcome::Truncated => Some(Doubt::OUTER_CUT),
        Outcome::NotReady => Some(Doubt::NEW_PROCESS),
        Outcome::NoRegisters => Some(Doubt::NO_REGISTERS),
        Outcome::NoMapping
        | Outcome::NoRow
        | Outcome::ReadFailed
        | Outcome::NoProgress
        | Outcome::Unknown => Some(Doubt::OUTER_LOST),
    }
}

fn marker(profile: &mut Profile, kind: FrameKind, text: &str) -> Location {
    let frame = profile.intern(Frame { kind, name: text.to_owned(), file: None, line: 0 });
    Location { frame, line: 0, address: 0 }
}
