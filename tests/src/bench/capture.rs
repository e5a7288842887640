//! One capture by the shipped binary, and what its bundle and the kernel say of it.

use crate::harness::process::perf_events;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use upprof_report::manifest::Manifest;

/// The binary that is measured.
#[derive(Debug, Clone)]
pub struct Upprof {
    /// Where it is.
    pub path: PathBuf,
}

/// A finished capture.
#[derive(Debug)]
pub struct Capture {
    /// Its `manifest.yaml`.
    pub manifest: Manifest,
    /// Frames by kind, of its `cpu/profile.folded`.
    pub depth: Depth,
    /// From its start to its end, seen from outside.
    pub wall: Duration,
    /// Largest resident set, seen from outside (`wait4`), bytes.
    pub max_rss_bytes: u64,
}

/// Frames of folded stacks, weighted with their samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Samples.
    pub samples: u64,
    /// Native frames.
    pub native: u64,
    /// Lua functions, and C functions called from Lua.
    pub lua: u64,
    /// Kernel frames.
    pub kernel: u64,
}

/// A capture that is running.
#[derive(Debug)]
pub struct Running {
    child: Child,
    begun: Instant,
    out: tempfile::TempDir,
}

impl Upprof {
    /// `UPPROF_BIN`, else the static release binary, built now (at once when it is up to date).
    ///
    /// # Errors
    /// When it does not build.
    pub fn find() -> Result<Self> {
        if let Some(path) = std::env::var_os("UPPROF_BIN") {
            let path = PathBuf::from(path);
            ensure!(path.is_file(), "UPPROF_BIN: {} is no file", path.display());
            return Ok(Self { path });
        }
        // As `./dev image` builds it; naming the target keeps the flags away from build scripts.
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        run(Command::new("cargo")
            .current_dir(root())
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .args(["build", "--quiet", "--release", "-p", "upprof", "--target", &triple]))?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        Ok(Self { path: target.join(triple).join("release/upprof") })
    }

    /// Its size in bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn size(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.path).with_context(|| self.path.display().to_string())?.len())
    }

    /// Captures a container for a fixed time.
    ///
    /// # Errors
    /// When it does not end with 0, or its bundle cannot be read.
    pub fn capture(&self, container: &str, hz: u32, length: Duration) -> Result<Capture> {
        self.start(container, hz, Some(length))?.finish()
    }

    /// Starts a capture that goes on until it is stopped, and returns once it samples.
    ///
    /// # Errors
    /// When it does not start to sample.
    pub fn start_sampling(&self, container: &str, hz: u32) -> Result<Running> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let mut running = self.start(container, hz, None)?;
        // Sampling starts when the perf events are there: nothing else of upprof opens one.
        while perf_events(running.child.id()) == 0 {
            if let Some(status) = running.child.try_wait()? {
                anyhow::bail!("upprof ended before it sampled: {status}");
            }
            ensure!(running.begun.elapsed() < PATIENCE, "upprof does not sample");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    fn start(&self, container: &str, hz: u32, length: Option<Duration>) -> Result<Running> {
        let out = tempfile::tempdir()?;
        let duration = length.map_or_else(|| "0".into(), |d| format!("{}ms", d.as_millis()));
        let begun = Instant::now();
        let child = Command::new(&self.path)
            .args(["--container", container, "--quiet", "--duration", &duration])
            .args(["--frequency", &hz.to_string(), "--out"])
            .arg(out.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| self.path.display().to_string())?;
        Ok(Running { child, begun, out })
    }
}

impl Running {
    /// Ends it as Ctrl-C does, and reads what it left.
    ///
    /// # Errors
    /// As [`Upprof::capture`].
    pub fn stop(self) -> Result<Capture> {
        let pid = self.child.id().cast_signed();
        // SAFETY: sends a signal, touches no memory; the child is ours and not yet waited for, so
        // the pid cannot have become another process's.
        unsafe { libc::kill(pid, libc::SIGINT) };
        self.finish()
    }

    fn finish(self) -> Result<Capture> {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        let mut status = 0;
        // SAFETY: both pointers are valid for writes for the whole call; the child has not been
        // waited for (`Child::wait` is not called on this path).
        let waited =
            unsafe { libc::wait4(self.child.id().cast_signed(), &raw mut status, 0, usage.as_mut_ptr()) };
        let wall = self.begun.elapsed();
        ensure!(waited > 0, "waiting for upprof: {}", std::io::Error::last_os_error());
        // SAFETY: zeroed is a valid rusage, and wait4 has filled it.
        let usage = unsafe { usage.assume_init() };
        ensure!(
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
            "upprof ended with status {status:#x}"
        );
        let bundle = only_folder(self.out.path())?;
        let read = |name: &str| {
            std::fs::read_to_string(bundle.join(name)).with_context(|| format!("{name} of the bundle"))
        };
        Ok(Capture {
            manifest: Manifest::from_yaml(&read("manifest.yaml")?)?,
            depth: Depth::of(&read("cpu/profile.folded")?),
            wall,
            max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        })
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

fn only_folder(dir: &Path) -> Result<PathBuf> {
    let folders = std::fs::read_dir(dir)?.flatten().map(|e| e.path()).filter(|p| p.is_dir());
    let folders: Vec<PathBuf> = folders.collect();
    ensure!(folders.len() == 1, "not one bundle but {}", folders.len());
    Ok(folders.into_iter().next().unwrap_or_default())
}

impl Depth {
    /// Counts the frames by their spelling (`docs/formats.md`). Traces and markers count as none: they
    /// are no frames of a stack.
    #[must_use]
    pub fn of(folded: &str) -> Self {
        let mut sum = Self::default();
        for (stack, count) in folded.lines().filter_map(|l| l.rsplit_once(' ')) {
            let Ok(count) = count.parse::<u64>() else { continue };
            sum.samples += count;
            for frame in stack.split(';') {
                if frame.starts_with("lua:") || frame.starts_with("cfunc:") {
                    sum.lua += count;
                } else if frame.ends_with(" [kernel]") {
                    sum.kernel += count;
                } else if !frame.starts_with('[') {
                    sum.native += count;
                }
            }
        }
        sum
    }

    /// Native and Lua frames of a mean sample.
    #[must_use]
    pub fn mean(&self) -> (f64, f64) {
        let per_sample = |n: u64| n as f64 / self.samples.max(1) as f64;
        (per_sample(self.native), per_sample(self.lua))
    }
}

impl Capture {
    /// A counter of the manifest by name.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.manifest.counters.iter().find(|c| c.name == name).map(|c| c.count)
    }

    /// BPF time for each sample of the target, microseconds.
    #[must_use]
    pub fn bpf_us_per_sample(&self) -> Option<f64> {
        let samples = self.counter("samples").filter(|n| *n > 0)?;
        Some(self.manifest.own_cost.bpf_total_ns? as f64 / samples as f64 / 1e3)
    }

    /// BPF time for each run of the program, microseconds: the target's samples and all others.
    #[must_use]
    pub fn bpf_us_per_run(&self) -> Option<f64> {
        let cost = &self.manifest.own_cost;
        let runs = cost.bpf_runs.filter(|n| *n > 0)?;
        Some(cost.bpf_total_ns? as f64 / runs as f64 / 1e3)
    }

    /// CPU time of the workers in the window, seconds.
    #[must_use]
    pub fn worker_seconds(&self) -> Option<f64> {
        let workers = self.manifest.processes.iter().filter(|p| p.role.ends_with("worker"));
        let ns: u64 = workers.filter_map(|p| p.cpu_proc_ns).sum();
        (ns > 0).then_some(ns as f64 / 1e9)
    }

    /// BPF time, and upprof's own CPU time in the window, both in per cent of the workers' CPU time.
    #[must_use]
    pub fn cost_percent(&self) -> Option<(f64, f64)> {
        let cost = &self.manifest.own_cost;
        let workers = self.worker_seconds()? * 1e9;
        let share = |ns: u64| ns as f64 / workers * 100.0;
        Some((share(cost.bpf_total_ns?), share(cost.upprof_window_cpu_ns?)))
    }

    /// From the start of upprof to the start of sampling.
    #[must_use]
    pub fn set_up(&self) -> Option<Duration> {
        self.manifest.capture.set_up_ns.map(Duration::from_nanos)
    }

    /// From the end of the window to the end of the process, seen from outside: all that is neither
    /// set-up nor window.
    #[must_use]
    pub fn finish_seconds(&self) -> Option<f64> {
        let window = Duration::from_nanos(self.manifest.capture.duration_ns);
        Some(self.wall.checked_sub(self.set_up()? + window)?.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_by_their_spelling() {
        let folded =
            "main;ngx_x;lua:f@/a b:1;cfunc:string.gsub;lj_str;[trace x@/a:2] 3\n[master];main;f [kernel] 1\n";
        let depth = Depth::of(folded);
        assert_eq!(depth, Depth { samples: 4, native: 10, lua: 6, kernel: 1 });
        assert_eq!(depth.mean(), (2.5, 1.5));
        assert_eq!(Depth::of("").mean(), (0.0, 0.0));
    }
}
