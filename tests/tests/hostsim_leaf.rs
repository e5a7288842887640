//! The kernel's walkers (compiled for the host) in the few instructions around calls and returns, where the
//! interpreter's registers speak of two functions at once. Each state is one that was seen in a stopped
//! worker (the instructions are named by vm_x64.dasc's labels).

use upprof_profile::VmState;
use upprof_tests::snapshot::host::{CFUNCTION, HANDLER, HELPER};
use upprof_tests::snapshot::scenes::{BELOW, both, expect, outer_and_inner};
use upprof_tests::snapshot::{Link, Machine};

/// vmstate (lj_obj.h).
const VM_C: i32 = !1;

/// Overwrites a frame's function and link, as results do.
fn overwrite(m: &mut Machine, base: u64) {
    let nil = u64::MAX;
    m.image.put64(base - 8, nil);
    m.image.put64(base - 16, nil);
}

/// ins_callt: PC is the callee's first instruction, or the dispatch code of a function that is not Lua.
#[test]
fn a_call_has_pc_at_its_callees_start() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        m.regs.bx = inner.code;
        // The header, which is the index before the first.
        let mut frames = vec!["lua inner:-1"];
        frames.extend(&BELOW[1..]);
        expect(m, VmState::Interpreted, &frames);

        let fast = m.fast("insert", 30);
        m.lua_calls_fast(inner, 3, fast);
        m.regs.bx -= 4;
        let mut frames = vec!["c insert"];
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);
    });
}

/// BC_RET: PC is the caller's, BASE the returning function's, and its own slots hold results already.
#[test]
fn a_return_shows_the_caller() {
    both(|m| {
        let (outer, _) = outer_and_inner(m);
        m.at(outer, 5);
        let base = m.base;
        overwrite(m, base);
        expect(m, VmState::Interpreted, &BELOW[1..]);

        // In recursion a stored base of the same function fits PC as well; the caller is still told.
        let m = &mut Machine::new(m.layout());
        let (_, again) = outer_and_inner(m);
        m.store_base();
        m.lua_calls(again, 3, 7, again);
        m.lua_calls(again, 3, 7, again);
        let base = m.base;
        overwrite(m, base);
        m.at(again, 3);
        let mut frames = vec!["lua inner:3"];
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);
    });
}

/// vm_return: PC is the link that leads back to C.
#[test]
fn a_return_to_c_shows_the_function_that_returns() {
    both(|m| {
        let f = m.lua("returning");
        m.call(HANDLER);
        m.store_base();
        m.call_lua(f, Link::Protected, 3);
        let link = (3 * 8) | Link::Protected as u64;
        for link in [link, link ^ 1] {
            m.regs.bx = link;
            expect(m, VmState::Interpreted, &["lua returning:?", "handler", "main", "start"]);
        }
    });
}

/// vm_call: the C frame is there, BASE still the outer segment's, and no Lua frame is written yet.
#[test]
fn a_call_from_c_that_has_not_arrived_is_not_shown() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        let c = m.c(CFUNCTION);
        m.lua_calls_c(inner, 3, c, CFUNCTION);
        m.store_base();
        m.call(HELPER);
        m.enter_vm();
        m.regs.bx = (5 * 8) | Link::C as u64;
        let mut frames = vec!["helper", "cfunction", "c cfunction"];
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);
    });
}

/// lj_ccallback_enter: C code under a C frame whose Lua frame is the callback's; PC holds no bytecode.
#[test]
fn an_ffi_callback_is_known_while_it_is_entered() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        let (call, callback) = (m.c(CFUNCTION), m.lua("callback"));
        m.lua_calls_c(inner, 3, call, CFUNCTION);
        m.ffi_callback(callback);
        m.store_base();
        m.regs.bx = 0x1234_5678;
        m.call(HELPER);
        let mut frames = vec!["@helper", "lua callback:?", "cfunction", "c cfunction"];
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);
    });
}

/// A C function, called by Lua, calls back: a C frame is there, and vmstate is still C.
fn calling_back(m: &mut Machine) -> Vec<&'static str> {
    let (_, inner) = outer_and_inner(m);
    let c = m.c(CFUNCTION);
    m.lua_calls_c(inner, 3, c, CFUNCTION);
    m.call(HELPER);
    m.enter_vm();
    m.state(VM_C);
    let mut frames = vec!["helper", "cfunction", "c cfunction"];
    frames.extend(BELOW);
    frames
}

/// vm_call, before it says INTERP: lua_State.base is the calling C function's, which is not the new C frame's.
#[test]
fn a_call_from_c_does_not_take_its_callers_frames() {
    both(|m| {
        let frames = calling_back(m);
        for link in [Link::C, Link::Protected] {
            m.regs.bx = link as u64;
            m.regs.dx = 2;
            expect(m, VmState::C, &frames);
        }
    });
}

/// vm_return, after it has said C: PC is how far BASE goes back, then where to; lua_State.base is whatever
/// was stored last.
#[test]
fn a_return_to_c_takes_nothing_from_what_was_stored() {
    both(|m| {
        let frames = calling_back(m);
        let (before, callback) = (m.base, m.lua("callback"));
        m.leave_vm();
        m.call_lua(callback, Link::C, 4);
        m.store_base();
        m.state(VM_C);
        for pc in [(4 * 8) | 1, 4 * 8, before] {
            m.regs.bx = pc;
            expect(m, VmState::C, &frames);
        }
    });
}

/// vm_call's first instructions, and vm_leave_unw: the interpreter's code without its C frame.
#[test]
fn the_interpreters_code_without_a_c_frame_loses_the_frames_below_it_and_says_so() {
    both(|m| {
        let frames = calling_back(m);
        let outer = m.image.get64(m.cframe() + m.layout().cframe.prev);
        m.set_cframe(outer);
        m.regs.sp += 40;
        let mut shown = vec!["@vm", "[native lost]"];
        shown.extend(&frames[2..]);
        expect(m, VmState::C, &shown);
    });
}

/// lj_ccallback_enter: the C frame is there, the callback's Lua frame not yet. Nothing tells, until the C frame
/// that the frames belong to is found without any.
#[test]
fn frames_that_were_taken_too_early_are_missed_where_they_belong() {
    both(|m| {
        calling_back(m);
        m.call(HELPER);
        let mut frames = vec!["@helper", "c cfunction", "lua inner:3", "lua outer:5", "helper", "cfunction"];
        frames.extend(["[Lua lost]", "handler", "main", "start"]);
        expect(m, VmState::C, &frames);
        assert_eq!(m.walk().count("lua_chain_broken"), 1);
    });
}
