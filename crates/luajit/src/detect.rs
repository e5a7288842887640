//! From the address of a thread to a verified VM. Nothing is guessed: every offset comes from a row
//! of `layouts.yaml` and is accepted only when live memory agrees.

use crate::layout::{Arch, Era, Fixed, Fork, GC32, GC64, eras, gct};
use std::ops::Range;
use upprof_memory::Memory;

/// A LuaJIT VM whose layout has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// The main thread (`lua_State`).
    pub main_thread: u64,
    /// `global_State`.
    pub g: u64,
    /// GC64 or GC32 offsets.
    pub fixed: &'static Fixed,
    /// What differs between versions.
    pub era: Era,
    /// Whose LuaJIT.
    pub fork: Fork,
    /// Address of the dispatch table: what r14 holds while interpreting.
    pub dispatch: u64,
    /// The interpreter's own code in the process.
    pub vm_text: Range<u64>,
}

/// Why an address was not accepted as a VM: which check failed, and the values read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The memory is not there.
    #[error("the VM's memory could not be read: {0}")]
    Memory(#[from] upprof_memory::ReadError),
    /// Neither mode's rule "global_State follows the main thread" holds.
    #[error(
        "{thread:#x} is no main thread of LuaJIT: global_State is not behind it (distance {distance64} as GC64, {distance32} as GC32)"
    )]
    NotMainThread {
        /// The address tried.
        thread: u64,
        /// `u64 glref - thread`
        distance64: u64,
        /// `u32 glref - thread`
        distance32: u32,
    },
    /// The object is not a thread.
    #[error("{thread:#x} is no thread: its type is {gct}, not 6")]
    NotThread {
        /// The address tried.
        thread: u64,
        /// The type read.
        gct: u8,
    },
    /// No run of code pointers where the dispatch table must be.
    #[error("no dispatch table behind global_State {g:#x}: longest run of code pointers is {run}")]
    NoDispatch {
        /// `global_State`
        g: u64,
        /// Length of the longest run found.
        run: usize,
    },
    /// The dispatch targets lie in no function that the file's unwind tables know.
    #[error("the interpreter's code at {target:#x} is in no function of its file's unwind table")]
    NoVmText {
        /// A dispatch target.
        target: u64,
    },
    /// No era fits, or more than one with different offsets.
    #[error("no known LuaJIT layout fits ({mode}, dispatch table at g+{g2disp}): {tried}")]
    NoEra {
        /// GC64 or GC32.
        mode: &'static str,
        /// Offset of the dispatch table from g.
        g2disp: u64,
        /// What was tried and failed.
        tried: String,
    },
}

/// What detection needs to know of the process beside its memory.
pub trait CodeMap {
    /// The executable file mapping that holds this address.
    fn code_mapping(&self, addr: u64) -> Option<Range<u64>>;
    /// The function (by the file's unwind table) that holds this address, as process addresses.
    fn function(&self, addr: u64) -> Option<Range<u64>>;
}

/// Verifies the VM whose main thread is at `thread`. An era from debug information, if there is one, is
/// tried before those of the table.
///
/// # Errors
/// A [`Refusal`] that names the failed check.
pub fn attach(
    mem: &dyn Memory,
    code: &dyn CodeMap,
    thread: u64,
    described: Option<&Era>,
) -> Result<Vm, Refusal> {
    let (fixed, g, fork) = mode(mem, thread)?;
    let kind = mem.u8(thread.wrapping_add(fixed.gct))?;
    if kind != gct::THREAD {
        return Err(Refusal::NotThread { thread, gct: kind });
    }
    let (g2disp, targets) = dispatch_table(mem, code, g)?;
    let vm_text = code.function(targets.start).ok_or(Refusal::NoVmText { target: targets.start })?;
    let described = described.filter(|e| e.gc64 == (fixed.ref_size == 8));
    let era = match described {
        // Debug information that live memory contradicts is another build's: then the table decides.
        Some(era)
            if era.g2disp.of(fork).contains(&g2disp) && era_fits(mem, fixed, thread, g, era)?.is_ok() =>
        {
            era.clone()
        }
        _ => pick_era(mem, fixed, thread, g, fork, g2disp)?,
    };
    Ok(Vm { main_thread: thread, g, fixed, era, fork, dispatch: g.wrapping_add(g2disp), vm_text })
}

/// GC mode and fork in one read: `global_State` follows the main thread in `GG_State`, so the
/// distance is `sizeof(lua_State)` in exactly one of the modes (lj_state.c lua_newstate).
fn mode(mem: &dyn Memory, thread: u64) -> Result<(&'static Fixed, u64, Fork), Refusal> {
    let g64 = mem.u64(thread.wrapping_add(GC64.l_glref))?;
    let distance64 = g64.wrapping_sub(thread);
    if let Some(fork) = GC64.fork(distance64) {
        return Ok((&GC64, g64, fork));
    }
    let g32 = mem.u32(thread.wrapping_add(GC32.l_glref))?;
    let distance32 = g32.wrapping_sub(thread as u32);
    if let (0, Some(fork)) = (thread >> 32, GC32.fork(distance32.into())) {
        return Ok((&GC32, g32.into(), fork));
    }
    Err(Refusal::NotMainThread { thread, distance64, distance32 })
}

/// The dispatch table is the longest run of words that point into one executable mapping (243 of
/// them in every build measured). Returns its offset from g and the range of its targets.
fn dispatch_table(mem: &dyn Memory, code: &dyn CodeMap, g: u64) -> Result<(u64, Range<u64>), Refusal> {
    /// Past the dispatch table in every era (largest GG_G2DISP 4040 + 243 * 8).
    const WINDOW: usize = 8192;
    const MIN_RUN: usize = 150;
    let bytes = read_up_to(mem, g, WINDOW)?;
    let words: Vec<u64> =
        bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default())).collect();
    let mut best = (0, 0);
    let mut i = 0;
    while i < words.len() {
        let Some(mapping) = code.code_mapping(words[i]) else {
            i += 1;
            continue;
        };
        let run = words[i..].iter().take_while(|w| mapping.contains(w)).count();
        if run > best.1 {
            best = (i, run);
        }
        i += run;
    }
    let (start, run) = best;
    if run < MIN_RUN {
        return Err(Refusal::NoDispatch { g, run });
    }
    let targets = &words[start..start + run];
    let low = targets.iter().min().copied().unwrap_or_default();
    let high = targets.iter().max().copied().unwrap_or_default();
    Ok((start as u64 * 8, low..high.saturating_add(1)))
}

/// As much of `len` bytes as is mapped, page by page, at least one page.
fn read_up_to(mem: &dyn Memory, addr: u64, len: usize) -> Result<Vec<u8>, Refusal> {
    const PAGE: u64 = 4096;
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        let at = addr.wrapping_add(out.len() as u64);
        let n = ((PAGE - at % PAGE) as usize).min(len - out.len());
        match mem.bytes(at, n, len) {
            Ok(b) => out.extend(b),
            Err(e) if out.is_empty() => return Err(e.into()),
            Err(_) => break,
        }
    }
    Ok(out)
}

fn pick_era(
    mem: &dyn Memory,
    fixed: &'static Fixed,
    thread: u64,
    g: u64,
    fork: Fork,
    g2disp: u64,
) -> Result<Era, Refusal> {
    let mode = if fixed.ref_size == 8 { "GC64" } else { "GC32" };
    let mut tried = Vec::new();
    let mut fitting: Vec<(bool, Era)> = Vec::new();
    // The walkers know x86-64's registers and C frame only (probes/bpf/leaf.bpf.h).
    for era in eras(Arch::X86_64).into_iter().filter(|e| e.gc64 == (fixed.ref_size == 8)) {
        match era_fits(mem, fixed, thread, g, &era)? {
            Ok(thread_seen) => fitting.push((thread_seen, era)),
            Err(why) => tried.push(format!("{}: {why}", era.id)),
        }
    }
    // The dispatch table's place tells eras apart that an idle VM's memory does not.
    let known = |e: &Era| e.g2disp.of(fork).contains(&g2disp);
    if let Some((_, era)) = fitting.iter().find(|(_, e)| known(e)) {
        return Ok(era.clone());
    }
    // An unknown build: only the evidence of a live thread in cur_L counts, and it must be one.
    let mut seen = fitting.iter().filter(|(thread_seen, _)| *thread_seen);
    match (seen.next(), seen.next()) {
        (Some((_, era)), None) => Ok(era.clone()),
        _ => {
            tried.extend(fitting.iter().map(|(_, e)| format!("{}: fits, but is not the only one", e.id)));
            Err(Refusal::NoEra { mode, g2disp, tried: tried.join("; ") })
        }
    }
}

/// Whether live memory agrees with an era; `Ok(true)` when cur_L was seen to hold a thread.
fn era_fits(
    mem: &dyn Memory,
    fixed: &Fixed,
    thread: u64,
    g: u64,
    era: &Era,
) -> Result<Result<bool, String>, Refusal> {
    let main = reference(mem, fixed, g.wrapping_add(u64::from(era.mainthref)))?;
    if main != thread {
        return Ok(Err(format!("mainthref is {main:#x}, not the main thread")));
    }
    let vmstate = mem.u32(g.wrapping_add(u64::from(era.vmstate)))?.cast_signed();
    if !(-7..=65535).contains(&vmstate) {
        return Ok(Err(format!("vmstate is {vmstate}")));
    }
    let current = reference(mem, fixed, g.wrapping_add(u64::from(era.cur_l)))?;
    if current != 0 && !is_thread_of(mem, fixed, current, g) {
        return Ok(Err(format!("cur_L {current:#x} is no thread of this VM")));
    }
    let jit_base = reference(mem, fixed, g.wrapping_add(u64::from(era.jit_base)))?;
    if jit_base != 0 && !(current != 0 && in_stack(mem, fixed, current, jit_base)) {
        return Ok(Err(format!("jit_base {jit_base:#x} is in no stack")));
    }
    Ok(Ok(current != 0))
}

fn is_thread_of(mem: &dyn Memory, fixed: &Fixed, l: u64, g: u64) -> bool {
    mem.u8(l.wrapping_add(fixed.gct)) == Ok(gct::THREAD)
        && reference(mem, fixed, l.wrapping_add(fixed.l_glref)) == Ok(g)
}

fn in_stack(mem: &dyn Memory, fixed: &Fixed, l: u64, addr: u64) -> bool {
    let stack = reference(mem, fixed, l.wrapping_add(fixed.l_stack));
    let top = reference(mem, fixed, l.wrapping_add(fixed.l_maxstack));
    matches!((stack, top), (Ok(s), Ok(t)) if addr > s && addr <= t)
}

/// A GC reference or pointer of the mode's size.
pub(crate) fn reference(mem: &dyn Memory, fixed: &Fixed, addr: u64) -> Result<u64, upprof_memory::ReadError> {
    if fixed.ref_size == 8 { mem.u64(addr) } else { mem.u32(addr).map(u64::from) }
}

impl Vm {
    /// Offset of a string's text in its `GCstr`, which GC64 aligns to 8.
    #[must_use]
    pub fn string_data(&self) -> u64 {
        if self.fixed.ref_size == 8 { 24 } else { u64::from(self.era.str_len) + 4 }
    }

    /// Offset of `lua_State.exdata2`, where ngx_lua keeps its bookkeeping of a thread: OpenResty's LuaJIT
    /// since 2020-10 (v2.1-20201008). `None` where there is no such member.
    #[must_use]
    pub fn exdata2(&self) -> Option<u64> {
        const EXDATA: u64 = 8;
        let size = self.g.wrapping_sub(self.main_thread);
        (size == self.fixed.l_size + 2 * EXDATA).then_some(self.fixed.l_size + EXDATA)
    }

    /// Mode, fork and era in one phrase, for manifests.
    #[must_use]
    pub fn describe(&self) -> String {
        let mode = if self.fixed.ref_size == 8 { "GC64" } else { "GC32" };
        let fork = match self.fork {
            Fork::Upstream => "LuaJIT",
            Fork::Luajit2 => "luajit2",
        };
        format!(
            "{fork} {mode}, layout {} (since {}), dispatch table at g+{}",
            self.era.id,
            self.era.since,
            self.dispatch.wrapping_sub(self.g)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upprof_memory::Snapshot;

    const THREAD: u64 = 0x10_0000;
    const TEXT: Range<u64> = 0x7f00_0000..0x7f01_0000;

    /// One file, whose unwind table knows one function.
    struct Code;

    impl CodeMap for Code {
        fn code_mapping(&self, addr: u64) -> Option<Range<u64>> {
            TEXT.contains(&addr).then_some(TEXT)
        }

        fn function(&self, addr: u64) -> Option<Range<u64>> {
            self.code_mapping(addr)
        }
    }

    /// What [`attach`] says of a VM that is laid out so and runs nothing: `cur_L` is null.
    fn idle(era: &Era, fork: Fork, g2disp: u64) -> Result<Vm, Refusal> {
        let fixed = if era.gc64 { GC64 } else { GC32 };
        let size = if fork == Fork::Upstream { fixed.l_size } else { fixed.l_size + 16 };
        let mut bytes = vec![0; 3 * 4096];
        let mut put = |at: u64, v: &[u8]| bytes[at as usize..][..v.len()].copy_from_slice(v);
        let reference = |to: u64| to.to_le_bytes()[..usize::from(fixed.ref_size)].to_vec();
        put(fixed.gct, &[gct::THREAD]);
        put(fixed.l_glref, &reference(THREAD + size));
        put(size + u64::from(era.mainthref), &reference(THREAD));
        put(size + u64::from(era.vmstate), &(-1_i32).to_le_bytes());
        for opcode in 0..243 {
            put(size + g2disp + opcode * 8, &(TEXT.start + opcode * 32).to_le_bytes());
        }
        let mut memory = Snapshot::default();
        memory.insert(THREAD, bytes);
        attach(&memory, &Code, THREAD, None)
    }

    /// Each place of a dispatch table that a row knows.
    fn each(arch: Arch, check: impl Fn(&Era, Result<Vm, Refusal>)) {
        for era in eras(arch) {
            for fork in [Fork::Upstream, Fork::Luajit2] {
                for g2disp in era.g2disp.of(fork) {
                    check(&era, idle(&era, fork, *g2disp));
                }
            }
        }
    }

    #[test]
    fn an_idle_vm_has_the_row_that_knows_its_dispatch_table() {
        each(Arch::X86_64, |era, vm| assert_eq!(vm.expect("recognised").era, *era));
    }

    #[test]
    fn rows_of_arm64_are_no_candidates() {
        each(Arch::Arm64, |era, vm| match vm {
            // Both architectures have global_State alike, and some places of the dispatch table in common.
            Ok(vm) => assert!(eras(Arch::X86_64).contains(&vm.era), "{}", era.id),
            Err(Refusal::NoEra { tried, .. }) => assert!(!tried.contains(&era.id), "{tried}"),
            Err(other) => panic!("{}: {other}", era.id),
        });
        let newest = eras(Arch::Arm64).pop().expect("a row");
        let refused = idle(&newest, Fork::Luajit2, newest.g2disp.luajit2[0]);
        assert!(matches!(refused, Err(Refusal::NoEra { .. })), "{refused:?}");
    }
}
