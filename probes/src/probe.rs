//! The programs, loaded and running.

use crate::abi::skel::{UpprofSkel, UpprofSkelBuilder};
use crate::abi::{bytes_of, count_table, counter, outcome, process_state, types};
use crate::events::{self, Event};
use crate::perf::{CpuClock, online_cpus};
use crate::tables::{MappedArray, Tables};
use crate::{MissingPrivilege, ProbeError, ProcessSpec, TableId, missing_privileges};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, RingBuffer, RingBufferBuilder, libbpf_sys};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use upprof_binary::UnwindTable;
use upprof_profile::raw::StackKey;

/// How much the kernel's tables can hold. They are allocated at load and do not grow.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Processes at one time, those that come during the window included.
    pub processes: u32,
    /// Unwind rows of all files, 16 bytes each.
    pub rows: u32,
    /// Entries of the page index of all files (see [`crate::index_entries`]), 8 bytes each.
    pub pages: u32,
    /// Distinct stacks counted in the kernel; those beyond are sent one by one.
    pub stacks: u32,
    /// Samples a second, of all CPUs: what is sent waits for user space so long, see [`ring_bytes`].
    pub samples_per_second: u32,
}

/// Size of the ring buffer: a power of two that holds new stacks of two seconds. User space fetches them
/// every 200 ms, but may have to wait for a CPU. No larger than needed: a sample writes to memory that is
/// cold by the time the ring comes round to it again.
fn ring_bytes(samples_per_second: u32) -> u32 {
    const SECONDS: u32 = 2;
    /// Some 30 frames of 16 bytes, a header and kernel frames; the deepest has 9 KiB.
    const USUAL_STACK: u32 = 1024;
    const MIN: u32 = 512 << 10;
    const MAX: u32 = 64 << 20;
    samples_per_second.saturating_mul(SECONDS * USUAL_STACK).clamp(MIN, MAX).next_power_of_two()
}

/// Time the kernel spent in a program, from its own statistics (`bpf_prog_info`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunTime {
    /// Nanoseconds.
    pub ns: u64,
    /// Runs, those for processes outside the target included.
    pub runs: u64,
}

/// What is left when sampling has ended.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// Samples per stack.
    pub counts: HashMap<StackKey, u64>,
    /// Values of [`crate::COUNTERS`], same order.
    pub counters: Vec<u64>,
    /// Cost of the sampling program.
    pub sampling: RunTime,
    /// Why forks and exits were not followed, if they were not.
    pub not_following: Option<String>,
}

/// Loaded BPF programs with their tables. Dropping it detaches and unloads everything.
pub struct Probe {
    ring: RingBuffer<'static>,
    queue: Rc<RefCell<VecDeque<Event>>>,
    clocks: Vec<Link>,
    followers: Vec<Link>,
    not_following: Option<String>,
    tables: Tables,
    counts: MappedArray<types::count_bucket>,
    slots: Vec<Option<u32>>,
    /// Descriptions made so far: the newest one's id.
    descriptions: u64,
    // Statistics are kept while this descriptor is open.
    _statistics: Option<OwnedFd>,
    skel: UpprofSkel<'static>,
}

impl Probe {
    /// Loads the programs; nothing runs yet.
    ///
    /// # Errors
    /// [`ProbeError::Privilege`] names what is missing, [`ProbeError::Load`] carries the verifier's
    /// words.
    pub fn load(capacity: Capacity) -> Result<Self, ProbeError> {
        let log = capture_libbpf_log();
        let fail = |e: libbpf_rs::Error| load_error(&e, &log);
        // libbpf-rs ties the skeleton to a place for the object; one a process lives as long as that.
        let place = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = UpprofSkelBuilder::default().open(place).map_err(fail)?;
        // Half full at most, unless most stacks fall into a few buckets.
        let buckets =
            (capacity.stacks.max(1) * 2).div_ceil(count_table::COUNT_SLOTS as u32).next_power_of_two();
        let maps = &mut open.maps;
        maps.rodata_data.as_deref_mut().ok_or_else(no_rodata)?.counts_mask = buckets - 1;
        for (map, entries) in [
            (&mut maps.processes, capacity.processes),
            (&mut maps.process_info, capacity.processes),
            (&mut maps.unwind_rows, capacity.rows),
            (&mut maps.unwind_pages, capacity.pages),
            (&mut maps.counts, buckets),
            (&mut maps.events, ring_bytes(capacity.samples_per_second)),
        ] {
            map.set_max_entries(entries.max(1)).map_err(fail)?;
        }
        let skel = open.load().map_err(fail)?;
        let tables = Tables::new(
            (skel.maps.unwind_rows.as_fd().as_raw_fd(), capacity.rows.max(1) as usize),
            (skel.maps.unwind_pages.as_fd().as_raw_fd(), capacity.pages.max(1) as usize),
        )
        .map_err(|e| ProbeError::Map { doing: "mapping the unwind tables", message: e.to_string() })?;
        let counts = MappedArray::new(skel.maps.counts.as_fd().as_raw_fd(), buckets as usize)
            .map_err(|e| ProbeError::Map { doing: "mapping the counts", message: e.to_string() })?;
        let queue = Rc::new(RefCell::new(VecDeque::new()));
        let sink = Rc::clone(&queue);
        let ring = {
            let mut builder = RingBufferBuilder::new();
            builder
                .add(&skel.maps.events, move |data| {
                    sink.borrow_mut().push_back(events::decode(data));
                    0
                })
                .map_err(ProbeError::map("opening the ring buffer"))?;
            builder.build().map_err(ProbeError::map("opening the ring buffer"))?
        };
        Ok(Self {
            ring,
            queue,
            clocks: Vec::new(),
            followers: Vec::new(),
            not_following: None,
            tables,
            counts,
            slots: vec![None; capacity.processes.max(1) as usize],
            descriptions: 0,
            _statistics: enable_statistics(),
            skel,
        })
    }

    /// Adds a file's unwind table.
    ///
    /// # Errors
    /// [`ProbeError::Full`].
    pub fn add_table(&mut self, table: &UnwindTable) -> Result<TableId, ProbeError> {
        self.tables.add(table)
    }

    /// Follows a process's children without sampling it.
    ///
    /// # Errors
    /// [`ProbeError::Map`] when the table of processes is full.
    pub fn watch(&mut self, pid: u32) -> Result<(), ProbeError> {
        self.set_state(pid, process_state::PROCESS_WATCHED, 0)
    }

    /// Samples a process from now on, with this knowledge of it (which replaces any before).
    ///
    /// # Errors
    /// [`ProbeError::Full`] or [`ProbeError::Map`].
    pub fn sample(&mut self, pid: u32, spec: &ProcessSpec) -> Result<(), ProbeError> {
        let slot = match self.slots.iter().position(|s| *s == Some(pid)) {
            Some(slot) => slot,
            None => {
                let free = self.slots.iter().position(Option::is_none);
                free.ok_or(ProbeError::Full { what: "processes", capacity: self.slots.len() })?
            }
        };
        self.descriptions += 1;
        let info = spec.to_abi(self.descriptions);
        self.skel
            .maps
            .process_info
            .update(&(slot as u32).to_le_bytes(), bytes_of(info.as_ref()), MapFlags::ANY)
            .map_err(ProbeError::map("describing a process"))?;
        self.slots[slot] = Some(pid);
        self.set_state(pid, process_state::PROCESS_READY, slot as u32)
    }

    /// Frees what is kept of a process that is gone (or shall not be sampled any more).
    pub fn forget(&mut self, pid: u32) {
        // An error means that it is not there any more: the kernel removes processes that exit.
        let _ = self.skel.maps.processes.delete(&pid.to_le_bytes());
        for slot in &mut self.slots {
            if *slot == Some(pid) {
                *slot = None;
            }
        }
    }

    fn set_state(&self, pid: u32, state: i64, slot: u32) -> Result<(), ProbeError> {
        let entry = types::process_entry { state: state as u32, slot };
        self.skel
            .maps
            .processes
            .update(&pid.to_le_bytes(), bytes_of(&entry), MapFlags::ANY)
            .map_err(ProbeError::map("adding a process"))
    }

    /// Begins to follow forks, execs and exits. Call before reading the list of processes, so that
    /// none is missed. A kernel that refuses is remembered, not an error: see
    /// [`Finished::not_following`].
    pub fn follow(&mut self) {
        let progs = &self.skel.progs;
        for (program, attached) in [
            ("on_fork", progs.on_fork.attach_trace()),
            ("on_exec", progs.on_exec.attach_trace()),
            ("on_exit", progs.on_exit.attach_trace()),
        ] {
            match attached {
                Ok(link) => self.followers.push(link),
                Err(e) => self.not_following = Some(format!("{program}: {e}")),
            }
        }
    }

    /// Starts sampling on every CPU.
    ///
    /// # Errors
    /// [`ProbeError::Perf`] or [`ProbeError::Attach`].
    pub fn start(&mut self, hz: u64) -> Result<(), ProbeError> {
        for cpu in online_cpus() {
            let clock = CpuClock::open(cpu, hz)?;
            let link = self
                .skel
                .progs
                .sample
                .attach_perf_event(clock.fd())
                .map_err(|e| ProbeError::Attach { program: "sample", message: e.to_string() })?;
            // The link owns the descriptor from here on, and closes it (libbpf, perf links).
            clock.release();
            self.clocks.push(link);
        }
        Ok(())
    }

    /// Stops sampling; events that are waiting can still be read.
    pub fn stop(&mut self) {
        self.clocks.clear();
        self.followers.clear();
    }

    /// Waits at most `timeout` for a wake-up, then returns what has arrived. New stacks do not wake;
    /// they are here by the next call.
    ///
    /// # Errors
    /// [`ProbeError::Map`]. An interrupting signal is no error.
    pub fn poll(&mut self, timeout: Duration) -> Result<Vec<Event>, ProbeError> {
        match self.ring.poll(timeout) {
            Err(e) if e.kind() != libbpf_rs::ErrorKind::Interrupted => {
                return Err(ProbeError::Map { doing: "reading the ring buffer", message: e.to_string() });
            }
            _ => {}
        }
        self.ring.consume().map_err(ProbeError::map("reading the ring buffer"))?;
        Ok(self.queue.borrow_mut().drain(..).collect())
    }

    /// Current values of the counters, in the order of [`crate::COUNTERS`].
    #[must_use]
    pub fn counters(&self) -> Vec<u64> {
        let mut values: Vec<u64> = (0..counter::COUNT_MAX as u32).map(|i| self.counter(i)).collect();
        // Every sample has exactly one outcome, so the kernel need not count samples as well.
        values[counter::COUNT_SAMPLES as usize] = values[..outcome::OUTCOME_MAX as usize].iter().sum();
        values
    }

    fn counter(&self, index: u32) -> u64 {
        let per_cpu = self.skel.maps.counters.lookup_percpu(&index.to_le_bytes(), MapFlags::ANY);
        let values = per_cpu.ok().flatten().into_iter().flatten();
        values.map(|v| u64::from_le_bytes(v.try_into().unwrap_or_default())).sum()
    }

    /// What the kernel counted. Call after [`Probe::stop`] and a last [`Probe::poll`].
    #[must_use]
    pub fn finish(&self) -> Finished {
        let taken = self.counts.elements().flat_map(|bucket| bucket.slots).filter(|slot| slot.n > 0);
        Finished {
            counts: taken.map(|slot| (StackKey(slot.key.h1, slot.key.h2), slot.n)).collect(),
            counters: self.counters(),
            sampling: run_time(self.skel.progs.sample.as_fd().as_raw_fd()),
            not_following: self.not_following.clone(),
        }
    }
}

fn no_rodata() -> ProbeError {
    ProbeError::Map { doing: "setting constants", message: "the object has no read-only data".into() }
}

fn enable_statistics() -> Option<OwnedFd> {
    // SAFETY: takes an enum value, returns a new descriptor or an error.
    let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    // SAFETY: a descriptor that the kernel just gave us and nobody else owns.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn run_time(fd: std::os::fd::RawFd) -> RunTime {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of::<libbpf_sys::bpf_prog_info>() as u32;
    // SAFETY: `info` and `len` are valid for writes of the size given for the whole call.
    let failed = unsafe { libbpf_sys::bpf_prog_get_info_by_fd(fd, &raw mut info, &raw mut len) };
    if failed != 0 { RunTime::default() } else { RunTime { ns: info.run_time_ns, runs: info.run_cnt } }
}

/// libbpf prints its reasons; keep them for the error instead of the terminal.
fn capture_libbpf_log() -> Arc<Mutex<String>> {
    const MAX_LOG: usize = 64 << 10;
    static LOG: Mutex<Option<Arc<Mutex<String>>>> = Mutex::new(None);
    let log = Arc::new(Mutex::new(String::new()));
    if let Ok(mut slot) = LOG.lock() {
        *slot = Some(Arc::clone(&log));
    }
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Warn, |_, text| {
        if let Ok(slot) = LOG.lock()
            && let Some(log) = slot.as_ref()
            && let Ok(mut log) = log.lock()
            && log.len() < MAX_LOG
        {
            log.push_str(&text);
        }
    })));
    log
}

fn load_error(error: &libbpf_rs::Error, log: &Mutex<String>) -> ProbeError {
    let log = log.lock().map(|l| l.clone()).unwrap_or_default();
    if error.kind() == libbpf_rs::ErrorKind::PermissionDenied && !log.contains("BEGIN PROG LOAD LOG") {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let missing = missing_privileges(&status).first().copied().unwrap_or(MissingPrivilege::Blocked);
        return ProbeError::Privilege(missing);
    }
    ProbeError::Load { message: error.to_string(), log }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_holds_two_seconds_within_bounds() {
        for (samples_per_second, bytes) in [
            (0, 512 << 10),
            (2 * 99, 512 << 10),
            (2 * 999, 4 << 20),
            (64 * 99, 16 << 20),
            (256 * 999, 64 << 20),
            (u32::MAX, 64 << 20),
        ] {
            assert_eq!(ring_bytes(samples_per_second), bytes, "{samples_per_second} a second");
        }
    }
}
