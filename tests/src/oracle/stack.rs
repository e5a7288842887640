//! A whole stack, C and Lua interleaved: natively from the registers; where that meets the interpreter or
//! machine code, the Lua frames of that C frame; natively on from there.

use super::build::View;
use super::heap::{Heap, Trace};
use super::layout::{CFRAME_BYTES, gct};
use super::lua::{Entered, Function, Thread, behind_a_call, function};
use super::native::{Code, Step};
use super::tracee::{Registers, reg};
use std::collections::HashMap;
use std::ops::Range;
use upprof_memory::Memory as _;

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
    /// It is the function of an FFI callback, at its beginning or its end.
    Callback,
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
    /// Its memory and its LuaJIT.
    pub view: View,
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
        if self.heap.trace_of_ip(&self.view, g, ip).is_some() {
            // As for the walkers: the call, not where it returns to.
            out.items.push(Item::Trace(ip - u64::from(!leaf)));
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
        let view = self.view;
        let word = |at: u64| view.memory.u64(at).map_err(|_| "C frame not readable");
        let nres = word(cf + view.layout().cframe.nres)? as i32;
        let innermost = below.is_empty();
        let base = match below.get(&thread.at) {
            Some(base) => *base,
            None if innermost => self.leaf(regs, met, &thread, out)?,
            None => thread.base,
        };
        // lj_err.c: a C frame with a negative count has a Lua frame only above the saved top.
        let saved_top = thread.restore(u64::from(nres.unsigned_abs()));
        let mut next = base;
        if nres >= 0 || base.wrapping_sub(8) >= saved_top {
            let (frames, bottom) = thread.segment(&view, base)?;
            for frame in frames {
                out.items.push(match frame.function {
                    Function::Lua(proto) => Item::Lua(proto),
                    Function::C(f) => Item::C(f),
                });
                if let Entered::ByLua(pc) = frame.entered
                    && !behind_a_call(&view, pc)
                {
                    out.not_behind_a_call += 1;
                }
            }
            next = bottom;
        }
        below.insert(thread.at, next);

        let mut caller = *regs;
        if !matches!(met, Met::Interpreter { .. }) {
            caller = [None; 18];
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
            let Ok(l) = self.view.reference(at + self.view.layout().cframe.l) else { break };
            if let Some(thread) = Thread::read(&self.view, l) {
                let fits = if seen.contains_key(&l) { at == sp } else { thread.cframe == at };
                let returns = self.view.memory.u64(at + 72).is_ok_and(|ip| self.code.in_file(ip));
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
        let view = self.view;
        let function = |base: u64| thread.function_at(&view, base);
        let mut leaf = Leaf { function: None, proof: Proof::None, trace: None, native_agrees: None };
        let jit_base = view.reference(thread.g + view.build.jit_base).map_err(|_| "jit_base not readable")?;
        let base = match met {
            Met::MachineCode { ip } => {
                leaf.trace = self.heap.trace_of_ip(&view, thread.g, ip);
                let starts = leaf.trace.filter(|t| t.root == 0).map(|t| Function::Lua(t.start_proto));
                if starts.is_some() && starts == function(jit_base) {
                    leaf.proof = Proof::Trace;
                }
                jit_base
            }
            Met::Unknown if jit_base != 0 => jit_base,
            Met::Unknown => thread.base,
            Met::Interpreter { leaf: in_interpreter } => {
                // The interpreter leaves lua_State.base behind, and recursion may have put a frame of the
                // same function there: in it only registers prove a leaf.
                let (rdx, stored) = match in_interpreter {
                    true => (regs[reg::RDX], None),
                    false => (None, Some(thread.base)),
                };
                let candidates = [rdx, regs[reg::RBP], stored];
                let (base, proof) = self.by_pc(regs[reg::RBX], &candidates, thread);
                leaf.proof = proof;
                base
            }
        };
        leaf.function = function(base);
        // A fast function is not called natively: it may call any helper.
        let plain_c = view
            .frame_object(base)
            .is_ok_and(|f| view.memory.u8(f.wrapping_add(view.layout().func.ffid)) == Ok(1));
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
        let view = self.view;
        let Some(pc) = pc.map(|pc| view.register(pc)) else { return (thread.base, Proof::None) };
        let registers = candidates.iter().flatten().map(|b| view.register(*b));
        let bases: Vec<u64> = registers.filter(|b| thread.holds(&view, *b)).collect();
        let holder = self.heap.proto_of_pc(&view, thread.g, pc).map(|p| p.at);
        if let Some(proto) = holder.or_else(|| patched_return(&view, pc)) {
            let wanted = Some(Function::Lua(proto));
            return match bases.iter().find(|b| thread.function_at(&view, **b) == wanted) {
                Some(base) => (*base, Proof::Pc),
                None => (thread.base, Proof::None),
            };
        }
        let fast = |base: u64| {
            let at = view.frame_object(base).ok()?;
            let is_c = matches!(function(&view, at)?, Function::C(_));
            let entry = view.reference(at + view.layout().func.pc).ok()?;
            (is_c && (pc == entry + 4 || Some(pc) == view.frame_link(base).ok())).then_some(())
        };
        if let Some(base) = bases.iter().find(|b| fast(**b).is_some()) {
            return (*base, Proof::FastPc);
        }
        // lj_ccallback.c keeps the base of the callback's function while it converts; PC is no bytecode.
        let is_callback = |base: u64| {
            let by_continuation = view.frame_link(base).is_ok_and(|link| link & 7 == 2);
            by_continuation && view.continuation(base).is_ok_and(|(goes_on, _)| goes_on == 1)
        };
        let proof = if candidates[0].is_none() && thread.holds(&view, thread.base) && is_callback(thread.base)
        {
            Proof::Callback
        } else {
            Proof::None
        };
        (thread.base, proof)
    }
}

/// A trace that starts at a return has replaced it: the original is in the trace, and PC points at it or
/// behind it while it runs (lj_trace_exit). Then the function is the one that the trace starts in.
fn patched_return(view: &View, pc: u64) -> Option<u64> {
    let layout = view.layout();
    [0, 4].iter().find_map(|behind| {
        let trace = pc.checked_sub(layout.trace.startins + behind)?;
        let is_trace = trace.is_multiple_of(8) && view.memory.u8(trace + layout.gct).ok()? == gct::TRACE;
        is_trace.then(|| view.reference(trace + layout.trace.startpt).ok()).flatten()
    })
}
