//! The kernel's walkers (compiled for the host) over made-up processes: every way from C to Lua and back
//! gives exactly the frames that ran. No root, no kernel.

use upprof_memory::Memory;
use upprof_probes::LuaVm;
use upprof_probes::hostsim::Described;
use upprof_profile::VmState;
use upprof_profile::raw::Outcome;
use upprof_tests::oracle::layout::GC64;
use upprof_tests::snapshot::host::{CFUNCTION, FRAMED, HANDLER, HELPER, RESUMER, SAVER};
use upprof_tests::snapshot::scenes::{BELOW, both, expect, outer_and_inner};
use upprof_tests::snapshot::{Link, Machine};

/// vmstate (lj_obj.h).
const VM_C: i32 = !1;

#[test]
fn lua_calls_lua() {
    both(|m| {
        outer_and_inner(m);
        // Its C frame is exactly at the stack pointer: the boundary of "Lua is on this stack".
        assert_eq!(m.cframe(), m.regs.sp);
        expect(m, VmState::Interpreted, &BELOW);
        assert_eq!(m.walk().counted().count(), 0, "nothing is doubtful here");
    });
}

#[test]
fn native_code_alone() {
    both(|m| {
        m.call(HANDLER);
        m.call(FRAMED);
        m.call(SAVER);
        expect(m, VmState::NotLua, &["@saver", "framed", "handler", "main", "start"]);
    });
}

#[test]
fn pcall_is_a_frame_of_its_own() {
    both(|m| {
        let (outer, guarded, pcall) = (m.lua("outer"), m.lua("guarded"), m.fast("pcall", 20));
        m.call(HANDLER);
        m.call_lua(outer, Link::Protected, 3);
        m.lua_calls_fast(outer, 4, pcall);
        m.pcall(guarded);
        m.at(guarded, 7);
        let frames = ["lua guarded:7", "c pcall", "lua outer:4", "handler", "main", "start"];
        expect(m, VmState::Interpreted, &frames);
    });
}

#[test]
fn a_vararg_function_is_one_frame() {
    both(|m| {
        let (outer, inner) = outer_and_inner(m);
        let many = m.lua("many");
        m.lua_calls(inner, 3, 4, many);
        m.vararg(many, 5);
        m.at(many, 2);
        let mut frames = vec!["lua many:2"];
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);
        // Also when it is not the newest.
        m.lua_calls(many, 6, 3, outer);
        m.at(outer, 0);
        frames.splice(..1, ["lua outer:0", "lua many:6"]);
        expect(m, VmState::Interpreted, &frames);
    });
}

#[test]
fn a_metamethod_returns_into_the_bytecode_that_called_it() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        let meta = m.lua("meta");
        m.metamethod(inner, 3, meta);
        m.at(meta, 1);
        let mut frames = vec!["lua meta:1"];
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);
    });
}

#[test]
fn c_functions_that_call_back_make_two_segments() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        let (sort, compare) = (m.c(CFUNCTION), m.lua("compare"));
        m.lua_calls_c(inner, 3, sort, CFUNCTION);
        let mut frames = vec!["@cfunction", "c cfunction"];
        frames.extend(BELOW);
        expect(m, VmState::C, &frames);
        m.call(HELPER);
        m.call_lua(compare, Link::C, 4);
        m.at(compare, 9);
        frames.splice(..1, ["lua compare:9", "helper", "cfunction"]);
        expect(m, VmState::Interpreted, &frames);
    });
}

#[test]
fn a_coroutines_parent_is_the_frame_that_resumed_it() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        let (resume, co, body) = (m.fast("resume", 40), m.coroutine(), m.lua("body"));
        m.lua_calls_fast(inner, 3, resume);
        m.resume(co, body);
        m.at(body, 4);
        let mut frames = vec!["lua body:4", "c resume"];
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);

        let (deeper, leaf) = (m.coroutine(), m.lua("leaf"));
        m.lua_calls_fast(body, 4, resume);
        m.resume(deeper, leaf);
        m.at(leaf, 0);
        frames.splice(..0, ["lua leaf:0", "c resume"]);
        expect(m, VmState::Interpreted, &frames);
    });
}

#[test]
fn lua_resume_from_c_ends_the_chain_but_not_the_walk() {
    both(|m| {
        // As ngx_lua runs every request: the thread's C frame has no link.
        let (co, entry) = (m.coroutine(), m.lua("entry"));
        m.call(HANDLER);
        m.resume(co, entry);
        m.at(entry, 2);
        expect(m, VmState::Interpreted, &["lua entry:2", "handler", "main", "start"]);

        // A C function called from there resumes another: the outer C frame is found on the stack.
        let (resumer, inner, body) = (m.c(RESUMER), m.coroutine(), m.lua("body"));
        m.lua_calls_c(entry, 2, resumer, RESUMER);
        m.resume(inner, body);
        m.at(body, 1);
        let frames = ["lua body:1", "resumer", "c resumer", "lua entry:2", "handler", "main", "start"];
        expect(m, VmState::Interpreted, &frames);
    });
}

#[test]
fn a_protected_c_call_has_no_lua_frames() {
    both(|m| {
        m.call(HANDLER);
        m.cpcall(SAVER);
        m.state(VM_C);
        expect(m, VmState::C, &["@saver", "handler", "main", "start"]);
        // Once it calls Lua, it is as any other.
        let entry = m.lua("entry");
        m.call_lua(entry, Link::Protected, 6);
        m.at(entry, 8);
        expect(m, VmState::Interpreted, &["lua entry:8", "saver", "handler", "main", "start"]);
    });
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        let c = m.c(CFUNCTION);
        m.lua_calls_c(inner, 3, c, CFUNCTION);
        m.cpcall(SAVER);
        m.state(VM_C);
        let mut frames = vec!["@saver", "cfunction", "c cfunction"];
        frames.extend(BELOW);
        expect(m, VmState::C, &frames);
    });
}

#[test]
fn an_ffi_callback_ends_its_segment() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        let (call, callback) = (m.c(CFUNCTION), m.lua("callback"));
        m.lua_calls_c(inner, 3, call, CFUNCTION);
        m.call(HELPER);
        m.ffi_callback(callback);
        m.at(callback, 1);
        let mut frames = vec!["lua callback:1", "helper", "cfunction", "c cfunction"];
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);
    });
}

#[test]
fn an_idle_vm_is_not_on_the_stack() {
    both(|m| {
        // cur_L is the last coroutine, with frames still on its Lua stack; its cframe is null.
        outer_and_inner(m);
        m.leave_vm();
        m.set_cframe(0);
        expect(m, VmState::NotLua, &["@handler", "main", "start"]);
        // A C frame below the stack pointer has been left already.
        m.set_cframe(m.regs.sp - 80);
        expect(m, VmState::NotLua, &["@handler", "main", "start"]);
        // One that lies further away than a stack reaches is another thread's.
        m.set_cframe(m.regs.sp + (9 << 20));
        expect(m, VmState::NotLua, &["@handler", "main", "start"]);
        // So is one above this thread's own block.
        m.set_cframe(m.regs.sp + 4096);
        m.regs.tls = m.regs.sp + 2048;
        expect(m, VmState::NotLua, &["@handler", "main", "start"]);
    });
}

/// Walks while what is known is another VM in the same code, idle: its memory is zero at its cur_L.
fn walk_as_unknown(m: &mut Machine) -> (Vec<String>, Outcome, VmState) {
    m.freeze();
    let (sim, mut spec) = m.described();
    for vm in &mut spec.vms {
        vm.g += 16;
        vm.dispatch += 16;
    }
    let walked = sim.walk(|at, to| m.image.read(at, to).is_ok(), &Described::from(&spec), &m.regs);
    (m.shown(&walked.frames), walked.outcome, walked.vm_state)
}

#[test]
fn a_vm_that_nobody_told_of_is_found_by_its_c_frame() {
    both(|m| {
        outer_and_inner(m);
        m.regs.bp = m.base;
        m.call(HELPER);
        let mut frames = vec!["@helper"];
        frames.extend(BELOW);
        let (shown, outcome, state) = walk_as_unknown(m);
        assert_eq!(shown, frames);
        assert_eq!((outcome, state), (Outcome::Complete, VmState::Interpreted));
    });
}

#[test]
fn a_vm_that_nobody_told_of_is_found_in_its_machine_code() {
    // GC64 by DISPATCH in r14; GC32 by the C frame above the spill slots, of which there may be none or 256.
    for spill in [0, 48, 1024] {
        both(|m| {
            let (_, inner) = outer_and_inner(m);
            m.at(inner, 3);
            m.run_trace(7, spill);
            // Which trace it is nobody could say: its number is that of another one in the VMs that are known.
            let mut frames = vec!["trace -1 not in its code", "lua inner:?"];
            frames.extend(&BELOW[1..]);
            let (shown, outcome, state) = walk_as_unknown(m);
            assert_eq!(shown, frames);
            assert_eq!((outcome, state), (Outcome::Complete, VmState::Compiled));
            m.trace_calls(SAVER);
            frames.insert(0, "@saver");
            assert_eq!(walk_as_unknown(m).0, frames);
        });
    }
}

#[test]
fn a_vm_that_nobody_told_of_is_found_while_it_leaves_a_trace() {
    // lj_vm_exit_handler has saved all registers below the C frame.
    let m = &mut Machine::new(GC64);
    let (_, inner) = outer_and_inner(m);
    m.at(inner, 3);
    m.store_base();
    m.regs.sp -= 256;
    m.state(!3);
    let mut frames = vec!["[trace exit]", "lua inner:?"];
    frames.extend(&BELOW[1..]);
    let (shown, outcome, state) = walk_as_unknown(m);
    assert_eq!(shown, frames);
    assert_eq!((outcome, state), (Outcome::Complete, VmState::Exit));
}

#[test]
fn code_without_a_file_is_no_vm() {
    both(|m| {
        m.call(HANDLER);
        m.regs.r14 = m.dispatch();
        m.call_unknown(0xdead_0000);
        let (shown, outcome, state) = walk_as_unknown(m);
        assert_eq!(shown, [""; 0]);
        assert_eq!((outcome, state), (Outcome::NoMapping, VmState::NotLua));
    });
}

#[test]
fn of_two_vms_the_one_on_this_stack_is_shown() {
    both(|m| {
        outer_and_inner(m);
        m.freeze();
        let (sim, mut spec) = m.described();
        let idle = LuaVm { g: spec.vms[0].g + 16, ..spec.vms[0] };
        spec.vms.insert(0, idle);
        let walked = sim.walk(|at, to| m.image.read(at, to).is_ok(), &Described::from(&spec), &m.regs);
        assert_eq!(m.shown(&walked.frames), BELOW);
    });
}
