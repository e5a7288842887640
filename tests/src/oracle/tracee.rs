//! A process of a test's own, stopped with ptrace. The product never does this; an oracle must, or the
//! process runs on while it is looked at.

use anyhow::{Result, bail, ensure};
use std::ptr;

/// An attached process. Dropping it lets the process go.
#[derive(Debug)]
pub struct Tracee {
    pid: libc::pid_t,
    stopped: bool,
}

/// General registers by DWARF number (System V ABI, x86-64): rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to
/// r15, and the instruction pointer in the place of the return address; then the base of fs. `None` is not known.
pub type Registers = [Option<u64>; 18];

/// Indices into [`Registers`].
pub mod reg {
    /// rdx
    pub const RDX: usize = 1;
    /// rbx
    pub const RBX: usize = 3;
    /// rbp
    pub const RBP: usize = 6;
    /// rsp
    pub const RSP: usize = 7;
    /// r14
    pub const R14: usize = 14;
    /// r15
    pub const R15: usize = 15;
    /// rip
    pub const RIP: usize = 16;
    /// Base of fs, which DWARF numbers elsewhere.
    pub const FS_BASE: usize = 17;
}

impl Tracee {
    /// Attaches without stopping it (`PTRACE_SEIZE`).
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach(pid: u32) -> Result<Self> {
        let pid = pid.cast_signed();
        request("attach", libc::PTRACE_SEIZE, pid, ptr::null_mut())?;
        Ok(Self { pid, stopped: false })
    }

    /// Stops it where it is, and returns its registers.
    ///
    /// # Errors
    /// When it is gone.
    pub fn stop(&mut self) -> Result<Registers> {
        request("interrupt", libc::PTRACE_INTERRUPT, self.pid, ptr::null_mut())?;
        loop {
            let mut status = 0;
            // SAFETY: `status` is valid for writes; the pid is one we trace.
            let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
            ensure!(waited == self.pid, "waitpid: {}", std::io::Error::last_os_error());
            if !libc::WIFSTOPPED(status) {
                bail!("the process ended (status {status:#x})");
            }
            self.stopped = true;
            if status >> 16 == libc::PTRACE_EVENT_STOP {
                break;
            }
            // A signal on its way to the process arrived first: deliver it, and wait on.
            self.resume(libc::PTRACE_CONT, libc::WSTOPSIG(status))?;
        }
        self.registers()
    }

    /// Lets the stopped process execute one instruction, and returns its registers then.
    ///
    /// # Errors
    /// When it is gone, or a signal comes in between.
    pub fn step(&mut self) -> Result<Registers> {
        self.resume(libc::PTRACE_SINGLESTEP, 0)?;
        let mut status = 0;
        // SAFETY: `status` is valid for writes; the pid is one we trace.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
        ensure!(waited == self.pid, "waitpid: {}", std::io::Error::last_os_error());
        ensure!(libc::WIFSTOPPED(status), "the process ended (status {status:#x})");
        self.stopped = true;
        ensure!(libc::WSTOPSIG(status) == libc::SIGTRAP, "a signal arrived (status {status:#x})");
        self.registers()
    }

    fn registers(&self) -> Result<Registers> {
        let mut regs = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
        request("registers", libc::PTRACE_GETREGS, self.pid, regs.as_mut_ptr().cast())?;
        // SAFETY: all-zero bytes are a valid value, and PTRACE_GETREGS has filled it.
        let r = unsafe { regs.assume_init() };
        Ok([
            r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
            r.r14, r.r15, r.rip, r.fs_base,
        ]
        .map(Some))
    }

    /// Lets it run on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn run(&mut self) -> Result<()> {
        self.resume(libc::PTRACE_CONT, 0)
    }

    fn resume(&mut self, how: libc::c_uint, signal: i32) -> Result<()> {
        let data = signal as usize as *mut libc::c_void;
        request("go on", how, self.pid, data)?;
        self.stopped = false;
        Ok(())
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        // Only a stopped process can be detached from; one that runs is let go when we exit, too, but
        // a test process may go on for long.
        if self.stopped || self.stop().is_ok() {
            let _ = request("detach", libc::PTRACE_DETACH, self.pid, ptr::null_mut());
        }
    }
}

fn request(what: &str, request: libc::c_uint, pid: libc::pid_t, data: *mut libc::c_void) -> Result<()> {
    // SAFETY: the requests above take no address but `data`, which is null, a number, or valid for
    // writes of a user_regs_struct (PTRACE_GETREGS).
    let done = unsafe { libc::ptrace(request, pid, ptr::null_mut::<libc::c_void>(), data) };
    ensure!(done == 0, "ptrace, {what} {pid}: {}", std::io::Error::last_os_error());
    Ok(())
}
