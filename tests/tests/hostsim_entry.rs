//! The kernel's walkers (compiled for the host) in the interpreter's own code without a C frame of its own: in
//! the first and last instructions of its entries, and in helpers that C calls. The instructions are those of
//! LuaJIT's builds (vm_x64.dasc saveregs, restoregs).

use upprof_profile::VmState;
use upprof_tests::snapshot::host::{CFUNCTION, HELPER, MAPPED, VM};
use upprof_tests::snapshot::scenes::{BELOW, both, expect, outer_and_inner};
use upprof_tests::snapshot::{BIAS, Link, Machine};

/// vmstate (lj_obj.h).
const VM_C: i32 = !1;
const CFRAME: u64 = 80;

/// `push rbp`, `push rbx`, `push r15`, `push r14`, `sub rsp, 40`, `mov ebx, 1`.
const SAVEREGS: [&[u8]; 6] =
    [&[0x55], &[0x53], &[0x41, 0x57], &[0x41, 0x56], &[0x48, 0x83, 0xec, 0x28], &[0xbb, 1, 0, 0, 0]];
/// `add rsp, 40`, `pop r14`, `pop r15`, `pop rbx`, `pop rbp`, `ret`.
const RESTOREREGS: [&[u8]; 6] =
    [&[0x48, 0x83, 0xc4, 0x28], &[0x41, 0x5e], &[0x41, 0x5f], &[0x5b], &[0x5d], &[0xc3]];

/// A C function that Lua called has called back: its C frame is not linked. Returns the frames below the leaf,
/// and where the interpreter's registers are.
fn unlinked(m: &mut Machine) -> (Vec<&'static str>, u64) {
    m.image.map(BIAS, MAPPED);
    let (_, inner) = outer_and_inner(m);
    let c = m.c(CFUNCTION);
    m.lua_calls_c(inner, 3, c, CFUNCTION);
    m.call(HELPER);
    m.enter_vm();
    m.state(VM_C);
    let cf = m.cframe();
    let outer = m.image.get64(cf + m.layout().cframe.prev);
    m.set_cframe(outer);
    let mut frames = vec!["@vm", "helper", "cfunction", "c cfunction"];
    frames.extend(BELOW);
    (frames, cf)
}

/// The code of the helper is a direct call of `target`.
fn calls(m: &mut Machine, cf: u64, target: u64) {
    let returns_to = m.image.get64(cf + CFRAME - 8);
    let distance = target.wrapping_sub(returns_to) as u32;
    m.image.put8(returns_to - 5, 0xe8);
    m.image.put32(returns_to - 4, distance);
}

/// Stops it with so many words between rsp and the return address, at this code.
fn stop(m: &mut Machine, cf: u64, words: u64, code: &[u8]) {
    const AT: u64 = BIAS + VM.vaddr + 0x400;
    m.image.put(AT, &[0x90; 16]);
    m.image.put(AT, code);
    m.regs.ip = AT;
    m.regs.sp = cf + CFRAME - 8 - words * 8;
}

#[test]
fn each_instruction_that_saves_or_restores_registers_has_its_caller() {
    both(|m| {
        let (frames, cf) = unlinked(m);
        // lua_call jumps to its entry.
        calls(m, cf, BIAS + CFUNCTION.vaddr);
        for (code, words) in [(SAVEREGS, [0, 1, 2, 3, 4, 9]), (RESTOREREGS, [9, 4, 3, 2, 1, 0])] {
            for (n, words) in words.into_iter().enumerate() {
                stop(m, cf, words, &code[n..].concat());
                expect(m, VmState::C, &frames);
            }
        }
    });
}

#[test]
fn a_helper_that_c_calls_has_its_caller() {
    // `cpuid` behind `push rbx`, and a helper without a frame.
    for (words, code) in [(1, [0x0f, 0xa2]), (0, [0x0f, 0x28])] {
        both(|m| {
            let (frames, cf) = unlinked(m);
            calls(m, cf, BIAS + VM.vaddr + 0x3f0);
            stop(m, cf, words, &code);
            expect(m, VmState::C, &frames);
        });
    }
}

/// What lies where a return address should is believed only behind a call.
#[test]
fn a_word_that_is_no_return_address_is_not_taken_for_one() {
    both(|m| {
        let (mut frames, cf) = unlinked(m);
        stop(m, cf, 0, &SAVEREGS.concat());
        frames.splice(1..3, ["[native lost]"]);
        expect(m, VmState::C, &frames);
    });
}

/// `coroutine.resume` counts results in rbx, having saved PC: that is no link of a frame.
#[test]
fn a_fast_function_that_counts_in_pc_is_told_by_what_it_saved() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        let resume = m.fast("resume", 40);
        m.lua_calls_fast(inner, 3, resume);
        let pc = m.regs.bx;
        m.save_pc(pc);
        for count in [1, 9] {
            m.regs.bx = count;
            let mut frames = vec!["c resume"];
            frames.extend(BELOW);
            expect(m, VmState::Interpreted, &frames);
        }
    });
}

/// fff_res: the result of a fast function that C called lies where its function was.
#[test]
fn a_fast_function_that_has_returned_to_c_is_gone() {
    both(|m| {
        let f = m.lua("returning");
        m.call(HELPER);
        m.store_base();
        m.call_lua(f, Link::C, 3);
        let (base, function) = (m.base, if m.layout().reference == 8 { 16 } else { 8 });
        m.regs.bx = (3 * 8) | Link::C as u64;
        if function == 16 {
            m.image.put64(base - function, 0xfffd_8000_0000_0000);
        } else {
            m.image.put32(base - function, 0);
        }
        expect(m, VmState::Interpreted, &["helper", "main", "start"]);
    });
}
