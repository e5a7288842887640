//! From an address in machine code to the Lua functions that run there: read while the trace lives.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};
use upprof_luajit::{Inlined, Jit, NoSites, Proto, Sites, Trace, TraceList, Vm};
use upprof_memory::{Live, Memory};
use upprof_profile::raw::{Mark, PackedFrame, RawFrame, TraceDoubt};

/// The traces of every process.
#[derive(Default)]
pub(super) struct TraceBook {
    processes: HashMap<u32, Vec<VmTraces>>,
}

/// The traces of one VM, as far as samples were in them.
struct VmTraces {
    vm: Vm,
    /// Not there before the first trace.
    jit: Option<Jit>,
    /// Where machine code lies, as last read; `None` where the VM's own list is not known.
    areas: Option<Vec<Range<u64>>>,
    /// All traces, as last read, and when.
    list: Vec<Trace>,
    listed: Option<Instant>,
    sites: HashMap<Trace, Result<Sites, NoSites>>,
    round: Round,
}

/// What was read for the stacks that were fetched together: what one is judged by serves the next, too.
#[derive(Default)]
struct Round {
    list: Option<TraceList>,
    /// By number.
    traces: HashMap<u32, Trace>,
    /// Prototypes: number of bytecodes and check value, by address.
    protos: HashMap<u64, (u32, u32)>,
}

/// Whose an address is that is in no file.
enum Owner {
    Trace(Trace),
    /// The VM's own machine code, but no trace's that lives now.
    Area,
    Nobody,
}

/// What takes the place of a trace's frame in a stack.
struct Placed {
    /// Leaf first.
    frames: Vec<PackedFrame>,
    /// Whether they stand for the frame at the trace's base, too.
    with_base: bool,
}

/// Where a trace was entered: the Lua function below it in the stack.
#[derive(Clone, Copy)]
struct Base {
    proto: u64,
    check: u32,
}

impl TraceBook {
    pub(super) fn add_process(&mut self, pid: u32, vms: impl Iterator<Item = Vm>) {
        self.processes.insert(pid, vms.map(VmTraces::of).collect());
    }

    /// More stacks were fetched: what was read for those before may be another's now.
    pub(super) fn begin_round(&mut self) {
        self.processes.values_mut().flatten().for_each(|vm| vm.round = Round::default());
    }

    /// Puts the functions that run in a trace into the stack, in the place of the one where the trace was
    /// entered, and the trace's start in the place of the address: what remains of it says which trace it
    /// is, and why its functions are not there if they are not.
    ///
    /// The machine code decides which trace it is: a GC step hides the number behind its own state, and
    /// right after a jump from trace to trace the number is the one before. Code in no file that is not the
    /// VM's either was called by the trace, through C code that cannot be unwound.
    pub(super) fn place(&mut self, pid: u32, stack: &mut Vec<PackedFrame>) {
        let found = stack.iter().zip(0..).find_map(|(frame, at)| match frame.unpack() {
            RawFrame::Trace { ip, number, .. } => Some((at, ip, number)),
            _ => None,
        });
        let Some((at, ip, number)) = found else { return };
        let base = stack.get(at + 1).and_then(|below| match below.unpack() {
            RawFrame::Lua { proto, check, .. } => Some(Base { proto, check }),
            _ => None,
        });
        let vms = self.processes.entry(pid).or_default();
        let placed = placed(&Live::new(pid), vms, ip, number, base);
        let end = at + 1 + usize::from(placed.with_base);
        stack.splice(at..end, placed.frames);
    }

    /// Where a trace's root starts, with its VM: that is what people recognise, and what stays the same
    /// between workers. `code` is where the trace's machine code starts, where known.
    pub(super) fn start(&mut self, pid: u32, number: u32, code: Option<u64>) -> Option<(Vm, Trace)> {
        let memory = Live::new(pid);
        let vms = self.processes.get_mut(&pid)?;
        vms.iter_mut().find_map(|vm| {
            let trace = vm.trace(&memory, number)?;
            let same = code.is_none_or(|code| code == trace.mcode.0);
            let root = if trace.root == 0 { trace } else { vm.trace(&memory, trace.root)? };
            same.then(|| (vm.vm.clone(), root))
        })
    }
}

fn placed(
    memory: &dyn Memory,
    vms: &mut [VmTraces],
    ip: Option<u64>,
    number: Option<u32>,
    base: Option<Base>,
) -> Placed {
    let vague =
        |doubt| Placed { frames: vec![PackedFrame::trace(None, number, Some(doubt))], with_base: false };
    let Some(ip) = ip else { return vague(TraceDoubt::NoAddress) };
    let mut in_area = false;
    for vm in vms {
        match vm.owner(memory, ip, number) {
            Owner::Trace(trace) => return vm.placed(memory, &trace, ip, base),
            Owner::Area => in_area = true,
            Owner::Nobody => {}
        }
    }
    if in_area {
        return vague(TraceDoubt::Gone);
    }
    let mut foreign = vague(TraceDoubt::NoAddress);
    foreign.frames.insert(0, PackedFrame::mark(Mark::NativeLost));
    foreign
}

impl VmTraces {
    fn of(vm: Vm) -> Self {
        let (sites, round) = (HashMap::new(), Round::default());
        Self { vm, jit: None, areas: None, list: Vec::new(), listed: None, sites, round }
    }

    fn jit(&mut self, memory: &dyn Memory) -> Option<Jit> {
        if self.jit.is_none() {
            self.jit = Jit::find(memory, &self.vm);
        }
        self.jit
    }

    /// The trace with this number, as read in this round.
    fn trace(&mut self, memory: &dyn Memory, number: u32) -> Option<Trace> {
        if let Some(trace) = self.round.traces.get(&number) {
            return Some(*trace);
        }
        if self.round.list.is_none() {
            self.round.list = self.jit(memory)?.list(memory);
        }
        let trace = self.round.list?.trace(memory, &self.vm, number)?;
        self.round.traces.insert(number, trace);
        Some(trace)
    }

    /// A prototype's number of bytecodes and check value, as read in this round.
    fn identity(&mut self, memory: &dyn Memory, proto: u64) -> Option<(u32, u32)> {
        if let Some(identity) = self.round.protos.get(&proto) {
            return Some(*identity);
        }
        let identity = Proto::identity(memory, &self.vm, proto).ok()?;
        self.round.protos.insert(proto, identity);
        Some(identity)
    }

    /// The trace whose machine code this address is in: most likely number `number`.
    fn owner(&mut self, memory: &dyn Memory, ip: u64, number: Option<u32>) -> Owner {
        let Some(jit) = self.jit(memory) else { return Owner::Nobody };
        let holding = |trace: &Trace| trace.holds(ip);
        if let Some(trace) = number.and_then(|n| self.trace(memory, n)).filter(holding) {
            return Owner::Trace(trace);
        }
        let in_area = |areas: &Option<Vec<Range<u64>>>| {
            areas.as_ref().is_some_and(|all| all.iter().any(|area| area.contains(&ip)))
        };
        if !in_area(&self.areas) {
            self.areas = jit.areas(memory);
            if self.areas.is_some() && !in_area(&self.areas) {
                return Owner::Nobody;
            }
        }
        match self.listed_at(memory, jit, ip) {
            Some(trace) => Owner::Trace(trace),
            None if self.areas.is_some() => Owner::Area,
            None => Owner::Nobody,
        }
    }

    /// From the list of all traces, which is made again when it is old and the address is not in it.
    fn listed_at(&mut self, memory: &dyn Memory, jit: Jit, ip: u64) -> Option<Trace> {
        /// Reading thousands of traces takes some milliseconds.
        const OLD: Duration = Duration::from_millis(250);
        let found = self.list.iter().find(|t| t.holds(ip)).copied();
        // As it was listed: else it is gone, and its number another's.
        if let Some(trace) = found.filter(|t| jit.trace(memory, &self.vm, t.number) == Some(*t)) {
            return Some(trace);
        }
        if self.listed.is_some_and(|at| at.elapsed() < OLD) {
            return None;
        }
        self.list = jit.all(memory, &self.vm);
        self.listed = Some(Instant::now());
        self.list.iter().find(|t| t.holds(ip)).copied()
    }

    fn placed(&mut self, memory: &dyn Memory, trace: &Trace, ip: u64, base: Option<Base>) -> Placed {
        let named = |doubt| PackedFrame::trace(Some(trace.mcode.0), Some(trace.number), doubt);
        match self.functions(memory, trace, ip, base) {
            Ok(functions) => {
                let frames = functions.iter().rev().map(|function| match *function {
                    Inlined::Lua { proto, pos, check } => PackedFrame::lua(proto, Some(pos + 1), check),
                    Inlined::C { function, ffid } => PackedFrame::lua_c(function, ffid),
                });
                Placed { frames: [named(None)].into_iter().chain(frames).collect(), with_base: true }
            }
            Err(doubt) => Placed { frames: vec![named(Some(doubt))], with_base: false },
        }
    }

    /// The functions that run at an address of a trace, outermost first, with the one at its base.
    fn functions(
        &mut self,
        memory: &dyn Memory,
        trace: &Trace,
        ip: u64,
        base: Option<Base>,
    ) -> Result<Vec<Inlined>, TraceDoubt> {
        let base = base.ok_or(TraceDoubt::Misfit)?;
        let (sizebc, check) = self.identity(memory, base.proto).ok_or(TraceDoubt::Unreadable)?;
        if check != base.check {
            return Err(TraceDoubt::Unreadable);
        }
        let sites = match self.sites(memory, trace) {
            Some(Ok(sites)) => sites,
            Some(Err(NoSites::NoOffsets)) => return Err(TraceDoubt::NoOffsets),
            Some(Err(_)) => return Err(TraceDoubt::Unreadable),
            None => return Err(TraceDoubt::Gone),
        };
        let offset = u32::try_from(ip - trace.mcode.0).map_err(|_| TraceDoubt::Unreadable)?;
        let site = sites.at(offset).ok_or(TraceDoubt::Unreadable)?;
        sites.frames(site, (base.proto, sizebc, check)).map_err(|_| TraceDoubt::Misfit)
    }

    /// A trace's snapshots. `None` when it went away while they were read.
    fn sites(&mut self, memory: &dyn Memory, trace: &Trace) -> Option<&Result<Sites, NoSites>> {
        /// Each takes some kilobytes.
        const MOST: usize = 2048;
        if !self.sites.contains_key(trace) {
            let root = if trace.root == 0 { None } else { self.trace(memory, trace.root) };
            let read = Sites::read(memory, &self.vm, trace, root.as_slice());
            // Read now, whatever was read before its snapshots were.
            if self.jit(memory)?.trace(memory, &self.vm, trace.number) != Some(*trace) {
                return None;
            }
            if self.sites.len() >= MOST {
                self.sites.clear();
            }
            self.sites.insert(*trace, read);
        }
        self.sites.get(trace)
    }
}
