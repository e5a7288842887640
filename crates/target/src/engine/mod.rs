mod archive;
mod choose;
mod discover;
mod docker;
#[cfg(test)]
mod docker_tests;
mod records;

pub use discover::{Discovery, NoEngine};
pub use docker::Docker;
pub use records::EngineFiles;

use crate::{ContainerName, shown_path};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A container that runs, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's full ID, lower-case hexadecimal.
    pub id: String,
    /// Its name, safe to print.
    pub name: String,
    /// The image it was made from, as the engine names it, safe to print.
    pub image: String,
    /// Its first process, in the engine's pid namespace (the host's).
    pub pid: u32,
    /// Running, or paused: nothing runs in a paused container, so there is nothing to sample.
    pub status: Status,
}

/// A container the engine knows of, running or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The engine's full ID, lower-case hexadecimal.
    pub id: String,
    /// Its name, safe to print.
    pub name: String,
    /// The image it was made from, as the engine names it, safe to print.
    pub image: String,
    /// The compose service it belongs to, safe to print.
    pub service: Option<String>,
    /// What it is doing.
    pub status: Status,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Frozen; its processes exist.
    Paused,
    /// Between two runs.
    Restarting,
    /// Asked to stop; its processes exist.
    Stopping,
    /// Ended.
    Exited,
    /// Being removed.
    Removing,
    /// Could not be removed.
    Dead,
    /// Written down as running, but the process that was written down is not its own (any more).
    Stale,
    /// The engine's record of it cannot be read.
    Unreadable,
}

impl Status {
    /// Whether it has processes.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopping)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
            Self::Stale => "recorded as running, but gone",
            Self::Unreadable => "its record cannot be read",
        })
    }
}

/// Why an engine could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// There is no socket there.
    #[error("there is no engine socket at {}", shown_path(path))]
    SocketMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is a socket, and nobody listens.
    #[error("nothing listens on {}", shown_path(path))]
    SocketRefused {
        /// The socket.
        path: PathBuf,
    },
    /// There is a socket, or a folder before it, that may not be used.
    #[error("{} may not be opened", shown_path(path))]
    SocketDenied {
        /// The socket.
        path: PathBuf,
    },
    /// The engine's own files are not there, or may not be read.
    #[error("the engine's files under {} cannot be read: {why}", shown_path(path))]
    NoFiles {
        /// Where they were looked for.
        path: PathBuf,
        /// What the kernel said.
        why: String,
    },
    /// The engine answered with an error, or with something that is not understood. Safe to print.
    #[error("the engine says: {0}")]
    Api(
        /// What it said, escaped and shortened.
        String,
    ),
    /// The engine did not answer in time.
    #[error("the engine did not answer within {after:?}")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
}

/// Why a name did not lead to a container. All texts are escaped and shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No container has that name, ID or service.
    #[error("no container is called '{name}'")]
    NotFound {
        /// What was looked for.
        name: String,
        /// Running containers with names like it, the closest first, five at most.
        near: Vec<String>,
    },
    /// Several containers fit.
    #[error("'{name}' fits {} containers", candidates.len())]
    Ambiguous {
        /// What was looked for.
        name: String,
        /// Each container that fits: its name and short ID.
        candidates: Vec<String>,
    },
    /// The container exists and has no process.
    #[error("container '{name}' is not running: {status}")]
    Stopped {
        /// The container.
        name: String,
        /// What it is doing instead.
        status: Status,
    },
    /// The engine could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why a file could not be had from an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The container or the file is not there.
    #[error("the engine finds no {}", shown_path(path))]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// A folder, a device, a socket, a pipe.
    #[error("{} is not a regular file", shown_path(path))]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// More than the caller accepts.
    #[error("{} is larger than {max} bytes", shown_path(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The caller's limit.
        max: u64,
    },
    /// A chain of symbolic links without end.
    #[error("{} is behind too many symbolic links", shown_path(path))]
    TooManyLinks {
        /// Where the chain began.
        path: PathBuf,
    },
    /// This source knows names only, not files.
    #[error("the engine's files name containers; they do not give their contents")]
    Unsupported,
    /// The engine could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// One container runtime. Calls block, for a limited time.
pub trait Engine {
    /// The socket or folder the answers come from.
    fn origin(&self) -> &Path;

    /// Every container the engine knows, running or not.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot be asked.
    fn list(&self) -> Result<Vec<Summary>, EngineError>;

    /// The container with this full ID, if it has a process.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`], [`ResolveError::Stopped`] or [`ResolveError::Engine`].
    fn inspect(&self, id: &str) -> Result<Container, ResolveError>;

    /// The bytes of a regular file of the container, as the container sees the path. Symbolic links
    /// are followed inside the container's root.
    ///
    /// # Errors
    /// [`FetchError`], also when the file has more than `max` bytes.
    fn fetch(&self, id: &str, path: &Path, max: u64) -> Result<Vec<u8>, FetchError>;

    /// The one running container that `name` means: the one with exactly this name; otherwise the only
    /// one whose compose service is called so or whose ID begins so.
    ///
    /// # Errors
    /// Every [`ResolveError`].
    fn resolve(&self, name: &ContainerName) -> Result<Container, ResolveError> {
        let all = self.list()?;
        let found = choose::choose(name, &all)?;
        if !found.status.is_alive() {
            return Err(ResolveError::Stopped { name: found.name.clone(), status: found.status });
        }
        self.inspect(&found.id)
    }
}
