use super::archive::{Found, TAR_OVERHEAD, first_entry, follow};
use super::{Container, Engine, EngineError, FetchError, ResolveError, Status, Summary};
use crate::shown;
use bollard::errors::Error as ApiError;
use bollard::models::{ContainerStateStatusEnum as InspectState, ContainerSummaryStateEnum as ListState};
use bollard::query_parameters::{
    ContainerArchiveInfoOptions, DownloadFromContainerOptions, InspectContainerOptions, ListContainersOptions,
};
use futures_util::{Stream, StreamExt};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

/// The label compose puts on each container.
const SERVICE_LABEL: &str = "com.docker.compose.service";
/// A chain of links longer than this has no end, as the kernel sees it too.
const MAX_LINKS: usize = 40;

/// How long an engine may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// One question and its whole answer; one piece of a file.
    pub(super) call: Duration,
    /// One whole file.
    pub(super) file: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { call: Duration::from_secs(5), file: Duration::from_secs(120) }
    }
}

/// A Docker engine, or one that speaks its API, behind a Unix socket.
pub struct Docker {
    runtime: tokio::runtime::Runtime,
    api: bollard::Docker,
    origin: PathBuf,
    limits: Limits,
    // The client connects anew for each call, through this descriptor's path.
    _socket: OwnedFd,
}

impl Docker {
    /// Asks the engine behind `socket` (an `O_PATH` descriptor) for its version. `origin` is the
    /// socket's path, for messages.
    pub(super) fn connect(socket: OwnedFd, origin: &Path, limits: Limits) -> Result<Self, EngineError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| EngineError::Api(format!("no runtime for the engine's client: {e}")))?;
        // A socket's path may be up to 107 bytes; this one is always short enough, and is the very file
        // that was found, wherever a link may point by now.
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let probe = async { tokio::time::timeout(limits.call, tokio::net::UnixStream::connect(&path)).await };
        match runtime.block_on(probe) {
            Ok(Ok(_)) => {}
            Ok(Err(e)) => return Err(socket_error(&e, origin)),
            Err(_) => return Err(EngineError::Timeout { after: limits.call }),
        }
        let api = bollard::Docker::connect_with_unix(
            &path,
            limits.call.as_secs().max(1),
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(|e| api_error(e, limits.call))?;
        let api =
            within(&runtime, limits.call, api.negotiate_version()).map_err(|e| api_error(e, limits.call))?;
        Ok(Self { runtime, api, origin: origin.to_owned(), limits, _socket: socket })
    }

    fn call<T>(&self, question: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        within(&self.runtime, self.limits.call, question)
    }

    /// Where the engine says the link at `path` leads; `None` if it is no link or the engine does not say.
    fn link_target(&self, id: &str, path: &Path) -> Result<Option<PathBuf>, FetchError> {
        let options = ContainerArchiveInfoOptions { path: utf8(path)?.to_owned() };
        match self.call(self.api.get_container_archive_info(id, Some(options))) {
            Ok(stat) if stat.link_target.is_empty() => Ok(None),
            Ok(stat) => Ok(follow(path, Path::new(&stat.link_target)).filter(|to| to != path)),
            Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => {
                Err(FetchError::NotFound { path: path.to_owned() })
            }
            Err(ApiError::RequestTimeoutError) => {
                Err(EngineError::Timeout { after: self.limits.call }.into())
            }
            // An engine without this answer may still have the archive.
            Err(_) => Ok(None),
        }
    }

    /// The first entry of the archive the engine makes of `path`.
    fn archive(&self, id: &str, path: &Path, max: u64) -> Result<Found, FetchError> {
        let options = DownloadFromContainerOptions { path: utf8(path)?.to_owned() };
        let pieces = Pieces {
            runtime: &self.runtime,
            stream: Box::pin(self.api.download_from_container(id, Some(options))),
            piece: None,
            used: 0,
            wait: self.limits.call,
            until: Instant::now() + self.limits.file,
            failed: None,
        };
        let mut archive = tar::Archive::new(pieces.take(max.saturating_add(TAR_OVERHEAD)));
        let found = first_entry(&mut archive, max);
        match (archive.into_inner().into_inner().failed, found) {
            (Some(ApiError::DockerResponseServerError { status_code: 404, .. }), _) => {
                Err(FetchError::NotFound { path: path.to_owned() })
            }
            (Some(e), _) => Err(api_error(e, self.limits.call).into()),
            (None, Ok(found)) => Ok(found),
            (None, Err(e)) => Err(EngineError::Api(shown(&format!("a broken archive: {e}"), 200)).into()),
        }
    }
}

impl Engine for Docker {
    fn origin(&self) -> &Path {
        &self.origin
    }

    fn list(&self) -> Result<Vec<Summary>, EngineError> {
        let options = ListContainersOptions { all: true, ..Default::default() };
        let all =
            self.call(self.api.list_containers(Some(options))).map_err(|e| api_error(e, self.limits.call))?;
        Ok(all.into_iter().filter_map(summary).collect())
    }

    fn inspect(&self, id: &str) -> Result<Container, ResolveError> {
        hex(id)?;
        let answer = match self.call(self.api.inspect_container(id, None::<InspectContainerOptions>)) {
            Ok(answer) => answer,
            Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => {
                return Err(ResolveError::NotFound { name: shown(id, 12), near: Vec::new() });
            }
            Err(e) => return Err(api_error(e, self.limits.call).into()),
        };
        let name = shown(answer.name.unwrap_or_default().trim_start_matches('/'), 255);
        let state = answer.state.unwrap_or_default();
        let status = state.status.map_or(Status::Exited, |s| match s {
            InspectState::CREATED => Status::Created,
            InspectState::RUNNING => Status::Running,
            InspectState::PAUSED => Status::Paused,
            InspectState::RESTARTING => Status::Restarting,
            InspectState::STOPPING => Status::Stopping,
            InspectState::REMOVING => Status::Removing,
            InspectState::DEAD => Status::Dead,
            InspectState::EXITED | InspectState::EMPTY => Status::Exited,
        });
        let pid = state.pid.and_then(|p| u32::try_from(p).ok()).filter(|p| *p > 0);
        let (true, Some(pid)) = (status.is_alive(), pid) else {
            return Err(ResolveError::Stopped { name, status });
        };
        let image = answer.config.and_then(|c| c.image).or(answer.image).unwrap_or_default();
        Ok(Container { id: id.to_owned(), name, image: shown(&image, 255), pid, status })
    }

    fn fetch(&self, id: &str, path: &Path, max: u64) -> Result<Vec<u8>, FetchError> {
        hex(id)?;
        let asked = || path.to_owned();
        let not_found = || FetchError::NotFound { path: asked() };
        let mut at = follow(Path::new("/"), path).ok_or_else(not_found)?;
        for _ in 0..=MAX_LINKS {
            if let Some(target) = self.link_target(id, &at)? {
                at = target;
                continue;
            }
            match self.archive(id, &at, max)? {
                Found::File(bytes) => return Ok(bytes),
                Found::Link(target) => at = follow(&at, &target).ok_or_else(not_found)?,
                Found::TooLarge => return Err(FetchError::TooLarge { path: asked(), max }),
                Found::Other => return Err(FetchError::NotRegular { path: asked() }),
                Found::Empty => return Err(not_found()),
            }
        }
        Err(FetchError::TooManyLinks { path: asked() })
    }
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Docker")
            .field("origin", &self.origin)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// One line of the list; `None` for what has no usable ID.
fn summary(c: bollard::models::ContainerSummary) -> Option<Summary> {
    let id = c.id.filter(|id| hex(id).is_ok())?;
    // A linked container also has names like `/other/alias`.
    let own = c.names.iter().flatten().filter_map(|n| n.strip_prefix('/')).find(|n| !n.contains('/'));
    let status = c.state.map_or(Status::Exited, |s| match s {
        ListState::CREATED => Status::Created,
        ListState::RUNNING => Status::Running,
        ListState::PAUSED => Status::Paused,
        ListState::RESTARTING => Status::Restarting,
        ListState::STOPPING => Status::Stopping,
        ListState::REMOVING => Status::Removing,
        ListState::DEAD => Status::Dead,
        ListState::EXITED | ListState::EMPTY => Status::Exited,
    });
    Some(Summary {
        name: shown(own.unwrap_or(&id), 255),
        image: shown(&c.image.unwrap_or_default(), 255),
        service: c.labels.and_then(|mut l| l.remove(SERVICE_LABEL)).map(|s| shown(&s, 255)),
        status,
        id,
    })
}

/// An ID becomes part of a URL: only hexadecimal digits may.
fn hex(id: &str) -> Result<(), EngineError> {
    let ok = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    ok.then_some(()).ok_or_else(|| EngineError::Api(format!("'{}' is not an ID", shown(id, 64))))
}

fn utf8(path: &Path) -> Result<&str, FetchError> {
    path.to_str().ok_or_else(|| FetchError::NotFound { path: path.to_owned() })
}

fn within<T>(
    runtime: &tokio::runtime::Runtime,
    limit: Duration,
    question: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let answer = async { tokio::time::timeout(limit, question).await };
    runtime.block_on(answer).unwrap_or(Err(ApiError::RequestTimeoutError))
}

fn api_error(error: ApiError, after: Duration) -> EngineError {
    match error {
        ApiError::RequestTimeoutError => EngineError::Timeout { after },
        ApiError::DockerResponseServerError { message, .. } => EngineError::Api(shown(&message, 300)),
        other => {
            let mut said = other.to_string();
            let mut cause = std::error::Error::source(&other);
            while let Some(inner) = cause {
                said = format!("{said}: {inner}");
                cause = inner.source();
            }
            EngineError::Api(shown(&said, 300))
        }
    }
}

pub(super) fn socket_error(error: &std::io::Error, path: &Path) -> EngineError {
    let path = path.to_owned();
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => EngineError::SocketDenied { path },
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            EngineError::SocketMissing { path }
        }
        _ => EngineError::SocketRefused { path },
    }
}

/// A stream of pieces, read as bytes, each piece waited for no longer than `wait`.
struct Pieces<'a, S, B> {
    runtime: &'a tokio::runtime::Runtime,
    stream: Pin<Box<S>>,
    piece: Option<B>,
    used: usize,
    wait: Duration,
    until: Instant,
    failed: Option<ApiError>,
}

impl<S: Stream<Item = Result<B, ApiError>>, B: AsRef<[u8]>> Read for Pieces<'_, S, B> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(left) =
                self.piece.as_ref().and_then(|p| p.as_ref().get(self.used..)).filter(|l| !l.is_empty())
            {
                let n = left.len().min(buf.len());
                buf[..n].copy_from_slice(&left[..n]);
                self.used += n;
                return Ok(n);
            }
            let wait = self.wait.min(self.until.saturating_duration_since(Instant::now()));
            let next = async { tokio::time::timeout(wait, self.stream.next()).await };
            match self.runtime.block_on(next) {
                Ok(Some(Ok(piece))) => (self.piece, self.used) = (Some(piece), 0),
                Ok(None) => return Ok(0),
                Ok(Some(Err(e))) => self.failed = Some(e),
                Err(_) => self.failed = Some(ApiError::RequestTimeoutError),
            }
            if self.failed.is_some() {
                return Err(std::io::Error::other("the engine's answer broke off"));
            }
        }
    }
}
