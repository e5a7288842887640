//! Where things are in LuaJIT's objects: written by hand from LuaJIT's headers (lj_obj.h, lj_frame.h;
//! the table in luajit.md 3.1 to 3.4), and shared with nothing of the product.

/// Offsets in bytes, for one of the two modes of LuaJIT on x86-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a reference: 8 in GC64, 4 in GC32.
    pub reference: u64,
    /// Two slots a frame (function, link), or one that holds both.
    pub two_slots: bool,
    /// Of every object: its type.
    pub gct: u64,
    /// `lua_State`.
    pub thread: Thread,
    /// `GCfunc`.
    pub func: Func,
    /// `GCproto`.
    pub proto: Proto,
    /// `GCtrace`.
    pub trace: Trace,
    /// The interpreter's C frame.
    pub cframe: CFrame,
}

/// `lua_State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread {
    /// Reference to `global_State`.
    pub glref: u64,
    /// 8 bytes in both modes.
    pub base: u64,
    /// 8 bytes in both modes.
    pub top: u64,
    /// Reference.
    pub maxstack: u64,
    /// Reference.
    pub stack: u64,
    /// Reference to the globals.
    pub env: u64,
    /// 8 bytes in both modes.
    pub cframe: u64,
    /// `sizeof` in OpenResty's luajit2 since 2020-10: upstream's and two pointers.
    pub size_luajit2: u64,
}

/// `GCfunc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Func {
    /// 0: a Lua function; 1: a C function; above: a fast function.
    pub ffid: u64,
    /// Reference to the first bytecode.
    pub pc: u64,
    /// C functions: 8 bytes in both modes.
    pub f: u64,
}

/// `GCproto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proto {
    /// `numparams`; `framesize` follows.
    pub numparams: u64,
    /// `sizebc`
    pub sizebc: u64,
    /// `chunkname`
    pub chunkname: u64,
    /// `firstline`; `numline` follows.
    pub firstline: u64,
    /// `lineinfo`
    pub lineinfo: u64,
    /// `sizeof`: bytecode follows.
    pub size: u64,
}

/// `GCtrace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Reference to the prototype that it starts in.
    pub startpt: u64,
    /// `startpc`
    pub startpc: u64,
    /// `startins`
    pub startins: u64,
    /// `szmcode`
    pub szmcode: u64,
    /// `mcode`, 8 bytes in both modes.
    pub mcode: u64,
    /// `spadjust`
    pub spadjust: u64,
    /// `traceno`
    pub traceno: u64,
    /// `root`
    pub root: u64,
}

/// The interpreter's C frame, from its rsp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CFrame {
    /// `SAVE_NRES`, 4 bytes.
    pub nres: u64,
    /// `SAVE_L`
    pub l: u64,
    /// `SAVE_PC`
    pub pc: u64,
    /// `SAVE_CFRAME`, 8 bytes.
    pub prev: u64,
}

/// Bytes of a C frame with its saved registers and its return address.
pub const CFRAME_BYTES: u64 = 80;

/// Type numbers of objects.
pub mod gct {
    /// String.
    pub const STR: u8 = 4;
    /// Thread.
    pub const THREAD: u8 = 6;
    /// Prototype.
    pub const PROTO: u8 = 7;
    /// Function.
    pub const FUNC: u8 = 8;
    /// Trace.
    pub const TRACE: u8 = 9;
    /// Table.
    pub const TAB: u8 = 11;
}

/// GC64.
pub const GC64: Layout = Layout {
    reference: 8,
    two_slots: true,
    gct: 9,
    thread: Thread {
        glref: 16,
        base: 32,
        top: 40,
        maxstack: 48,
        stack: 56,
        env: 72,
        cframe: 80,
        size_luajit2: 112,
    },
    func: Func { ffid: 10, pc: 32, f: 40 },
    proto: Proto { numparams: 10, sizebc: 12, chunkname: 64, firstline: 72, lineinfo: 80, size: 104 },
    trace: Trace {
        startpt: 64,
        startpc: 72,
        startins: 80,
        szmcode: 84,
        mcode: 88,
        spadjust: 102,
        traceno: 104,
        root: 108,
    },
    cframe: CFrame { nres: 8, l: 16, pc: 24, prev: 32 },
};

/// GC32.
pub const GC32: Layout = Layout {
    reference: 4,
    two_slots: false,
    gct: 5,
    thread: Thread {
        glref: 8,
        base: 16,
        top: 24,
        maxstack: 32,
        stack: 36,
        env: 44,
        cframe: 48,
        size_luajit2: 80,
    },
    func: Func { ffid: 6, pc: 16, f: 24 },
    proto: Proto { numparams: 6, sizebc: 8, chunkname: 40, firstline: 44, lineinfo: 52, size: 64 },
    trace: Trace {
        startpt: 48,
        startpc: 52,
        startins: 56,
        szmcode: 60,
        mcode: 64,
        spadjust: 78,
        traceno: 80,
        root: 84,
    },
    cframe: CFrame { nres: 16, l: 24, pc: 28, prev: 32 },
};
