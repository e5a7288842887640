//! `upprof inspect` of LuaJIT against what the VM says of itself: the application is asked through
//! `/debug/…` (images/target/app/debug.lua) in the very worker that is read from outside. The workers do
//! nothing else meanwhile, so most comparisons are for equality.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use upprof_tests::harness::inspect::{ask, parts};
use upprof_tests::harness::load::Load;
use upprof_tests::harness::process::innermost_pid;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::target::Target;

/// A target of which one worker is asked and read.
struct Asked {
    target: Target,
    /// On the host.
    pid: u32,
    /// In the container.
    ns_pid: u64,
}

impl Asked {
    fn start(suite: &str) -> Self {
        let image = format!("upprof-target:{suite}");
        let target = Target::start("inspect", &["--env", "TIMER_TICK=off", &image]);
        let pid = target.workers()[0];
        let ns_pid = innermost_pid(pid);
        Self { target, pid, ns_pid }
    }

    /// The worker's answer.
    fn ask(&self, action: &str) -> Value {
        ask(&self.target, self.ns_pid, action)
    }

    /// What upprof finds in the worker.
    fn inspect(&self, what: &str) -> Value {
        let parts = parts(&self.target, &[what]);
        let mine = parts.iter().find(|p| p["pid"] == self.pid).expect("the worker's part");
        assert_eq!((&mine["role"], &mine["vm"]), (&"worker".into(), &"http".into()));
        let found = mine.get("found").unwrap_or_else(|| panic!("not trusted: {mine}"));
        assert!(found["torn"].is_null(), "an idle VM does not go on: {}", found["torn"]);
        found.clone()
    }

    /// The line of an application's file that has this text.
    fn place(&self, text: &str) -> String {
        let file = "/app/debug.lua";
        let source = self.target.exec(&["cat", file]);
        let lines: Vec<usize> =
            (1..).zip(source.lines()).filter(|(_, l)| l.contains(text)).map(|(n, _)| n).collect();
        assert_eq!(lines.len(), 1, "lines with {text:?}");
        format!("{file}:{}", lines[0])
    }
}

fn place(at: &Value) -> String {
    format!("{}:{}", at["chunk"].as_str().expect("a chunk"), at["line"])
}

fn number(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| panic!("{v} is no count"))
}

/// Memory only grows once the collector is stopped: what is read between two answers lies between them.
fn collector(asked: &Asked) {
    let bytes = |v: Value| (v["count"].as_f64().expect("a count") * 1024.0) as u64;
    let before = bytes(asked.ask("gc_stop"));
    let gc = asked.inspect("gc");
    let after = bytes(asked.ask("gc_count"));
    let total = number(&gc["total_bytes"]);
    assert!((before..=after).contains(&total), "{before} <= {total} <= {after}");
    assert_eq!((&gc["pause_percent"], &gc["stepmul_percent"]), (&173.into(), &321.into()));
    assert!(gc["threshold_bytes"].is_null(), "it is stopped: {}", gc["threshold_bytes"]);
    assert_eq!(gc["state"], "pause");
}

fn modules(asked: &Asked) {
    let truth = asked.ask("modules");
    let found = asked.inspect("modules");
    let said: BTreeMap<String, Option<String>> = truth["modules"]
        .as_object()
        .expect("modules")
        .iter()
        .map(|(name, version)| (name.clone(), version.as_str().map(str::to_owned)))
        .collect();
    let read: BTreeMap<String, Option<String>> = found["modules"]
        .as_array()
        .expect("modules")
        .iter()
        .map(|m| (m["name"].as_str().expect("a name").into(), m["version"].as_str().map(str::to_owned)))
        .collect();
    assert_eq!(read, said);
    assert_eq!(found["resty_core"], said.contains_key("resty.core"));
}

/// Between two looks nothing happens but one request, which makes what is compared.
fn objects_and_strings(asked: &Asked) {
    const N: u64 = 20_000;
    /// What a request leaves beside.
    const ONE_REQUEST: u64 = 200;
    let of = |v: &Value, kind: &str| -> (u64, u64) {
        let types = v["types"].as_array().expect("types");
        let t = types.iter().find(|t| t["type"] == kind).expect("the type");
        (number(&t["count"]), number(&t["bytes"]))
    };
    // The first use compiles and loads what only it needs.
    asked.ask("hold?n=0");
    let (before, strings_before) = (asked.inspect("objects"), asked.inspect("strings"));
    asked.ask(&format!("hold?n={N}"));
    let (after, strings) = (asked.inspect("objects"), asked.inspect("strings"));
    for kind in ["table", "string"] {
        let more = of(&after, kind).0 - of(&before, kind).0;
        assert!((N..N + ONE_REQUEST).contains(&more), "{kind}: {more} more");
    }
    let more = number(&strings["count"]) - number(&strings_before["count"]);
    assert!((N..N + ONE_REQUEST).contains(&more), "{more} more strings");
    assert_eq!(strings["count"], of(&after, "string").0, "both count the same strings");
    let chains: Vec<u64> = strings["chains"].as_array().expect("chains").iter().map(number).collect();
    assert_eq!(chains.iter().sum::<u64>(), number(&strings["slots"]));
    let longest = usize::try_from(number(&strings["longest_chain"])).expect("fits");
    assert!(longest < chains.len() - 1, "all chains are in the histogram by length");
    let in_chains: u64 = (0..).zip(&chains).map(|(length, n)| length * n).sum();
    assert_eq!(in_chains, number(&strings["count"]));
    // "debug string that nobody else has " and seven digits.
    let bytes = of(&after, "string").1 - of(&before, "string").1;
    assert!((N * (42 + 16)..N * (42 + 30)).contains(&bytes), "{bytes} bytes in strings");

    // Nearly all of a heap that is full of tables and strings is in objects.
    let (sum, total) = (number(&after["bytes"]), number(&after["gc_total_bytes"]));
    assert!(sum <= total && sum as f64 > total as f64 * 0.9, "{sum} of {total} bytes are in objects");

    let largest = &after["largest_tables"];
    let paths: Vec<&str> = (0..2).map(|i| largest[i]["path"].as_str().expect("a path")).collect();
    let held = |name: &str| format!("package.loaded.debug_kept.held.{name}");
    assert_eq!(BTreeSet::from_iter(paths), BTreeSet::from([&*held("tables"), &*held("strings")]));
    for i in 0..2 {
        let slots = number(&largest[i]["array_slots"]);
        assert!((N..=2 * N + 2).contains(&slots), "{slots} slots");
        assert_eq!(largest[i]["hash_slots"], 0);
    }
}

fn coroutines(asked: &Asked) {
    const N: u64 = 50;
    let before = asked.inspect("coroutines");
    let said = asked.ask(&format!("coroutines?n={N}"));
    assert_eq!(said["states"]["suspended"], N);
    assert_eq!(said["states"]["dead"], N);
    let found = asked.inspect("coroutines");
    let line = asked.place("-- coroutines wait here");
    let waiting = found["waiting"].as_array().expect("places");
    let here: Vec<&Value> = waiting.iter().filter(|w| place(&w["at"]) == line).collect();
    assert_eq!(here.len(), 1, "{line} in {waiting:?}");
    assert_eq!(here[0]["count"], N);
    let more = |what: &str| number(&found[what]) - number(&before[what]);
    assert_eq!(more("suspended"), N);
    // Its own coroutine has ended, or is kept for the next request.
    assert!((N..=N + 2).contains(&more("dead")), "{} dead", more("dead"));
    let sum: u64 = ["suspended", "running", "dead"].iter().map(|s| number(&found[*s])).sum();
    assert_eq!(sum, number(&found["all"]));
}

fn compiler(asked: &Asked) {
    asked.ask("attach");
    asked.ask("run");
    let said = asked.ask("jit");
    let found = asked.inspect("jit");
    assert_eq!(found["on"], said["on"]);
    assert_eq!(found["parameters"]["hotloop"], 47);
    assert_eq!(found["parameters"]["maxmcode"], 32_768);
    assert_eq!(found["mcode"]["limit_bytes"], 32_768_u64 << 10);

    // Every trace: number, link, how it ends; and where it starts, of those that started after `attach`.
    let row =
        |t: &Value| (number(&t["number"]), number(&t["link"]), t["link_type"].as_str().map(str::to_owned));
    let list = |v: &Value| v["traces"].as_array().expect("traces").clone();
    let (read, told) = (list(&found), list(&said));
    assert_eq!(read.iter().map(row).collect::<Vec<_>>(), told.iter().map(row).collect::<Vec<_>>());
    let mut starts = 0;
    for (read, told) in read.iter().zip(&told) {
        if let Some(start) = told["start"].as_str() {
            assert_eq!(place(&read["start"]), start, "trace {}", told["number"]);
            starts += 1;
        }
    }
    let compiled = asked.place("-- this loop is compiled");
    assert!(starts > 0 && read.iter().any(|t| place(&t["start"]) == compiled), "{compiled}: {read:?}");
    let sum: u64 = read.iter().map(|t| number(&t["mcode_bytes"])).sum();
    assert_eq!(found["mcode"]["traces_bytes"], sum);
    assert!(number(&found["mcode"]["allocated_bytes"]) >= sum);

    // What was given up: each entry of the penalty table with a reason that the compiler gave there.
    let aborts = found["aborts"].as_array().expect("aborts");
    for abort in aborts {
        let (at, reason) = (place(&abort["at"]), abort["reason"].as_str().expect("a reason"));
        let Some(codes) = said["aborts"].get(&at) else { continue }; // before `attach`
        if let Some(reasons) = said["reasons"].as_object() {
            let codes = codes.as_object().expect("codes").keys();
            let said: Vec<&str> = codes.map(|c| reasons[c].as_str().expect("a reason")).collect();
            assert!(said.iter().any(|s| s.starts_with(reason)), "{at}: {reason}, not one of {said:?}");
        }
    }
    let hopeless = asked.place("-- a closure in a loop is never compiled");
    assert!(said["aborts"].get(&hopeless).is_some(), "{said}");
    let listed = |what: &str| -> Vec<String> {
        let all = found[what].as_array().expect("a list");
        all.iter().map(|v| place(v.get("at").unwrap_or(v))).collect()
    };
    // After 200 calls the loop is blacklisted, or is about to be.
    let known = listed("aborts").contains(&hopeless) || listed("blacklisted").contains(&hopeless);
    assert!(known, "{hopeless} is neither among the aborts nor blacklisted");
    assert!(listed("never_compiled").contains(&asked.place("local function turned_off(n)")));
}

fn everything(suite: &str) {
    let asked = Asked::start(suite);
    collector(&asked);
    modules(&asked);
    objects_and_strings(&asked);
    coroutines(&asked);
    compiler(&asked);
}

/// luajit2 of 2023, GC64, from the table of known layouts.
#[test]
fn debian_12() {
    everything("bookworm");
}

/// LuaJIT 2.1.0-beta3, GC32: the string table and the collector lie elsewhere.
#[test]
fn debian_11() {
    everything("bullseye");
}

/// luajit2 of 2025.
#[test]
fn debian_13() {
    everything("trixie");
}

/// luajit2 of 2025-10, of the release that comes.
#[test]
fn debian_14() {
    everything("forky");
}

/// luajit2 of 2023 with references of 32 bits.
#[test]
fn gc32() {
    everything("gc32");
}

/// VMs that work meanwhile: artifacts may say that they are torn, but none is refused, and the workers
/// go on.
#[test]
fn under_load() {
    let target = Target::ticking("inspect-load");
    let load = Load::on_all_workers(&target, &["/mix", "/gsub", "/jit/loop"]);
    target.burn(1.0);
    let workers = target.workers();
    let what = ["gc", "strings", "jit", "modules", "coroutines", "objects", "symbols"];
    for _ in 0..10 {
        let outcome = Upprof::on_host().args(["inspect", "-c", target.name(), "--json"]).args(what).run();
        outcome.exits(0);
        let round: Value = serde_json::from_str(&outcome.stdout).expect("one line of JSON");
        let artifacts = round["artifacts"].as_array().expect("artifacts");
        assert_eq!(artifacts.len(), what.len());
        for part in artifacts.iter().flat_map(|a| a["parts"].as_array().expect("parts")) {
            assert!(part.get("found").is_some(), "{part}");
        }
    }
    assert!(load.stop().all > 0);
    assert_eq!(target.workers(), workers);
}

/// Rates come from differences: a worker that allocates shows it, and the interval is told. What walks through
/// the heap comes less often.
#[test]
fn rates_under_watch() {
    let target = Target::quiet("inspect-watch");
    let _load = Load::on_all_workers(&target, &["/gsub", "/mix"]);
    target.burn(0.5);
    let pid = target.workers()[0].to_string();
    let watching = Upprof::under(&["timeout", "-s", "INT", "20"])
        .args(["inspect", "-p", &pid, "gc", "objects", "--json", "--watch", "500ms"]);
    let outcome = watching.run();
    let rounds: Vec<Value> =
        outcome.stdout.lines().map(|l| serde_json::from_str(l).expect("a line of JSON a round")).collect();
    assert!(rounds.len() >= 2, "{}", outcome.stderr);
    let artifact = |r: &Value, what: &str| -> Option<Value> {
        r["artifacts"].as_array().expect("artifacts").iter().find(|a| a["what"] == what).cloned()
    };
    let gc = |r: &Value| artifact(r, "gc").expect("in each round")["parts"][0]["found"].clone();
    let objects: Vec<Value> = rounds.iter().filter_map(|r| artifact(r, "objects")).collect();
    assert!((2..=rounds.len()).contains(&objects.len()), "{} looks at objects", objects.len());
    assert!(objects[0]["interval_s"].is_null());
    for look in &objects[1..] {
        assert!(look["interval_s"].as_f64().expect("an interval") >= 0.5, "{look}");
        assert!(!look["parts"][0]["found"]["changes"].is_null(), "{look}");
    }
    assert!(gc(&rounds[0])["rates"].is_null(), "nothing to compare with yet");
    assert!(rounds[0]["artifacts"][0]["interval_s"].is_null());
    let mut allocated = 0.0;
    for round in &rounds[1..] {
        let interval = round["artifacts"][0]["interval_s"].as_f64().expect("an interval");
        assert!(interval >= 0.5, "{interval}");
        let rates = &gc(round)["rates"];
        allocated += rates["allocated_bytes_per_s"].as_f64().expect("a rate");
        assert!(rates["freed_bytes_per_s"].as_f64().expect("a rate") >= 0.0);
    }
    assert!(allocated > 0.0);
}
