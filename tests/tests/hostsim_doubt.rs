//! The kernel's walkers (compiled for the host) where it is not plain which Lua function runs, or what is
//! missing: the right one is found by proof, and what cannot be proven or read is marked.

use upprof_probes::hostsim::limits::{MAX_LUA_FRAMES, MAX_NATIVE_FRAMES};
use upprof_profile::VmState;
use upprof_profile::raw::Outcome;
use upprof_tests::oracle::layout::GC32;
use upprof_tests::snapshot::Machine;
use upprof_tests::snapshot::host::{FRAMED, HELPER, SAVER};
use upprof_tests::snapshot::scenes::{BELOW, both, expect, outer_and_inner};

/// vmstate (lj_obj.h).
const VM_GC: i32 = !2;

#[test]
fn compiled_code_has_a_trace_frame_on_the_function_it_entered() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        m.at(inner, 3);
        m.run_trace(7, 24);
        let below = ["lua inner:?", "lua outer:5", "handler", "main", "start"];
        let mut frames = vec!["trace 7 in its code"];
        frames.extend(below);
        expect(m, VmState::Compiled, &frames);
        // C called from there: its return address is in the trace.
        m.trace_calls(HELPER);
        frames.insert(0, "@helper");
        expect(m, VmState::Compiled, &frames);
        // Garbage collection hides the trace's number.
        m.state(VM_GC);
        frames.splice(1..2, ["[GC]", "trace -1 in its code"]);
        expect(m, VmState::GcCompiled, &frames);
    });
}

#[test]
fn the_leaf_is_the_function_that_holds_pc() {
    let mut leaf = vec!["@helper"];
    leaf.extend(BELOW);
    both(|m| {
        // lua_State.base is stale in all of these (it is outer's); BASE is in rdx, or kept in rbp.
        let base = |m: &mut Machine| {
            outer_and_inner(m);
            m.base
        };
        let bp = base(m);
        m.regs.bp = bp;
        m.call(HELPER);
        expect(m, VmState::Interpreted, &leaf);

        for native in [SAVER, FRAMED] {
            let m = &mut Machine::new(m.layout());
            m.regs.bp = base(m);
            m.call(native);
            // It uses rbp for itself; BASE is where it saved it.
            let mut frames = leaf.clone();
            let name = format!("@{}", native.name);
            frames[0] = &name;
            expect(m, VmState::Interpreted, &frames);
        }

        // Neither: it was stored before the call.
        let m = &mut Machine::new(m.layout());
        base(m);
        m.store_base();
        m.call(HELPER);
        expect(m, VmState::Interpreted, &leaf);

        // In the interpreter itself, a helper of its own has moved rdx on.
        let m = &mut Machine::new(m.layout());
        base(m);
        m.regs.dx = 0xdead_beef;
        m.store_base();
        expect(m, VmState::Interpreted, &leaf[1..]);
    });
    // GC32 uses half of rdx only.
    let m = &mut Machine::new(GC32);
    outer_and_inner(m);
    m.regs.dx |= 0xdead_beef << 32;
    expect(m, VmState::Interpreted, &leaf[1..]);
}

#[test]
fn a_leaf_without_proof_is_marked() {
    both(|m| {
        outer_and_inner(m);
        m.regs.r14 ^= 8;
        let frames = ["[leaf function unsure]", "lua outer:?", "handler", "main", "start"];
        expect(m, VmState::Interpreted, &frames);
        assert_eq!(m.walk().count("lua_leaf_unsure"), 1);
    });
}

#[test]
fn a_patched_return_is_led_back_to_its_function() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        let patched = m.patched(inner, 3);
        m.save_pc(patched);
        m.store_base();
        m.call(HELPER);
        m.state(VM_GC);
        let mut frames = vec!["@helper", "[GC]"];
        frames.extend(BELOW);
        expect(m, VmState::Gc, &frames);
        // Before the return has been fetched, PC is at it.
        m.save_pc(patched - 4);
        frames[2] = "lua inner:2";
        expect(m, VmState::Gc, &frames);
        // A PC that is neither in the function nor in a trace that starts there has no line.
        m.save_pc(patched + 4);
        frames[2] = "lua inner:?";
        expect(m, VmState::Gc, &frames);
        assert_eq!(m.walk().count("lua_line_unknown"), 1);
    });
}

#[test]
fn a_thread_that_is_not_the_c_frames_is_not_shown() {
    both(|m| {
        outer_and_inner(m);
        let other = m.coroutine();
        m.claim_cframe(other);
        let walked = m.walk();
        assert_eq!(m.shown(&walked.frames), ["[Lua lost]", "@vm", "handler", "main", "start"]);
        assert_eq!(walked.outcome, Outcome::Complete);
        assert_eq!(walked.count("lua_thread_mismatch"), 1);
    });
}

#[test]
fn what_is_missing_is_marked() {
    both(|m| {
        // C code without a file: exact again at the C frame, but its registers are lost.
        outer_and_inner(m);
        m.store_base();
        m.call_unknown(0xdead_0000);
        let mut frames = vec!["@?dead0000", "[native lost]", "[leaf function unsure]", "lua inner:?"];
        frames.extend(&BELOW[1..]);
        expect(m, VmState::Interpreted, &frames);
        assert_eq!(m.walk().count("native_frames_lost"), 1);
    });
    for (vmstate, state, mark) in [
        (VM_GC, VmState::Gc, "[GC]"),
        (!3, VmState::Exit, "[trace exit]"),
        (!4, VmState::Record, "[JIT recorder]"),
        (!5, VmState::Optimize, "[JIT optimiser]"),
        (!6, VmState::Assemble, "[JIT assembler]"),
    ] {
        both(|m| {
            let (_, inner) = outer_and_inner(m);
            m.store_base();
            m.save_pc(inner.code + 4 * 4);
            m.call(HELPER);
            m.state(vmstate);
            // SAVE_PC is known to be current while collecting only.
            let leaf = if state == VmState::Gc { "lua inner:3" } else { "lua inner:?" };
            expect(m, state, &["@helper", mark, leaf, "lua outer:5", "handler", "main", "start"]);
        });
    }
}

#[test]
fn deep_stacks_are_cut_and_say_so() {
    both(|m| {
        let (outer, _) = outer_and_inner(m);
        for _ in 0..MAX_LUA_FRAMES + 20 {
            m.lua_calls(outer, 5, 3, outer);
        }
        let walked = m.walk();
        let shown = m.shown(&walked.frames);
        assert_eq!(shown.iter().filter(|f| f.starts_with("lua ")).count(), MAX_LUA_FRAMES);
        assert_eq!(shown[MAX_LUA_FRAMES..], ["[truncated]", "handler", "main", "start"]);
        assert_eq!(walked.outcome, Outcome::Truncated);
    });
    both(|m| {
        for _ in 0..MAX_NATIVE_FRAMES + 20 {
            m.call(SAVER);
        }
        let walked = m.walk();
        let shown = m.shown(&walked.frames);
        assert_eq!(shown.len(), MAX_NATIVE_FRAMES + 1);
        assert_eq!(shown.last().map(String::as_str), Some("[truncated]"));
        assert_eq!(walked.outcome, Outcome::Truncated);
    });
}

#[test]
fn the_interpreter_is_believed_while_it_leaves_a_trace() {
    both(|m| {
        // lj_vm_exit_interp: BASE and PC are the interpreter's again, jit_base and vmstate still the
        // trace's, which was entered two calls ago.
        let (_, inner) = outer_and_inner(m);
        let entered = m.base;
        m.lua_calls(inner, 3, 7, inner);
        m.lua_calls(inner, 3, 7, inner);
        m.at(inner, 0);
        m.state(7);
        m.set_jit_base(entered);
        let mut frames = vec!["lua inner:0", "lua inner:3"];
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);
    });
}
