//! LuaJIT's objects in a made-up process: threads, prototypes, functions, the global state.

use super::image::Image;
use crate::oracle::layout::{Layout, gct};

/// A Lua function: its `GCfunc` and `GCproto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LuaFunc {
    /// `GCfunc`
    pub func: u64,
    /// `GCproto`
    pub proto: u64,
    /// First bytecode.
    pub code: u64,
    /// Number of bytecodes.
    pub size: u32,
}

/// A C function or fast function: its `GCfuncC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CFunc {
    /// `GCfunc`
    pub func: u64,
    /// `lua_CFunction`
    pub f: u64,
    /// 1, or a fast function's number.
    pub ffid: u8,
}

/// Slots of a Lua stack.
pub(super) const STACK_SLOTS: u64 = 4096;
const HEAP: u64 = 0x1000_0000;
const HEAP_BYTES: u64 = 1 << 20;

/// LuaJIT's heap.
#[derive(Debug, Clone)]
pub(super) struct Heap {
    pub(super) layout: Layout,
    /// `global_State`
    pub(super) g: u64,
    pub(super) main_thread: u64,
    next: u64,
}

impl Heap {
    /// `GG_State`: the main thread, and `global_State` right behind it.
    pub(super) fn new(image: &mut Image, layout: Layout) -> Self {
        image.map(HEAP, HEAP_BYTES);
        let mut heap =
            Self { layout, g: HEAP + 64 + layout.thread.size_luajit2, main_thread: HEAP + 64, next: HEAP };
        heap.take(64 + layout.thread.size_luajit2 + 8192);
        heap.fill_thread(image, heap.main_thread);
        heap
    }

    pub(super) fn take(&mut self, bytes: u64) -> u64 {
        let at = self.next;
        self.next = (at + bytes).next_multiple_of(16);
        assert!(self.next <= HEAP + HEAP_BYTES, "the made-up heap is full");
        at
    }

    /// What was given out so far.
    pub(super) fn used(&self) -> std::ops::Range<u64> {
        HEAP..self.next
    }

    /// A coroutine.
    pub(super) fn thread(&mut self, image: &mut Image) -> u64 {
        let l = self.take(self.layout.thread.size_luajit2);
        self.fill_thread(image, l);
        l
    }

    /// As lj_state.c stack_init leaves it: the bottom slot holds the thread itself.
    fn fill_thread(&mut self, image: &mut Image, l: u64) {
        let t = self.layout.thread;
        let size = self.layout.reference;
        let stack = self.take(STACK_SLOTS * 8);
        let first = stack + if self.layout.two_slots { 16 } else { 8 };
        image.put8(l + self.layout.gct, gct::THREAD);
        image.put_ref(l + t.glref, self.g, size);
        image.put_ref(l + t.stack, stack, size);
        image.put_ref(l + t.maxstack, stack + (STACK_SLOTS - 8) * 8, size);
        image.put64(l + t.base, first);
        image.put64(l + t.top, first);
        self.put_func_slot(image, first, l, 0);
    }

    /// Writes function and link of the frame whose base is `base`.
    pub(super) fn put_func_slot(&self, image: &mut Image, base: u64, func: u64, link: u64) {
        if self.layout.two_slots {
            // Tags: thread or function in the top 17 bits, which readers must cut off.
            image.put64(base - 16, func | 0xfffb_8000_0000_0000);
            image.put64(base - 8, link);
        } else {
            image.put32(base - 8, u32::try_from(func).expect("GC32"));
            image.put32(base - 4, u32::try_from(link).expect("GC32"));
        }
    }

    /// A Lua function of `size` bytecodes, defined at `line`.
    pub(super) fn lua(&mut self, image: &mut Image, size: u32, line: u32) -> LuaFunc {
        let p = self.layout.proto;
        let proto = self.take(p.size + u64::from(size) * 4);
        let code = proto + p.size;
        image.put8(proto + self.layout.gct, gct::PROTO);
        image.put8(proto + p.numparams, 2);
        image.put8(proto + p.numparams + 1, 20);
        image.put32(proto + p.sizebc, size);
        image.put32(proto + p.firstline, line);
        image.put32(proto + p.firstline + 4, size);
        let func = self.take(self.layout.func.f + 16);
        image.put8(func + self.layout.gct, gct::FUNC);
        image.put_ref(func + self.layout.func.pc, code, self.layout.reference);
        LuaFunc { func, proto, code, size }
    }

    /// A C function (`ffid` 1) or a fast function.
    pub(super) fn c(&mut self, image: &mut Image, f: u64, ffid: u8) -> CFunc {
        let func = self.take(self.layout.func.f + 16);
        image.put8(func + self.layout.gct, gct::FUNC);
        image.put8(func + self.layout.func.ffid, ffid);
        // Their pc leads to a bytecode in GG_State (bcff); any address in there will do.
        image.put_ref(func + self.layout.func.pc, self.bytecode_of_c(ffid), self.layout.reference);
        image.put64(func + self.layout.func.f, f);
        CFunc { func, f, ffid }
    }

    /// Where the dispatch code of a C or fast function is.
    pub(super) fn bytecode_of_c(&self, ffid: u8) -> u64 {
        self.g + 6000 + u64::from(ffid) * 4
    }

    /// A string.
    pub(super) fn string(&mut self, image: &mut Image, text: &[u8]) -> u64 {
        // GCstr since 2020-06: len at 20 (GC64) or 16 (GC32), data behind it.
        let (len, data) = if self.layout.reference == 8 { (20, 24) } else { (16, 20) };
        let at = self.take(data + text.len() as u64 + 1);
        image.put8(at + self.layout.gct, gct::STR);
        image.put32(at + len, u32::try_from(text.len()).expect("short"));
        image.put(at + data, text);
        at
    }

    /// A trace that starts at a bytecode; its `startins` is what a patched bytecode leads to.
    pub(super) fn trace(&mut self, image: &mut Image, startpc: u64) -> u64 {
        let at = self.take(128);
        image.put_ref(at + self.layout.trace.startpc, startpc, self.layout.reference);
        at
    }
}
