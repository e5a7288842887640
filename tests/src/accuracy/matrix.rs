//! The targets: which LuaJIT, in what, and which requests keep it busy.

use crate::oracle::build::Build;

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Matter {
    /// Its name on the command line.
    pub name: &'static str,
    /// What runs it.
    pub host: Host,
    /// What it is.
    pub what: &'static str,
    /// Its LuaJIT, as the oracle is told.
    pub build: Build,
}

/// What runs LuaJIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// nginx, in the image with the target's name as tag (`images/target/build.sh NAME`).
    Nginx,
    /// The program of `tests/host`.
    Program,
}

/// All of them.
pub const TARGETS: [Matter; 7] = [
    Matter {
        name: "bullseye",
        host: Host::Nginx,
        what: "Debian 11: LuaJIT 2.1.0-beta3, GC32",
        build: Build::BETA3_GC32,
    },
    Matter {
        name: "bookworm",
        host: Host::Nginx,
        what: "Debian 12: luajit2 20230119, GC64",
        build: Build::LUAJIT2_GC64,
    },
    Matter {
        name: "trixie",
        host: Host::Nginx,
        what: "Debian 13: luajit2 20250117, GC64",
        build: Build::LUAJIT2_GC64,
    },
    Matter {
        name: "forky",
        host: Host::Nginx,
        what: "Debian 14: luajit2 of 2025, GC64",
        build: Build::LUAJIT2_GC64,
    },
    Matter {
        name: "gc32",
        host: Host::Nginx,
        what: "Debian 12 with luajit2 20230119 built as GC32",
        build: Build::LUAJIT2_GC32,
    },
    Matter {
        name: "static",
        host: Host::Nginx,
        what: "Debian 12 with luajit2 20230119 linked into nginx, GC64",
        build: Build::LUAJIT2_GC64,
    },
    Matter {
        name: "host",
        host: Host::Program,
        what: "A C program with LuaJIT of luajit.org, GC64: several VMs, two threads",
        build: Build::UPSTREAM_GC64,
    },
];

/// The one target whose nginx has a stream module with a VM of its own.
const STREAM: &str = "static";

impl Matter {
    /// Its image, where it has one.
    #[must_use]
    pub fn image(&self) -> String {
        format!("upprof-target:{}", self.name)
    }

    /// What can keep it busy.
    #[must_use]
    pub fn works(&self) -> &'static [Work] {
        match self.host {
            Host::Nginx if self.name == STREAM => {
                &[Work::Interpreted, Work::Compiled, Work::FreshVm, Work::Stream, Work::Demo]
            }
            Host::Nginx => &[Work::Interpreted, Work::Compiled, Work::FreshVm, Work::Demo],
            Host::Program => &[Work::Interpreted, Work::Compiled],
        }
    }
}

/// What keeps Lua busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Everything that stays in the interpreter, and C called from it.
    Interpreted,
    /// Hot loops: machine code, and C called from it.
    Compiled,
    /// A VM for each request (`lua_code_cache off`).
    FreshVm,
    /// The stream module's VM, interpreted and compiled.
    Stream,
    /// All mechanisms mixed, with machine code of PCRE, a VM for each request, and every phase.
    Demo,
}

impl Work {
    /// The paths to ask for, in turn; the stream module does not read them.
    #[must_use]
    pub fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Interpreted => &[
                "/recursion",
                "/deep",
                "/pcall",
                "/xpcall",
                "/vararg",
                "/tailcall",
                "/sort",
                "/gsub",
                "/meta",
                "/ffi/callback",
                "/finalizer",
                "/coroutine",
                "/coroutine/nested",
                "/coroutine/wrap",
                "/coroutine/raw",
                "/thread",
                "/strings",
                "/cjson",
                "/phases",
            ],
            Self::Compiled => {
                &["/jit/loop", "/jit/recursion", "/jit/inline", "/jit/branches", "/jit/ffi", "/jit/garbage"]
            }
            Self::FreshVm => &["/fresh_vm"],
            Self::Stream => &["/"],
            Self::Demo => &crate::harness::load::DEMO,
        }
    }

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interpreted => "interpreted",
            Self::Compiled => "compiled",
            Self::FreshVm => "VM per request",
            Self::Stream => "stream",
            Self::Demo => "demo",
        }
    }
}
