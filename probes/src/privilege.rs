//! Which privilege is missing, by name, before the kernel says only "not permitted".

use std::fmt;

/// A capability that sampling needs and this process does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingPrivilege {
    /// `CAP_BPF` or `CAP_SYS_ADMIN`: loading programs.
    Bpf,
    /// `CAP_PERFMON` or `CAP_SYS_ADMIN`: reading the stacks of other processes, opening CPU-wide
    /// perf events.
    Perfmon,
    /// `CAP_SYS_PTRACE`: reading `/proc/PID/root`, `/proc/PID/maps` and memory of other users.
    Ptrace,
    /// The capabilities are there, the `bpf(2)` system call is still refused: a seccomp filter (as
    /// Docker's default one) or kernel lockdown.
    Blocked,
}

impl fmt::Display for MissingPrivilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bpf => "CAP_BPF (or CAP_SYS_ADMIN) is missing: BPF programs cannot be loaded",
            Self::Perfmon => {
                "CAP_PERFMON (or CAP_SYS_ADMIN) is missing: other processes' stacks cannot be sampled"
            }
            Self::Ptrace => "CAP_SYS_PTRACE is missing: other processes' memory cannot be read",
            Self::Blocked => "bpf(2) is refused although the capabilities are there (seccomp or lockdown)",
        })
    }
}

const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What this process lacks, from the `CapEff` line of `/proc/self/status`.
#[must_use]
pub fn missing_privileges(proc_self_status: &str) -> Vec<MissingPrivilege> {
    let effective = proc_self_status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
        .unwrap_or(0);
    let has = |cap: u32| effective >> cap & 1 == 1;
    let mut missing = Vec::new();
    if !has(CAP_BPF) && !has(CAP_SYS_ADMIN) {
        missing.push(MissingPrivilege::Bpf);
    }
    if !has(CAP_PERFMON) && !has(CAP_SYS_ADMIN) {
        missing.push(MissingPrivilege::Perfmon);
    }
    if !has(CAP_SYS_PTRACE) {
        missing.push(MissingPrivilege::Ptrace);
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_set_lacks_nothing_and_dockers_default_lacks_three() {
        assert_eq!(missing_privileges("Name:\tx\nCapEff:\t000001ffffffffff\n"), []);
        // The default set of docker run, as `docker run … grep CapEff /proc/self/status` shows it.
        assert_eq!(
            missing_privileges("CapEff:\t00000000a80425fb\n"),
            [MissingPrivilege::Bpf, MissingPrivilege::Perfmon, MissingPrivilege::Ptrace]
        );
        // Only BPF, PERFMON and SYS_PTRACE.
        assert_eq!(missing_privileges("CapEff:\t000000c000080000\n"), []);
    }

    #[test]
    fn no_line_means_nothing_is_granted() {
        assert_eq!(missing_privileges("").len(), 3);
    }
}
