//! The target: Debian's nginx with the application of `images/target`.

use super::docker::Container;
use super::process;
use super::wait::until;
use std::ops::Deref;

/// The image of the target; `./dev target` makes it.
pub const IMAGE: &str = "upprof-target";
/// Port of the Lua application.
pub const LUA_PORT: u16 = 8080;
/// Port of a server without any Lua.
pub const PLAIN_PORT: u16 = 8081;
/// Port of the stream module's server, in the image `static` only.
pub const STREAM_PORT: u16 = 8082;

/// A running target that serves.
#[derive(Debug)]
pub struct Target(Container);

impl Target {
    /// As in the demo: each worker has a timer that works a little every 20 ms.
    #[must_use]
    pub fn ticking(purpose: &str) -> Self {
        Self::start(purpose, &[IMAGE])
    }

    /// Without the timer: does nothing unless it is asked to.
    #[must_use]
    pub fn quiet(purpose: &str) -> Self {
        Self::start(purpose, &["--env", "TIMER_TICK=off", IMAGE])
    }

    /// With options and a command of the test's own. Its nginx must listen on [`LUA_PORT`] or
    /// [`PLAIN_PORT`].
    #[must_use]
    pub fn start(purpose: &str, arguments: &[&str]) -> Self {
        let container = Container::run(purpose, &[&["--network", "none"], arguments].concat());
        let pid = container.pid();
        until("the target to listen", || {
            assert_eq!(container.inspect("{{.State.Running}}"), "true", "{}", container.logs());
            [LUA_PORT, PLAIN_PORT].iter().any(|port| process::listens(pid, *port)).then_some(())
        });
        let target = Self(container);
        until("the workers", || (!target.workers().is_empty()).then_some(()));
        target
    }

    /// Its nginx workers, leaving ones not included.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        let worker = |pid: &u32| process::arguments(*pid)[0] == "nginx: worker process";
        process::children(self.pid()).into_iter().filter(worker).collect()
    }

    /// Waits until its present workers have used this much more CPU time: what a sampler sees, on a
    /// slow machine as on a fast one.
    pub fn burn(&self, seconds: f64) {
        let workers = self.workers();
        let used = || workers.iter().map(|pid| process::cpu_seconds(*pid)).sum::<f64>();
        let from = used();
        until("the workers to use CPU time", || (used() - from >= seconds).then_some(()));
    }
}

impl Deref for Target {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.0
    }
}
