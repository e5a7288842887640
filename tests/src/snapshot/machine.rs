//! Runs a made-up program: native calls, Lua calls, and all the ways from one to the other, each leaving
//! on both stacks what the real thing leaves (vm_x64.dasc, lj_ccallback.c; luajit.md 3.4 to 3.6).

use super::host::{self, Function, reg};
use super::image::Image;
use super::lua::{CFunc, Heap, LuaFunc};
use crate::oracle::layout::{CFRAME_BYTES, Layout};
use std::collections::HashMap;
use upprof_probes::hostsim::Registers;

/// How a Lua frame was entered: its link's type (lj_frame.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Link {
    /// By C: `lua_call`.
    C = 1,
    /// To go on somewhere else than behind a call: metamethods, FFI callbacks.
    Continuation = 2,
    /// The second frame of a vararg function.
    Vararg = 3,
    /// By C, protected: `lua_pcall`, `lua_resume`.
    Protected = 5,
    /// By the fast function `pcall`.
    Pcall = 6,
}

/// vmstate (lj_obj.h).
const INTERP: i32 = !0;
const C: i32 = !1;

/// Where the made-up program is loaded.
pub const BIAS: u64 = 0x5555_5555_0000;
pub(super) const STACK: u64 = 0x7ffd_0000_0000;
pub(super) const STACK_BYTES: u64 = 128 << 10;
/// Addresses in machine code: nothing is mapped there.
pub(super) const MCODE: u64 = 0x5555_4000_0000;

/// A process under way. Public fields are there for tests that break something on purpose.
pub struct Machine {
    /// Its memory.
    pub image: Image,
    /// Its registers.
    pub regs: Registers,
    /// The thread that runs.
    pub l: u64,
    /// Base of the Lua frame that runs.
    pub base: u64,
    pub(super) heap: Heap,
    running: Vec<Function>,
    cf: u64,
    pub(super) vmstate: i32,
    pub(super) jit_base: u64,
    pub(super) names: HashMap<u64, String>,
}

impl Machine {
    /// A process in `main`, called by its entry; no Lua runs.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let mut image = Image::default();
        image.map(STACK, STACK_BYTES);
        let heap = Heap::new(&mut image, layout);
        let (l, base) = (heap.main_thread, image.get64(heap.main_thread + layout.thread.base));
        let mut machine = Self {
            image,
            regs: Registers { sp: STACK + STACK_BYTES - 1024, ..Registers::default() },
            l,
            base,
            heap,
            running: vec![host::START],
            cf: 0,
            vmstate: C,
            jit_base: 0,
            names: HashMap::new(),
        };
        machine.regs.ip = BIAS + host::START.vaddr + 0x20;
        machine.call(host::MAIN);
        machine
    }

    /// Its layout.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.heap.layout
    }

    // ---- things to run ----

    /// A Lua function with a name for expectations.
    pub fn lua(&mut self, name: &str) -> LuaFunc {
        let line = u32::try_from(self.names.len()).unwrap_or(0) * 10 + 1;
        let f = self.heap.lua(&mut self.image, 40, line);
        self.names.insert(f.proto, name.into());
        f
    }

    /// A C function of Lua: native code in `host`.
    pub fn c(&mut self, host: Function) -> CFunc {
        self.names.insert(BIAS + host.vaddr, host.name.into());
        self.heap.c(&mut self.image, BIAS + host.vaddr, 1)
    }

    /// A fast function with a name for expectations.
    pub fn fast(&mut self, name: &str, ffid: u8) -> CFunc {
        let f = BIAS + host::VM.vaddr + u64::from(ffid);
        self.names.insert(f, name.into());
        self.heap.c(&mut self.image, f, ffid)
    }

    /// A coroutine.
    pub fn coroutine(&mut self) -> u64 {
        self.heap.thread(&mut self.image)
    }

    /// A string object.
    pub fn string(&mut self, text: &[u8]) -> u64 {
        self.heap.string(&mut self.image, text)
    }

    // ---- native ----

    fn ip(&self) -> Function {
        *self.running.last().expect("something runs")
    }

    /// Calls native code.
    pub fn call(&mut self, f: Function) {
        let caller = self.ip();
        let returns_to = if caller.vaddr == 0 { self.regs.ip } else { BIAS + caller.vaddr + 0x20 };
        self.regs.sp -= 8;
        self.image.put64(self.regs.sp, returns_to);
        let top = self.regs.sp + 8;
        for (register, below) in f.saves {
            let value = match *register {
                reg::RBP => self.regs.bp,
                reg::RBX => self.regs.bx,
                reg::R14 => self.regs.r14,
                _ => 0x1515_1515,
            };
            self.image.put64(top - below, value);
        }
        self.regs.sp = top - f.frame;
        self.regs.ip = BIAS + f.vaddr + 0x20;
        // What a function has saved it uses for itself.
        for (register, _) in f.saves {
            match *register {
                reg::RBP => self.regs.bp = if f.by_rbp { top - 16 } else { 0xb9 },
                reg::RBX => self.regs.bx = 0xbb,
                reg::R14 => self.regs.r14 = 0x14,
                _ => {}
            }
        }
        self.regs.dx = 0xd0;
        self.running.push(f);
    }

    /// Calls native code in no known file: the frame there cannot be unwound.
    pub fn call_unknown(&mut self, at: u64) {
        self.call(Function { vaddr: 0, ..host::HELPER });
        self.regs.ip = at;
    }

    // ---- between C and Lua ----

    /// Enters the interpreter from C, its C frame linked to the one before (lj_vm_call, lj_vm_pcall).
    pub fn enter_vm(&mut self) {
        let before = self.image.get64(self.l + self.layout().thread.cframe);
        self.vm_frame(before, 0);
    }

    /// Writes a C frame; `flags` go into `lua_State.cframe`.
    fn vm_frame(&mut self, before: u64, flags: u64) {
        let (c, size) = (self.layout().cframe, self.layout().reference);
        self.call(host::VM);
        self.cf = self.regs.sp;
        self.image.put32(self.cf + c.nres, 0);
        self.image.put_ref(self.cf + c.l, self.l, size);
        self.image.put_ref(self.cf + c.pc, 0, size);
        self.image.put64(self.cf + c.prev, before);
        self.image.put64(self.l + self.layout().thread.cframe, self.cf | flags);
        self.interpret(0);
    }

    /// The registers that the interpreter keeps.
    fn interpret(&mut self, pc: u64) {
        self.vmstate = INTERP;
        self.regs.r14 = self.dispatch();
        self.regs.bx = pc;
        self.regs.dx = self.base;
        self.regs.bp = 0xb9;
    }

    /// What r14 holds in the interpreter.
    #[must_use]
    pub fn dispatch(&self) -> u64 {
        self.heap.g + if self.layout().reference == 8 { 4008 } else { 3216 }
    }

    /// `lua_call` (or `lua_pcall`) by C: C frame, and a Lua frame `slots` above the current one.
    pub fn call_lua(&mut self, f: LuaFunc, link: Link, slots: u64) {
        self.enter_vm();
        self.frame(f.func, slots, link);
        self.regs.bx = f.code + 4;
    }

    /// `lua_resume` by C, or `coroutine.resume` by Lua (the interpreter calls itself): a C frame without
    /// a link, on the stack of another thread.
    pub fn resume(&mut self, co: u64, f: LuaFunc) {
        self.store_base();
        self.l = co;
        self.base = self.image.get64(co + self.layout().thread.base);
        self.vm_frame(0, 1);
        self.frame(f.func, 3, Link::Protected);
        self.regs.bx = f.code + 4;
    }

    /// `lj_vm_cpcall`: a C frame, and C code called by it, but no Lua frame.
    pub fn cpcall(&mut self, callback: Function) {
        self.enter_vm();
        let stack = self.stack_of(self.l);
        let top = u32::try_from(self.base + 5 * 8 - stack).expect("a small stack");
        self.image.put32(self.cf + self.layout().cframe.nres, top.wrapping_neg());
        self.call(callback);
    }

    /// An FFI callback from C code: a continuation frame whose continuation says so.
    pub fn ffi_callback(&mut self, f: LuaFunc) {
        const CALLBACK: u64 = 1;
        self.enter_vm();
        self.continuation(f.func, CALLBACK, 0x77);
        self.regs.bx = f.code + 4;
    }

    // ---- inside Lua ----

    fn per_frame(&self) -> u64 {
        if self.layout().two_slots { 2 } else { 1 }
    }

    fn frame(&mut self, func: u64, slots: u64, link: Link) {
        let base = self.base + slots * 8;
        self.heap.put_func_slot(&mut self.image, base, func, (slots * 8) | link as u64);
        self.base = base;
        self.regs.dx = base;
    }

    /// A Lua function calls: bytecode `at` of `caller` is a CALL whose A operand is `a`.
    pub fn call_from(&mut self, caller: LuaFunc, at: u32, a: u8, callee: u64, entry: u64) {
        const CALL: u32 = 66;
        let pc = caller.code + u64::from(at) * 4;
        self.image.put32(pc, CALL | u32::from(a) << 8 | 2 << 24 | 1 << 16);
        let base = self.base + (u64::from(a) + self.per_frame()) * 8;
        self.heap.put_func_slot(&mut self.image, base, callee, pc + 4);
        self.base = base;
        self.interpret(entry + 4);
    }

    /// Lua calls Lua.
    pub fn lua_calls(&mut self, caller: LuaFunc, at: u32, a: u8, callee: LuaFunc) {
        self.call_from(caller, at, a, callee.func, callee.code);
    }

    /// Lua calls a fast function, which stays in the interpreter.
    pub fn lua_calls_fast(&mut self, caller: LuaFunc, at: u32, callee: CFunc) {
        self.call_from(caller, at, 3, callee.func, self.heap.bytecode_of_c(callee.ffid));
    }

    /// Lua calls a C function, and its native code runs (BC_FUNCC stores base, and says so).
    pub fn lua_calls_c(&mut self, caller: LuaFunc, at: u32, callee: CFunc, native: Function) {
        self.lua_calls_fast(caller, at, callee);
        self.store_base();
        self.vmstate = C;
        self.call(native);
    }

    /// The fast function `pcall` calls what it was given.
    pub fn pcall(&mut self, f: LuaFunc) {
        self.frame(f.func, self.per_frame(), Link::Pcall);
        self.regs.bx = f.code + 4;
    }

    /// The current function takes variable arguments: its second frame, behind `n` of them.
    pub fn vararg(&mut self, f: LuaFunc, n: u64) {
        self.frame(f.func, n + self.per_frame(), Link::Vararg);
    }

    /// A metamethod is called for bytecode `at` of the running function.
    pub fn metamethod(&mut self, caller: LuaFunc, at: u32, f: LuaFunc) {
        let goes_on = BIAS + host::VM.vaddr + 0x300;
        self.continuation(f.func, goes_on, caller.code + u64::from(at + 1) * 4);
        self.regs.bx = f.code + 4;
    }

    fn continuation(&mut self, func: u64, goes_on: u64, pc: u64) {
        let slots = 4 + 2 * self.per_frame();
        self.frame(func, slots, Link::Continuation);
        if self.layout().two_slots {
            self.image.put64(self.base - 32, goes_on);
            self.image.put64(self.base - 24, pc);
        } else {
            self.image.put32(self.base - 16, goes_on as u32);
            self.image.put32(self.base - 12, pc as u32);
        }
    }

    /// The interpreter is at bytecode `at` of `f`: PC is the one behind it.
    pub fn at(&mut self, f: LuaFunc, at: u32) {
        self.regs.bx = f.code + u64::from(at + 1) * 4;
    }

    /// PC behind a return that a trace has patched to JLOOP: it lies in the trace (lj_trace_exit).
    pub fn patched(&mut self, f: LuaFunc, at: u32) -> u64 {
        let trace = self.heap.trace(&mut self.image, f.code + u64::from(at) * 4);
        trace + self.layout().trace.startins + 4
    }

    /// The running frame goes into a trace's machine code.
    pub fn run_trace(&mut self, number: u16, spadjust: u64) {
        self.jit_base = self.base;
        self.vmstate = number.into();
        self.regs.sp = self.cf - 16 - spadjust;
        self.regs.ip = MCODE + 0x30;
        self.running.push(Function { vaddr: 0, ..host::HELPER });
    }

    /// Machine code calls C. The return address is one past an address inside the call.
    pub fn trace_calls(&mut self, f: Function) {
        self.regs.ip = MCODE + 0x31;
        self.call(f);
    }

    /// Stores BASE, and PC if asked, as before calls that look at them.
    pub fn store_base(&mut self) {
        self.image.put64(self.l + self.layout().thread.base, self.base);
    }

    /// Stores PC into the C frame.
    pub fn save_pc(&mut self, pc: u64) {
        let (c, size) = (self.layout().cframe, self.layout().reference);
        self.image.put_ref(self.cf + c.pc, pc, size);
    }

    /// Sets vmstate to one of the negative ones.
    pub fn state(&mut self, vmstate: i32) {
        self.vmstate = vmstate;
    }

    /// Leaves the newest C frame, back into the native code that entered it.
    pub fn leave_vm(&mut self) {
        let word = |i: u64| self.image.get64(self.cf + i * 8);
        let (bp, bx, r14, ip) = (word(8), word(7), word(5), word(9));
        self.regs = Registers { ip, sp: self.cf + CFRAME_BYTES, bp, bx, r14, dx: 0xd0, tls: 0 };
        self.running.pop();
        self.vmstate = C;
    }

    /// Sets `global_State.jit_base`.
    pub fn set_jit_base(&mut self, base: u64) {
        self.jit_base = base;
    }

    /// Sets `lua_State.cframe` of the thread that runs.
    pub fn set_cframe(&mut self, cframe: u64) {
        self.image.put64(self.l + self.layout().thread.cframe, cframe);
    }

    /// Writes another thread into the newest C frame.
    pub fn claim_cframe(&mut self, l: u64) {
        self.image.put_ref(self.cf + self.layout().cframe.l, l, self.layout().reference);
    }

    /// The native stack's newest C frame.
    #[must_use]
    pub fn cframe(&self) -> u64 {
        self.cf
    }

    fn stack_of(&self, l: u64) -> u64 {
        let word = self.image.get64(l + self.layout().thread.stack);
        if self.layout().reference == 8 { word } else { word & 0xffff_ffff }
    }
}
