//! perf events: the clock that drives the sampling program.

use crate::ProbeError;
use libbpf_rs::libbpf_sys;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// A CPU-clock event of one CPU. The software clock needs no PMU, so it works in virtual machines.
pub(crate) struct CpuClock(OwnedFd);

impl CpuClock {
    /// Opens, but does not start, an event that fires `hz` times a second of that CPU's time.
    pub(crate) fn open(cpu: u32, hz: u64) -> Result<Self, ProbeError> {
        let mut attr = libbpf_sys::perf_event_attr {
            type_: libbpf_sys::PERF_TYPE_SOFTWARE,
            size: size_of::<libbpf_sys::perf_event_attr>() as u32,
            config: u64::from(libbpf_sys::PERF_COUNT_SW_CPU_CLOCK),
            ..Default::default()
        };
        attr.__bindgen_anon_1.sample_freq = hz;
        attr.set_freq(1);
        attr.set_disabled(1);
        let any_process: libc::pid_t = -1;
        let no_group: libc::c_int = -1;
        // SAFETY: `attr` is a fully initialised perf_event_attr whose size field is its own size; the
        // kernel only reads it. The other arguments are integers.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                any_process,
                cpu as libc::c_int,
                no_group,
                libbpf_sys::PERF_FLAG_FD_CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(ProbeError::Perf { cpu, error: std::io::Error::last_os_error() });
        }
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Gives up the descriptor without closing it: somebody else owns it now.
    pub(crate) fn release(self) {
        let _ = self.0.into_raw_fd();
    }
}

/// Numbers of the CPUs that are online: those that are sampled, whatever a container or cgroup leaves to us.
#[must_use]
pub fn online_cpus() -> Vec<u32> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_else(|_| "0".into());
    cpu_list(&list)
}

/// The kernel's way of writing a set of CPUs (`0-3,5`).
fn cpu_list(list: &str) -> Vec<u32> {
    const MAX_CPUS: u32 = 1 << 16;
    let number = |s: &str| s.trim().parse::<u32>().ok().filter(|n| *n < MAX_CPUS);
    list.trim()
        .split(',')
        .filter_map(|part| match part.split_once('-') {
            Some((a, b)) => Some(number(a)?..=number(b)?),
            None => number(part).map(|n| n..=n),
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::cpu_list;

    #[test]
    fn ranges_and_holes() {
        assert_eq!(cpu_list("0-2,4\n"), [0, 1, 2, 4]);
        assert_eq!(cpu_list("0\n"), [0]);
        assert!(cpu_list("").is_empty());
        assert!(cpu_list("0-4294967295").is_empty(), "a range that no machine has is refused");
    }
}
