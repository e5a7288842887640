//! Inspectors of nginx: each shows one kind of thing that `upprof_nginx::inspect` reads.

mod config;
mod connections;
mod processes;
mod shdict;
mod shm;
mod structure;
mod timers;

use super::inspector::{AnyInspector, Running};
use super::world::{Process, World};
use std::time::{SystemTime, UNIX_EPOCH};
use upprof_nginx::inspect::{Nginx, Untrusted};
use upprof_report::inspect::{Part, Subject};
use upprof_target::Role;

/// In the order of the help text.
pub(super) fn all() -> Vec<Box<dyn AnyInspector>> {
    vec![
        Running::of(processes::ProcessesInspector),
        Running::of(shm::ShmInspector),
        Running::of(shdict::ShdictInspector),
        Running::of(connections::ConnectionsInspector),
        Running::of(connections::RequestsInspector),
        Running::of(timers::TimersInspector),
        Running::of(structure::PoolsInspector),
        Running::of(structure::FiltersInspector),
        Running::of(structure::PhasesInspector),
        Running::of(structure::MemoryPoolsInspector),
        Running::of(config::ConfigInspector),
    ]
}

/// Whether a process serves requests: an nginx worker, or an nginx without a master.
fn serves(world: &World<'_>, process: &Process) -> bool {
    process.is_worker() || (process.info.role == Role::Other && world.symbol(process, "ngx_cycle").is_some())
}

/// One part for each process that serves.
fn of_workers<T>(
    world: &World<'_>,
    mut look: impl FnMut(&Process, &Nginx<'_>) -> Result<T, Untrusted>,
) -> Vec<Part<T>> {
    let parts = world.of_processes(|p| serves(world, p), |p| world.read_nginx(p, |nginx| look(p, nginx)));
    if parts.is_empty() {
        return vec![of_target(Err(Untrusted::None("nginx worker")))];
    }
    parts
}

/// One part for the target: what all its processes have in common, read from the first that has it. The
/// current workers are asked before leaving ones and the master.
fn of_one<T>(
    world: &World<'_>,
    mut look: impl FnMut(&Process, &Nginx<'_>) -> Result<T, Untrusted>,
) -> Vec<Part<T>> {
    let mut processes: Vec<&Process> = world.processes().iter().filter(|p| is_nginx(world, p)).collect();
    processes.sort_by_key(|p| match p.info.role {
        Role::Worker | Role::Other => 0,
        Role::DrainingWorker => 1,
        _ => 2,
    });
    let mut found = Err(Untrusted::None("nginx process"));
    for process in processes {
        found = world.read_nginx(process, |nginx| look(process, nginx));
        if found.is_ok() {
            break;
        }
    }
    vec![of_target(found)]
}

fn is_nginx(world: &World<'_>, process: &Process) -> bool {
    world.symbol(process, "ngx_cycle").is_some()
}

fn of_target<T>(found: Result<T, Untrusted>) -> Part<T> {
    Part { of: Subject::default(), found: found.into() }
}

/// The host's clock, milliseconds since 1970: what nginx takes ages and expiry times from.
fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// `CLOCK_MONOTONIC` in milliseconds: what nginx's timers count in.
fn monotonic_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let ms = now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

/// Milliseconds that may be negative, as a cell: `-1.2 s` is past.
fn ms(ms: i64) -> upprof_report::inspect::Cell {
    upprof_report::inspect::Cell::Seconds(ms as f64 / 1e3)
}
