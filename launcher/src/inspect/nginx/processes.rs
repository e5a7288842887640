//! `processes`: what each process is, since when, and what it uses.

use crate::inspect::world::{Process, World};
use crate::inspect::{Ask, Inspector};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use upprof_memory::Memory;
use upprof_report::inspect::{Cell, Part, Subject, Table};
use upprof_target::{CpuQuota, ProcError, Resources, Role};

/// Nothing to remember.
pub(super) struct ProcessesInspector;

/// One process.
#[derive(Serialize)]
pub(super) struct Seen {
    /// Its pid in its own pid namespace.
    ns_pid: Option<u32>,
    /// Its parent, 0 when that is outside of what we see.
    parent_pid: u32,
    title: String,
    age_s: f64,
    /// Workers that were made with the same configuration have the same number; the highest is the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// For how long it has been leaving: since the first worker of the next generation was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    draining_s: Option<f64>,
    cpu_s: f64,
    /// Of one processor, since the look before.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    anonymous_bytes: u64,
    file_bytes: u64,
    /// Shared memory that it has touched: in all workers the same pages.
    shared_bytes: u64,
    threads: u64,
    open_files: Option<u64>,
    /// `None` without limit.
    max_open_files: Option<u64>,
    quota: Option<Quota>,
}

/// The processor limit of its control group.
#[derive(Serialize)]
struct Quota {
    /// Processors' worth of time; `None` without limit.
    cores: Option<f64>,
    periods: u64,
    throttled_periods: u64,
    throttled_s: f64,
    /// Of the periods since the look before, how many ended with waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    throttled_percent: Option<f64>,
}

impl Inspector for ProcessesInspector {
    type Artifact = Seen;
    const NAME: &'static str = "processes";
    const ABOUT: &'static str = "roles, generations, CPU, memory without shared zones, open files, CPU quota";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Seen>> {
        let generations = Generations::of(world);
        world.of_processes(|_| true, |process| seen(world, process, &generations))
    }

    fn compare(now: &mut Seen, before: &Seen, elapsed: Duration) {
        now.cpu_percent = Some((now.cpu_s - before.cpu_s).max(0.0) * 100.0 / elapsed.as_secs_f64());
        if let (Some(now), Some(before)) = (&mut now.quota, &before.quota) {
            let periods = now.periods.saturating_sub(before.periods);
            let throttled = now.throttled_periods.saturating_sub(before.throttled_periods);
            now.throttled_percent = (periods > 0).then(|| throttled as f64 * 100.0 / periods as f64);
        }
    }

    fn tables(found: &[(&Subject, &Seen)]) -> Vec<Table> {
        let mut table = Table::new(
            "processes (memory: own, of files, shared; the shared part is the same in every worker)",
            &[
                "process",
                "inside",
                "age",
                "generation",
                "draining",
                "CPU time",
                "CPU",
                "own",
                "files",
                "shared",
                "open files",
                "of at most",
            ],
        );
        for (of, p) in found {
            table.row(vec![
                of.to_string().into(),
                p.ns_pid.into(),
                Cell::Seconds(p.age_s),
                p.generation.into(),
                p.draining_s.map_or(Cell::Missing, Cell::Seconds),
                Cell::Seconds(p.cpu_s),
                p.cpu_percent.map_or(Cell::Missing, Cell::Percent),
                Cell::Bytes(p.anonymous_bytes),
                Cell::Bytes(p.file_bytes),
                Cell::Bytes(p.shared_bytes),
                p.open_files.into(),
                p.max_open_files.into(),
            ]);
        }
        if let Some(quota) = found.iter().find_map(|(_, p)| p.quota.as_ref()) {
            let limit =
                quota.cores.map_or_else(|| "no CPU limit".into(), |c| format!("a limit of {c:.2} CPUs"));
            table.note(format!(
                "control group: {limit}, throttled in {} of {} periods, {:.1} s in all",
                quota.throttled_periods, quota.periods, quota.throttled_s
            ));
        }
        vec![table]
    }
}

fn seen(world: &World<'_>, process: &Process, generations: &Generations) -> Result<Seen, ProcError> {
    let (proc, info) = (&world.target.proc, &process.info);
    let used: Resources = proc.resources(info.pid)?;
    Ok(Seen {
        ns_pid: info.ns_pid,
        parent_pid: info.ppid,
        title: info.title.clone(),
        age_s: generations.age_s(info.start_time_ticks),
        generation: generations.number(process),
        draining_s: generations.draining_s(process),
        cpu_s: proc.cpu_time_ns(info.pid)? as f64 / 1e9,
        cpu_percent: None,
        anonymous_bytes: used.anonymous_bytes,
        file_bytes: used.file_bytes,
        shared_bytes: used.shared_bytes,
        threads: used.threads,
        open_files: used.open_files,
        max_open_files: used.max_open_files,
        quota: quota(world, info.pid),
    })
}

/// From where control groups are mounted usually: in our own root, or in the host's.
fn quota(world: &World<'_>, pid: u32) -> Option<Quota> {
    let roots = ["/sys/fs/cgroup", "/proc/1/root/sys/fs/cgroup"].map(Path::new);
    let CpuQuota { cores, periods, throttled_periods, throttled_ns } =
        world.target.proc.cpu_quota(pid, &roots).ok()?;
    Some(Quota {
        cores,
        periods,
        throttled_periods,
        throttled_s: throttled_ns as f64 / 1e9,
        throttled_percent: None,
    })
}

/// Workers by the cycle they run: each reload makes a new one.
struct Generations {
    /// Pid, cycle, start in ticks since boot.
    workers: Vec<(u32, u64, u64)>,
    ticks_per_s: f64,
    uptime_s: f64,
}

impl Generations {
    fn of(world: &World<'_>) -> Self {
        let worker = |p: &Process| {
            let cycle = p.memory().u64(world.symbol(p, "ngx_cycle")?).ok()?;
            p.is_worker().then_some((p.info.pid, cycle, p.info.start_time_ticks))
        };
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self {
            workers: world.processes().iter().filter_map(worker).collect(),
            ticks_per_s: rustix::param::clock_ticks_per_second() as f64,
            uptime_s: now.tv_sec as f64 + now.tv_nsec as f64 / 1e9,
        }
    }

    fn age_s(&self, start_ticks: u64) -> f64 {
        (self.uptime_s - start_ticks as f64 / self.ticks_per_s).max(0.0)
    }

    /// The first start of a cycle's workers that still live.
    fn started(&self, cycle: u64) -> u64 {
        self.workers.iter().filter(|(_, c, _)| *c == cycle).map(|(_, _, start)| *start).min().unwrap_or(0)
    }

    fn cycle(&self, process: &Process) -> Option<u64> {
        self.workers.iter().find(|(pid, _, _)| *pid == process.info.pid).map(|(_, cycle, _)| *cycle)
    }

    fn number(&self, process: &Process) -> Option<u64> {
        let mine = self.started(self.cycle(process)?);
        let mut starts: Vec<u64> = self.workers.iter().map(|(_, cycle, _)| self.started(*cycle)).collect();
        starts.sort_unstable();
        starts.dedup();
        Some(1 + starts.iter().filter(|start| **start < mine).count() as u64)
    }

    fn draining_s(&self, process: &Process) -> Option<f64> {
        if process.info.role != Role::DrainingWorker {
            return None;
        }
        let mine = self.started(self.cycle(process)?);
        let later =
            self.workers.iter().map(|(_, cycle, _)| self.started(*cycle)).filter(|start| *start > mine);
        later.min().map(|start| self.age_s(start))
    }
}
