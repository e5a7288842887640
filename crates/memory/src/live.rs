use crate::{Memory, ReadError};

/// A running process, read with `process_vm_readv(2)`: no stop, no signal, no write.
#[derive(Debug, Clone, Copy)]
pub struct Live {
    pid: libc::pid_t,
}

impl Live {
    /// The process with this pid in our own pid namespace. Nothing is read yet.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid: pid.cast_signed() }
    }
}

impl Memory for Live {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if buf.is_empty() {
            return Ok(());
        }
        let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        let remote = libc::iovec { iov_base: addr as *mut libc::c_void, iov_len: buf.len() };
        // SAFETY: `local` describes `buf`, which is valid for writes of its length for the whole
        // call; `remote` is only an address in another process, which the kernel checks.
        let n = unsafe { libc::process_vm_readv(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
        if n == buf.len().cast_signed() {
            return Ok(());
        }
        Err(match std::io::Error::last_os_error().raw_os_error() {
            _ if n >= 0 => ReadError::Unmapped { addr, len: buf.len() },
            Some(libc::ESRCH) => ReadError::Gone,
            Some(libc::EPERM) => ReadError::Denied,
            _ => ReadError::Unmapped { addr, len: buf.len() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_own_memory_and_refuses_null() {
        let value = 0x1122_3344_5566_7788_u64;
        let me = Live::new(std::process::id());
        assert_eq!(me.u64(&raw const value as u64), Ok(value));
        assert_eq!(me.u64(0), Err(ReadError::Unmapped { addr: 0, len: 8 }));
    }

    #[test]
    fn a_pid_that_does_not_exist_is_gone() {
        assert_eq!(Live::new(0x3fff_fff0).u8(0x1000), Err(ReadError::Gone));
    }
}
