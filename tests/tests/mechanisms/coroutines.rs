//! Lua that runs on a Lua stack of its own: the standard coroutines, which nest on the C stack, and those
//! and the light threads of ngx_lua, which its scheduler runs one by one.

use crate::capture::{
    ANY_C, CAPTURE, COROUTINES, MIN_SAMPLES, TO_CONTENT, always_called_by, always_through, entry, lua, then,
};

/// By which name ngx_lua's own is in the table `coroutine`; what applications call leads there by a tail
/// call.
const RESUME: &str = "cfunc:coroutine.__resume";

/// In all samples in `body`, the frame below it is this mark, and the one below that is one of these.
fn begins_above(body: &str, mark: &str, below: &[&str]) {
    let mut seen = 0;
    for stack in CAPTURE.stacks.with(body) {
        let at = stack.frames.iter().position(|f| f == body).unwrap_or_default();
        let [.., before, between] = &stack.frames[..at] else { panic!("{:#?}", stack.frames) };
        assert_eq!(between, mark, "{:#?}", stack.frames);
        assert!(below.contains(&before.as_str()), "{:#?}", stack.frames);
        seen += stack.count;
    }
    assert!(seen >= MIN_SAMPLES, "{seen}");
}

#[test]
fn raw_coroutines_nest_and_keep_their_parents() {
    let (outer, inner) = (lua("raw_coroutine_body", COROUTINES), lua("raw_coroutine_inner", COROUTINES));
    let resumed = then(entry("M.raw_coroutine_entry", COROUTINES), &["cfunc:coroutine._resume"]);
    always_called_by(&outer, std::slice::from_ref(&resumed));
    always_called_by(&inner, &[then(resumed, &[&outer, "cfunc:coroutine._resume"])]);
    always_through(&inner, &TO_CONTENT);
}

#[test]
fn coroutines_of_ngx_lua_are_above_who_resumed_them() {
    let body = lua("coroutine_body_generator", COROUTINES);
    always_called_by(&body, &[then(entry("M.coroutine_consumer", COROUTINES), &[RESUME])]);
    let outer = lua("coroutine_nested_outer", COROUTINES);
    let to_outer = then(entry("M.coroutine_nested_entry", COROUTINES), &[RESUME]);
    always_called_by(&outer, std::slice::from_ref(&to_outer));
    let inner = lua("coroutine_nested_inner", COROUTINES);
    always_called_by(&inner, &[then(to_outer, &[&outer, RESUME])]);
    for body in [body, outer, inner] {
        begins_above(&body, "[coroutine]", &[RESUME]);
        always_through(&body, &TO_CONTENT);
    }
}

/// What `coroutine.wrap` returns is a function of ngx_lua's that Lua has no name for.
#[test]
fn wrapped_coroutines_are_above_who_called_them() {
    let body = lua("wrapped_coroutine_body", COROUTINES);
    always_called_by(&body, &[then(entry("M.coroutine_wrap_entry", COROUTINES), &[ANY_C])]);
    always_through(&body, &TO_CONTENT);
    for stack in CAPTURE.stacks.with(&body) {
        let mark = stack.frames.iter().rposition(|f| f == "[coroutine]");
        assert_eq!(mark.map(|at| &stack.frames[at + 1]), Some(&body), "{:#?}", stack.frames);
    }
}

#[test]
fn light_threads_are_above_who_spawned_them_and_what_that_does_now() {
    const SPAWN: &str = "cfunc:ngx.thread.spawn";
    const WAIT: &str = "cfunc:ngx.thread.wait";
    let body = lua("light_thread_body", COROUTINES);
    let entry = entry("M.light_thread_entry", COROUTINES);
    // It runs at once when it is spawned; its spawner waits for it after it has slept.
    always_called_by(&body, &[then(entry.clone(), &[SPAWN]), then(entry, &[WAIT])]);
    begins_above(&body, "[light thread]", &[SPAWN, WAIT]);
    always_through(&body, &["_start", "main", "ngx_master_process_cycle", "ngx_http_lua_run_thread"]);
}
