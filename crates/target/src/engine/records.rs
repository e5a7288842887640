use super::{Container, Engine, EngineError, FetchError, ResolveError, Status, Summary};
use crate::{Proc, Root, shown};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Where Docker writes down its containers, under the host's root.
const CONTAINERS: &str = "/var/lib/docker/containers";
/// A record larger than this is not read.
const MAX_RECORD: u64 = 4 << 20;
/// More containers than this are not looked at.
const MAX_CONTAINERS: usize = 16_384;

/// Docker's own records of its containers, read when no socket can be had. They name containers and
/// their first processes; they do not give a container's files.
///
/// A record outlives a crash, so a pid from one counts only if that process is in a control group with
/// the container's ID in its name.
#[derive(Debug)]
pub struct EngineFiles {
    root: Root,
    dir: PathBuf,
    proc: Proc,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    state: State,
    #[serde(default)]
    config: Config,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    running: bool,
    paused: bool,
    restarting: bool,
    dead: bool,
    pid: u32,
    started_at: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: Option<String>,
    labels: Option<HashMap<String, String>>,
}

impl EngineFiles {
    /// The records under `host_root`; pids found in them are checked against `proc`.
    ///
    /// # Errors
    /// [`EngineError::NoFiles`] when the folder is not there or may not be read.
    pub fn open(host_root: &Path, proc: Proc) -> Result<Self, EngineError> {
        let dir = host_root.join(&CONTAINERS[1..]);
        let refuse = |why: String| EngineError::NoFiles { path: dir.clone(), why };
        let root = Root::at(host_root).map_err(|e| refuse(e.to_string()))?;
        root.list(Path::new(CONTAINERS), 1).map_err(|e| refuse(e.to_string()))?;
        Ok(Self { root, dir, proc })
    }

    fn record(&self, id: &str) -> Option<Record> {
        let path = Path::new(CONTAINERS).join(id).join("config.v2.json");
        serde_json::from_slice(&self.root.read(&path, MAX_RECORD).ok()?).ok()
    }

    fn status(&self, id: &str, state: &State) -> Status {
        match state {
            State { dead: true, .. } => Status::Dead,
            State { restarting: true, .. } => Status::Restarting,
            State { running: true, .. } if !self.proc.is_in_cgroup_of(state.pid, id) => Status::Stale,
            State { running: true, paused: true, .. } => Status::Paused,
            State { running: true, .. } => Status::Running,
            // Go's zero time: it never started.
            State { started_at, .. } if started_at.starts_with("0001-") => Status::Created,
            _ => Status::Exited,
        }
    }

    fn summary(&self, id: String) -> Summary {
        let Some(record) = self.record(&id) else {
            let name = shown(&id, 12);
            return Summary { id, name, image: String::new(), service: None, status: Status::Unreadable };
        };
        Summary {
            name: shown(record.name.trim_start_matches('/'), 255),
            image: shown(&record.config.image.unwrap_or(record.image), 255),
            service: record
                .config
                .labels
                .and_then(|mut l| l.remove("com.docker.compose.service"))
                .map(|s| shown(&s, 255)),
            status: self.status(&id, &record.state),
            id,
        }
    }
}

impl Engine for EngineFiles {
    fn origin(&self) -> &Path {
        &self.dir
    }

    fn list(&self) -> Result<Vec<Summary>, EngineError> {
        let names = self.root.list(Path::new(CONTAINERS), MAX_CONTAINERS);
        let names = names.map_err(|e| EngineError::NoFiles { path: self.dir.clone(), why: e.to_string() })?;
        Ok(names.into_iter().filter(|n| is_id(n)).map(|id| self.summary(id)).collect())
    }

    fn inspect(&self, id: &str) -> Result<Container, ResolveError> {
        let not_found = || ResolveError::NotFound { name: shown(id, 12), near: Vec::new() };
        let id = is_id(id).then(|| id.to_owned()).ok_or_else(not_found)?;
        let record = self.record(&id).ok_or_else(not_found)?;
        let status = self.status(&id, &record.state);
        let name = shown(record.name.trim_start_matches('/'), 255);
        if !status.is_alive() {
            return Err(ResolveError::Stopped { name, status });
        }
        let image = shown(&record.config.image.unwrap_or(record.image), 255);
        Ok(Container { id, name, image, pid: record.state.pid, status })
    }

    fn fetch(&self, _: &str, _: &Path, _: u64) -> Result<Vec<u8>, FetchError> {
        Err(FetchError::Unsupported)
    }
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContainerName;
    use std::fs;

    struct Host {
        dir: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("root/var/lib/docker/containers")).unwrap();
            Self { dir }
        }

        fn container(&self, id: &str, json: &str) {
            let at = self.dir.path().join("root/var/lib/docker/containers").join(id);
            fs::create_dir_all(&at).unwrap();
            fs::write(at.join("config.v2.json"), json).unwrap();
        }

        fn process(&self, pid: u32, cgroup: &str) {
            let at = self.dir.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&at).unwrap();
            fs::write(at.join("cgroup"), cgroup).unwrap();
        }

        fn engine(&self) -> EngineFiles {
            EngineFiles::open(&self.dir.path().join("root"), Proc::at(&self.dir.path().join("proc"))).unwrap()
        }

        fn resolve(&self, name: &str) -> Result<Container, ResolveError> {
            self.engine().resolve(&ContainerName::parse(name).unwrap())
        }
    }

    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    #[test]
    fn records_resolve_and_stale_ones_do_not() {
        let host = Host::new();
        let (a, b, c) = (id('a'), id('b'), id('c'));
        let running = |name: &str, pid: u32| {
            format!(
                r#"{{"ID":"x","Name":"/{name}","Image":"sha256:0","State":{{"Running":true,"Pid":{pid}}},
                "Config":{{"Image":"apache/apisix","Labels":{{"com.docker.compose.service":"gw"}}}}}}"#
            )
        };
        host.container(&a, &running("apisix", 70));
        host.process(70, &format!("0::/system.slice/docker-{a}.scope\n"));
        host.container(&b, &running("crashed", 71));
        host.process(71, "0::/user.slice/session-1.scope\n");
        host.container(&c, r#"{"Name":"/new","State":{"StartedAt":"0001-01-01T00:00:00Z"},"Config":{}}"#);

        let found = host.resolve("apisix").unwrap();
        assert_eq!((found.pid, found.id.as_str(), found.image.as_str()), (70, a.as_str(), "apache/apisix"));
        assert_eq!(host.resolve("aaaa").unwrap().name, "apisix");
        assert_eq!(host.resolve("gw").unwrap().name, "apisix", "the stale one does not run");
        let stopped = |name: &str, status| Err(ResolveError::Stopped { name: name.into(), status });
        assert_eq!(host.resolve("crashed"), stopped("crashed", Status::Stale), "its pid is somebody else's");
        assert_eq!(host.resolve("new"), stopped("new", Status::Created));
        assert!(matches!(host.resolve("nope"), Err(ResolveError::NotFound { .. })));
    }

    #[test]
    fn hostile_records_are_seen_and_harmless() {
        let host = Host::new();
        host.container(&id('1'), "{ not json");
        host.container(&id('2'), &"[".repeat(100_000));
        host.container("not-an-id", r#"{"Name":"/x","State":{"Running":true,"Pid":1}}"#);
        host.container(&id('3'), r#"{"Name":"/\u001b[2Jx","State":{"Pid":1}}"#);
        host.container(&id('4'), r#"{"Name":"/y","State":{"Running":true,"Pid":-1}}"#);
        let secret = host.dir.path().join("secret");
        fs::write(&secret, r#"{"Name":"/outside"}"#).unwrap();
        host.container(&id('5'), "");
        let link =
            host.dir.path().join("root/var/lib/docker/containers").join(id('5')).join("config.v2.json");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        let mut all: Vec<_> = host.engine().list().unwrap().into_iter().map(|c| (c.name, c.status)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let unreadable = |digit: char| (digit.to_string().repeat(12) + "…", Status::Unreadable);
        assert_eq!(
            all,
            [
                unreadable('1'),
                unreadable('2'),
                unreadable('4'),
                unreadable('5'),
                ("\\x1b[2Jx".to_owned(), Status::Exited)
            ]
        );
    }

    #[test]
    fn files_are_not_given() {
        let host = Host::new();
        assert_eq!(host.engine().fetch(&id('a'), Path::new("/x"), 1), Err(FetchError::Unsupported));
    }
}
