//! What `upprof inspect` costs: a target as large as a gateway, looks at one worker of it, and a watch.

use super::capture::Upprof;
use super::target::cpu_ns;
use crate::harness::inspect::ask;
use crate::harness::process::innermost_pid;
use crate::harness::target::Target;
use crate::harness::wait::until;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A target whose workers each have 300 routes, 1,000 traces and 100 MiB of Lua heap, and ten dictionaries
/// between them.
#[derive(Debug)]
pub struct Gateway(pub Target);

const DICTS: usize = 10;
const TRACES: usize = 1000;
const HEAP: u64 = 100 << 20;

impl Gateway {
    /// Starts it and fills it.
    #[must_use]
    pub fn start() -> Self {
        let target = Target::ticking("bench-inspect");
        for worker in target.workers() {
            for action in ["routes?n=300", "dicts?n=1000", "traces?n=1000", "fill?mb=100"] {
                let _ = ask(&target, innermost_pid(worker), action);
            }
        }
        Self(target)
    }
}

/// What inspectors said of one worker, and how long each took, over several runs.
#[derive(Debug, Default)]
pub struct Looks {
    /// Milliseconds of each artifact.
    read_ms: BTreeMap<String, Vec<f64>>,
    /// Of the last run, by artifact.
    found: BTreeMap<String, Value>,
}

impl Looks {
    /// Runs every inspector there is on one worker, `runs` times: those of a command without WHAT, and
    /// those that have to be named.
    ///
    /// # Errors
    /// When one fails, or the worker is not as large as it should be.
    pub fn at(upprof: &Upprof, worker: u32, runs: usize) -> Result<Self> {
        let mut looks = Self::default();
        for _ in 0..runs {
            for what in [&[][..], &["objects", "shdict", "config"]] {
                looks.add(&once(upprof, worker, what)?)?;
            }
        }
        looks.check()?;
        Ok(looks)
    }

    fn add(&mut self, round: &Value) -> Result<()> {
        for artifact in round["artifacts"].as_array().context("artifacts")? {
            let what = artifact["what"].as_str().context("what")?.to_owned();
            let found = artifact["parts"][0].get("found");
            let found = found.with_context(|| format!("{what}: {}", artifact["parts"][0]))?;
            self.read_ms.entry(what.clone()).or_default().push(artifact["read_ms"].as_f64().context("ms")?);
            self.found.insert(what, found.clone());
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let found = |what: &str| self.found.get(what).with_context(|| what.to_owned());
        let len = |v: &Value| v.as_array().map_or(0, Vec::len);
        let heap = found("gc")?["total_bytes"].as_u64().unwrap_or(0);
        let traces = len(&found("jit")?["traces"]);
        let dicts = len(&found("shdict")?["dicts"]);
        let large = heap >= HEAP && traces >= TRACES && dicts >= DICTS;
        ensure!(large, "only {heap} bytes, {traces} traces, {dicts} dictionaries: ./dev target");
        Ok(())
    }

    /// Milliseconds of one artifact in each run.
    #[must_use]
    pub fn of(&self, what: &str) -> Option<&[f64]> {
        self.read_ms.get(what).map(Vec::as_slice)
    }

    /// Milliseconds of all artifacts but one, run by run.
    #[must_use]
    pub fn all_but(&self, left_out: &str) -> Vec<f64> {
        let others = || self.read_ms.iter().filter(|(what, _)| *what != left_out).map(|(_, ms)| ms);
        let runs = others().map(Vec::len).min().unwrap_or(0);
        (0..runs).map(|run| others().map(|ms| ms[run]).sum()).collect()
    }

    /// The artifacts' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.read_ms.keys().map(String::as_str)
    }

    /// What the last run found of one.
    #[must_use]
    pub fn found(&self, what: &str) -> &Value {
        self.found.get(what).unwrap_or(&Value::Null)
    }
}

fn once(upprof: &Upprof, worker: u32, what: &[&str]) -> Result<Value> {
    let pid = worker.to_string();
    let mut command = Command::new(&upprof.path);
    command.args(["inspect", "--quiet", "--json", "--pid", &pid]).args(what).stderr(Stdio::inherit());
    let outcome = command.output().context("upprof inspect")?;
    ensure!(outcome.status.success(), "upprof inspect {what:?}: {}", outcome.status);
    Ok(serde_json::from_slice(&outcome.stdout)?)
}

/// A running `upprof inspect --watch 1s`. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    lines: tempfile::NamedTempFile,
}

impl Watch {
    /// Starts to watch a container.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(upprof: &Upprof, container: &str) -> Result<Self> {
        let lines = tempfile::NamedTempFile::new()?;
        let child = Command::new(&upprof.path)
            .args(["inspect", "--quiet", "--json", "--container", container, "--watch", "1s"])
            .stdin(Stdio::null())
            .stdout(lines.reopen()?)
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| upprof.path.display().to_string())?;
        Ok(Self { child, lines })
    }

    /// Rounds that were told so far.
    ///
    /// # Panics
    /// When its own file cannot be read.
    #[must_use]
    pub fn rounds(&self) -> usize {
        let text = std::fs::read(self.lines.path()).expect("our own file");
        text.iter().filter(|b| **b == b'\n').count()
    }

    /// Its share of a CPU over some time, in per cent, and the rounds in it. From its first round on: what
    /// it takes to start is no part of watching.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_percent(&self, length: Duration) -> Result<(f64, usize)> {
        until("the first round", || (self.rounds() > 0).then_some(()));
        let (begun, before, rounds) = (Instant::now(), cpu_ns(self.child.id())?, self.rounds());
        std::thread::sleep(length);
        let spent = cpu_ns(self.child.id())?.saturating_sub(before);
        Ok((spent as f64 / begun.elapsed().as_nanos() as f64 * 100.0, self.rounds() - rounds))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
