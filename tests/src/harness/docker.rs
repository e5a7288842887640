//! The engine, by its command line, and containers that remove themselves.

use super::wait::until;
use std::ffi::OsStr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs `docker` and returns what it printed.
///
/// # Panics
/// When it fails, with its own words.
pub fn docker<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let mut command = Command::new("docker");
    command.args(args);
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|e| panic!("docker cannot be started ({e}): ./dev setup"));
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}: {said}");
    String::from_utf8(stdout).expect("docker prints UTF-8").trim_end().to_owned()
}

/// A name that no other container has: `upt-PURPOSE-…`.
#[must_use]
pub fn unique(purpose: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("upt-{purpose}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A container of ours. Dropping it removes it, running or not.
#[derive(Debug)]
pub struct Container {
    id: String,
    name: String,
}

impl Container {
    /// `docker run -d`: `arguments` are options, the image, and its command.
    #[must_use]
    pub fn run(purpose: &str, arguments: &[&str]) -> Self {
        Self::make(purpose, &["run", "-d"], arguments)
    }

    /// `docker create`: it exists and was never started.
    #[must_use]
    pub fn create(purpose: &str, arguments: &[&str]) -> Self {
        Self::make(purpose, &["create"], arguments)
    }

    fn make(purpose: &str, verb: &[&str], arguments: &[&str]) -> Self {
        let name = unique(purpose);
        let id = docker([verb, &["--name", &name, "--label", "upprof-tests"], arguments].concat());
        Self { id, name }
    }

    /// Its full ID.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `docker inspect -f FORMAT` says of it.
    #[must_use]
    pub fn inspect(&self, format: &str) -> String {
        docker(["inspect", "-f", format, &self.id])
    }

    /// Its first process, as the host numbers it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inspect("{{.State.Pid}}").parse().expect("a pid")
    }

    /// Runs a command inside and returns what it printed.
    pub fn exec(&self, command: &[&str]) -> String {
        docker([&["exec", &self.id], command].concat())
    }

    /// Sends a signal to its first process.
    pub fn signal(&self, signal: &str) {
        docker(["kill", "-s", signal, &self.id]);
    }

    /// Kills it and waits until the engine says so.
    pub fn kill(&self) {
        self.signal("KILL");
        self.ended();
    }

    /// Waits until it has ended, and returns its exit code.
    pub fn ended(&self) -> i32 {
        until("the end of a container", || (self.inspect("{{.State.Running}}") == "false").then_some(()));
        self.inspect("{{.State.ExitCode}}").parse().expect("an exit code")
    }

    /// What it printed so far.
    #[must_use]
    pub fn logs(&self) -> String {
        docker(["logs", &self.id])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A failure here must not hide the one that is being told; it leaves a container with our label.
        let _ = Command::new("docker").args(["rm", "-f", "-v", &self.id]).output();
    }
}
