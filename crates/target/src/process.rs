use crate::procfs::{Proc, ProcError};
use crate::shown;
use std::collections::HashSet;

/// A title longer than this is cut.
const MAX_TITLE: usize = 256;

/// One process, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its pid in our pid namespace.
    pub pid: u32,
    /// Its pid in its own pid namespace, when the kernel tells.
    pub ns_pid: Option<u32>,
    /// Its parent's pid in our pid namespace, 0 when the parent is outside.
    pub ppid: u32,
    /// When it started, in clock ticks since boot: with the pid, what tells a process from a later one.
    pub start_time_ticks: u64,
    /// What its title says it does. A process chooses its title: good for choosing, not for trusting.
    pub role: Role,
    /// Its short name, safe to print.
    pub comm: String,
    /// Its command line or the title it has given itself, safe to print, cut at 256 characters.
    pub title: String,
}

/// What an nginx process does, as its title says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `nginx: master process …`
    Master,
    /// `nginx: worker process`
    Worker,
    /// `nginx: worker process is shutting down`
    DrainingWorker,
    /// `nginx: cache manager process`
    CacheManager,
    /// `nginx: cache loader process`
    CacheLoader,
    /// `nginx: privileged agent process`
    PrivilegedAgent,
    /// Not nginx, or nginx without a master.
    Other,
}

impl Role {
    fn of_title(title: &str) -> Self {
        let Some(title) = title.strip_prefix("nginx: ") else { return Self::Other };
        let is = |what: &str| title.strip_prefix(what).is_some_and(|r| r.is_empty() || r.starts_with(' '));
        [
            ("master process", Self::Master),
            ("worker process is shutting down", Self::DrainingWorker),
            ("worker process", Self::Worker),
            ("cache manager process", Self::CacheManager),
            ("cache loader process", Self::CacheLoader),
            ("privileged agent process", Self::PrivilegedAgent),
        ]
        .into_iter()
        .find_map(|(what, role)| is(what).then_some(role))
        .unwrap_or(Self::Other)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Worker => "worker",
            Self::DrainingWorker => "draining worker",
            Self::CacheManager => "cache manager",
            Self::CacheLoader => "cache loader",
            Self::PrivilegedAgent => "privileged agent",
            Self::Other => "other",
        })
    }
}

impl ProcessInfo {
    /// The process's memory.
    #[must_use]
    pub fn memory(&self) -> upprof_memory::Live {
        upprof_memory::Live::new(self.pid)
    }
}

impl Proc {
    /// One process.
    ///
    /// # Errors
    /// [`ProcError`]; a process that has ended and is only waiting to be noticed is gone.
    pub fn info(&self, pid: u32) -> Result<ProcessInfo, ProcError> {
        let stat = self.stat(pid)?;
        if stat.is_dead() {
            return Err(ProcError::Gone { pid });
        }
        let title = title(&self.command_line(pid)?);
        Ok(ProcessInfo {
            pid,
            ns_pid: self.innermost_pid(pid)?,
            ppid: stat.ppid,
            start_time_ticks: stat.start_time,
            role: Role::of_title(&title),
            comm: shown(&stat.comm, 64),
            title: shown(&title, MAX_TITLE),
        })
    }

    /// Every process of the container whose first process is `init`, by pid: those in its pid
    /// namespace when that is not our own, and those in its control groups. Where neither tells (a
    /// process on the host, in no group of its own), the process and its descendants.
    ///
    /// # Errors
    /// [`ProcError`] when `init` cannot be looked at. Others that cannot be are left out.
    pub fn processes_of(&self, init: u32) -> Result<Vec<ProcessInfo>, ProcError> {
        let first = self.info(init)?;
        let ours = self.pid_namespace("self", 0).ok();
        let namespace = self.pid_namespace(&init.to_string(), init).ok();
        // When our own is not known the container's may be the same one: then it tells nothing.
        let namespace = namespace.filter(|ns| ours.as_ref().is_some_and(|ours| ours != ns));
        let groups = self.cgroups(init).unwrap_or_default().own();
        if namespace.is_none() && groups == Default::default() {
            return self.tree(first, |_| true);
        }
        let belongs = |pid: u32| {
            let same_namespace = namespace
                .as_ref()
                .is_some_and(|ns| self.pid_namespace(&pid.to_string(), pid).as_ref() == Ok(ns));
            same_namespace || self.cgroups(pid).is_ok_and(|c| c.are_within(&groups))
        };
        let others = self.pids()?.into_iter().filter(|pid| *pid != init && belongs(*pid));
        let mut all: Vec<ProcessInfo> = others.filter_map(|pid| self.info(pid).ok()).collect();
        all.push(first);
        all.sort_by_key(|p| p.pid);
        Ok(all)
    }

    /// The process `pid` and, if it is an nginx master, its children; through an upgrade's new master,
    /// which is a child of the old one, that one's children too. By pid.
    ///
    /// # Errors
    /// [`ProcError`] when `pid` cannot be looked at.
    pub fn processes_of_pid(&self, pid: u32) -> Result<Vec<ProcessInfo>, ProcError> {
        self.tree(self.info(pid)?, |p| p.role == Role::Master)
    }

    /// `first` and the children of every process that `expands`.
    fn tree(
        &self,
        first: ProcessInfo,
        expands: impl Fn(&ProcessInfo) -> bool,
    ) -> Result<Vec<ProcessInfo>, ProcError> {
        let mut all = vec![first];
        if expands(&all[0]) {
            let parents: Vec<(u32, u32)> =
                self.pids()?.into_iter().filter_map(|p| Some((p, self.stat(p).ok()?.ppid))).collect();
            let mut seen: HashSet<u32> = all.iter().map(|p| p.pid).collect();
            let mut next = 0;
            while let Some(parent) = all.get(next) {
                if expands(parent) {
                    let of = parent.pid;
                    let children = parents.iter().filter(|(pid, ppid)| *ppid == of && seen.insert(*pid));
                    all.extend(children.filter_map(|(pid, _)| self.info(*pid).ok()).collect::<Vec<_>>());
                }
                next += 1;
            }
        }
        all.sort_by_key(|p| p.pid);
        Ok(all)
    }
}

/// The arguments, or the title written over them, as one line of text.
fn title(command_line: &[u8]) -> String {
    let text = String::from_utf8_lossy(command_line).replace('\0', " ");
    text.trim_end_matches(' ').to_owned()
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
