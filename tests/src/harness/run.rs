//! The program: as the documented `docker run` and as a file on the host.

use super::docker::{Container, docker};
use super::process;
use super::wait::until;
use rustix::process::Signal;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;

/// The engine's socket, where its client looks for it too.
pub const SOCKET: &str = "/var/run/docker.sock";

/// The image under test: `upprof`, as `./dev image` leaves it, or what `UPPROF_IMAGE` names.
fn image() -> String {
    std::env::var("UPPROF_IMAGE").unwrap_or_else(|_| "upprof".into())
}

/// The program under test as a file: the one in the image, so that both are the same; or what
/// `UPPROF_BIN` names.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("UPPROF_BIN") {
            return named.into();
        }
        let tests = std::env::current_exe().expect("our own path");
        let copy = tests.with_file_name(format!("upprof-of-image-{}", std::process::id()));
        let never_started = Container::create("binary", &[&image()]);
        let from = format!("{}:/upprof", never_started.id());
        docker(["cp", &from, copy.to_str().expect("UTF-8")]);
        let file = tests.with_file_name("upprof-of-image");
        std::fs::rename(copy, &file).expect("a file beside the tests");
        file
    })
}

/// A call of the program that was not made yet.
#[derive(Debug)]
pub struct Upprof {
    command: Command,
    arguments: Vec<OsString>,
}

impl Upprof {
    /// The documented command, word for word, with the bundle in `out`.
    #[must_use]
    pub fn documented(out: &Path) -> Self {
        let socket = format!("{SOCKET}:{SOCKET}");
        let out = format!("{}:/out", out.display());
        Self::in_docker(&["--privileged", "--pid=host", "-v", &socket, "-v", &out])
    }

    /// In a container with these options of `docker run`.
    #[must_use]
    pub fn in_docker(options: &[&str]) -> Self {
        let mut command = Command::new("docker");
        command.args(["run", "--rm"]).args(options).arg(image());
        Self { command, arguments: Vec::new() }
    }

    /// As a program of the host.
    #[must_use]
    pub fn on_host() -> Self {
        Self { command: Command::new(binary()), arguments: Vec::new() }
    }

    /// As a program of the host that another program starts: `setpriv … upprof`.
    #[must_use]
    pub fn under(program: &[&str]) -> Self {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(binary());
        Self { command, arguments: Vec::new() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// `--out`, for a call on the host.
    #[must_use]
    pub fn out(self, folder: &Path) -> Self {
        self.args([OsStr::new("--out"), folder.as_os_str()])
    }

    /// Sets a variable of its environment (on the host).
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it.
    #[must_use]
    pub fn start(mut self) -> Running {
        self.command.args(&self.arguments);
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.command));
        let stdout = listen(child.stdout.take().expect("a pipe"));
        let stderr = listen(child.stderr.take().expect("a pipe"));
        let arguments = self.arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        Running { child, said: Some((stdout, stderr)), arguments }
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(self) -> Outcome {
        self.start().wait()
    }
}

/// Reads a pipe to its end, so that the program never waits for us.
fn listen(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8(bytes).expect("upprof prints UTF-8")
    })
}

/// A call under way. Dropping it ends it as Ctrl-C twice would.
#[derive(Debug)]
pub struct Running {
    child: Child,
    said: Option<(JoinHandle<String>, JoinHandle<String>)>,
    arguments: Vec<String>,
}

impl Running {
    /// Waits until it samples, and returns the pid of the program itself.
    ///
    /// # Panics
    /// When it ends before.
    pub fn sampling(&mut self) -> u32 {
        until("upprof to sample", || {
            let ended = self.status();
            let me = process::all().into_iter().find(|pid| {
                process::arguments(*pid).ends_with(&self.arguments) && process::perf_events(*pid) > 0
            });
            assert!(me.is_some() || ended.is_none(), "it ended before: {:?}", self.outcome());
            me
        })
    }

    /// Sends a signal to what was started: in Docker to its client, which passes it on, as in a terminal.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.child.id(), signal);
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits for its end.
    #[must_use]
    pub fn wait(mut self) -> Outcome {
        self.outcome()
    }

    fn outcome(&mut self) -> Outcome {
        let status = until("the end of upprof", || self.status());
        let (stdout, stderr) = self.said.take().expect("asked once");
        let join = |text: JoinHandle<String>| text.join().expect("a reader that does not panic");
        Outcome { code: status.code(), stdout: join(stdout), stderr: join(stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for _ in 0..2 {
            // Docker's client passes both on, so that no container stays behind.
            if self.status().is_none() {
                self.signal(Signal::TERM);
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        }
        if self.status().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How a call ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// What it printed as data.
    pub stdout: String,
    /// What it said to people.
    pub stderr: String,
}

/// The three parts of an error.
#[derive(Debug)]
pub struct Told {
    /// What happened.
    pub what: String,
    /// The likely cause.
    pub likely: String,
    /// What to try.
    pub attempt: String,
}

impl Outcome {
    /// Asserts the exit code.
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        self
    }

    /// Asserts the exit code of a failure and the form of its message, and returns the parts.
    ///
    /// # Panics
    /// When the message has not exactly the three parts, in their order, at its end.
    #[must_use]
    pub fn fails(&self, code: i32) -> Told {
        self.exits(code);
        let part = |prefix: &str| {
            let with: Vec<usize> = (0..)
                .zip(self.stderr.lines())
                .filter(|(_, l)| l.starts_with(prefix))
                .map(|(n, _)| n)
                .collect();
            assert_eq!(with.len(), 1, "lines with {prefix:?} in: {}", self.stderr);
            with[0]
        };
        let (likely, attempt) = (part("  likely: "), part("  try:    "));
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!(likely > 0 && likely < attempt && attempt == lines.len() - 1, "order: {}", self.stderr);
        let what = lines[likely - 1].strip_prefix("upprof: ");
        let told = Told {
            what: what.unwrap_or_else(|| panic!("no cause before: {}", self.stderr)).into(),
            likely: lines[likely..attempt].join("\n")["  likely: ".len()..].into(),
            attempt: lines[attempt]["  try:    ".len()..].into(),
        };
        assert!(!told.what.is_empty() && !told.likely.is_empty() && !told.attempt.is_empty());
        told
    }

    /// The folder that the last line says to open, which is also the last thing said.
    ///
    /// # Panics
    /// When the last line is another.
    #[must_use]
    pub fn opened(&self) -> PathBuf {
        let last = self.stderr.lines().last().unwrap_or_default();
        let page = last.strip_prefix("open ").and_then(|p| p.strip_suffix("/index.html"));
        page.unwrap_or_else(|| panic!("the last line names no page: {}", self.stderr)).into()
    }
}
