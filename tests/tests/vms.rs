//! Several VMs at once: http's, the stream module's, one for each request, those of ngx.run_worker_thread, and those
//! of a privileged agent. Each has its samples, below its own entry and in its own process.
//!
//! The target is the image `static`: Debian's own nginx has neither a stream module for Lua nor a privileged
//! agent.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use upprof_tests::harness::bundle::{Bundle, Worker};
use upprof_tests::harness::load::Load;
use upprof_tests::harness::process;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::source::Sources;
use upprof_tests::harness::stacks::{Stack, Stacks, is_lua};
use upprof_tests::harness::target::Target;
use upprof_tests::harness::wait::until;

const CALLS: &str = "/app/calls.lua";
const STREAM: &str = "/app/stream.lua";
const FRESH: &str = "/app/fresh.lua";
const THREAD: &str = "/app/worker_thread.lua";
const AGENT: &str = "/app/agent.lua";
/// Every file of the application that runs in http's VM under this load.
const HTTP: [&str; 2] = ["/app/content.lua", CALLS];

/// CPU seconds in the window, of the workers and of the agent.
const WORKERS_BURN: f64 = 6.0;
const AGENT_BURN: f64 = 0.5;
const MIN_SAMPLES: u64 = 50;

const HTTP_ENTRY: &str = "ngx_http_lua_run_thread";
const STREAM_ENTRY: &str = "ngx_stream_lua_run_thread";
const AGENT_ROLE: &str = "[privileged agent]";

struct Capture {
    stacks: Stacks,
    sources: Sources,
    rows: Vec<Worker>,
    workers: Vec<u32>,
    agent: u32,
    /// Pid and owner of each VM of the manifest.
    vms: BTreeSet<(u32, String)>,
    /// The counters `samples` and `stacks_complete`.
    samples: u64,
    complete: u64,
}

static CAPTURE: LazyLock<Capture> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--env", "TIMER_TICK=off", "--env", "PRIVILEGED_AGENT=on", "upprof-target:static"];
    let target = Target::start("vms", &options);
    let agent = agent(&target);
    let sources = Sources::of(&target);
    let http = Load::on(&target, &["/recursion", "/fresh_vm", "/thread_vm"]);
    let stream = Load::stream(&target);
    let mut upprof = Upprof::on_host()
        .out(folder.path())
        .args(["--container", target.name(), "-d", "0", "-F", "999"])
        .start();
    upprof.sampling();
    let from = process::cpu_seconds(agent);
    target.burn(WORKERS_BURN);
    until("the agent to use CPU time", || (process::cpu_seconds(agent) - from >= AGENT_BURN).then_some(()));
    let workers = target.workers();
    upprof.signal(rustix::process::Signal::INT);
    upprof.wait().exits(0);
    for load in [http, stream] {
        let answers = load.stop();
        assert!(answers.bad == 0 && answers.all > 0, "{answers:?}");
    }
    let bundle = Bundle::only_in(folder.path());
    let owner = |layout: &str| layout.split(':').next().unwrap_or_default().to_owned();
    // A static is never dropped: what it keeps must need no cleaning up.
    Capture {
        stacks: bundle.stacks(),
        sources,
        rows: bundle.workers(),
        workers,
        agent,
        vms: bundle.manifest().lua_vms.into_iter().map(|vm| (vm.pid, owner(&vm.layout))).collect(),
        samples: bundle.counter("samples"),
        complete: bundle.counter("stacks_complete"),
    }
});

fn agent(target: &Target) -> u32 {
    let is_agent = |pid: &u32| process::arguments(*pid)[0] == "nginx: privileged agent process";
    until("the privileged agent", || process::children(target.pid()).into_iter().find(is_agent))
}

fn lua(name: &str, file: &str) -> String {
    CAPTURE.sources.lua(name, file)
}

fn main_chunk(file: &str) -> String {
    format!("lua:(main chunk)@{file}:0")
}

/// All samples in `callee` have one of these chains of Lua frames up to it, and each chain has its samples.
fn always_called_by(callee: &str, chains: &[&[&str]]) {
    let found = CAPTURE.stacks.callers(callee);
    for (chain, count) in &found {
        assert!(chains.contains(&chain.as_slice()), "{count} samples have {chain:#?}\nexpected {chains:#?}");
    }
    for chain in chains {
        let count = found.get(*chain).copied().unwrap_or(0);
        assert!(count >= MIN_SAMPLES, "{count} samples of {chain:#?}\nseen {found:#?}");
    }
}

/// Whether a frame is of a Lua function, or a trace, of this file.
fn is_of(frame: &str, file: &str) -> bool {
    is_lua(frame) && frame.contains(&format!("@{file}:"))
}

#[test]
fn each_vm_has_its_samples_with_its_own_chain() {
    let http = main_chunk("/app/content.lua");
    let (outer, inner) = (lua("recursion_outer", CALLS), lua("recursion_inner", CALLS));
    let chain = [http.as_str(), &lua("M.recursion_entry", CALLS), &outer, &inner];
    let recursion = CAPTURE.stacks.samples(|s| s.callers(&inner).is_some_and(|c| c.starts_with(&chain)));
    assert!(recursion >= MIN_SAMPLES, "{recursion} samples of {chain:#?}");

    let (stream, entry) = (main_chunk(STREAM), lua("stream_vm_entry", STREAM));
    let (inner, body) = (lua("stream_vm_inner", STREAM), lua("stream_vm_coroutine_body", STREAM));
    let called = [stream.as_str(), &entry, &inner];
    // One C function has one name in all VMs, and ngx_lua has called this one otherwise in http's.
    let resumed = [stream.as_str(), &entry, "cfunc:coroutine._resume", &body, &inner];
    always_called_by(&inner, &[&called, &resumed]);

    let fresh = lua("fresh_vm_work", FRESH);
    always_called_by(&fresh, &[&[&main_chunk(FRESH), &fresh]]);

    let (entry, inner) = (lua("M.worker_thread_entry", THREAD), lua("worker_thread_inner", THREAD));
    always_called_by(&inner, &[&[&entry, &inner]]);

    let (timer, work) = (lua("privileged_agent_timer", AGENT), lua("privileged_agent_work", AGENT));
    always_called_by(&work, &[&[&timer, &work]]);
}

#[test]
fn compiled_code_of_the_stream_modules_vm_is_named_as_any() {
    let hot = lua("stream_vm_hot_loop", STREAM);
    let trace = CAPTURE.sources.trace("stream_vm_hot_loop", STREAM, "for ");
    always_called_by(&trace, &[&[&main_chunk(STREAM), &lua("stream_vm_entry", STREAM), &hot, &trace]]);
}

/// User space is not told of it (ADR 0015): which trace it is, is not known, where it was entered is.
#[test]
fn compiled_code_of_a_threads_vm_is_in_its_function() {
    let (entry, hot) = (lua("M.worker_thread_entry", THREAD), lua("worker_thread_hot_loop", THREAD));
    let trace = "[trace not known]";
    let chain = [entry.as_str(), &hot, trace];
    let of_thread = |s: &Stack| s.callers(trace).is_some_and(|c| c == chain);
    let samples = CAPTURE.stacks.samples(of_thread);
    assert!(samples >= MIN_SAMPLES, "{samples} samples of {chain:#?}");
    let in_hot = CAPTURE.stacks.samples(|s| s.frames.contains(&hot));
    assert!(samples * 10 >= in_hot * 9, "{samples} of {in_hot} samples in {hot} are in its trace");
}

#[test]
fn no_frame_of_one_vm_is_below_anothers_entry() {
    let entered = |s: &Stack, entry: &str| s.frames.iter().any(|f| f == entry);
    let timer = lua("privileged_agent_timer", AGENT);
    for stack in &CAPTURE.stacks.0 {
        let has = |file: &str| stack.frames.iter().any(|f| is_of(f, file));
        let (http, stream) = (HTTP.iter().any(|file| has(file)), has(STREAM));
        let vms = [http, stream, has(FRESH), has(THREAD), stack.frames.contains(&timer)];
        assert!(vms.iter().filter(|has| **has).count() <= 1, "several VMs: {:#?}", stack.frames);
        assert!(!((stream || has(THREAD)) && entered(stack, HTTP_ENTRY)), "{:#?}", stack.frames);
        assert!(!(http && entered(stack, STREAM_ENTRY)), "{:#?}", stack.frames);
    }
    for (entry, file) in [(STREAM_ENTRY, STREAM), (HTTP_ENTRY, HTTP[0]), (HTTP_ENTRY, FRESH)] {
        let through = |s: &Stack| entered(s, entry) && s.frames.iter().any(|f| is_of(f, file));
        let samples = CAPTURE.stacks.samples(through);
        assert!(samples >= MIN_SAMPLES, "{samples} samples of {file} through {entry}");
    }
}

#[test]
fn the_agents_samples_are_its_own() {
    let row =
        |pid: u32| CAPTURE.rows.iter().find(|r| r.pid == pid).unwrap_or_else(|| panic!("no row of {pid}"));
    for worker in &CAPTURE.workers {
        let row = row(*worker);
        assert!(row.role == "worker" && row.samples >= MIN_SAMPLES, "{row:?}");
        assert_eq!(row.lua_unavailable, "", "{row:?}");
    }
    let agent = row(CAPTURE.agent);
    assert!(agent.role == "privileged agent" && agent.samples >= MIN_SAMPLES, "{agent:?}");

    let in_agent = |s: &Stack| s.frames[0] == AGENT_ROLE;
    assert_eq!(CAPTURE.stacks.samples(in_agent), agent.samples);
    // Each VM loads the agent's file; its functions run there only, and nothing else of the application does.
    let functions = ["privileged_agent_timer", "privileged_agent_work"].map(|name| lua(name, AGENT));
    for stack in &CAPTURE.stacks.0 {
        let application: Vec<&String> = stack.frames.iter().filter(|f| f.contains("@/app/")).collect();
        let of_agent = application.iter().filter(|f| functions.contains(f)).count();
        let expected = if in_agent(stack) { application.len() } else { 0 };
        assert_eq!(of_agent, expected, "{:#?}", stack.frames);
    }
}

#[test]
fn the_manifest_lists_both_vms_of_each_process() {
    for pid in CAPTURE.workers.iter().chain([&CAPTURE.agent]) {
        for owner in ["http", "stream"] {
            assert!(CAPTURE.vms.contains(&(*pid, owner.to_owned())), "{owner} of {pid}: {:?}", CAPTURE.vms);
        }
    }
}

#[test]
fn nearly_every_stack_reaches_the_entry() {
    let Capture { samples, complete, .. } = &*CAPTURE;
    assert!(complete * 1000 >= samples * 995, "{complete} of {samples} stacks are complete");
}
