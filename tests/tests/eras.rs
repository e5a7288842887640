//! Other LuaJITs than the demo's, as Debian ships them: the layout is found without debug information,
//! and the stacks are right. What is expected is read from the application (`images/target/app`).

use upprof_tests::harness::bundle::Bundle;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::stacks::in_order;
use upprof_tests::harness::target::Target;

const PATHS: [&str; 7] = ["/recursion", "/deep", "/pcall", "/sort", "/gsub", "/coroutine/raw", "/jit/loop"];
/// CPU seconds of the workers in the window.
const BURN: f64 = 4.0;

/// Captures a target of this suite, checks everything that does not depend on the era, and returns the
/// layouts that were found. `trace` is how the demo's hot loop is told once it is compiled.
fn capture(suite: &str, trace: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::start(suite, &["--env", "TIMER_TICK=off", &format!("upprof-target:{suite}")]);
    let _load = Load::on(&target, &PATHS);
    let mut upprof = Upprof::on_host()
        .args(["--container", target.name(), "-d", "0", "-F", "499"])
        .out(folder.path())
        .start();
    upprof.sampling();
    target.burn(BURN);
    upprof.signal(rustix::process::Signal::INT);
    upprof.wait().exits(0);

    let bundle = Bundle::only_in(folder.path());
    let stacks = bundle.stacks();
    let total = stacks.total();
    assert!(total as f64 > BURN * 499.0 / 2.0, "{total} samples");
    let share = |n: u64| n as f64 / total as f64;
    let rooted = share(stacks.samples(|s| s.frames.first().is_some_and(|f| f == "_start")));
    assert!(rooted >= 0.99, "{rooted} of the samples reach the process's entry");
    let doubtful = share(stacks.samples(|s| s.is_doubtful()));
    assert!(doubtful <= 0.02, "{doubtful} of the samples have something in doubt");
    for chain in [
        [
            "ngx_http_lua_run_thread",
            "lua:recursion_outer@/app/calls.lua:",
            "lua:recursion_inner@/app/calls.lua:",
        ],
        ["lua:M.pcall_entry@/app/calls.lua:", "cfunc:pcall", "lua:pcall_guarded_body@/app/calls.lua:"],
        [
            "lua:M.sort_entry@/app/callbacks.lua:",
            "cfunc:table.sort",
            "lua:sort_comparator_by_weight@/app/callbacks.lua:",
        ],
        [
            "lua:M.gsub_entry@/app/callbacks.lua:",
            "cfunc:string.gsub",
            "lua:gsub_replacer_callback@/app/callbacks.lua:",
        ],
        [
            "lua:M.raw_coroutine_entry@/app/coroutines.lua:",
            "lua:raw_coroutine_body@/app/coroutines.lua:",
            "lua:raw_coroutine_inner@/app/coroutines.lua:",
        ],
        [
            "lua:(main chunk)@/app/content.lua:",
            "lua:M.jit_hot_loop_entry@/app/compiled.lua:",
            "lua:jit_hot_loop@/app/compiled.lua:",
        ],
    ] {
        // Lines of definition are the sources'; here only the names are compared.
        let seen = stacks.samples(|s| {
            let cut: Vec<String> = s.frames.iter().map(|f| without_line(f)).collect();
            in_order(&cut, &chain.map(without_line))
        });
        assert!(seen > 0, "{suite}: no stack has {chain:?}");
    }
    let in_trace = stacks.samples(|s| {
        let is_trace = |f: &&String| f.starts_with("[trace ");
        let hot = s.frames.iter().any(|f| without_line(f) == "lua:jit_hot_loop@/app/compiled.lua");
        hot && s.frames.iter().find(is_trace).is_some_and(|f| f.contains(trace))
    });
    assert!(in_trace > 0, "{suite}: no sample in a trace called {trace:?}");
    // 200 calls deep, and each of them is there: one from the entry, 199 from itself.
    let deepest = "lua:deep_recursion_step@/app/calls.lua";
    let deep = stacks.samples(|s| s.frames.iter().filter(|f| without_line(f) == deepest).count() == 200);
    assert!(deep > 0, "{suite}: no stack with 200 calls");
    layouts(&bundle)
}

/// The text of a frame with a place, up to the line number; any other frame's text.
fn without_line(frame: &str) -> String {
    let end = frame.rfind(':').filter(|_| frame.contains('@'));
    end.map_or(frame, |i| &frame[..i]).to_owned()
}

fn layouts(bundle: &Bundle) -> Vec<String> {
    let vms = bundle.manifest().lua_vms;
    assert!(!vms.is_empty(), "no VM in the manifest");
    vms.into_iter().map(|vm| vm.layout).collect()
}

/// Debian 11: upstream LuaJIT 2.1.0-beta3 in GC32 mode, `lua_State` without OpenResty's fields. It does not
/// keep which part of a trace is which function: traces have their number and start instead.
#[test]
fn debian_11_is_gc32() {
    for layout in capture("bullseye", " @ /app/compiled.lua:") {
        assert!(layout.contains("LuaJIT GC32"), "{layout}");
    }
}

/// Debian 13: OpenResty's luajit2 of 2025 in GC64 mode.
#[test]
fn debian_13_is_gc64_of_openresty() {
    for layout in capture("trixie", "[trace jit_hot_loop@/app/compiled.lua:") {
        assert!(layout.contains("luajit2 GC64"), "{layout}");
    }
}
