//! The one capture, and what can be asked of it.

use std::sync::LazyLock;
use upprof_tests::harness::bundle::Bundle;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::source::Sources;
use upprof_tests::harness::stacks::{Stacks, in_order};
use upprof_tests::harness::target::Target;

/// Every mechanism by its own path. A VM for each request (`/fresh_vm`) is left out: that VM is not found
/// by nginx's symbols, so its Lua is not shown.
const PATHS: [&str; 27] = [
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
    "/jit/loop",
    "/jit/inline",
    "/jit/ffi",
    "/coroutine",
    "/coroutine/nested",
    "/coroutine/wrap",
    "/coroutine/raw",
    "/thread",
    "/ffi/call",
    "/strings",
    "/cjson",
    "/load",
    "/names",
    "/regex",
    "/phases",
    "/balancer",
];
/// CPU seconds of the workers in the window: some hundred samples for each mechanism.
const BURN: f64 = 14.0;
/// Fewer samples than this in a function, and the test has not seen it.
pub(crate) const MIN_SAMPLES: u64 = 10;

pub(crate) const CALLS: &str = "/app/calls.lua";
pub(crate) const CALLBACKS: &str = "/app/callbacks.lua";
pub(crate) const COROUTINES: &str = "/app/coroutines.lua";
pub(crate) const LIBRARIES: &str = "/app/libraries.lua";
pub(crate) const COMPILED: &str = "/app/compiled.lua";
pub(crate) const PHASES: &str = "/app/phases.lua";

/// Where the Lua stack of each request starts.
pub(crate) const CONTENT: &str = "lua:(main chunk)@/app/content.lua:0";
/// A C function that has no name of its own to Lua, as those called through the FFI.
pub(crate) const ANY_C: &str = "cfunc:*";
/// nginx's way to the content handler.
pub(crate) const TO_CONTENT: [&str; 6] = [
    "_start",
    "main",
    "ngx_master_process_cycle",
    "ngx_process_events_and_timers",
    "ngx_http_core_run_phases",
    "ngx_http_lua_run_thread",
];

pub(crate) struct Capture {
    pub(crate) stacks: Stacks,
    pub(crate) sources: Sources,
    /// The counters `samples` and `stacks_complete`.
    pub(crate) samples: u64,
    pub(crate) complete: u64,
}

pub(crate) static CAPTURE: LazyLock<Capture> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::ticking("mechanisms");
    let sources = Sources::of(&target);
    let load = Load::on(&target, &PATHS);
    let upprof = Upprof::documented(folder.path());
    let mut upprof = upprof.args(["--container", target.name(), "-d", "0", "-F", "999"]).start();
    upprof.sampling();
    target.burn(BURN);
    upprof.signal(rustix::process::Signal::INT);
    let outcome = upprof.wait();
    outcome.exits(0);
    let answers = load.stop();
    assert!(answers.bad == 0 && answers.all > 0, "{answers:?}");
    let bundle = Bundle::only_in(folder.path());
    // A static is never dropped: what it keeps must need no cleaning up.
    Capture {
        stacks: bundle.stacks(),
        sources,
        samples: bundle.counter("samples"),
        complete: bundle.counter("stacks_complete"),
    }
});

/// The frame of a function of the application.
pub(crate) fn lua(name: &str, file: &str) -> String {
    CAPTURE.sources.lua(name, file)
}

/// All samples in a trace have this chain of Lua frames below it, but for few in which machine code has
/// returned to callers of the function it began in (`asm_retf`): these have the chain up to such a caller.
pub(crate) fn trace_called_by(trace: &str, chain: &[String]) {
    let all: Vec<(Vec<&str>, u64)> = CAPTURE
        .stacks
        .with(trace)
        .map(|s| (s.callers(trace).expect("the trace's frame"), s.count))
        .map(|(mut frames, count)| (frames.drain(..).filter(|f| f != &trace).collect(), count))
        .collect();
    for (frames, count) in &all {
        assert!(
            chain.starts_with(&frames.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>()),
            "{count} samples in {trace} have {frames:#?}\nexpected {chain:#?}"
        );
    }
    let samples = |whole: bool| {
        all.iter().filter(|(f, _)| (f.len() == chain.len()) == whole).map(|(_, n)| n).sum::<u64>()
    };
    let (whole, returned) = (samples(true), samples(false));
    assert!(
        whole >= MIN_SAMPLES && returned * 50 <= whole,
        "{trace}: {whole} samples, {returned} in callers"
    );
}

fn fits(frames: &[&str], wanted: &[String]) -> bool {
    let same = |(frame, w): (&&str, &String)| frame == w || (w == ANY_C && frame.starts_with("cfunc:"));
    frames.len() == wanted.len() && frames.iter().zip(wanted).all(same)
}

/// All samples in `callee` have one of these chains of Lua frames, `callee` left out; each chain occurs.
pub(crate) fn always_called_by(callee: &str, chains: &[Vec<String>]) {
    let wanted: Vec<Vec<String>> =
        chains.iter().map(|c| c.iter().cloned().chain([callee.to_owned()]).collect()).collect();
    let found = CAPTURE.stacks.callers(callee);
    for (chain, count) in &found {
        assert!(
            wanted.iter().any(|w| fits(chain, w)),
            "{count} samples have {chain:#?}\nexpected {wanted:#?}"
        );
    }
    for w in &wanted {
        let count: u64 = found.iter().filter(|(chain, _)| fits(chain, w)).map(|(_, n)| n).sum();
        assert!(count >= MIN_SAMPLES, "{count} samples of {w:#?}\nseen {found:#?}");
    }
}

/// At least so many samples have exactly this chain up to `callee`.
pub(crate) fn also_called_by(callee: &str, chain: &[String]) {
    let wanted: Vec<String> = chain.iter().cloned().chain([callee.to_owned()]).collect();
    let found = CAPTURE.stacks.callers(callee);
    let count: u64 = found.iter().filter(|(c, _)| fits(c, &wanted)).map(|(_, n)| n).sum();
    assert!(count >= MIN_SAMPLES, "{count} samples of {wanted:#?}\nseen {found:#?}");
}

/// All samples in `callee` went this way through C to the first Lua frame.
pub(crate) fn always_through(callee: &str, natives: &[&str]) {
    for stack in CAPTURE.stacks.with(callee) {
        assert!(in_order(stack.below_lua(), natives), "{natives:?} is not in {:#?}", stack.frames);
    }
}

/// The chain of a mechanism's entry function, called by the content handler.
pub(crate) fn entry(name: &str, file: &str) -> Vec<String> {
    vec![CONTENT.to_owned(), lua(name, file)]
}

/// A chain made longer.
pub(crate) fn then(mut chain: Vec<String>, more: &[&str]) -> Vec<String> {
    chain.extend(more.iter().map(|m| (*m).to_owned()));
    chain
}
