//! A C host of LuaJIT that is not nginx (`tests/host/host.c`): upstream's LuaJIT, linked statically; several VMs,
//! two threads, `lua_pcall` and `lua_resume`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

/// A running host. Dropping it ends it.
#[derive(Debug)]
pub struct Host {
    child: Child,
    threads: Vec<u32>,
}

impl Host {
    /// Starts it; its threads have their VMs, and nothing to do.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/host/host.lua");
        let mut command = Command::new(env!("UPPROF_LUA_HOST"));
        let child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("tests/build.rs has made it");
        let said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let threads = said.take(2).map(|l| l.expect("a line").parse().expect("a thread's id")).collect();
        Self { child, threads }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its threads that run Lua.
    #[must_use]
    pub fn threads(&self) -> &[u32] {
        &self.threads
    }

    /// Tells its threads what to run: a global function of `tests/host/host.lua`, or `idle`.
    ///
    /// # Panics
    /// When it has ended.
    pub fn work(&mut self, name: &str) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        writeln!(input, "{name}").expect("it lives");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
