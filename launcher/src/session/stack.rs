//! `upprof stack`: one stack of each process, now.
//!
//! A process on a CPU is caught by the next tick of the sampling clock, as in a capture. One that is on
//! none makes no samples; the kernel says with which registers it left user code, and the same walkers,
//! compiled for this side, read its stack where it lies. It is not stopped for that: it is looked at
//! before and after, and only a process that has not run in between is shown.

use super::finish::sampled_processes;
use super::names::Named;
use super::outputs::to_stdout;
use super::processes::Processes;
use super::target::{self, Target};
use super::window::samples_per_second;
use crate::failure::Failure;
use crate::plan::Stack;
use crate::ui::Voice;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use upprof_memory::{Live, Memory};
use upprof_probes::hostsim::{Described, HostSim};
use upprof_probes::{Asleep, Event, Probe, ProbeError, Sleepers, TableId};
use upprof_profile::Profile;
use upprof_profile::raw::{RawStack, StackKey};
use upprof_report::{Doing, Now};
use upprof_stacks::{ObjectId, Recording};

/// Ticks a second while somebody is awaited on a CPU: soon, and cheap for so short a time.
const FREQUENCY_HZ: u64 = 499;
/// How long to wait for those that are neither seen asleep nor caught on a CPU.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

pub(super) fn stack(stack: &Stack) -> Result<(), Failure> {
    target::check_privileges()?;
    let target = Target::find(&stack.target)?;
    // What a capture says of its plans is no news here.
    let mut processes = Processes::look_at(&target, Voice { quiet: true, ..stack.voice })?;
    let caught = Catcher::of(&processes)?.catch(&mut processes)?;
    for (pid, (stack, _)) in &caught {
        stack.frames.iter().for_each(|frame| processes.observe(&target, *pid, *frame));
    }
    let profile = profile(&target, &processes, &caught);
    let doing: Vec<Doing> = profile.processes.iter().map(|p| doing(&caught, p.pid)).collect();
    let now = Now { profile: &profile, doing: &doing };
    to_stdout(&mut |out| if stack.json { now.write_json(out) } else { now.write_text(out) })
        .map_err(|e| Failure::file(&e))?;
    match profile.total() {
        0 => Err(Failure::no_samples("no process was seen on a CPU or asleep", "the lines above")),
        _ => Ok(()),
    }
}

/// A stack, and what the process was doing.
type Caught = BTreeMap<u32, (RawStack, Doing)>;

fn doing(caught: &Caught, pid: u32) -> Doing {
    caught.get(&pid).map_or_else(
        || Doing::Unknown("it ended, or could neither be caught on a CPU nor seen asleep".into()),
        |(_, doing)| doing.clone(),
    )
}

struct Catcher {
    sleepers: Sleepers,
    walker: HostSim,
    described: HashMap<u32, Described>,
    caught: Caught,
    missing: Vec<u32>,
}

impl Catcher {
    fn of(processes: &Processes) -> Result<Self, ProbeError> {
        let missing: Vec<u32> =
            processes.known.iter().filter(|(_, k)| k.sampled).map(|(pid, _)| *pid).collect();
        let mut walker = HostSim::default();
        let objects = processes.library.objects.iter();
        let tables: HashMap<ObjectId, TableId> =
            objects.map(|(id, object)| (id, walker.add_table(&object.table))).collect();
        let described = missing
            .iter()
            .filter_map(|pid| {
                let spec = processes.spec(*pid, |object| tables.get(&object).copied())?;
                Some((*pid, Described::from(&spec)))
            })
            .collect();
        let sleepers = Sleepers::of(&missing)?;
        Ok(Self { sleepers, walker, described, caught: Caught::new(), missing })
    }

    /// Asleep first: for a target at rest nothing is sampled at all.
    fn catch(mut self, processes: &mut Processes) -> Result<Caught, ProbeError> {
        self.look_asleep(processes)?;
        if self.missing.is_empty() {
            return Ok(self.caught);
        }
        const FEW_STACKS: u32 = 1024;
        let mut probe = Probe::load(processes.capacity(FEW_STACKS, samples_per_second(FREQUENCY_HZ)))?;
        processes.describe_all(&mut probe)?;
        probe.start(FREQUENCY_HZ)?;
        let from = Instant::now();
        while !self.missing.is_empty() && from.elapsed() < PATIENCE {
            for event in probe.poll(PAUSE)? {
                if let Event::Stack(stack) = event {
                    self.caught_running(processes, stack);
                }
            }
            self.look_asleep(processes)?;
        }
        Ok(self.caught)
    }

    fn caught_running(&mut self, processes: &mut Processes, mut stack: RawStack) {
        if self.missing.contains(&stack.pid) {
            processes.place(&mut stack);
            self.keep(stack, Doing::Running);
        }
    }

    fn keep(&mut self, stack: RawStack, doing: Doing) {
        self.missing.retain(|pid| *pid != stack.pid);
        self.caught.insert(stack.pid, (stack, doing));
    }

    /// Reads the stacks of those that are on no CPU, and keeps them if they still are where they were.
    fn look_asleep(&mut self, processes: &mut Processes) -> Result<(), ProbeError> {
        let before = self.sleepers.look()?;
        let read: Vec<(&Asleep, RawStack)> = before
            .iter()
            .filter(|(pid, _)| self.missing.contains(pid))
            .filter_map(|(pid, asleep)| {
                let mut stack = self.walk(*pid, asleep)?;
                processes.place(&mut stack);
                Some((asleep, stack))
            })
            .collect();
        if read.is_empty() {
            return Ok(());
        }
        let after = self.sleepers.look()?;
        for (asleep, stack) in read {
            if after.get(&stack.pid).is_some_and(|now| now.switches == asleep.switches) {
                self.keep(stack, if asleep.runnable { Doing::WaitingForCpu } else { Doing::Waiting });
            }
        }
        Ok(())
    }

    fn walk(&self, pid: u32, asleep: &Asleep) -> Option<RawStack> {
        let memory = Live::new(pid);
        let read = |at: u64, to: &mut [u8]| memory.read(at, to).is_ok();
        let walked = self.walker.walk(read, self.described.get(&pid)?, &asleep.registers);
        Some(RawStack {
            key: StackKey(0, 0),
            pid,
            frames: walked.frames,
            kernel: asleep.kernel.clone(),
            outcome: walked.outcome,
            vmstate: walked.vm_state,
            label: 0,
            phase: None,
            uncounted: true,
        })
    }
}

/// One sample a process.
fn profile(target: &Target, processes: &Processes, caught: &Caught) -> Profile {
    let mut profile = Profile::default();
    profile.container = target.container.as_ref().map(|c| c.name.clone()).unwrap_or_default();
    profile.processes = sampled_processes(processes);
    let mut recording = Recording::default();
    for (pid, (stack, _)) in caught {
        // The kernel's keys would do for some; the pid does for all.
        let stack = RawStack { key: StackKey(u64::from(*pid), 0), uncounted: true, ..stack.clone() };
        recording.add(&stack, |_, _| {});
    }
    let index: Vec<u32> = profile.processes.iter().map(|p| p.pid).collect();
    let named = Named { book: &processes.book, names: &processes.names };
    upprof_stacks::build(
        &mut profile,
        &recording,
        &HashMap::new(),
        &processes.library.objects,
        &processes.spaces,
        &named,
        &|pid| index.iter().position(|p| *p == pid),
    );
    profile
}
