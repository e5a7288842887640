//! `record`, `report` and `stack`, on real targets: every format of one window tells the same, a recording
//! renders the same again, and a stack is the one the source code says.

use serde_json::Value;
use std::path::Path;
use upprof_tests::harness::bundle::Bundle;
use upprof_tests::harness::docker::{Container, docker};
use upprof_tests::harness::load::{DEMO, Load};
use upprof_tests::harness::pprof;
use upprof_tests::harness::process;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::source::Sources;
use upprof_tests::harness::stacks::Stacks;
use upprof_tests::harness::target::{IMAGE, Target};
use upprof_tests::harness::wait::until;
use upprof_tests::harness::xml;

const USAGE: i32 = 2;
const NO_SAMPLES: i32 = 5;
const OUTPUT: i32 = 6;

/// Paths of files in a folder, as arguments.
fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn text(folder: &Path, name: &str) -> String {
    String::from_utf8(read(folder, name)).expect("UTF-8")
}

fn json(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&read(folder, name)).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// Names of a folder's files, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

const FORMATS: [&str; 5] = ["a.svg", "a.folded", "a.pb.gz", "a.speedscope.json", "a.json"];

/// `-o` for each of these names in `folder`.
fn outputs(folder: &Path, names: &[&str]) -> Vec<String> {
    names.iter().flat_map(|name| ["-o".to_owned(), path(folder, name)]).collect()
}

/// Records a window in which the target's workers used this many CPU seconds.
fn record(target: &Target, arguments: &[String], cpu_seconds: f64) -> upprof_tests::harness::run::Outcome {
    let upprof = Upprof::on_host().args(["record", "--container", target.name(), "-d", "0", "-F", "499"]);
    let mut upprof = upprof.args(arguments).start();
    upprof.sampling();
    target.burn(cpu_seconds);
    upprof.signal(rustix::process::Signal::INT);
    upprof.wait()
}

#[test]
fn every_format_of_one_window_tells_the_same_and_its_recording_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let target = Target::ticking("record");
    let _load = Load::on(&target, &DEMO);
    let mut arguments = outputs(folder, &FORMATS);
    arguments.extend(["--raw".to_owned(), path(folder, "a.upprof")]);
    let outcome = record(&target, &arguments, 2.0);
    outcome.exits(0);
    assert_eq!(outcome.stdout, "", "nothing was to go there");
    assert_eq!(names(folder), ["a.folded", "a.json", "a.pb.gz", "a.speedscope.json", "a.svg", "a.upprof"]);

    let stacks = Stacks::parse(&text(folder, "a.folded"));
    let total = stacks.total();
    assert!(stacks.samples(|s| s.has_lua()) * 2 > total, "most of the demo is Lua");
    assert_eq!(u64::try_from(pprof::decode(&read(folder, "a.pb.gz")).samples), Ok(total));
    xml::active(&text(folder, "a.svg"));
    let own = json(folder, "a.json");
    let counts = list(&own["samples"]).iter().map(|s| s["count"].as_u64().expect("a count"));
    assert_eq!(counts.sum::<u64>(), total);
    let speedscope = json(folder, "a.speedscope.json");
    let all = &speedscope["profiles"][0];
    assert_eq!(all["endValue"].as_u64(), Some(total * (1_000_000_000 / 499)));
    assert_eq!(list(&all["samples"]).len(), stacks.0.len());

    // Again, without the target.
    let again = tempfile::tempdir().expect("a folder");
    let again = again.path();
    let raw = path(folder, "a.upprof");
    drop(target);
    Upprof::on_host().args(["report", &raw]).args(outputs(again, &FORMATS)).run().exits(0);
    for name in FORMATS {
        assert!(read(folder, name) == read(again, name), "{name} differs");
    }
    // As a bundle, whose own recording gives the same once more.
    Upprof::on_host().args(["report", &raw]).out(again).run().exits(0);
    let bundle = Bundle::only_in(again);
    assert_eq!(bundle.text("cpu/profile.folded"), text(folder, "a.folded"));
    assert_eq!(bundle.manifest().capture.samples, total);
    assert!(bundle.archive() == bundle.files());
    let of_bundle = Upprof::on_host().args(["report", bundle.path.to_str().expect("UTF-8"), "-o", "-"]).run();
    of_bundle.exits(0);
    assert_eq!(of_bundle.stdout, text(folder, "a.folded"));

    // A part of it: the samples that match, whole.
    let part = Upprof::on_host()
        .args(["report", &raw, "-o", "-", "--focus", r"^lua:M\.deep_recursion_entry@.*calls\.lua:\d+$"])
        .run();
    part.exits(0);
    let entry = |frame: &String| frame.starts_with("lua:M.deep_recursion_entry@/app/calls.lua:");
    let expected: Vec<_> = stacks.0.into_iter().filter(|s| s.frames.iter().any(entry)).collect();
    assert!(!expected.is_empty());
    assert_eq!(Stacks::parse(&part.stdout).0, expected);
    // The line that calls is inside the function.
    let lines = Upprof::on_host().args(["report", &raw, "-o", "-", "--lines", "--focus", "lua:"]).run();
    let frames =
        lines.stdout.split([';', '\n', ' ']).filter(|f| f.starts_with("lua:M.deep_recursion_entry@"));
    for frame in frames {
        let (place, line) = frame.rsplit_once('#').expect("a line");
        let (_, definition) = place.rsplit_once(':').expect("a definition");
        let (definition, line): (u32, u32) =
            (definition.parse().expect("a number"), line.parse().expect("a number"));
        assert!((1..=3).contains(&(line - definition)), "{frame}");
    }
}

#[test]
fn an_idle_target_is_told_and_written_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let idle = Container::run("asleep", &["--network", "none", IMAGE, "sleep", "infinity"]);
    let told = Upprof::on_host()
        .args(["record", "--container", idle.name(), "-d", "300ms"])
        .args(outputs(folder.path(), &FORMATS))
        .run()
        .fails(NO_SAMPLES);
    assert!(told.what.contains("no sample"), "{told:?}");
    assert_eq!(text(folder.path(), "a.folded"), "");
    assert_eq!(json(folder.path(), "a.json")["samples"], Value::Array(vec![]));
}

#[test]
fn outputs_that_cannot_be_are_refused_before_sampling() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let idle = Container::run("refused", &["--network", "none", IMAGE, "sleep", "infinity"]);
    let refused = |code: i32, arguments: &[&str]| {
        let upprof = Upprof::on_host().args(["record", "--container", idle.name(), "-d", "24h"]);
        let told = upprof.args(arguments).run().fails(code);
        assert_eq!(names(folder), Vec::<String>::new(), "{arguments:?} left something");
        told
    };
    let missing = refused(OUTPUT, &["-o", &path(folder, "no/such/a.svg")]);
    assert!(
        missing.what.contains("no/such/a.svg") && missing.likely.contains("does not exist"),
        "{missing:?}"
    );
    // The first could be written, and is not left behind either.
    refused(OUTPUT, &["-o", &path(folder, "a.svg"), "-o", &path(folder, "no/such/a.svg")]);
    let unknown = refused(USAGE, &["-o", &path(folder, "a.png")]);
    assert!(unknown.what.contains("a.png") && unknown.attempt.contains(".speedscope.json"), "{unknown:?}");
    let twice = refused(USAGE, &["-o", &path(folder, "a.svg"), "-o", &path(folder, "a.svg")]);
    assert!(twice.what.contains("twice"), "{twice:?}");
    let none = refused(USAGE, &[]);
    assert!(none.attempt.contains("-o flame.svg"), "{none:?}");
    let inverted = refused(USAGE, &["-o", &path(folder, "a.json"), "--invert"]);
    assert!(inverted.what.contains("inverted"), "{inverted:?}");
    for arguments in [&["-o", "a.svg", "--focus", "("][..], &["-o", "a.svg", "-f", "png"]] {
        let upprof = Upprof::on_host().args(["record", "--container", "a"]).args(arguments);
        upprof.run().exits(USAGE);
    }
}

#[test]
fn files_that_are_no_recordings_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::write(folder.join("a.upprof"), "main;f 1\n").expect("a file");
    for (from, likely) in [("a.upprof", "another kind"), ("none.upprof", "typing error"), (".", "no bundle")]
    {
        let out = path(folder, "a.svg");
        let told = Upprof::on_host().args(["report", &path(folder, from), "-o", &out]).run().fails(USAGE);
        assert!(told.likely.contains(likely), "{told:?}");
        assert!(!Path::new(&out).exists());
    }
}

/// The frames' texts of a process in `stack --json`, root first, without the line being executed.
fn frames(process: &Value) -> Vec<String> {
    let text = |f: &Value| f["text"].as_str().expect("a text").split('#').next().expect("a frame").to_owned();
    list(&process["stack"]).iter().map(text).collect()
}

/// What `stack --json` says of each worker.
fn workers(container: &Container) -> Vec<Value> {
    stack(container).into_iter().filter(|p| p["role"] == "worker").collect()
}

/// What `stack --json` says of each process.
fn stack(container: &Container) -> Vec<Value> {
    let outcome = Upprof::on_host().args(["stack", "--json", "--container", container.name()]).run();
    outcome.exits(0);
    let document: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(document["format"], "upprof-stacks");
    list(&document["processes"]).to_vec()
}

#[test]
fn a_worker_at_rest_waits_for_events_and_is_neither_stopped_nor_sampled() {
    let target = Target::quiet("rest");
    let found = workers(&target);
    let pids: Vec<u64> = found.iter().filter_map(|w| w["pid"].as_u64()).collect();
    let mut expected: Vec<u64> = target.workers().into_iter().map(u64::from).collect();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    for worker in &found {
        assert_eq!((&worker["doing"], &worker["vmstate"]), (&"waiting".into(), &"not_lua".into()));
        let frames = frames(worker);
        let native: Vec<&String> = frames.iter().filter(|f| !f.ends_with(" [kernel]")).collect();
        assert_eq!(
            (native[0].as_str(), native[native.len() - 1].as_str()),
            ("_start", "epoll_wait"),
            "{frames:?}"
        );
        for function in ["main", "ngx_master_process_cycle", "ngx_process_events_and_timers"] {
            assert!(frames.iter().any(|f| f == function), "{function} is not in {frames:?}");
        }
        assert!(frames.last().is_some_and(|f| f.ends_with(" [kernel]")), "{frames:?}");
    }
}

#[test]
fn a_worker_at_work_shows_the_chain_that_its_source_says() {
    let target = Target::quiet("work");
    let sources = Sources::of(&target);
    let lua = |name: &str| sources.lua(name, "/app/calls.lua");
    let (entry, outer, inner) = (lua("M.recursion_entry"), lua("recursion_outer"), lua("recursion_inner"));
    let _load = Load::on_all_workers(&target, &["/recursion"]);
    let chains: Vec<Vec<String>> = until("every worker in the recursion", || {
        let found: Vec<Vec<String>> = workers(&target).iter().map(frames).collect();
        found.iter().all(|stack| stack.contains(&inner)).then_some(found)
    });
    for chain in chains {
        let start = chain.iter().position(|f| *f == entry).unwrap_or_else(|| panic!("no entry: {chain:?}"));
        let below: Vec<&str> = chain[..start].iter().map(String::as_str).collect();
        assert_eq!(below[0], "_start");
        assert!(below.contains(&"main") && below.contains(&"ngx_http_lua_run_thread"), "{below:?}");
        assert!(below.contains(&"lua:(main chunk)@/app/content.lua:0"), "{below:?}");
        // The two call each other, at most six times each.
        let above: Vec<&String> = chain[start + 1..].iter().filter(|f| f.starts_with("lua:")).collect();
        assert!((1..=12).contains(&above.len()), "{chain:?}");
        for (depth, frame) in above.into_iter().enumerate() {
            assert_eq!(frame, if depth % 2 == 0 { &outer } else { &inner }, "{chain:?}");
        }
    }
}

#[test]
fn a_worker_that_is_blocked_in_a_call_from_lua_shows_which() {
    let mount = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/blocked:/blocked:ro");
    let nginx = ["nginx", "-c", "/blocked/nginx.conf", "-g", "daemon off;"];
    let arguments = [&["--network", "none", "-v", mount, IMAGE][..], &nginx].concat();
    let target = Container::run("blocked", &arguments);
    let blocked = until("two workers with a child each", || {
        let workers = process::children(target.pid());
        (workers.len() == 2 && workers.iter().all(|w| !process::children(*w).is_empty())).then_some(workers)
    });
    // nginx names a worker when it has begun to serve, so these two have their master's title still.
    let is_blocked = |p: &Value| blocked.iter().any(|pid| p["pid"].as_u64() == Some(u64::from(*pid)));
    let found: Vec<Value> = stack(&target).into_iter().filter(is_blocked).collect();
    assert_eq!(found.len(), blocked.len());
    for worker in &found {
        assert_eq!((&worker["doing"], &worker["vmstate"]), (&"waiting".into(), &"c".into()));
        let lua: Vec<String> = frames(worker).into_iter().filter(|f| f.contains(':')).collect();
        let functions = [
            "lua:(main chunk)@/blocked/blocked.lua:0",
            "lua:opens_a_pipe@/blocked/blocked.lua:8",
            "lua:waits_for_nobody@/blocked/blocked.lua:3",
        ];
        assert_eq!(lua[..lua.len() - 1], functions);
        // The file's method, whatever it is called: no global leads to it.
        assert!(lua[lua.len() - 1].starts_with("cfunc:"), "{lua:?}");
        let lines: Vec<u64> = list(&worker["stack"])
            .iter()
            .filter(|f| f["kind"] == "lua")
            .filter_map(|f| f["line"].as_u64())
            .collect();
        assert_eq!(lines, [14, 10, 4]);
        let frames = frames(worker);
        let c: Vec<&str> =
            frames.iter().map(String::as_str).skip_while(|f| !f.starts_with("cfunc:")).collect();
        assert!(c.iter().any(|f| f.contains("read") && f.ends_with(" [kernel]")), "{c:?}");
    }
    // Nothing was changed: they go on when the pipes are closed.
    for pid in blocked {
        for child in process::children(pid) {
            process::signal(child, rustix::process::Signal::TERM);
        }
    }
    let logs = || docker(["logs", target.id()]);
    let _ = until("the workers to serve", || process::listens(target.pid(), 8081).then(logs));
}
