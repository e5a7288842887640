use super::docker::{Docker, Limits, socket_error};
use super::{Engine, EngineError, EngineFiles};
use crate::{Proc, Root};
use std::path::{Path, PathBuf};

/// Where an engine's socket is by default, tried in this order.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

/// Where to look for an engine.
#[derive(Debug, Clone)]
pub struct Discovery {
    docker_host: Option<String>,
    host_root: PathBuf,
    own_root: PathBuf,
    proc: Proc,
}

/// No engine could be asked, and no engine's files could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.cause())]
pub struct NoEngine {
    /// Every place that was tried and what was found there; never empty.
    pub tried: Vec<EngineError>,
}

impl NoEngine {
    /// The most telling of the failures: an engine that was reached and failed, before a socket that
    /// may not be used, before one nobody listens on, before none.
    #[must_use]
    pub fn cause(&self) -> &EngineError {
        const NOTHING: &EngineError = &EngineError::Api(String::new());
        let rank = |e: &&EngineError| match e {
            EngineError::Api(_) | EngineError::Timeout { .. } => 0,
            EngineError::SocketDenied { .. } => 1,
            EngineError::SocketRefused { .. } => 2,
            EngineError::SocketMissing { .. } => 3,
            EngineError::NoFiles { .. } => 4,
        };
        self.tried.iter().min_by_key(rank).unwrap_or(NOTHING)
    }
}

impl Default for Discovery {
    fn default() -> Self {
        Self::new(Path::new("/proc/1/root"))
    }
}

impl Discovery {
    /// The usual places, `$DOCKER_HOST` first. `host_root` is where the host's root is seen from here.
    #[must_use]
    pub fn new(host_root: &Path) -> Self {
        let docker_host = std::env::var("DOCKER_HOST").ok();
        Self {
            docker_host,
            host_root: host_root.to_owned(),
            own_root: PathBuf::from("/"),
            proc: Proc::default(),
        }
    }

    /// Takes this in place of `$DOCKER_HOST`. Only `unix://` addresses count.
    #[must_use]
    pub fn docker_host(mut self, address: Option<&str>) -> Self {
        self.docker_host = address.map(str::to_owned);
        self
    }

    /// Looks for the engine's processes here in place of `/proc`.
    #[must_use]
    pub fn proc(mut self, proc: Proc) -> Self {
        self.proc = proc;
        self
    }

    /// Looks for the default sockets under this folder in place of `/`.
    #[must_use]
    pub fn own_root(mut self, root: &Path) -> Self {
        self.own_root = root.to_owned();
        self
    }

    /// The first engine that answers: at the address in `$DOCKER_HOST` and nowhere else if it names a
    /// socket; otherwise at the default sockets, then at the same paths under the host's root, then in
    /// the engine's own files there.
    ///
    /// # Errors
    /// [`NoEngine`] with every place tried.
    pub fn connect(&self) -> Result<Box<dyn Engine>, NoEngine> {
        let mut tried = Vec::new();
        let chosen =
            self.docker_host.as_deref().and_then(|a| a.strip_prefix("unix://")).filter(|p| !p.is_empty());
        let sockets = chosen.map_or(SOCKETS.to_vec(), |path| vec![path]);
        for root in [&self.own_root, &self.host_root] {
            for socket in &sockets {
                match dial(root, Path::new(socket)) {
                    Ok(engine) => return Ok(Box::new(engine)),
                    Err(e) => tried.push(e),
                }
            }
        }
        // With an address of the user's own, another engine's files would be another engine's answer.
        if chosen.is_none() {
            match EngineFiles::open(&self.host_root, self.proc.clone()) {
                Ok(files) => return Ok(Box::new(files)),
                Err(e) => tried.push(e),
            }
        }
        Err(NoEngine { tried })
    }
}

/// Connects to the socket at `path` inside `root`. Links are followed inside `root`: `/var/run` is an
/// absolute link on most hosts and would lead back to our own.
fn dial(root: &Path, path: &Path) -> Result<Docker, EngineError> {
    let origin = root.join(path.strip_prefix("/").unwrap_or(path));
    let missing = || EngineError::SocketMissing { path: origin.clone() };
    // A root that is not ours to open tells nothing about a socket in it.
    let opened = Root::at(root).map_err(|_| missing())?.open_path(path);
    let socket = opened.map_err(|e| socket_error(&e.into(), &origin))?;
    let stat = rustix::fs::fstat(&socket).map_err(|_| missing())?;
    // Docker makes a folder where a socket that should be mounted does not exist.
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Socket {
        return Err(missing());
    }
    Docker::connect(socket, &origin, Limits::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(root: &Path) -> Discovery {
        Discovery::new(&root.join("host")).own_root(&root.join("own")).docker_host(None)
    }

    #[test]
    fn nothing_anywhere_says_where_it_looked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("own")).unwrap();
        let Err(e) = under(dir.path()).connect() else { panic!("an engine from nothing") };
        assert_eq!(e.tried.len(), 5, "{e:?}");
        assert_eq!(
            *e.cause(),
            EngineError::SocketMissing { path: dir.path().join("own/var/run/docker.sock") }
        );
        assert!(matches!(e.tried[4], EngineError::NoFiles { .. }));
    }

    #[test]
    fn a_socket_nobody_listens_on_is_refused_and_a_folder_is_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("own/var/run/docker.sock")).unwrap();
        std::fs::create_dir_all(dir.path().join("own/run")).unwrap();
        let socket = dir.path().join("own/run/docker.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let Err(e) = under(dir.path()).connect() else { panic!("an engine from nothing") };
        assert_eq!(*e.cause(), EngineError::SocketRefused { path: socket });
        assert!(matches!(e.tried[0], EngineError::SocketMissing { .. }));
    }

    #[test]
    fn an_address_of_the_users_own_is_the_only_place() {
        let dir = tempfile::tempdir().unwrap();
        let containers = dir.path().join("host/var/lib/docker/containers");
        std::fs::create_dir_all(containers).unwrap();
        let Err(e) = under(dir.path()).docker_host(Some("unix:///x/y.sock")).connect() else {
            panic!("an engine")
        };
        assert_eq!(e.tried.len(), 2, "{e:?}");
        assert!(
            under(dir.path()).docker_host(Some("tcp://1.2.3.4:2375")).connect().is_ok(),
            "falls to the files"
        );
        assert!(under(dir.path()).connect().is_ok());
    }

    #[test]
    fn links_under_the_hosts_root_stay_there() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("host");
        std::fs::create_dir_all(host.join("run")).unwrap();
        std::fs::create_dir_all(host.join("var")).unwrap();
        std::os::unix::fs::symlink("/run", host.join("var/run")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(host.join("run/docker.sock")).unwrap());
        let Err(e) = dial(&host, Path::new("/var/run/docker.sock")) else { panic!("nobody listens") };
        assert_eq!(e, EngineError::SocketRefused { path: host.join("var/run/docker.sock") });
    }
}
