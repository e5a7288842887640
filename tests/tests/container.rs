//! The way the product is used: one command, one container name, a bundle. And the targets that are not
//! as usual: by pid, without LuaJIT, without nginx, idle after Lua ran.

use rustix::process::Signal;
use std::collections::BTreeSet;
use upprof_report::manifest::FORMAT;
use upprof_tests::harness::bundle::Bundle;
use upprof_tests::harness::docker::Container;
use upprof_tests::harness::load::{DEMO, Load};
use upprof_tests::harness::pprof;
use upprof_tests::harness::process;
use upprof_tests::harness::run::{Outcome, Upprof};
use upprof_tests::harness::target::{IMAGE, Target};
use upprof_tests::harness::wait::until;
use upprof_tests::harness::xml;

const FILES: [&str; 29] = [
    "cpu/by-host.csv",
    "cpu/by-phase.csv",
    "cpu/by-route.csv",
    "cpu/by-vmstate.csv",
    "cpu/by-worker.csv",
    "cpu/flame.svg",
    "cpu/lua.svg",
    "cpu/profile.folded",
    "cpu/profile.pb.gz",
    "cpu/recording.upprof",
    "index.html",
    "inspect/config.json",
    "inspect/connections.json",
    "inspect/coroutines.json",
    "inspect/filters.json",
    "inspect/gc.json",
    "inspect/jit.json",
    "inspect/memory-pools.json",
    "inspect/modules.json",
    "inspect/objects.json",
    "inspect/phases.json",
    "inspect/pools.json",
    "inspect/processes.json",
    "inspect/requests.json",
    "inspect/shm.json",
    "inspect/strings.json",
    "inspect/symbols.json",
    "inspect/timers.json",
    "manifest.yaml",
];

/// Captures until the target's workers have used this many CPU seconds.
fn capture(target: &Target, upprof: Upprof, cpu_seconds: f64) -> Outcome {
    let mut upprof = upprof.start();
    upprof.sampling();
    target.burn(cpu_seconds);
    upprof.signal(Signal::INT);
    upprof.wait()
}

fn on_host(target: &Target, out: &std::path::Path) -> Upprof {
    Upprof::on_host().args(["--container", target.name(), "-d", "0", "-F", "999"]).out(out)
}

#[test]
fn the_documented_command_leaves_a_bundle_in_which_all_files_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::ticking("documented");
    let load = Load::on(&target, &DEMO);
    // Not one word more than the documentation says.
    let upprof = Upprof::documented(folder.path()).args(["--container", target.name()]);
    let outcome = capture(&target, upprof, 3.0);
    outcome.exits(0);
    assert_eq!(outcome.stdout, "", "human text goes to stderr");
    assert_eq!(load.stop().bad, 0, "the target serves as before");

    let bundle = Bundle::only_in(folder.path());
    // As the container sees it.
    assert_eq!(outcome.opened().file_name(), bundle.path.file_name());
    assert_eq!(outcome.opened().parent(), Some("/out".as_ref()));
    let files = bundle.files();
    assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), FILES);
    assert!(bundle.archive() == files, "the archive differs from the folder");

    let manifest = bundle.manifest();
    assert_eq!(manifest.format, FORMAT);
    let container = manifest.container.as_ref().expect("a container");
    assert_eq!((container.name.as_str(), container.id.as_str()), (target.name(), target.id()));
    assert_eq!(container.image.as_deref(), Some(IMAGE));
    assert_eq!(
        (manifest.capture.frequency_hz, manifest.capture.duration_asked_ns),
        (99, Some(30_000_000_000))
    );
    let workers: BTreeSet<u32> = target.workers().into_iter().collect();
    let listed = manifest.processes.iter().filter(|p| p.role == "worker").map(|p| p.pid).collect();
    assert_eq!(workers, listed);
    for pid in &workers {
        assert!(manifest.lua_vms.iter().any(|vm| vm.pid == *pid), "no VM of {pid}");
    }
    for artifact in manifest.artifacts.iter().filter(|a| a.size_bytes.is_some()) {
        assert_eq!(artifact.size_bytes, Some(files[&artifact.path].len() as u64), "{}", artifact.path);
    }

    let stacks = bundle.stacks();
    let total = stacks.total();
    assert!(total > 0 && stacks.samples(|s| s.has_lua()) * 2 > total, "most of the demo is Lua");
    assert_eq!(manifest.capture.samples, total);
    assert_eq!(bundle.workers().iter().map(|row| row.samples).sum::<u64>(), total);
    let pprof = pprof::decode(&bundle.bytes("cpu/profile.pb.gz"));
    assert_eq!(u64::try_from(pprof.samples), Ok(total));
    assert_eq!(pprof.labels["container"], [target.name().to_owned()].into());
    let pids: BTreeSet<String> = manifest.processes.iter().map(|p| p.pid.to_string()).collect();
    assert!(pprof.labels["pid"].is_subset(&pids) && !pprof.labels["worker"].is_empty());
    for frame in stacks.0.iter().flat_map(|s| &s.frames).filter(|f| f.starts_with("lua:")) {
        assert!(pprof.functions.contains(frame), "{frame} is not in pprof");
    }
    for picture in ["cpu/flame.svg", "cpu/lua.svg"] {
        assert!(bundle.text(picture).contains("lua:M.deep_recursion_entry@/app/calls.lua"), "{picture}");
        xml::active(&bundle.text(picture));
    }
    let page = bundle.text("index.html");
    assert!(page.contains(target.name()));
    assert!(xml::active(&page).addresses.iter().all(|a| a.starts_with("./") || a.starts_with('#')));
    xml::active(&xml::frame(&page));
}

#[test]
fn nearly_every_stack_of_the_demo_reaches_the_entry() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::ticking("entry");
    let _load = Load::on(&target, &DEMO);
    capture(&target, on_host(&target, folder.path()), 6.0).exits(0);
    let bundle = Bundle::only_in(folder.path());
    let (stacks, samples) = (bundle.stacks(), bundle.counter("samples"));
    assert!(samples >= 3_000, "{samples}");
    let complete = bundle.counter("stacks_complete");
    let rooted = stacks.samples(|s| s.frames[0] == "_start");
    println!("{complete} complete and {rooted} rooted of {samples}");
    assert!(complete * 100 >= samples * 99, "{complete} of {samples}");
    assert!(rooted * 100 >= samples * 99, "{rooted} of {samples}");
}

#[test]
fn a_worker_that_runs_no_lua_shows_none_though_it_ran_some_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::quiet("plain");
    // Leaves behind what could be mistaken: a base, a thread, a trace that was the last to run.
    let lua = Load::on(&target, &["/mix"]);
    target.burn(0.5);
    assert_eq!(lua.stop().bad, 0);
    let plain = Load::without_lua(&target);
    capture(&target, on_host(&target, folder.path()), 2.0).exits(0);
    assert_eq!(plain.stop().bad, 0);
    let bundle = Bundle::only_in(folder.path());
    let stacks = bundle.stacks();
    assert!(stacks.total() >= 1_000, "{} samples", stacks.total());
    assert_eq!(stacks.samples(|s| s.has_lua()), 0);
    for row in bundle.workers().iter().filter(|row| row.samples > 0) {
        assert_eq!(
            (row.lua_percent, row.lua_unavailable.as_str()),
            (Some(0.0), ""),
            "the VM is known: {row:?}"
        );
    }
}

#[test]
fn a_master_by_its_pid_brings_its_workers_and_needs_no_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::quiet("by-pid");
    let _load = Load::on_all_workers(&target, &["/recursion"]);
    let upprof = Upprof::on_host()
        .args(["--pid", &target.pid().to_string(), "-d", "0", "-F", "999", "--host-root", "/nowhere"])
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .out(folder.path());
    capture(&target, upprof, 2.0).exits(0);
    let bundle = Bundle::only_in(folder.path());
    assert!(bundle.manifest().container.is_none());
    let rows = bundle.workers();
    for pid in target.workers() {
        let row = rows.iter().find(|row| row.pid == pid).unwrap_or_else(|| panic!("{pid}: {rows:?}"));
        assert!(row.role == "worker" && row.samples > 0 && row.lua_percent > Some(50.0), "{row:?}");
    }
    // Names are read from the container's files, not from ours.
    let named =
        bundle.stacks().samples(|s| s.frames.iter().any(|f| f.starts_with("lua:recursion_inner@/app/")));
    assert!(named > 0);
}

#[test]
fn nginx_without_lua_is_profiled_natively_and_said_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    const CONF: &str = "events {} http { access_log off; keepalive_requests 1000000; \
        server { listen 127.0.0.1:8081; return 200 ok; } }";
    let start = format!("echo '{CONF}' >/tmp/plain.conf && exec nginx -c /tmp/plain.conf -g 'daemon off;'");
    let target = Target::start("no-lua", &[IMAGE, "sh", "-c", &start]);
    let _load = Load::without_lua(&target);
    let outcome = capture(&target, on_host(&target, folder.path()), 1.0);
    outcome.exits(0);
    assert!(outcome.stderr.contains("no LuaJIT found: profiling 1 nginx workers"), "{}", outcome.stderr);
    let bundle = Bundle::only_in(folder.path());
    let stacks = bundle.stacks();
    assert_eq!(stacks.samples(|s| s.has_lua()), 0);
    let served =
        stacks.samples(|s| s.frames[0] == "_start" && s.frames.iter().any(|f| f.starts_with("ngx_http_")));
    assert!(served * 2 > stacks.total(), "{served} of {} samples serve requests", stacks.total());
    let rows = bundle.workers();
    assert!(rows.iter().all(|row| row.role == "worker" && !row.lua_unavailable.is_empty()), "{rows:?}");
    let skipped = bundle.manifest().skipped;
    assert!(skipped.iter().any(|s| s.what.contains("Lua stacks") && !s.why.is_empty()), "{skipped:?}");
}

#[test]
fn a_container_without_nginx_is_profiled_natively_and_said_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let busy = Container::run("shell", &["--network", "none", IMAGE, "sh", "-c", "while :; do :; done"]);
    let arguments = ["--container", busy.name(), "-d", "0", "-F", "499"];
    let mut upprof = Upprof::on_host().args(arguments).out(folder.path()).start();
    upprof.sampling();
    let from = process::cpu_seconds(busy.pid());
    until("the shell to work", || (process::cpu_seconds(busy.pid()) - from >= 1.0).then_some(()));
    upprof.signal(Signal::INT);
    let outcome = upprof.wait();
    outcome.exits(0);
    assert!(outcome.stderr.contains("no nginx and no LuaJIT found"), "{}", outcome.stderr);
    let bundle = Bundle::only_in(folder.path());
    let stacks = bundle.stacks();
    assert!(stacks.total() >= 250, "half of a second's ticks: {}", stacks.total());
    assert_eq!(stacks.samples(|s| s.has_lua()), 0);
    // The shell's own code, by the file it is in.
    let shell = stacks.samples(|s| s.frames.iter().any(|f| f.starts_with("dash+0x")));
    assert!(shell * 2 > stacks.total(), "{shell} of {}", stacks.total());
}
