//! Who called whom, by every way in which Lua and C call each other. One capture by the documented
//! command serves all tests of this file; what is expected is read from the application's source
//! (`images/target/app`).
//!
//! "Always" is meant: of all samples that are in a function, each must show the very chain of Lua frames
//! that the source says, but for those that say themselves that something in them is not known, which
//! are counted.

mod capture;
mod coroutines;
mod phases;

use capture::{
    ANY_C, CALLBACKS, CALLS, CAPTURE, COMPILED, CONTENT, Capture, LIBRARIES, MIN_SAMPLES, TO_CONTENT,
    also_called_by, always_called_by, always_through, entry, lua, then, trace_called_by,
};
use upprof_tests::harness::stacks::{Stack, is_lua};

#[test]
fn pcall_and_xpcall_with_their_error_handler() {
    let guarded = lua("pcall_guarded_body", CALLS);
    always_called_by(&guarded, &[then(entry("M.pcall_entry", CALLS), &["cfunc:pcall"])]);
    always_through(&guarded, &TO_CONTENT);
    let body = lua("xpcall_body", CALLS);
    let to_body = then(entry("M.xpcall_entry", CALLS), &["cfunc:xpcall"]);
    always_called_by(&body, std::slice::from_ref(&to_body));
    // The handler runs on top of what failed.
    always_called_by(&lua("xpcall_handler", CALLS), &[then(to_body, &[&body, "cfunc:error"])]);
}

#[test]
fn recursion_is_shown_to_its_depth_and_no_further() {
    let (outer, inner) = (lua("recursion_outer", CALLS), lua("recursion_inner", CALLS));
    let start = entry("M.recursion_entry", CALLS);
    // recursion_outer(6) calls recursion_inner(6), which calls recursion_outer(5), down to 1.
    const DEPTH: usize = 6;
    let mut seen = [0; DEPTH];
    for (chain, count) in CAPTURE.stacks.callers(&inner) {
        let depth = (chain.len() - start.len()) / 2;
        let calls = std::iter::repeat_n([&outer, &inner], depth).flatten();
        let expected: Vec<&String> = start.iter().chain(calls).collect();
        assert!(chain == expected && depth <= DEPTH, "{count} samples have {chain:#?}");
        seen[depth - 1] += count;
    }
    assert!(seen.iter().all(|n| *n >= MIN_SAMPLES), "samples by depth: {seen:?}");
}

#[test]
fn two_hundred_frames_are_all_there() {
    let step = lua("deep_recursion_step", CALLS);
    let start = entry("M.deep_recursion_entry", CALLS);
    // deep_recursion_step(200) recurs down to 1, where the work is.
    const DEPTH: usize = 200;
    let mut whole = 0;
    let mut all = 0;
    for (chain, count) in CAPTURE.stacks.callers(&step) {
        assert_eq!(chain[..start.len()], start, "{count} samples start elsewhere");
        let steps = &chain[start.len()..];
        assert!(steps.iter().all(|f| *f == step) && steps.len() <= DEPTH, "{count} samples have {chain:#?}");
        all += count;
        whole += if steps.len() == DEPTH { count } else { 0 };
    }
    // Going down and up are 200 calls and returns beside 20,000 rounds of the loop.
    assert!(
        whole >= MIN_SAMPLES && whole * 10 >= all * 9,
        "{whole} of {all} samples have all {DEPTH} frames"
    );
    always_through(&step, &TO_CONTENT);
}

#[test]
fn variable_arguments() {
    let sum = lua("vararg_sum", CALLS);
    let chain = entry("M.vararg_entry", CALLS);
    always_called_by(&sum, std::slice::from_ref(&chain));
    also_called_by("cfunc:select", &then(chain, &[&sum]));
}

#[test]
fn a_tail_call_leaves_no_caller() {
    let target = lua("tail_call_target", CALLS);
    always_called_by(&target, &[entry("M.tail_call_entry", CALLS)]);
    let vanishing = lua("tail_call_vanishing", CALLS);
    let both = |s: &Stack| s.frames.contains(&vanishing) && s.frames.contains(&target);
    assert_eq!(CAPTURE.stacks.samples(both), 0, "even in doubt");
}

#[test]
fn callbacks_of_c_library_functions() {
    let comparator = lua("sort_comparator_by_weight", CALLBACKS);
    always_called_by(&comparator, &[then(entry("M.sort_entry", CALLBACKS), &["cfunc:table.sort"])]);
    always_through(&comparator, &TO_CONTENT);
    let replacer = lua("gsub_replacer_callback", CALLBACKS);
    always_called_by(&replacer, &[then(entry("M.gsub_entry", CALLBACKS), &["cfunc:string.gsub"])]);
}

#[test]
fn metamethods() {
    for handler in ["meta_index_handler", "meta_call_handler", "meta_less_handler", "meta_concat_handler"] {
        always_called_by(&lua(handler, CALLBACKS), &[entry("M.meta_entry", CALLBACKS)]);
    }
}

#[test]
fn an_ffi_callback_below_the_c_function_that_calls_it() {
    let body = lua("ffi_callback_body", CALLBACKS);
    always_called_by(&body, &[then(entry("M.ffi_callback_entry", CALLBACKS), &[ANY_C])]);
    for stack in CAPTURE.stacks.with(&body) {
        // The C library's qsort, by one of its names.
        let qsort = stack.frames.iter().position(|f| f.contains("qsort"));
        let called = stack.frames.iter().position(|f| f.starts_with("cfunc:"));
        let callback = stack.frames.iter().position(|f| *f == body);
        assert!(called < qsort && qsort < callback, "{:#?}", stack.frames);
    }
}

#[test]
fn finalizers_run_in_the_collector() {
    let chain = then(entry("M.finalizer_entry", CALLBACKS), &["cfunc:collectgarbage"]);
    also_called_by(&lua("finalizer_work", CALLBACKS), &chain);
    also_called_by(&lua("userdata_finalizer_work", CALLBACKS), &chain);
}

#[test]
fn c_functions_have_the_name_that_lua_calls_them_by() {
    let builder = then(entry("M.strings_entry", LIBRARIES), &[&lua("string_builder", LIBRARIES)]);
    also_called_by("cfunc:string.format", &builder);
    // One of ngx_lua's.
    also_called_by("cfunc:ngx.say", &[CONTENT.to_owned()]);
}

#[test]
fn a_c_function_of_two_names_is_not_given_one_of_them() {
    // lua-cjson makes both cjson.safe.encode and cjson.safe.decode of one C function, a wrapper.
    let roundtrip = lua("cjson_roundtrip", LIBRARIES);
    let mut seen = 0;
    for stack in CAPTURE.stacks.with(&roundtrip) {
        let Some(called) = stack.above(&roundtrip).iter().find(|f| f.starts_with("cfunc:")) else { continue };
        assert_eq!(called.contains("encode"), called.contains("decode"), "{} samples: {called}", stack.count);
        seen += stack.count;
    }
    assert!(seen >= MIN_SAMPLES, "{seen}");
}

#[test]
fn a_c_function_called_through_the_ffi_is_a_native_frame() {
    let caller = lua("ffi_adler_caller", LIBRARIES);
    let chain = entry("M.ffi_call_entry", LIBRARIES);
    always_called_by(&caller, std::slice::from_ref(&chain));
    // zlib's adler32 and what it jumps to.
    let in_zlib = |s: &Stack| s.above(&caller).iter().any(|f| f.starts_with("adler32"));
    let (all, zlib) =
        (CAPTURE.stacks.samples(|s| s.frames.contains(&caller)), CAPTURE.stacks.samples(in_zlib));
    // 4 kB are summed for each call.
    assert!(zlib >= MIN_SAMPLES && zlib * 2 > all, "{zlib} of {all} samples are in zlib");
}

#[test]
fn compiled_loops_are_traces_in_their_function() {
    for (name, entry_name) in [
        ("jit_hot_loop", "M.jit_hot_loop_entry"),
        ("jit_inlining_loop", "M.jit_inline_entry"),
        ("jit_crc_loop", "M.jit_ffi_entry"),
    ] {
        let chain = then(entry(entry_name, COMPILED), &[&lua(name, COMPILED)]);
        trace_called_by(&CAPTURE.sources.trace(name, COMPILED, "for "), &chain);
    }
    let trace = CAPTURE.sources.trace("jit_crc_loop", COMPILED, "for ");
    let in_zlib = |s: &Stack| s.above(&trace).iter().any(|f| f.starts_with("crc32"));
    assert!(CAPTURE.stacks.samples(in_zlib) >= MIN_SAMPLES, "C called by machine code");
    always_through(&trace, &TO_CONTENT);
}

#[test]
fn a_chunk_made_by_load_is_named_by_its_text() {
    let chain = entry("M.load_entry", "/app/loaded.lua");
    let chunk = |f: &&str| f.starts_with("lua:(main chunk)@[string \"local function loaded_chunk_inner(n) ");
    let fits = |s: &&Stack| {
        let lua: Vec<&str> = s.frames.iter().map(String::as_str).filter(|f| is_lua(f)).collect();
        lua.len() > chain.len() && lua[..chain.len()] == chain && lua[chain.len()..].iter().take(1).all(chunk)
    };
    let seen: u64 = CAPTURE.stacks.with(&chain[1]).filter(fits).map(|s| s.count).sum();
    assert!(seen >= MIN_SAMPLES, "{seen}");
}

#[test]
fn lua_is_only_where_c_entered_it() {
    let gate = |s: &Stack| s.below_lua().iter().rfind(|f| !f.starts_with('[')).cloned().unwrap_or_default();
    let entered = |s: &Stack| gate(s) == "lua_pcall" || gate(s).starts_with("ngx_http_lua_");
    let elsewhere = |s: &&Stack| s.has_lua() && !s.is_doubtful() && !entered(s);
    let strange: Vec<&Stack> = CAPTURE.stacks.0.iter().filter(elsewhere).collect();
    // Not none: while C enters a callback, there is a moment in which its frame is there and has no Lua yet.
    let samples: u64 = strange.iter().map(|s| s.count).sum();
    assert!(samples * 1000 <= CAPTURE.stacks.total(), "{samples} samples: {strange:#?}");
}

#[test]
fn what_is_in_doubt_is_little_and_nearly_every_stack_reaches_the_entry() {
    let Capture { stacks, samples, complete, .. } = &*CAPTURE;
    let total = stacks.total();
    assert_eq!(total, *samples);
    // What PCRE compiles is in no file; that it is not known there is true.
    let matcher = lua("pcre_matcher", LIBRARIES);
    let doubtful = stacks.samples(|s| s.is_doubtful() && !s.frames.contains(&matcher));
    assert!(doubtful * 50 <= total, "{doubtful} of {total} samples are marked");
    assert!(complete * 100 >= total * 99, "{complete} of {total} stacks are complete");
    let rooted = stacks.samples(|s| s.frames[0] == "_start");
    assert!(rooted * 100 >= total * 99, "{rooted} of {total} stacks start at the entry");
}
