//! Scenes that several tests play: a few frames that are easy to expect, and deep stacks with every
//! mechanism to corrupt.

use super::host::{CFUNCTION, FRAMED, HANDLER, HELPER, RESUMER, SAVER};
use super::ngx_lua::{ANCHORS, Begun};
use super::{Link, LuaFunc, Machine, Value};
use crate::oracle::layout::{GC32, GC64, Layout};
use upprof_profile::VmState;
use upprof_profile::raw::Outcome;

/// Runs a test in both modes.
pub fn both(test: impl Fn(&mut Machine)) {
    for layout in [GC64, GC32] {
        test(&mut Machine::new(layout));
    }
}

/// Walks, and expects these frames, and that the entry was reached.
///
/// # Panics
/// When anything else comes out: this is a test's assertion.
#[track_caller]
pub fn expect(m: &mut Machine, state: VmState, frames: &[&str]) {
    let walked = m.walk();
    let mode = if m.layout() == GC64 { "GC64" } else { "GC32" };
    assert_eq!(m.shown(&walked.frames), frames, "{mode}");
    assert_eq!((walked.outcome, walked.vm_state), (Outcome::Complete, state), "{mode}");
}

/// `start → main → handler → lua_pcall(outer) → inner` at its bytecode 3.
pub fn outer_and_inner(m: &mut Machine) -> (LuaFunc, LuaFunc) {
    let (outer, inner) = (m.lua("outer"), m.lua("inner"));
    m.call(HANDLER);
    m.call_lua(outer, Link::Protected, 3);
    m.store_base();
    m.lua_calls(outer, 5, 7, inner);
    m.at(inner, 3);
    (outer, inner)
}

/// Its frames.
pub const BELOW: [&str; 5] = ["lua inner:3", "lua outer:5", "handler", "main", "start"];

/// Something to corrupt: every mechanism in one stack, 60 frames or so.
#[must_use]
pub fn nested(layout: Layout) -> Machine {
    let mut m = Machine::new(layout);
    let names = ["entry", "guarded", "many", "meta", "compare", "body", "callback", "leaf"];
    let f: Vec<LuaFunc> = names.iter().map(|n| m.lua(n)).collect();
    let (c, resumer, pcall, resume) =
        (m.c(CFUNCTION), m.c(RESUMER), m.fast("pcall", 20), m.fast("resume", 40));
    m.call(HANDLER);
    m.call(FRAMED);
    let (parent, co) = (m.coroutine(), m.coroutine());
    m.resume(parent, f[1]);
    let of_parent = m.bookkeep(parent, 0, Begun::Otherwise, ANCHORS[1]);
    m.yields_in(f[1], 7, c);
    m.bookkeep(co, of_parent, Begun::Coroutine, ANCHORS[1]);
    m.resume(co, f[0]);
    m.lua_calls_fast(f[0], 4, pcall);
    m.pcall(f[1]);
    m.lua_calls(f[1], 3, 4, f[2]);
    m.vararg(f[2], 3);
    m.metamethod(f[2], 5, f[3]);
    m.lua_calls_c(f[3], 6, c, CFUNCTION);
    m.call(HELPER);
    m.call_lua(f[4], Link::C, 4);
    let inner = m.coroutine();
    m.lua_calls_fast(f[4], 2, resume);
    m.resume(inner, f[5]);
    m.lua_calls_c(f[5], 1, resumer, RESUMER);
    m.cpcall(SAVER);
    m.ffi_callback(f[6]);
    for _ in 0..20 {
        m.lua_calls(f[6], 8, 5, f[7]);
        m.lua_calls(f[7], 9, 5, f[6]);
    }
    m.at(f[6], 7);
    m.regs.bp = m.base;
    m.call(SAVER);
    m.freeze();
    m
}

/// The same in machine code.
#[must_use]
pub fn compiled(layout: Layout) -> Machine {
    let mut m = nested(layout);
    let (f, loops) = (m.lua("outer"), m.lua("loops"));
    m.call_lua(f, Link::C, 4);
    m.lua_calls(f, 2, 3, loops);
    m.run_trace(9, 40);
    m.trace_calls(HELPER);
    m.freeze();
    m
}

/// A VM that is recognised, with globals, names and lines.
#[must_use]
pub fn recognisable(layout: Layout) -> (Machine, LuaFunc) {
    let mut m = nested(layout);
    let f = m.lua("named");
    m.debug_info(f, "@/app/named.lua", &[1; 40]);
    let (gsub, find) = (m.fast("gsub", 90), m.fast("find", 91));
    let strings = m.table(&[("gsub", Value::Function(gsub)), ("find", Value::Function(find))]);
    let globals = m.table(&[("string", Value::Table(strings)), ("print", Value::Function(find))]);
    // Tables that hold each other are the usual case: package.loaded._G.
    let looped = m.table(&[("_G", Value::Table(globals)), ("string", Value::Table(strings))]);
    let all = m.table(&[("string", Value::Table(strings)), ("package", Value::Table(looped))]);
    m.set_globals(all);
    m.make_recognisable();
    m.freeze();
    (m, f)
}
