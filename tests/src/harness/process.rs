//! Processes as `/proc` shows them, independent of what upprof makes of them.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::PathBuf;

fn path(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

/// Every pid there is.
#[must_use]
pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// The fields of `/proc/PID/stat` after the command, the state first; `None` when it is gone.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(path(pid, "stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Direct children.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let mut found = all();
    found.retain(|pid| stat(*pid).is_some_and(|s| s[1] == parent));
    found.sort_unstable();
    found
}

/// Arguments, as given to `execve` or set since.
#[must_use]
pub fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(path(pid, "cmdline")).unwrap_or_default();
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    bytes.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

/// User and system time so far, seconds; 0 when it is gone.
#[must_use]
pub fn cpu_seconds(pid: u32) -> f64 {
    let ticks = |s: &[String], field: usize| s[field].parse::<f64>().expect("a number");
    let per_second = rustix::param::clock_ticks_per_second();
    stat(pid).map_or(0.0, |s| (ticks(&s, 11) + ticks(&s, 12)) / per_second as f64)
}

/// Whether it sleeps, waiting for something.
#[must_use]
pub fn waits(pid: u32) -> bool {
    stat(pid).is_some_and(|s| s[0] == "S")
}

/// How many perf events it holds open: upprof has one a CPU while, and only while, it samples.
#[must_use]
pub fn perf_events(pid: u32) -> usize {
    let Ok(open) = fs::read_dir(path(pid, "fd")) else { return 0 };
    let links = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    links.filter(|to| to.to_string_lossy().contains("[perf_event]")).count()
}

/// Whether somebody listens on this TCP port in the process's network namespace.
#[must_use]
pub fn listens(pid: u32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string(path(pid, "net/tcp")).unwrap_or_default();
    let port = format!(":{port:04X}");
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.len() > 3 && fields[1].ends_with(&port) && fields[3] == LISTEN
    })
}

/// Sends a signal.
///
/// # Panics
/// When there is no such process.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("it lives");
}

/// The pid in its own pid namespace.
///
/// # Panics
/// When it is gone.
#[must_use]
pub fn innermost_pid(pid: u32) -> u64 {
    let status = fs::read_to_string(path(pid, "status")).expect("it lives");
    let line = status.lines().find(|l| l.starts_with("NSpid:")).expect("NSpid");
    line.split_whitespace().last().and_then(|n| n.parse().ok()).expect("a pid")
}

/// Established TCP connections to this port in the process's network namespace, each counted once.
#[must_use]
pub fn established_to(pid: u32, port: u16) -> u64 {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string(path(pid, "net/tcp")).unwrap_or_default();
    let port = format!(":{port:04X}");
    let to = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.len() > 3 && fields[2].ends_with(&port) && fields[3] == ESTABLISHED
    };
    table.lines().filter(to).count() as u64
}
