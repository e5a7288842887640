mod cgroup;
mod maps;
mod resources;
mod stat;

pub use maps::{MapPath, Mapping};
pub use resources::{CpuQuota, ListenLosses, ListenQueue, Resources};
pub(crate) use stat::Stat;

use cgroup::Cgroups;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The inode of the machine's first pid namespace, the same on every kernel.
const INIT_PID_NAMESPACE: &str = "pid:[4026531836]";
/// Small files of `/proc/PID`.
const SMALL: u64 = 64 << 10;
/// 65,536 mappings, each with a path, fit.
const MAX_MAPS: u64 = 32 << 20;

/// Why something of a process could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcError {
    /// There is no such process, or it has ended.
    #[error("process {pid} is gone")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// The kernel refuses.
    #[error("reading {what} of process {pid} is not permitted")]
    Denied {
        /// The process.
        pid: u32,
        /// The file under `/proc/PID`.
        what: &'static str,
    },
    /// The file is not as the kernel writes it.
    #[error("{what} of process {pid} is not understood")]
    Malformed {
        /// The process.
        pid: u32,
        /// The file under `/proc/PID`.
        what: &'static str,
    },
    /// The file is longer than any process should need.
    #[error("{what} of process {pid} is longer than expected")]
    TooLong {
        /// The process.
        pid: u32,
        /// The file under `/proc/PID`.
        what: &'static str,
    },
    /// Any other failure.
    #[error("reading {what} of process {pid}: {kind}")]
    Io {
        /// The process.
        pid: u32,
        /// The file under `/proc/PID`.
        what: &'static str,
        /// What the kernel said.
        kind: ErrorKind,
    },
}

/// A `/proc`: what the kernel tells about processes. Each read is bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proc {
    root: PathBuf,
}

impl Default for Proc {
    fn default() -> Self {
        Self::at(Path::new("/proc"))
    }
}

impl Proc {
    /// The `/proc` mounted at `root`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The mappings of a process, in address order.
    ///
    /// # Errors
    /// [`ProcError`], also when there are more than 65,536.
    pub fn maps(&self, pid: u32) -> Result<Vec<Mapping>, ProcError> {
        maps::parse(&self.read(pid, "maps", MAX_MAPS)?).map_err(|e| match e {
            maps::Fault::Malformed => ProcError::Malformed { pid, what: "maps" },
            maps::Fault::TooMany => ProcError::TooLong { pid, what: "maps" },
        })
    }

    /// The processor time a process has used, in user space and in the kernel, all threads. The
    /// kernel counts it in steps of 10 ms.
    ///
    /// # Errors
    /// [`ProcError`].
    pub fn cpu_time_ns(&self, pid: u32) -> Result<u64, ProcError> {
        let stat = self.stat(pid)?;
        let ticks_a_second = rustix::param::clock_ticks_per_second().max(1);
        Ok(stat.utime.saturating_add(stat.stime).saturating_mul(1_000_000_000 / ticks_a_second))
    }

    /// How large a process's stack may grow (its soft limit), `None` when without limit.
    ///
    /// # Errors
    /// [`ProcError`].
    pub fn stack_limit_bytes(&self, pid: u32) -> Result<Option<u64>, ProcError> {
        let limits = self.read(pid, "limits", SMALL)?;
        stat::stack_limit(&limits).ok_or(ProcError::Malformed { pid, what: "limits" })
    }

    /// Whether we are in the machine's first pid namespace, where the engine's pids are ours too. In a
    /// container this needs `--pid=host`.
    ///
    /// # Errors
    /// [`ProcError`] when `/proc/self/ns/pid` cannot be read.
    pub fn in_init_pid_namespace(&self) -> Result<bool, ProcError> {
        Ok(self.pid_namespace("self", 0)? == INIT_PID_NAMESPACE)
    }

    /// Whether a process is in a control group with `container_id` in its path.
    pub(crate) fn is_in_cgroup_of(&self, pid: u32, container_id: &str) -> bool {
        self.cgroups(pid).is_ok_and(|c| c.mentions(container_id))
    }

    pub(crate) fn cgroups(&self, pid: u32) -> Result<Cgroups, ProcError> {
        Ok(Cgroups::parse(&self.read(pid, "cgroup", SMALL)?))
    }

    /// The pid namespace of a process (`who` is its pid, or `self`), as the kernel writes it.
    pub(crate) fn pid_namespace(&self, who: &str, pid: u32) -> Result<String, ProcError> {
        let path = self.root.join(who).join("ns/pid");
        let link = std::fs::read_link(path).map_err(|e| error(pid, "ns/pid", &e))?;
        Ok(link.to_string_lossy().into_owned())
    }

    pub(crate) fn stat(&self, pid: u32) -> Result<Stat, ProcError> {
        Stat::parse(&self.read(pid, "stat", SMALL)?).ok_or(ProcError::Malformed { pid, what: "stat" })
    }

    /// The process's pid in its own, innermost pid namespace.
    pub(crate) fn innermost_pid(&self, pid: u32) -> Result<Option<u32>, ProcError> {
        Ok(stat::innermost_pid(&self.read(pid, "status", SMALL)?))
    }

    /// The first 64 KiB of the command line: more is never needed, and its length is the target's choice.
    pub(crate) fn command_line(&self, pid: u32) -> Result<Vec<u8>, ProcError> {
        self.read_start(pid, "cmdline", SMALL)
    }

    /// Every pid there is, in no order.
    pub(crate) fn pids(&self) -> Result<Vec<u32>, ProcError> {
        let entries = std::fs::read_dir(&self.root).map_err(|e| error(0, "the list", &e))?;
        Ok(entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect())
    }

    /// The path of a file of a process.
    pub(crate) fn path(&self, pid: u32, what: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(what)
    }

    fn read(&self, pid: u32, what: &'static str, max: u64) -> Result<Vec<u8>, ProcError> {
        let bytes = self.read_start(pid, what, max + 1)?;
        if bytes.len() as u64 > max { Err(ProcError::TooLong { pid, what }) } else { Ok(bytes) }
    }

    fn read_start(&self, pid: u32, what: &'static str, max: u64) -> Result<Vec<u8>, ProcError> {
        // Most files of a process are smaller: one read, and one that says so.
        let mut bytes = Vec::with_capacity(4096);
        File::open(self.path(pid, what))
            .and_then(|f| f.take(max).read_to_end(&mut bytes))
            .map_err(|e| error(pid, what, &e))?;
        Ok(bytes)
    }
}

fn error(pid: u32, what: &'static str, error: &std::io::Error) -> ProcError {
    match error.kind() {
        ErrorKind::NotFound => ProcError::Gone { pid },
        ErrorKind::PermissionDenied => ProcError::Denied { pid, what },
        _ if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => ProcError::Gone { pid },
        kind => ProcError::Io { pid, what, kind },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_reads_as_it_is() {
        let (proc, me) = (Proc::default(), std::process::id());
        let here = our_own_process_reads_as_it_is as *const () as u64;
        let maps = proc.maps(me).unwrap();
        let code = maps.iter().find(|m| m.start <= here && here < m.end).unwrap();
        assert!(code.exec && code.read && !code.write);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(code.path, MapPath::File { path: exe, deleted: false });
        assert!(maps.iter().any(|m| m.path == MapPath::Special("[stack]".into()) && m.write));
        assert!(maps.windows(2).all(|w| w[0].end <= w[1].start));

        let before = proc.cpu_time_ns(me).unwrap();
        let spin = std::time::Instant::now();
        while spin.elapsed().as_millis() < 60 {
            std::hint::black_box(0);
        }
        let spent = proc.cpu_time_ns(me).unwrap() - before;
        assert!(spent > 0 && spent < 10_000_000_000, "{spent}");
        assert!(proc.stack_limit_bytes(me).unwrap().is_none_or(|b| b >= 64 << 10));
    }

    #[test]
    fn a_pid_that_does_not_exist_is_gone() {
        let pid = 0x3fff_fff0;
        assert_eq!(Proc::default().maps(pid), Err(ProcError::Gone { pid }));
        assert_eq!(Proc::default().cpu_time_ns(pid), Err(ProcError::Gone { pid }));
    }

    #[test]
    fn the_first_pid_namespace_is_known_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let ns = dir.path().join("self/ns");
        std::fs::create_dir_all(&ns).unwrap();
        let proc = Proc::at(dir.path());
        assert_eq!(proc.in_init_pid_namespace(), Err(ProcError::Gone { pid: 0 }));
        std::os::unix::fs::symlink("pid:[4026531836]", ns.join("pid")).unwrap();
        assert_eq!(proc.in_init_pid_namespace(), Ok(true));
        std::fs::remove_file(ns.join("pid")).unwrap();
        std::os::unix::fs::symlink("pid:[4026532836]", ns.join("pid")).unwrap();
        assert_eq!(proc.in_init_pid_namespace(), Ok(false));
    }

    #[test]
    fn files_without_end_are_refused_and_titles_cut() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("7")).unwrap();
        for f in ["stat", "cmdline", "cgroup"] {
            std::fs::write(dir.path().join("7").join(f), vec![b'x'; 1 << 20]).unwrap();
        }
        let proc = Proc::at(dir.path());
        assert_eq!(proc.stat(7).unwrap_err(), ProcError::TooLong { pid: 7, what: "stat" });
        assert!(matches!(proc.cgroups(7), Err(ProcError::TooLong { .. })));
        assert_eq!(proc.command_line(7).unwrap().len(), 64 << 10);
    }
}
