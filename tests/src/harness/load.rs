//! Requests: the load generator in the target's own network.

use super::docker::Container;
use super::target::{LUA_PORT, PLAIN_PORT, STREAM_PORT};

/// The image of the load; `./dev target` makes it.
const IMAGE: &str = "upprof-load";
/// It ends by itself, should nobody stop it.
const LONGEST: &str = "600s";
/// How long it waits for an answer. A machine that others share may stand still for seconds.
const PATIENCE: &str = "60s";
const MOST_ANSWERS: &str = "100000000";

/// The demo's load: every mechanism in one request, the phases, a balancer, a VM for each request.
pub const DEMO: [&str; 8] = ["/mix", "/mix", "/mix", "/mix", "/mix", "/phases", "/balancer", "/fresh_vm"];

/// A load that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Load(Container);

/// What the load saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// Requests that were answered.
    pub all: u64,
    /// Connections or requests that failed, and answers that say so.
    pub bad: u64,
}

impl Load {
    /// Asks for these paths in turn, on four connections.
    #[must_use]
    pub fn on(target: &Container, paths: &[&str]) -> Self {
        Self::with(target, LUA_PORT, "4", paths)
    }

    /// The same on so many connections that each worker gets some.
    #[must_use]
    pub fn on_all_workers(target: &Container, paths: &[&str]) -> Self {
        Self::with(target, LUA_PORT, "32", paths)
    }

    /// On the server without Lua.
    #[must_use]
    pub fn without_lua(target: &Container) -> Self {
        Self::with(target, PLAIN_PORT, "4", &["/"])
    }

    /// On the stream module's server, which closes each connection when it has answered: each worker gets some.
    #[must_use]
    pub fn stream(target: &Container) -> Self {
        Self::with(target, STREAM_PORT, "4", &["/"])
    }

    fn with(target: &Container, port: u16, connections: &str, paths: &[&str]) -> Self {
        let network = format!("container:{}", target.id());
        let url = format!("http://127.0.0.1:{port}");
        let rate = ["-t", "1", "-c", connections, "-d", LONGEST, "--timeout", PATIENCE];
        let options = [&["--network", &network, IMAGE][..], &rate, &[&url]].concat();
        Self(Container::run("load", &[&options, &["--", MOST_ANSWERS][..], paths].concat()))
    }

    /// Ends it and returns what it saw.
    ///
    /// # Panics
    /// When it had failed by itself.
    #[must_use]
    pub fn stop(self) -> Answers {
        // As Ctrl-C: it finishes its count and prints it.
        self.0.signal("INT");
        self.0.ended();
        let said = self.0.logs();
        let count = said.lines().find_map(|line| {
            let (all, bad) = line.strip_suffix(" bad")?.split_once(" answers, ")?;
            Some(Answers { all: all.parse().ok()?, bad: bad.parse().ok()? })
        });
        count.unwrap_or_else(|| panic!("the load gave no count: {said}"))
    }
}
