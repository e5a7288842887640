//! The demo target's workers: their CPU time by request.

use crate::harness::load::Load;
use crate::harness::target::Target;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// The last lines of the target's log that are more than notices.
fn last_errors(target: &Target) -> String {
    const SHOWN: usize = 8;
    let log = target.logs();
    let lines: Vec<&str> = log.lines().filter(|l| !l.contains("[notice]")).collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

/// CPU time of all workers so far, nanoseconds, as the scheduler counts it.
///
/// # Errors
/// When `/proc/PID/schedstat` cannot be read.
pub fn worker_cpu_ns(target: &Target) -> Result<u64> {
    let workers = target.workers();
    ensure!(!workers.is_empty(), "{} has no workers", target.name());
    workers.into_iter().map(cpu_ns).sum()
}

/// CPU time of a process so far, nanoseconds.
pub(super) fn cpu_ns(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/schedstat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    text.split_whitespace().next().and_then(|n| n.parse().ok()).context(path)
}

/// Puts a load on the target for some time, and returns how many requests were answered.
///
/// # Errors
/// When one was answered badly.
pub fn answer_load(target: &Target, paths: &[&str], length: Duration) -> Result<u64> {
    let load = Load::on(target, paths);
    std::thread::sleep(length);
    let answers = load.stop();
    ensure!(answers.bad == 0, "{answers:?}, and the target says:\n{}", last_errors(target));
    Ok(answers.all)
}
