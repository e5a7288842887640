//! A whole stack, C and Lua interleaved: natively from the registers; where that meets the interpreter or
//! machine code, the Lua frames of that C frame; natively on from there.

use super::heap::{Heap, Trace, global};
use super::layout::{CFRAME_BYTES, GC64};
use super::lua::{Entered, Function, Thread, behind_a_call, function};
use super::native::{Code, Step};
use super::tracee::{Registers, reg};
use std::collections::HashMap;
use std::ops::Range;
use upprof_memory::{Live, Memory as _};

/// One frame of a stack, leaf first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// Native code: the instruction (leaf) or the return address.
    Native(u64),
    /// A Lua function: its `GCproto`.
    Lua(u64),
    /// A C function or fast function: its `lua_CFunction`.
    C(u64),
    /// Machine code of a trace.
    Trace(u64),
    /// Native frames are missing here.
    Lost,
}

/// Why the leaf function is known to be the leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It holds PC, of all prototypes of the VM.
    Pc,
    /// It is a fast or C function, and PC is in its dispatch code or behind its call.
    FastPc,
    /// Its trace holds the instruction pointer, and starts in it.
    Trace,
    /// None: it is where `lua_State.base` or `jit_base` points.
    None,
}

/// The Lua leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Its function.
    pub function: Option<Function>,
    /// Why.
    pub proof: Proof,
    /// The trace that runs, by its address.
    pub trace: Option<Trace>,
    /// For a C function: whether the outermost native frame above it is in its code.
    pub native_agrees: Option<bool>,
}

/// A stack, as the oracle sees it.
#[derive(Debug, Default)]
pub struct Stack {
    /// Leaf first.
    pub items: Vec<Item>,
    /// The entry of the process was reached.
    pub root: bool,
    /// Why not.
    pub stuck: Option<&'static str>,
    /// The Lua leaf, when Lua is on it.
    pub leaf: Option<Leaf>,
    /// `global_State` of the VM that runs Lua on it.
    pub g: Option<u64>,
    /// Why the oracle cannot tell what Lua ran here.
    pub undecided: Option<&'static str>,
    /// Lua frames whose caller's instruction is no call: the oracle's own chain is broken.
    pub not_behind_a_call: usize,
}

/// Reads stacks of one process.
pub struct Oracle<'a> {
    /// Its memory.
    pub memory: Live,
    /// Its code.
    pub code: &'a Code,
    /// The interpreter's text.
    pub interpreter: Range<u64>,
    /// Its prototypes and traces.
    pub heap: &'a mut Heap,
}

/// How the newest C frame was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Interpreter { leaf: bool },
    MachineCode { ip: u64 },
    Unknown,
}

impl Oracle<'_> {
    /// Reads the stack of the stopped process.
    pub fn stack(&mut self, registers: &Registers) -> Stack {
        const MOST: usize = 4096;
        let mut out = Stack::default();
        let (mut regs, mut leaf) = (*registers, true);
        // Where the next Lua segment of each thread begins.
        let mut below: HashMap<u64, u64> = HashMap::new();
        while out.items.len() < MOST {
            let Some(ip) = regs[reg::RIP] else {
                out.stuck = Some("ip not known");
                return out;
            };
            if self.interpreter.contains(&ip) || self.code.is_anonymous(ip) {
                match self.lua(&regs, ip, leaf, &mut below, &mut out) {
                    Ok(caller) => (regs, leaf) = (caller, false),
                    Err(why) => {
                        out.undecided = Some(why);
                        return out;
                    }
                }
                continue;
            }
            out.items.push(Item::Native(ip));
            let interrupted = !leaf && self.code.is_signal_frame(ip);
            match self.code.step(&regs, leaf || interrupted) {
                Step::Caller(caller) => (regs, leaf) = (caller, interrupted),
                Step::Root => {
                    out.root = true;
                    return out;
                }
                Step::Stuck(why) => {
                    out.stuck = Some(why);
                    return out;
                }
            }
        }
        out.stuck = Some("no end");
        out
    }

    /// What kind of code this is, that has a C frame of this VM somewhere above it.
    fn meet(&mut self, ip: u64, leaf: bool, g: u64, out: &mut Stack) -> Met {
        if self.interpreter.contains(&ip) {
            return Met::Interpreter { leaf };
        }
        if self.heap.trace_of_ip(&self.memory, g, ip).is_some() {
            out.items.push(Item::Trace(ip));
            return Met::MachineCode { ip };
        }
        out.items.extend([Item::Native(ip), Item::Lost]);
        Met::Unknown
    }

    /// The Lua frames of the next C frame, and the registers of the C code that entered it.
    fn lua(
        &mut self,
        regs: &Registers,
        ip: u64,
        leaf: bool,
        below: &mut HashMap<u64, u64>,
        out: &mut Stack,
    ) -> Result<Registers, &'static str> {
        let sp = regs[reg::RSP].ok_or("stack pointer not known")?;
        let (cf, thread) = self.c_frame(sp, below)?;
        out.g.get_or_insert(thread.g);
        let met = self.meet(ip, leaf, thread.g, out);
        let memory = self.memory;
        let word = |at: u64| memory.u64(at).map_err(|_| "C frame not readable");
        let nres = word(cf + GC64.cframe.nres)? as i32;
        let innermost = below.is_empty();
        let base = match below.get(&thread.at) {
            Some(base) => *base,
            None if innermost => self.leaf(regs, met, &thread, out)?,
            None => thread.base,
        };
        // lj_err.c: a C frame with a negative count has a Lua frame only above the saved top.
        let saved_top = thread.restore(u64::from(nres.unsigned_abs()));
        let mut next = base;
        if nres >= 0 || base - 8 >= saved_top {
            let (frames, bottom) = thread.segment(&self.memory, base)?;
            for frame in frames {
                out.items.push(match frame.function {
                    Function::Lua(proto) => Item::Lua(proto),
                    Function::C(f) => Item::C(f),
                });
                if let Entered::ByLua(pc) = frame.entered
                    && !behind_a_call(&self.memory, pc)
                {
                    out.not_behind_a_call += 1;
                }
            }
            next = bottom;
        }
        below.insert(thread.at, next);

        let mut caller = *regs;
        if !matches!(met, Met::Interpreter { .. }) {
            caller = [None; 17];
        }
        caller[reg::RIP] = Some(word(cf + 72)?);
        caller[reg::RSP] = Some(cf + CFRAME_BYTES);
        caller[reg::RBP] = Some(word(cf + 64)?);
        caller[reg::RBX] = Some(word(cf + 56)?);
        caller[reg::R15] = Some(word(cf + 48)?);
        caller[reg::R14] = Some(word(cf + 40)?);
        Ok(caller)
    }

    /// The first C frame at or above `sp`: its thread is one; a thread's newest C frame is the one that it
    /// points at; any other must lie exactly where native unwinding says.
    fn c_frame(&self, sp: u64, seen: &HashMap<u64, u64>) -> Result<(u64, Thread), &'static str> {
        const SEARCH: u64 = 256 << 10;
        let mut at = sp.next_multiple_of(8);
        while at < sp + SEARCH {
            let Ok(l) = self.memory.u64(at + GC64.cframe.l) else { break };
            if let Some(thread) = Thread::read(&self.memory, l) {
                let fits = if seen.contains_key(&l) { at == sp } else { thread.cframe == at };
                let returns = self.memory.u64(at + 72).is_ok_and(|ip| self.code.in_file(ip));
                if fits && returns {
                    return Ok((at, thread));
                }
            }
            at += 8;
        }
        Err("no C frame of the interpreter")
    }

    /// Base of the newest frame.
    fn leaf(
        &mut self,
        regs: &Registers,
        met: Met,
        thread: &Thread,
        out: &mut Stack,
    ) -> Result<u64, &'static str> {
        let memory = self.memory;
        let function = |base: u64| thread.function_at(&memory, base);
        let mut leaf = Leaf { function: None, proof: Proof::None, trace: None, native_agrees: None };
        let jit_base = self.memory.u64(thread.g + global::JIT_BASE).map_err(|_| "jit_base not readable")?;
        let base = match met {
            Met::MachineCode { ip } => {
                leaf.trace = self.heap.trace_of_ip(&self.memory, thread.g, ip);
                let starts = leaf.trace.filter(|t| t.root == 0).map(|t| Function::Lua(t.start_proto));
                if starts.is_some() && starts == function(jit_base) {
                    leaf.proof = Proof::Trace;
                }
                jit_base
            }
            Met::Unknown if jit_base != 0 => jit_base,
            Met::Unknown => thread.base,
            Met::Interpreter { leaf: in_interpreter } => {
                let rdx = if in_interpreter { regs[reg::RDX] } else { None };
                let candidates = [rdx, regs[reg::RBP], Some(thread.base)];
                let (base, proof) = self.by_pc(regs[reg::RBX], &candidates, thread);
                leaf.proof = proof;
                base
            }
        };
        leaf.function = function(base);
        // A fast function is not called natively: it may call any helper.
        let plain_c = memory
            .u64(base - 16)
            .is_ok_and(|slot| memory.u8((slot & ((1 << 47) - 1)) + GC64.func.ffid) == Ok(1));
        if let (Some(Function::C(f)), true) = (leaf.function, plain_c) {
            let outermost = out.items.iter().rev().find_map(|i| match i {
                Item::Native(ip) => Some(*ip),
                _ => None,
            });
            let start = outermost.and_then(|ip| self.code.function_start(ip - 1));
            leaf.native_agrees = start.map(|start| start == f);
        }
        out.leaf = Some(leaf);
        Ok(base)
    }

    /// Which of the candidates for BASE is the frame of the function that PC is in.
    fn by_pc(&mut self, pc: Option<u64>, candidates: &[Option<u64>; 3], thread: &Thread) -> (u64, Proof) {
        let Some(pc) = pc else { return (thread.base, Proof::None) };
        let bases = || candidates.iter().flatten().copied().filter(|b| thread.holds(*b));
        let holder = self.heap.proto_of_pc(&self.memory, thread.g, pc).map(|p| p.at);
        if let Some(proto) = holder.or_else(|| patched_return(&self.memory, pc)) {
            let wanted = Some(Function::Lua(proto));
            return match bases().find(|b| thread.function_at(&self.memory, *b) == wanted) {
                Some(base) => (base, Proof::Pc),
                None => (thread.base, Proof::None),
            };
        }
        let fast = |base: &u64| {
            let read = |at: u64| self.memory.u64(at).ok();
            let at = read(base - 16)? & ((1 << 47) - 1);
            let is_c = matches!(function(&self.memory, at)?, Function::C(_));
            let entry = read(at + GC64.func.pc)?;
            (is_c && (pc == entry + 4 || Some(pc) == read(base - 8))).then_some(())
        };
        match bases().find(|b| fast(b).is_some()) {
            Some(base) => (base, Proof::FastPc),
            None => (thread.base, Proof::None),
        }
    }
}

/// A trace that starts at a return has replaced it: the original is in the trace, and PC points at it or
/// behind it while it runs (lj_trace_exit). Then the function is the one that the trace starts in.
fn patched_return(memory: &Live, pc: u64) -> Option<u64> {
    const TRACE: u8 = 9;
    const STARTPT: u64 = 64;
    [0, 4].iter().find_map(|behind| {
        let trace = pc.checked_sub(GC64.trace.startins + behind)?;
        let is_trace = trace.is_multiple_of(8) && memory.u8(trace + GC64.gct).ok()? == TRACE;
        is_trace.then(|| memory.u64(trace + STARTPT).ok()).flatten()
    })
}
