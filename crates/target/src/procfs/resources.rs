//! What a process uses, and what its control group lets it use.

use super::{Proc, ProcError, SMALL, error};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Open files of one process that are counted.
const MAX_FDS: usize = 1 << 20;

/// What a process uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Its own memory: heap and stacks, what was copied from files.
    pub anonymous_bytes: u64,
    /// Pages of files, of code most of all; other processes may have them too.
    pub file_bytes: u64,
    /// Pages of shared memory that it has touched. All workers have the same ones: never add them up.
    pub shared_bytes: u64,
    /// Its threads.
    pub threads: u64,
    /// File descriptors that are open; `None` when the folder may not be read.
    pub open_files: Option<u64>,
    /// How many it may have (the soft limit), `None` without limit.
    pub max_open_files: Option<u64>,
}

/// How much processor time a control group may have, and how often it had to wait for more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuQuota {
    /// Processors' worth of time; `None` without limit.
    pub cores: Option<f64>,
    /// Periods of the limit that had something to run.
    pub periods: u64,
    /// Periods at whose end it had to wait.
    pub throttled_periods: u64,
    /// How long it waited in all, nanoseconds, each processor on its own.
    pub throttled_ns: u64,
}

/// A listening socket and its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenQueue {
    /// What tells it apart in `/proc/PID/fd`.
    pub inode: u64,
    /// Connections that nobody has accepted yet (Recv-Q).
    pub waiting: u64,
}

/// Connections that a network namespace could not queue, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenLosses {
    /// Times a queue was full.
    pub overflows: u64,
    /// Connections dropped, overflows among them.
    pub drops: u64,
}

impl Proc {
    /// What a process uses now.
    ///
    /// # Errors
    /// [`ProcError`].
    pub fn resources(&self, pid: u32) -> Result<Resources, ProcError> {
        let status = self.read(pid, "status", SMALL)?;
        let limits = self.read(pid, "limits", SMALL)?;
        let missing = ProcError::Malformed { pid, what: "status" };
        let kilobytes = |name| Some(number_after(&status, name)?.saturating_mul(1024));
        let open = std::fs::read_dir(self.path(pid, "fd")).ok();
        Ok(Resources {
            anonymous_bytes: kilobytes("RssAnon:").ok_or(missing.clone())?,
            file_bytes: kilobytes("RssFile:").ok_or(missing.clone())?,
            shared_bytes: kilobytes("RssShmem:").ok_or(missing.clone())?,
            threads: number_after(&status, "Threads:").ok_or(missing)?,
            open_files: open.map(|entries| entries.take(MAX_FDS).count() as u64),
            max_open_files: number_after(&limits, "Max open files"),
        })
    }

    /// The processor limit of the group a process is in. `roots` are places where control groups may be
    /// mounted; the first that has this process in the group counts.
    ///
    /// # Errors
    /// [`ProcError`] when the process cannot be looked at, or no root shows its group.
    pub fn cpu_quota(&self, pid: u32, roots: &[&Path]) -> Result<CpuQuota, ProcError> {
        let groups = self.cgroups(pid)?;
        let hidden = || error(pid, "its control group", &std::io::Error::from(ErrorKind::Unsupported));
        let folders = roots.iter().flat_map(|root| groups.folders(root, "cpu"));
        folders.filter(|folder| holds(folder, pid)).find_map(|folder| quota(&folder)).ok_or_else(hidden)
    }

    /// What tells a process's network namespace apart; `None` when it may not be looked at.
    #[must_use]
    pub fn network(&self, pid: u32) -> Option<PathBuf> {
        std::fs::read_link(self.path(pid, "ns/net")).ok()
    }

    /// The TCP sockets that listen in a process's network namespace, with those of IPv6 or without: to
    /// the end of either the kernel looks through the whole machine's table of connections.
    ///
    /// # Errors
    /// [`ProcError`].
    pub fn listen_queues(&self, pid: u32, ipv6: bool) -> Result<Vec<ListenQueue>, ProcError> {
        /// A line is 150 bytes; this is 400,000 of them.
        const MAX_TABLE: u64 = 64 << 20;
        /// One line: the kernel looks for as many as are asked for, and behind those that listen that is a look
        /// through the whole machine's table.
        const AT_ONCE: usize = 150;
        let mut all = Vec::new();
        for what in ["net/tcp", "net/tcp6"].into_iter().take(1 + usize::from(ipv6)) {
            let table = File::open(self.path(pid, what));
            match table.and_then(|t| listening(BufReader::with_capacity(AT_ONCE, t.take(MAX_TABLE)))) {
                Ok(some) => all.extend(some),
                // Without IPv6 there is no such file.
                Err(e) if e.kind() == ErrorKind::NotFound && what == "net/tcp6" => {}
                Err(e) => return Err(error(pid, what, &e)),
            }
        }
        Ok(all)
    }

    /// The inode of the socket behind a file descriptor; `None` when it is no socket, or may not be seen.
    #[must_use]
    pub fn socket_inode(&self, pid: u32, fd: u32) -> Option<u64> {
        let link = std::fs::read_link(self.path(pid, &format!("fd/{fd}"))).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    }

    /// What the listening sockets of a process's network namespace have lost.
    ///
    /// # Errors
    /// [`ProcError`].
    pub fn listen_losses(&self, pid: u32) -> Result<ListenLosses, ProcError> {
        let table = self.read(pid, "net/netstat", SMALL)?;
        losses(&String::from_utf8_lossy(&table)).ok_or(ProcError::Malformed { pid, what: "net/netstat" })
    }
}

/// The number behind a name at the start of a line.
fn number_after(text: &[u8], name: &str) -> Option<u64> {
    let line = text.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(name.as_bytes()))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether a group's folder has this process in it: a path may mean another group in another namespace.
fn holds(folder: &Path, pid: u32) -> bool {
    let procs = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    procs.lines().any(|line| line.trim().parse() == Ok(pid))
}

fn quota(folder: &Path) -> Option<CpuQuota> {
    let read = |file: &str| std::fs::read(folder.join(file)).ok();
    let number = |file: &str| String::from_utf8_lossy(&read(file)?).trim().parse::<f64>().ok();
    let stat = read("cpu.stat")?;
    // v2: "QUOTA PERIOD", the first "max" without limit. v1: a file each, -1 without limit.
    let cores = match read("cpu.max") {
        Some(max) => {
            let max = String::from_utf8_lossy(&max).into_owned();
            let (quota, period) = max.trim().split_once(' ')?;
            quota.parse::<f64>().ok().zip(period.parse::<f64>().ok())
        }
        None => number("cpu.cfs_quota_us").filter(|q| *q > 0.0).zip(number("cpu.cfs_period_us")),
    };
    let throttled = number_after(&stat, "throttled_usec ").map(|us| us.saturating_mul(1000));
    Some(CpuQuota {
        cores: cores.filter(|(_, period)| *period > 0.0).map(|(quota, period)| quota / period),
        periods: number_after(&stat, "nr_periods ").unwrap_or(0),
        throttled_periods: number_after(&stat, "nr_throttled ").unwrap_or(0),
        throttled_ns: throttled.or_else(|| number_after(&stat, "throttled_time ")).unwrap_or(0),
    })
}

/// `sl local remote state tx:rx tr:tm retransmits uid timeout inode …`; 0A listens.
/// Listening sockets come before all others (tcp_ipv4.c, `tcp_seq_start`), of which there may be very many:
/// they are not read.
fn listening(table: impl BufRead) -> std::io::Result<Vec<ListenQueue>> {
    let mut all = Vec::new();
    // The first line names the columns.
    for line in table.lines().skip(1) {
        let line = line?;
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, _, "0A", queues, _, _, _, _, inode, ..] = fields[..] else { break };
        let waiting = queues.split_once(':').and_then(|(_, rx)| u64::from_str_radix(rx, 16).ok());
        all.extend(waiting.zip(inode.parse().ok()).map(|(waiting, inode)| ListenQueue { inode, waiting }));
    }
    Ok(all)
}

/// Two lines that start with `TcpExt:`: names, then numbers.
fn losses(table: &str) -> Option<ListenLosses> {
    let mut lines = table.lines().filter_map(|l| l.strip_prefix("TcpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let of = |wanted: &str| {
        let place = names.split_ascii_whitespace().position(|name| name == wanted)?;
        numbers.split_ascii_whitespace().nth(place)?.parse().ok()
    };
    Some(ListenLosses { overflows: of("ListenOverflows")?, drops: of("ListenDrops")? })
}

impl super::Cgroups {
    /// Where the group with this controller would be under `root`: the v2 group, and v1's by the names
    /// that the controller is mounted under. Nothing outside of the root: `..` is another namespace's.
    fn folders(&self, root: &Path, controller: &str) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for (hierarchy, path) in self.hierarchies() {
            let path = path.trim_start_matches('/');
            if path.split('/').any(|part| part == "..") {
                continue;
            }
            if hierarchy.is_empty() {
                all.push(root.join(path));
                all.push(root.join("unified").join(path));
            } else if hierarchy.split(',').any(|c| c == controller) {
                all.push(root.join(hierarchy).join(path));
                all.push(root.join(controller).join(path));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn our_own_use_is_what_we_use() {
        let me = Proc::default().resources(std::process::id()).unwrap();
        assert!(me.anonymous_bytes > 0 && me.file_bytes > 0 && me.threads >= 1);
        assert!(me.open_files.unwrap() >= 3 && me.max_open_files.is_none_or(|m| m >= me.open_files.unwrap()));
    }

    #[test]
    fn quotas_of_both_kinds_of_groups() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, sys) = (dir.path().join("proc"), dir.path().join("sys"));
        write(&proc, "7/cgroup", "4:cpu,cpuacct:/docker/a\n0::/system/b\n");
        write(&proc, "8/cgroup", "0::/system/b\n");
        write(&proc, "9/cgroup", "0::/../b\n");
        write(&sys, "cpu,cpuacct/docker/a/cgroup.procs", "6\n7\n");
        write(&sys, "cpu,cpuacct/docker/a/cpu.cfs_quota_us", "150000\n");
        write(&sys, "cpu,cpuacct/docker/a/cpu.cfs_period_us", "100000\n");
        write(&sys, "cpu,cpuacct/docker/a/cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 5000\n");
        write(&sys, "unified/system/b/cgroup.procs", "8\n");
        write(&sys, "unified/system/b/cpu.max", "max 100000\n");
        write(
            &sys,
            "unified/system/b/cpu.stat",
            "usage_usec 1\nnr_periods 3\nnr_throttled 2\nthrottled_usec 7\n",
        );
        let of = |pid| Proc::at(&proc).cpu_quota(pid, &[Path::new("/nowhere"), &sys]);
        let v1 = CpuQuota { cores: Some(1.5), periods: 9, throttled_periods: 4, throttled_ns: 5000 };
        let v2 = CpuQuota { cores: None, periods: 3, throttled_periods: 2, throttled_ns: 7000 };
        assert_eq!((of(7), of(8)), (Ok(v1), Ok(v2)));
        assert!(matches!(of(9), Err(ProcError::Io { .. })), "another namespace's path");
        assert!(matches!(of(10), Err(ProcError::Gone { .. })));
        write(&sys, "unified/system/b/cgroup.procs", "88\n");
        assert!(of(8).is_err(), "the group has another process of ours");
    }

    #[test]
    fn listening_sockets_and_what_they_lost() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 4711 1 0\n\
             1: 0100007F:1F90 00000000:0000 0A 00000000:broken 00:00000000 00000000     0        0 4710 1 0\n\
             2: 0100007F:1F90 0100007F:9C40 01 00000000:00000009 00:00000000 00000000     0        0 4712 1 0\n";
        let found = listening(table.as_bytes()).unwrap();
        assert_eq!(found, [ListenQueue { inode: 4711, waiting: 3 }]);
        let netstat = "TcpExt: A ListenOverflows ListenDrops Z\nTcpExt: 1 2 3 4\nIpExt: A\nIpExt: 9\n";
        assert_eq!(losses(netstat), Some(ListenLosses { overflows: 2, drops: 3 }));
        assert_eq!(losses("TcpExt: A\nTcpExt: 1\n"), None);
    }

    #[test]
    fn a_socket_of_ours_listens() {
        use std::os::fd::AsRawFd;
        let (proc, me) = (Proc::default(), std::process::id());
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = proc.socket_inode(me, u32::try_from(socket.as_raw_fd()).unwrap()).unwrap();
        let queue = |proc: &Proc| {
            proc.listen_queues(me, false).unwrap().into_iter().find(|q| q.inode == inode).unwrap().waiting
        };
        assert_eq!(queue(&proc), 0);
        let _waiting = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        assert_eq!(queue(&proc), 1);
        proc.listen_losses(me).unwrap();
    }
}
