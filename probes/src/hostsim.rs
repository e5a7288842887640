//! The walkers of `bpf/*.bpf.h`, compiled for the host and run over memory that the caller hands in: the
//! same C code as in the kernel. For processes that are not on a CPU ([`crate::Sleepers`]), and for plain
//! tests without root.

use crate::abi::{self, types};
use crate::tables::pack;
use crate::{COUNTERS, ProcessSpec, TableId};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use upprof_binary::UnwindTable;
use upprof_profile::VmState;
use upprof_profile::raw::{Outcome, PackedFrame, vm_state_from_abi};

/// Limits of one walk, from `abi.h`.
pub mod limits {
    use crate::abi::upprof_limits as l;

    /// Frames of all kinds.
    pub const MAX_FRAMES: usize = l::MAX_FRAMES as usize;
    /// Native frames.
    pub const MAX_NATIVE_FRAMES: usize = l::MAX_NATIVE_FRAMES as usize;
    /// Lua frames.
    pub const MAX_LUA_FRAMES: usize = l::MAX_LUA_FRAMES as usize;
    /// Steps.
    pub const MAX_WALK_STEPS: u32 = l::MAX_WALK_STEPS as u32;
}

/// Registers at the sampled instruction. `repr(C)`: `struct hostsim_regs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// rbp: BASE in some helpers of the interpreter.
    pub bp: u64,
    /// rbx: the interpreter's PC.
    pub bx: u64,
    /// The interpreter's DISPATCH.
    pub r14: u64,
    /// rdx: the interpreter's BASE.
    pub dx: u64,
    /// Base of fs: the thread's own block, 0 where unknown.
    pub tls: u64,
}

/// Unwind tables as the kernel holds them.
#[derive(Default)]
pub struct HostSim {
    rows: Vec<types::unwind_row>,
    pages: Vec<types::unwind_page>,
}

/// A process as the kernel has it described.
pub struct Described(Box<types::process_info>);

impl From<&ProcessSpec> for Described {
    /// Each description is a new one, as each of [`crate::Probe::sample`] is.
    fn from(spec: &ProcessSpec) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(spec.to_abi(NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}

/// What one walk gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// Leaf first.
    pub frames: Vec<PackedFrame>,
    /// How it ended.
    pub outcome: Outcome,
    /// What LuaJIT was doing.
    pub vm_state: VmState,
    /// Steps taken.
    pub steps: u32,
    counters: [u64; COUNTERS.len()],
}

impl Walked {
    /// A counter by its name in [`COUNTERS`]. The walkers count doubts and losses; samples and outcomes
    /// are counted by their caller in the kernel, and stay 0 here.
    ///
    /// # Panics
    /// When there is no such counter.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        let of = COUNTERS.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no counter {name}"));
        self.counters[of.index]
    }

    /// All counters that are not zero, by name.
    pub fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        COUNTERS.iter().map(|c| (c.name, self.counters[c.index])).filter(|(_, n)| *n > 0)
    }
}

/// Reads memory: fills the slice from the address, or returns false.
type Read<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> bool;

/// `struct hostsim` of `hostsim.c`.
#[repr(C)]
struct Sim {
    read: extern "C" fn(*mut c_void, *mut c_void, u32, u64) -> c_int,
    memory: *mut c_void,
    rows: *const types::unwind_row,
    n_rows: u64,
    pages: *const types::unwind_page,
    n_pages: u64,
    counters: [u64; COUNTERS.len()],
}

/// `struct hostsim_result`.
#[derive(Default)]
#[repr(C)]
struct Ended {
    n_frames: u32,
    outcome: u32,
    vm_state: u32,
    steps: u32,
}

unsafe extern "C" {
    fn upprof_hostsim_walk(
        sim: *mut Sim,
        process: *const types::process_info,
        registers: *const Registers,
        frames: *mut types::frame,
        result: *mut Ended,
    );
}

/// As `bpf_probe_read_user`: what could not be read is zero.
extern "C" fn read(memory: *mut c_void, to: *mut c_void, size: u32, addr: u64) -> c_int {
    // SAFETY: `memory` is the `Read` that `walk` put there and outlives the call; the walk is the only
    // one to use it, one call at a time. A panic in it aborts (extern "C"), it does not unwind into C.
    let read = unsafe { &mut *memory.cast::<Read<'_>>() };
    // SAFETY: the walkers pass a local object of theirs and its size; zeroed first, so the slice is
    // initialised.
    let buf = unsafe {
        std::ptr::write_bytes(to.cast::<u8>(), 0, size as usize);
        std::slice::from_raw_parts_mut(to.cast::<u8>(), size as usize)
    };
    if read(addr, buf) {
        return 0;
    }
    buf.fill(0);
    -14 // EFAULT
}

impl HostSim {
    /// Adds a file's unwind table, as [`crate::Probe::add_table`] does.
    pub fn add_table(&mut self, table: &UnwindTable) -> TableId {
        let packed = pack(table, self.rows.len() as u32);
        let index = self.pages.len() as u32;
        self.rows.extend(packed.rows);
        self.pages.extend(&packed.pages);
        TableId { first_page: packed.first_page, n_pages: packed.pages.len() as u32, index }
    }

    /// Walks one stack.
    pub fn walk(
        &self,
        mut memory: impl FnMut(u64, &mut [u8]) -> bool,
        process: &Described,
        registers: &Registers,
    ) -> Walked {
        let mut frames = vec![types::frame::default(); limits::MAX_FRAMES];
        let mut ended = Ended::default();
        let mut by_reference: Read<'_> = &mut memory;
        let mut sim = Sim {
            read,
            memory: (&raw mut by_reference).cast(),
            rows: self.rows.as_ptr(),
            n_rows: self.rows.len() as u64,
            pages: self.pages.as_ptr(),
            n_pages: self.pages.len() as u64,
            counters: [0; COUNTERS.len()],
        };
        // SAFETY: every pointer is to an object that lives until the call returns, with the layout that
        // hostsim.c declares: the types come from the same abi.h by BTF, the `repr(C)` ones here
        // mirror hostsim.c. `frames` has room for MAX_FRAMES, and the walk emits no more.
        unsafe {
            upprof_hostsim_walk(
                &raw mut sim,
                process.0.as_ref(),
                registers,
                frames.as_mut_ptr(),
                &raw mut ended,
            );
        }
        frames.truncate(ended.n_frames as usize);
        Walked {
            frames: frames.iter().map(|f| PackedFrame { word: f.word, pc: f.pc, check: f.check }).collect(),
            outcome: Outcome::from_abi(ended.outcome as u8),
            vm_state: vm_state_from_abi(ended.vm_state as u8),
            steps: ended.steps,
            counters: sim.counters,
        }
    }
}

const _: () = assert!(COUNTERS.len() == abi::counter::COUNT_MAX as usize);
