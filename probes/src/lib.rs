//! Everything that runs in the kernel, or talks to it about sampling.
//!
//! Owns the BPF programs (`bpf/`), the perf events that drive them, the ring buffer, the unwind
//! tables' and processes' maps, and the counters of what was lost. The only user of libbpf. It knows
//! nothing of names, files or formats: tables and addresses go in, stacks of addresses come out.

mod abi;
mod asleep;
mod error;
mod events;
pub mod hostsim;
mod perf;
mod privilege;
mod probe;
mod spec;
mod tables;

pub use asleep::{Asleep, Sleepers};
pub use error::ProbeError;
pub use events::{Event, ProcessChange};
pub use perf::online_cpus;
pub use privilege::{MissingPrivilege, missing_privileges};
pub use probe::{Capacity, Finished, Probe, RunTime};
pub use spec::{LuaLayout, LuaVm, MappedTable, ProcessSpec, RequestLayout, TableId};
pub use tables::index_entries;

use upprof_profile::Severity;

/// `LABEL_OTHER` of `abi.h`: a request beyond those that are told apart.
pub const OTHER_LABEL: u64 = abi::label::LABEL_OTHER as u64;
/// `LABEL_OUTSIDE`: ngx_lua's stand-in for a request.
pub const OUTSIDE_LABEL: u64 = abi::label::LABEL_OUTSIDE as u64;
/// `LABEL_UNREAD`: what should be the request could not be read.
pub const UNREAD_LABEL: u64 = abi::label::LABEL_UNREAD as u64;

/// A loss or doubt that the kernel side counts: `enum outcome` and `enum counter` of `abi.h`.
#[derive(Debug, Clone, Copy)]
pub struct CounterMeaning {
    /// Index in the kernel's array.
    pub index: usize,
    /// Stable name.
    pub name: &'static str,
    /// One sentence for people.
    pub meaning: &'static str,
    /// How bad it is.
    pub severity: Severity,
}

/// Every counter of the kernel side, in the order of `abi.h`.
pub const COUNTERS: [CounterMeaning; abi::counter::COUNT_MAX as usize] = {
    const fn c(index: i64, name: &'static str, severity: Severity, meaning: &'static str) -> CounterMeaning {
        CounterMeaning { index: index as usize, name, meaning, severity }
    }
    use Severity::{Doubt, Info, Loss};
    use abi::{counter as k, outcome as o};
    [
        c(o::OUTCOME_COMPLETE, "stacks_complete", Info, "samples whose stack reaches the process's entry"),
        c(
            o::OUTCOME_NO_MAPPING,
            "stacks_no_mapping",
            Doubt,
            "samples whose stack ends at an address in no known file",
        ),
        c(
            o::OUTCOME_NO_ROW,
            "stacks_no_unwind_rule",
            Doubt,
            "samples whose stack ends where a file has no unwind rule",
        ),
        c(
            o::OUTCOME_READ_FAILED,
            "stacks_memory_absent",
            Doubt,
            "samples whose stack ends at memory that was not readable",
        ),
        c(
            o::OUTCOME_NO_PROGRESS,
            "stacks_no_progress",
            Doubt,
            "samples whose stack ends at an unwind rule that led nowhere",
        ),
        c(
            o::OUTCOME_TRUNCATED,
            "stacks_truncated",
            Doubt,
            "samples whose stack is deeper than the limits; the cut is marked",
        ),
        c(
            o::OUTCOME_NOT_READY,
            "process_not_ready",
            Loss,
            "samples of processes too new to be known: counted, without a stack",
        ),
        c(
            o::OUTCOME_NO_REGS,
            "no_user_registers",
            Loss,
            "samples without user registers: counted, without a stack",
        ),
        c(k::COUNT_SAMPLES, "samples", Info, "samples taken of the target's processes"),
        c(
            k::COUNT_LOST_RING_FULL,
            "lost_ring_full",
            Loss,
            "samples lost because user space did not read the ring buffer in time",
        ),
        c(
            k::COUNT_COUNTS_FULL,
            "counts_full",
            Info,
            "samples sent one by one because the kernel's table of stacks was full; none lost",
        ),
        c(
            k::COUNT_LUA_UNSURE,
            "lua_leaf_unsure",
            Doubt,
            "samples whose innermost Lua function could not be proven; marked in the stack",
        ),
        c(
            k::COUNT_LUA_BROKEN,
            "lua_chain_broken",
            Doubt,
            "Lua frame chains that failed a check; the missing frames are marked",
        ),
        c(
            k::COUNT_CFRAME_MISMATCH,
            "cframe_mismatch",
            Doubt,
            "times the VM's own C-frame chain and native unwinding disagreed; the chain was used",
        ),
        c(
            k::COUNT_LUA_PC_OUTSIDE,
            "lua_line_unknown",
            Doubt,
            "Lua frames whose current line could not be known",
        ),
        c(
            k::COUNT_NATIVE_LOST,
            "native_frames_lost",
            Doubt,
            "samples with C frames missing above a Lua frame; marked in the stack",
        ),
        c(
            k::COUNT_PROCESS_TABLE_FULL,
            "process_table_full",
            Loss,
            "new processes that could not be followed",
        ),
        c(
            k::COUNT_SAVE_L_MISMATCH,
            "lua_thread_mismatch",
            Doubt,
            "samples caught while LuaJIT switched threads; shown without Lua frames",
        ),
        c(
            k::COUNT_EVENT_LOST,
            "process_events_lost",
            Loss,
            "starts or ends of processes that were not reported",
        ),
        c(
            k::COUNT_LABELS_FULL,
            "requests_beyond_limit",
            Info,
            "samples in Lua counted under \"other requests\": about a thousand are told apart, then some hundreds by the \
             first segment of their path",
        ),
        c(
            k::COUNT_REQUEST_UNREAD,
            "requests_unread",
            Info,
            "samples in Lua whose request is not known: its memory could not be read or failed a check",
        ),
    ]
};
