//! What went wrong, in three parts, and the exit code that belongs to it.

use std::process::ExitCode;
use upprof_probes::{MissingPrivilege, ProbeError};
use upprof_report::BundleError;
use upprof_target::{EngineError, InvalidName, NoEngine, ProcError, ResolveError};

/// Exit codes of the contract, beside 0. Usage errors (2) and a second interrupt (130) end the process
/// where they occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Internal = 1,
    Usage = 2,
    Target = 3,
    Kernel = 4,
    NoSamples = 5,
    Output = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure for people: what happened, why it probably did, what to try.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) likely: String,
    pub(crate) attempt: String,
}

impl Failure {
    pub(crate) fn new(
        exit: Exit,
        what: impl Into<String>,
        likely: impl Into<String>,
        attempt: impl Into<String>,
    ) -> Self {
        Self { exit, what: what.into(), likely: likely.into(), attempt: attempt.into() }
    }
}

const DOCKER_RUN: &str = "docker run --rm --privileged --pid=host -v /var/run/docker.sock:/var/run/docker.sock -v \"$PWD/out:/out\" upprof --container NAME";

impl From<InvalidName> for Failure {
    fn from(e: InvalidName) -> Self {
        Self::new(
            Exit::Usage,
            e.to_string(),
            "container names are letters, digits, '_', '.' and '-'; a prefix may only be docker://",
            "docker ps --format '{{.Names}}' lists the names",
        )
    }
}

impl From<NoEngine> for Failure {
    fn from(e: NoEngine) -> Self {
        let tried: Vec<String> = e.tried.iter().map(EngineError::to_string).collect();
        let likely = match e.cause() {
            EngineError::SocketRefused { .. } => "the engine is not running",
            EngineError::SocketDenied { .. } => {
                "upprof does not run as root, or a security module forbids it"
            }
            EngineError::Timeout { .. } => "the engine hangs or is overloaded",
            _ => "the engine's socket is not mounted into this container, or there is no engine",
        };
        Self::new(
            Exit::Target,
            format!("no container engine can be asked: {}", tried.join("; ")),
            likely,
            "mount the socket (-v /var/run/docker.sock:/var/run/docker.sock), or name the process with --pid",
        )
    }
}

impl From<ResolveError> for Failure {
    fn from(e: ResolveError) -> Self {
        let what = e.to_string();
        match e {
            ResolveError::NotFound { near, .. } if near.is_empty() => Self::new(
                Exit::Target,
                what,
                "no running container has a similar name",
                "docker ps lists what is running",
            ),
            ResolveError::NotFound { near, .. } => Self::new(
                Exit::Target,
                what,
                format!("a typing error; running containers with similar names: {}", near.join(", ")),
                format!("--container {}", near[0]),
            ),
            ResolveError::Ambiguous { candidates, .. } => Self::new(
                Exit::Target,
                what,
                format!("an ID prefix or service that several share: {}", candidates.join(", ")),
                "use a full name or a longer ID",
            ),
            ResolveError::Stopped { name, status } => Self::new(
                Exit::Target,
                what,
                format!("the container exists but is {status}: it has no processes to profile"),
                format!("docker start {name}, or docker logs {name} to see why it ended"),
            ),
            ResolveError::Engine(_) => Self::new(
                Exit::Target,
                what,
                "the engine is overloaded or its answer is not understood",
                "name the process with --pid (docker inspect -f '{{.State.Pid}}' NAME)",
            ),
        }
    }
}

impl From<ProcError> for Failure {
    fn from(e: ProcError) -> Self {
        match e {
            ProcError::Gone { .. } => Self::new(
                Exit::Target,
                e.to_string(),
                "it ended, or the pid is of another pid namespace",
                "pids are those of the host; in a container run upprof with --pid=host",
            ),
            _ => Self::new(
                Exit::Kernel,
                e.to_string(),
                "upprof may not look at this process",
                "run as root, or in a container with --privileged --pid=host",
            ),
        }
    }
}

impl From<ProbeError> for Failure {
    fn from(e: ProbeError) -> Self {
        match &e {
            ProbeError::Privilege(missing) => Self::privilege(*missing),
            ProbeError::Perf { error, .. } if error.raw_os_error() == Some(libc::EACCES) => {
                Self::privilege(MissingPrivilege::Perfmon)
            }
            ProbeError::Load { log, .. } => {
                let last: Vec<&str> = log.lines().rev().take(12).collect();
                let tail: Vec<&str> = last.into_iter().rev().collect();
                Self::new(
                    Exit::Kernel,
                    e.to_string(),
                    format!(
                        "a kernel older than 5.17, without BTF, or a bug of upprof; its words:\n{}",
                        tail.join("\n")
                    ),
                    "uname -r; report the words above with the kernel's version",
                )
            }
            _ => Self::new(
                Exit::Kernel,
                e.to_string(),
                "the kernel lacks a feature or forbids it",
                "kernel 5.17 or newer with BTF, and --privileged",
            ),
        }
    }
}

impl Failure {
    pub(crate) fn privilege(missing: MissingPrivilege) -> Self {
        let attempt = match missing {
            MissingPrivilege::Blocked => {
                "run the container with --privileged; on the host see /sys/kernel/security/lockdown"
            }
            _ => "run as root; in a container: docker run --privileged --pid=host …",
        };
        Self::new(
            Exit::Kernel,
            missing.to_string(),
            "upprof was started without the privileges that sampling other processes needs",
            attempt,
        )
    }

    /// A panic, whose place and message were printed already.
    pub(crate) fn bug() -> Self {
        Self::new(
            Exit::Internal,
            "upprof failed in a way that it should not",
            "a bug of upprof, described by the lines above",
            "report them with the command line and uname -r; folders marked INCOMPLETE can be removed",
        )
    }

    /// Started in a pid namespace of its own.
    pub(crate) fn not_host_pids() -> Self {
        Self::new(
            Exit::Kernel,
            "upprof is in a pid namespace of its own and cannot see other containers' processes",
            "the container was started without --pid=host",
            DOCKER_RUN,
        )
    }

    pub(crate) fn output(e: &BundleError) -> Self {
        let (what, likely) = (e.to_string(), output_cause(e));
        let attempt = match e {
            BundleError::NotWritable { .. } => {
                "give another folder with --out, or mount one: -v \"$PWD/out:/out\""
            }
            _ => "free some space or give another folder with --out; what was written before is kept",
        };
        Self::new(Exit::Output, what, likely, attempt)
    }

    /// A file that was named by itself.
    pub(crate) fn file(e: &BundleError) -> Self {
        let attempt = match e {
            BundleError::NotWritable { .. } => {
                "give another file; in a container one of a folder that is mounted: -v \"$PWD/out:/out\""
            }
            _ => "free some space or give another file; what was written before is kept",
        };
        Self::new(Exit::Output, e.to_string(), output_cause(e), attempt)
    }

    /// The window ended without one sample; what is known is in `place`.
    pub(crate) fn no_samples(reason: &str, place: &str) -> Self {
        Self::new(
            Exit::NoSamples,
            format!("no sample was taken: {reason}"),
            "the processes were idle for the whole window, or ended at its start",
            format!("sample while there is traffic, or longer (-d 60s); what is known is in {place}"),
        )
    }
}

fn output_cause(e: &BundleError) -> &'static str {
    use std::io::ErrorKind;
    let kind = match e {
        BundleError::NotWritable { source, .. } => source.kind(),
        BundleError::Write { source: upprof_profile::export::ExportError::Io(source), .. } => source.kind(),
        _ => ErrorKind::Other,
    };
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full",
        ErrorKind::PermissionDenied => "the folder belongs to somebody else",
        ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only: in a container nothing is mounted at /out"
        }
        ErrorKind::NotADirectory => "a part of the path is a file",
        ErrorKind::IsADirectory => "it is a folder, and a file was expected",
        ErrorKind::NotFound => "the folder does not exist",
        _ => "the folder or its file system does not take files",
    }
}
