//! Samples as the kernel reports them: addresses, not names. What the probes produce and the stacks
//! room turns into a [`crate::Profile`].

use crate::{Phase, VmState};

/// One frame, 16 bytes, as in `struct frame` of `probes/bpf/abi.h`; [`PackedFrame::unpack`] says what
/// it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackedFrame {
    /// Address (48 bits), kind << 56, fast function id << 48.
    pub word: u64,
    /// Depends on the kind.
    pub pc: u32,
    /// Depends on the kind.
    pub check: u32,
}

/// A frame, unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RawFrame {
    /// Native code at this address.
    Native {
        /// Address in the process.
        addr: u64,
        /// Whether `addr` is the interrupted instruction; else it is a return address, and the call
        /// is the instruction before it.
        leaf: bool,
    },
    /// A Lua function.
    Lua {
        /// Its `GCproto`.
        proto: u64,
        /// Index of the *next* bytecode instruction (so the current one is `pc - 1`).
        pc: Option<u32>,
        /// `sizebc ^ numparams << 24 ^ framesize << 16` when it was sampled.
        check: u32,
    },
    /// A C function or fast function called from Lua.
    LuaC {
        /// `lua_CFunction`, or the common stub of fast functions.
        function: u64,
        /// Fast function id: 1 is "a C function", above it a builtin.
        ffid: u8,
    },
    /// Machine code of a trace.
    Trace {
        /// Address in the machine code, where known.
        ip: Option<u64>,
        /// Trace number, where known.
        number: Option<u32>,
        /// Why the functions that the trace runs here are not in the stack below; `None` where they are.
        doubt: Option<TraceDoubt>,
    },
    /// Something said in place of a function.
    Mark(Mark),
    /// A frame kind this version does not know.
    Unknown(PackedFrame),
}

/// Why the functions inlined in a trace are not shown. The kernel side tells addresses only; user space
/// writes this into the trace's frame (`frame.check`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TraceDoubt {
    /// The sample was in other code on behalf of the trace, and where the trace called it is not known.
    NoAddress,
    /// The version of LuaJIT does not keep what is needed.
    NoOffsets,
    /// No trace has this machine code now: it is an exit from a trace, or the trace was flushed before it
    /// was read.
    Gone,
    /// The trace could not be read, or did not check out.
    Unreadable,
    /// The trace's frames do not fit the Lua stack.
    Misfit,
}

impl TraceDoubt {
    /// Every reason, in the order of its numbers.
    pub const ALL: [Self; 5] = [Self::NoAddress, Self::NoOffsets, Self::Gone, Self::Unreadable, Self::Misfit];

    fn number(self) -> u32 {
        Self::ALL.iter().zip(1..).find(|(d, _)| **d == self).map_or(0, |(_, n)| n)
    }

    fn from_number(n: u32) -> Option<Self> {
        Self::ALL.get((n as usize).checked_sub(1)?).copied()
    }
}

/// `enum mark` of `probes/bpf/abi.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// C frames are missing above the Lua frame below.
    NativeLost,
    /// Lua frames are missing.
    LuaLost,
    /// Deeper than the limits.
    Truncated,
    /// Garbage collector.
    Gc,
    /// Leaving a trace.
    Exit,
    /// Trace recorder.
    Record,
    /// Trace optimiser.
    Optimize,
    /// Trace assembler.
    Assemble,
    /// The Lua function below could not be proven to be the leaf.
    LeafUnsure,
    /// Above runs a coroutine of ngx_lua; below is who resumed it.
    Coroutine,
    /// Above runs a light thread of ngx_lua; below is who spawned it, where it is suspended now.
    LightThread,
}

impl Mark {
    const ALL: [Self; 11] = [
        Self::NativeLost,
        Self::LuaLost,
        Self::Truncated,
        Self::Gc,
        Self::Exit,
        Self::Record,
        Self::Optimize,
        Self::Assemble,
        Self::LeafUnsure,
        Self::Coroutine,
        Self::LightThread,
    ];

    fn from_abi(n: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(n).ok()?.checked_sub(1)?).copied()
    }

    /// The marker's text, without brackets.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NativeLost => "native lost",
            Self::LuaLost => "Lua lost",
            Self::Truncated => "truncated",
            Self::Gc => "GC",
            Self::Exit => "trace exit",
            Self::Record => "JIT recorder",
            Self::Optimize => "JIT optimiser",
            Self::Assemble => "JIT assembler",
            Self::LeafUnsure => "leaf function unsure",
            Self::Coroutine => "coroutine",
            Self::LightThread => "light thread",
        }
    }
}

impl PackedFrame {
    const ADDRESS: u64 = (1 << 48) - 1;

    /// A Lua function; fields as in [`RawFrame::Lua`].
    #[must_use]
    pub fn lua(proto: u64, pc: Option<u32>, check: u32) -> Self {
        Self { word: proto & Self::ADDRESS | 3 << 56, pc: pc.unwrap_or(u32::MAX), check }
    }

    /// A C function called from Lua; fields as in [`RawFrame::LuaC`].
    #[must_use]
    pub fn lua_c(function: u64, ffid: u8) -> Self {
        let ffid = u32::from(ffid);
        Self { word: function & Self::ADDRESS | u64::from(ffid) << 48 | 4 << 56, pc: ffid, check: 0 }
    }

    /// A trace; fields as in [`RawFrame::Trace`].
    #[must_use]
    pub fn trace(ip: Option<u64>, number: Option<u32>, doubt: Option<TraceDoubt>) -> Self {
        Self {
            word: ip.unwrap_or(0) & Self::ADDRESS | 5 << 56,
            pc: number.unwrap_or(u32::MAX),
            check: doubt.map_or(0, TraceDoubt::number),
        }
    }

    /// Something said in place of a function.
    #[must_use]
    pub fn mark(mark: Mark) -> Self {
        let number = Mark::ALL.iter().zip(1..).find(|(m, _)| **m == mark).map_or(0, |(_, n)| n);
        Self { word: number | 6 << 56, pc: 0, check: 0 }
    }

    /// What the 16 bytes say.
    #[must_use]
    pub fn unpack(self) -> RawFrame {
        let addr = self.word & Self::ADDRESS;
        let known = |v: u32| (v != u32::MAX).then_some(v);
        match self.word >> 56 {
            1 => RawFrame::Native { addr, leaf: true },
            2 => RawFrame::Native { addr, leaf: false },
            3 => RawFrame::Lua { proto: addr, pc: known(self.pc), check: self.check },
            4 => RawFrame::LuaC { function: addr, ffid: (self.word >> 48 & 0xff) as u8 },
            5 => RawFrame::Trace {
                ip: (addr != 0).then_some(addr),
                number: known(self.pc),
                doubt: TraceDoubt::from_number(self.check),
            },
            6 => Mark::from_abi(addr).map_or(RawFrame::Unknown(self), RawFrame::Mark),
            _ => RawFrame::Unknown(self),
        }
    }
}

/// How the walk of a stack ended: `enum outcome` of `probes/bpf/abi.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Reached the process's entry.
    Complete,
    /// An address in no known file.
    NoMapping,
    /// No unwind rule for an address.
    NoRow,
    /// Stack memory not present.
    ReadFailed,
    /// A rule led nowhere.
    NoProgress,
    /// Deeper than the limits.
    Truncated,
    /// The process was not described yet.
    NotReady,
    /// User registers not available.
    NoRegisters,
    /// A number this version does not know.
    Unknown,
}

impl Outcome {
    /// From `enum outcome`.
    #[must_use]
    pub fn from_abi(n: u8) -> Self {
        match n {
            0 => Self::Complete,
            1 => Self::NoMapping,
            2 => Self::NoRow,
            3 => Self::ReadFailed,
            4 => Self::NoProgress,
            5 => Self::Truncated,
            6 => Self::NotReady,
            7 => Self::NoRegisters,
            _ => Self::Unknown,
        }
    }
}

/// From `enum vm_state` of `probes/bpf/abi.h`.
#[must_use]
pub fn vm_state_from_abi(n: u8) -> VmState {
    match n {
        1 => VmState::Interpreted,
        2 => VmState::Compiled,
        3 => VmState::C,
        4 => VmState::Gc,
        5 => VmState::GcCompiled,
        6 => VmState::Exit,
        7 => VmState::Record,
        8 => VmState::Optimize,
        9 => VmState::Assemble,
        _ => VmState::NotLua,
    }
}

/// Identity of a stack in the kernel: a 128-bit hash over all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackKey(pub u64, pub u64);

/// A stack seen for the first time (or one sample of it, see `uncounted`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawStack {
    /// Which count in the kernel belongs to it.
    pub key: StackKey,
    /// Process (thread group) id in the initial pid namespace.
    pub pid: u32,
    /// Leaf first.
    pub frames: Vec<PackedFrame>,
    /// Kernel frames, leaf first: they lie above `frames`.
    pub kernel: Vec<u64>,
    /// How the walk ended.
    pub outcome: Outcome,
    /// What LuaJIT was doing.
    pub vmstate: VmState,
    /// Whose work it was: `enum label`, or the number of a [`RawLabel`].
    pub label: u64,
    /// The phase that ngx_lua ran it in, where known.
    pub phase: Option<Phase>,
    /// The kernel does not count this stack: this event is one sample.
    pub uncounted: bool,
}

/// A request that was not seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLabel {
    /// What samples carry.
    pub label: u64,
    /// `ngx_http_request_t.method`
    pub method: u32,
    /// The path, without the query string. Hostile.
    pub path: RawText,
    /// The host. Hostile.
    pub host: RawText,
}

/// A Lua function of a VM that lives too briefly to be read: what the kernel side read of it. Frames have
/// `id` for an address, and in place of a bytecode index its line, counted from 1 at the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFunction {
    /// Process (thread group) id in the initial pid namespace.
    pub pid: u32,
    /// No address of a process.
    pub id: u64,
    /// As [`RawFrame::Lua`] has it.
    pub check: u32,
    /// Bytecode instructions.
    pub sizebc: u32,
    /// Line of the `function` keyword; 0 for a main chunk.
    pub firstline: u32,
    /// Lines it spans.
    pub numline: u32,
    /// `GCproto.flags`
    pub flags: u8,
    /// Whether it has no lines.
    pub stripped: bool,
    /// As LuaJIT keeps it. Hostile.
    pub chunkname: RawText,
}

/// Bytes of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawText {
    /// As many as are kept.
    pub bytes: Vec<u8>,
    /// Whether there were more.
    pub cut: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(kind: u64, addr: u64, pc: u32) -> PackedFrame {
        PackedFrame { word: kind << 56 | addr, pc, check: 0 }
    }

    #[test]
    fn every_kind_unpacks() {
        assert_eq!(
            packed(1, 0x7fff_1234_5678, 0).unpack(),
            RawFrame::Native { addr: 0x7fff_1234_5678, leaf: true }
        );
        assert_eq!(packed(3, 64, u32::MAX).unpack(), RawFrame::Lua { proto: 64, pc: None, check: 0 });
        assert_eq!(packed(4, 7 << 48 | 9, 0).unpack(), RawFrame::LuaC { function: 9, ffid: 7 });
        assert_eq!(packed(5, 0, 3).unpack(), RawFrame::Trace { ip: None, number: Some(3), doubt: None });
        assert_eq!(packed(6, 9, 0).unpack(), RawFrame::Mark(Mark::LeafUnsure));
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same() {
        for doubt in [None].into_iter().chain(TraceDoubt::ALL.map(Some)) {
            let frame = RawFrame::Trace { ip: Some(0x7000), number: Some(9), doubt };
            assert_eq!(PackedFrame::trace(Some(0x7000), Some(9), doubt).unpack(), frame);
        }
        let lua = RawFrame::Lua { proto: 0x4_0000_1000, pc: Some(7), check: 0xff12_0003 };
        assert_eq!(PackedFrame::lua(0x4_0000_1000, Some(7), 0xff12_0003).unpack(), lua);
        assert_eq!(PackedFrame::lua(64, None, 0), packed(3, 64, u32::MAX));
        let c = RawFrame::LuaC { function: 0x5555_0000, ffid: 200 };
        assert_eq!(PackedFrame::lua_c(0x5555_0000, 200).unpack(), c);
        for mark in Mark::ALL {
            assert_eq!(PackedFrame::mark(mark).unpack(), RawFrame::Mark(mark));
        }
    }

    #[test]
    fn numbers_out_of_range_are_unknown_not_wrong() {
        for bad in [packed(6, 0, 0), packed(6, 12, 0), packed(7, 1, 0), packed(0, 1, 0)] {
            assert_eq!(bad.unpack(), RawFrame::Unknown(bad));
        }
        assert_eq!(Outcome::from_abi(200), Outcome::Unknown);
    }
}
