//! Where processes are that run on no CPU: their user registers and kernel stacks, as the kernel has
//! them. Nothing is stopped for it: `bpf/asleep.bpf.c` reads what lies there while they sleep.

use crate::ProbeError;
use crate::abi::upprof_limits;
use crate::hostsim::Registers;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Iter, Link, MapCore, MapFlags};
use std::collections::HashMap;
use std::io::Read;
use std::mem::MaybeUninit;

#[allow(
    missing_docs,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unreachable_pub,
    unused_qualifications,
    clippy::unwrap_used
)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/asleep.skel.rs"));
}

/// A process whose first thread was on no CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asleep {
    /// Whether it only waits for a CPU.
    pub runnable: bool,
    /// Its user registers.
    pub registers: Registers,
    /// Kernel frames, leaf first.
    pub kernel: Vec<u64>,
    /// How often it left a CPU so far: if that is unchanged, it has not run, and what was read of its
    /// memory in between is of one moment.
    pub switches: u64,
}

/// The processes that can be looked at.
pub struct Sleepers {
    link: Link,
    _skel: skel::AsleepSkel<'static>,
}

/// Words of `struct asleep`.
const WORDS: usize = 10 + upprof_limits::MAX_KERNEL_FRAMES as usize;

impl Sleepers {
    /// Prepares looks at these processes, by their pids in the initial pid namespace.
    ///
    /// # Errors
    /// [`ProbeError::Load`], [`ProbeError::Map`], [`ProbeError::Attach`].
    pub fn of(pids: &[u32]) -> Result<Self, ProbeError> {
        let fail = |e: libbpf_rs::Error| ProbeError::Load { message: e.to_string(), log: String::new() };
        // As in `Probe`: lives as long as the process.
        let place = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = skel::AsleepSkelBuilder::default().open(place).map_err(fail)?;
        let many = u32::try_from(pids.len().max(1)).unwrap_or(u32::MAX);
        open.maps.wanted.set_max_entries(many).map_err(fail)?;
        let skel = open.load().map_err(fail)?;
        for pid in pids {
            skel.maps
                .wanted
                .update(&pid.to_le_bytes(), &[1], MapFlags::ANY)
                .map_err(ProbeError::map("naming a process to look at"))?;
        }
        let link = skel
            .progs
            .asleep
            .attach()
            .map_err(|e| ProbeError::Attach { program: "asleep", message: e.to_string() })?;
        Ok(Self { link, _skel: skel })
    }

    /// Those that are on no CPU at this moment, by pid.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn look(&self) -> Result<HashMap<u32, Asleep>, ProbeError> {
        let fail = |message: String| ProbeError::Map { doing: "looking at sleeping processes", message };
        let mut bytes = Vec::new();
        let mut iter = Iter::new(&self.link).map_err(|e| fail(e.to_string()))?;
        iter.read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
        Ok(bytes.chunks_exact(WORDS * 8).map(decode).collect())
    }
}

fn decode(bytes: &[u8]) -> (u32, Asleep) {
    let word = |i: usize| u64::from_le_bytes(bytes[i * 8..(i + 1) * 8].try_into().unwrap_or_default());
    let n_kernel = usize::try_from(word(9)).unwrap_or(0).min(WORDS - 10);
    // Above a process's first stack there is no other.
    let registers =
        Registers { ip: word(3), sp: word(4), bp: word(5), bx: word(6), r14: word(7), dx: word(8), tls: 0 };
    let asleep = Asleep {
        runnable: word(1) != 0,
        switches: word(2),
        registers,
        kernel: (10..10 + n_kernel).map(word).collect(),
    };
    (word(0) as u32, asleep)
}
