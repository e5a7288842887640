//! `upprof inspect` of nginx against what Lua and nginx say of themselves from inside
//! (`images/target/app/truth.lua`, stub_status), and against what the kernel says. Nothing moves while
//! both are asked, so they must agree to the last one.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use upprof_tests::harness::inspect::{found, get, parts, stay};
use upprof_tests::harness::process;
use upprof_tests::harness::target::Target;
use upprof_tests::harness::wait::until;

/// nginx 1.22.1, 1.18.0, 1.26.3 and 1.30; the first again with a GC32 LuaJIT, where ngx_lua's objects lie in
/// other memory, and built without TLS and `--with-compat`, where members of nginx's own structs do.
const SUITES: [&str; 6] = ["bookworm", "bullseye", "trixie", "forky", "gc32", "static"];

fn quiet(suite: &str) -> Target {
    Target::start(
        &format!("inspect-{suite}"),
        &["--env", "TIMER_TICK=off", &format!("upprof-target:{suite}")],
    )
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// What Lua says, by worker: asked until each has answered.
fn truths(target: &Target) -> BTreeMap<u64, Value> {
    let workers = target.workers().len();
    let mut all = BTreeMap::new();
    until("each worker to answer", || {
        let truth: Value = serde_json::from_str(&get(target, "/truth")).expect("JSON");
        all.insert(number(&truth["pid"]), truth);
        (all.len() == workers).then_some(())
    });
    all
}

/// What was found of a worker, by its pid inside.
fn by_worker(target: &Target, words: &[&str]) -> BTreeMap<u64, Value> {
    let by_pid = |part: &Value| {
        assert!(part["not_trusted"].is_null(), "{words:?}: {part}");
        let pid = u32::try_from(number(&part["pid"])).expect("a pid");
        (process::innermost_pid(pid), part["found"].clone())
    };
    parts(target, words).iter().map(by_pid).collect()
}

fn zone(zones: &[Value], name: &str) -> Value {
    let all = zones[0]["zones"].as_array().expect("zones");
    let mut with_name = all.iter().map(|z| &z["found"]).filter(|z| z["name"] == name);
    with_name.next().unwrap_or_else(|| panic!("no {name} in {all:?}")).clone()
}

#[test]
fn zones_are_as_large_and_as_free_as_lua_says() {
    for suite in SUITES {
        let target = quiet(suite);
        for fill in [false, true] {
            if fill {
                let _ = get(&target, "/truth/fill");
            }
            let (_, truth) = truths(&target).pop_first().expect("a worker");
            let zones = found(&target, &["shm"]);
            for (name, dict) in truth["dicts"].as_object().expect("dicts") {
                let zone = zone(&zones, name);
                assert_eq!(zone["size_bytes"], dict["capacity"], "{suite} {name}");
                assert_eq!(number(&zone["free_pages"]) * 4096, number(&dict["free_space"]), "{suite} {name}");
                assert_eq!(zone["owner"], "ngx_http_lua_module", "{suite} {name}");
                assert!(zone["lock_holder_ns_pid"].is_null() && zone["lock_waiters"] == 0, "{suite}: {zone}");
            }
        }
        // Until now nothing was refused; each of these was.
        let failures = |zone: &Value| -> u64 {
            zone["slots"].as_array().expect("slots").iter().map(|s| number(&s["failures"])).sum()
        };
        assert_eq!(failures(&zone(&found(&target, &["shm"]), "truth")), 0, "{suite}");
        let refused: u64 = get(&target, "/truth/overflow").trim().parse().expect("a number");
        assert!(refused > 0, "{suite}: the zone is too large to overflow");
        assert_eq!(failures(&zone(&found(&target, &["shm"]), "truth")), refused, "{suite}");
    }
}

#[test]
fn a_dictionarys_entries_are_those_that_lua_made() {
    for suite in SUITES {
        let target = quiet(suite);
        let _ = get(&target, "/truth/fill");
        let (_, truth) = truths(&target).pop_first().expect("a worker");
        let dict =
            |words: &[&str]| found(&target, &[&["shdict", "truth"], words].concat())[0]["dicts"][0].clone();
        let named = dict(&["--key", "an hour 7"]);
        let all = &named["found"];
        // truth.lua, fill: 100 strings, 50 numbers, 7 booleans that are gone, a list, one large string.
        assert_eq!(
            number(&all["entries"]) - number(&all["expired"]),
            number(&truth["dicts"]["truth"]["keys"]),
            "{suite}: {all}"
        );
        assert_eq!((&all["entries"], &all["expired"]), (&159.into(), &7.into()), "{suite}: {all}");
        let types: Vec<u64> =
            ["string", "number", "boolean", "list"].map(|t| number(&all["types"][t])).to_vec();
        assert_eq!(types, [101, 50, 7, 1], "{suite}");
        assert_eq!(
            (&all["without_ttl"], &all["ttl"]["under_1day"]),
            (&102.into(), &50.into()),
            "{suite}: {all}"
        );
        assert_eq!(number(&all["value_bytes"]), (1..=100).sum::<u64>() + 50 * 8 + 7 + 5000, "{suite}: {all}");
        assert!(all["torn"] == false && all["truncated"] == false, "{suite}: {all}");
        assert_eq!(
            (&all["largest"][0]["key"], &all["largest"][0]["value_len"]),
            (&"the largest".into(), &5000.into())
        );
        assert_eq!(all["last_used"]["key"], "forever 1", "{suite}");
        assert_eq!(all["next_evicted"]["key"], "forever 2", "{suite}: the one after it is the oldest now");
        let asked = &all["asked"];
        assert_eq!((&asked["key"], &asked["kind"]), (&"an hour 7".into(), &"number".into()), "{suite}");
        let left = asked["ttl_ms"].as_i64().expect("a time");
        assert!((3_000_000..=3_600_000).contains(&left), "{suite}: {left} ms");
        assert!(asked["value"].is_null(), "{suite}: a value that nobody asked for");
        let shown = dict(&["--key", "an hour 7", "--show-values"]);
        assert_eq!(shown["found"]["asked"]["value"], "10.5", "{suite}");
    }
}

#[test]
fn lua_timers_are_those_that_lua_counts() {
    for suite in SUITES {
        let target = quiet(suite);
        let _ = get(&target, "/truth/timers?pending=5&running=3");
        let _ = get(&target, "/truth/timers?pending=2&running=1");
        until("timers that were due to run", || {
            truths(&target).values().map(|t| number(&t["running"])).sum::<u64>().eq(&4).then_some(())
        });
        let (truth, timers) = (truths(&target), by_worker(&target, &["timers"]));
        assert_eq!(truth.keys().collect::<Vec<_>>(), timers.keys().collect::<Vec<_>>(), "{suite}");
        for (pid, truth) in &truth {
            let lua = &timers[pid]["lua"];
            assert_eq!((&lua["pending"], &lua["running"]), (&truth["pending"], &truth["running"]), "{suite}");
            assert_eq!((&lua["max_pending"], &lua["max_running"]), (&1024.into(), &256.into()), "{suite}");
            // Each pending one is a timer of nginx, and each that sleeps.
            let handlers = timers[pid]["handlers"].as_array().expect("handlers");
            let count: u64 = handlers.iter().map(|h| number(&h["count"])).sum();
            assert_eq!(count, number(&truth["pending"]) + number(&truth["running"]), "{suite}: {handlers:?}");
            let next = timers[pid]["next_ms"].as_i64();
            assert!(next.is_none_or(|ms| (3_000_000..=3_600_000).contains(&ms)), "{suite}: {next:?} ms");
        }
        // Timers that run are told apart from requests, and have no URI.
        let requests: Vec<Value> = by_worker(&target, &["requests"])
            .values()
            .flat_map(|w| w["requests"].as_array().cloned().unwrap_or_default())
            .collect();
        assert_eq!(requests.len(), 4, "{suite}: {requests:?}");
        assert!(requests.iter().all(|r| r["kind"] == "timer" && r["uri"] == ""), "{suite}: {requests:?}");
    }
}

/// `Active connections: 4 … Waiting: 3` of stub_status.
fn stub_status(target: &Target) -> Vec<u64> {
    let text = get(target, "/truth/status");
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn connections_add_up_to_what_nginx_and_the_kernel_count() {
    for suite in SUITES {
        let target = quiet(suite);
        // Kept alive: the answer's head is enough for nginx to wait for the next request.
        stay(&target, 6, "GET /healthz HTTP/1.1\\r\\nHost: inside\\r\\n\\r\\n");
        stay(&target, 3, "GET /truth/wait/x HTTP/1.1\\r\\nHost: inside\\r\\n\\r\\n");
        // Active, accepted, handled, requests, reading, writing, waiting; the question itself is one of the
        // active and the writing.
        let status = until("all clients to be where they stay", || {
            let status = stub_status(&target);
            (status[0] == 10 && status[6] == 6).then_some(status)
        });
        let workers = until("the question's own connection to be gone", || {
            let workers = by_worker(&target, &["connections"]);
            let stub = workers.values().next().expect("a worker")["stub_status"].clone();
            (stub["active"] == 9).then_some(workers)
        });
        let sum = |what: &str| workers.values().map(|w| number(&w["used"][what])).sum::<u64>();
        assert_eq!((sum("client_waiting"), sum("client_active")), (6, 3), "{suite}: {workers:?}");
        let stub = &workers.values().next().expect("a worker")["stub_status"];
        for (name, value) in [("accepted", status[1]), ("handled", status[2]), ("requests", status[3])] {
            assert_eq!(number(&stub[name]), value, "{suite} {name}");
        }
        for (pid, worker) in &workers {
            let used: u64 = worker["used"].as_object().expect("uses").values().map(number).sum();
            assert_eq!(
                used + number(&worker["free"]),
                1024,
                "{suite}: worker_connections of {pid}: {worker}"
            );
            // reuseport on 8080 gives each worker a socket; 8081 has one for all.
            let queues = worker["queues"].as_array().expect("queues");
            assert_eq!(queues.iter().filter(|q| q["address"] == "127.0.0.1:8080").count(), 2, "{suite}");
            assert!(queues.iter().all(|q| q["backlog"] == 511 && q["waiting"] == 0), "{suite}: {queues:?}");
        }
    }
}

#[test]
fn requests_that_wait_are_told_with_their_age_and_without_arguments() {
    for suite in SUITES {
        let target = quiet(suite);
        let sent = Instant::now();
        stay(&target, 1, "PUT /truth/wait/here?token=sesame HTTP/1.1\\r\\nHost: some.host\\r\\n\\r\\n");
        stay(&target, 1, "GET /truth/behind/ HTTP/1.1\\r\\nHost: other.host\\r\\n\\r\\n");
        let all = || -> Vec<Value> {
            found(&target, &["requests"])
                .iter()
                .flat_map(|w| w["requests"].as_array().cloned().unwrap_or_default())
                .collect()
        };
        until("three requests to wait", || (all().len() == 3).then_some(()));
        // An idle worker's own clock stands still; the ages must not.
        until("two seconds", || (sent.elapsed() > Duration::from_secs(2)).then_some(()));
        let requests = all();
        let bound = i64::try_from(sent.elapsed().as_millis()).expect("fits") + 100;
        let of = |uri: &str, host: &str| {
            let mut these = requests.iter().filter(|r| r["uri"] == uri && r["host"] == host);
            these.next().unwrap_or_else(|| panic!("{suite}: no {uri} of {host} in {requests:?}"))
        };
        let (here, front) = (of("/truth/wait/here", "some.host"), of("/truth/behind/", "other.host"));
        assert_eq!(
            (&here["method"], &here["kind"], &here["phase"]),
            (&"PUT".into(), &"client".into(), &"content".into()),
            "{suite}"
        );
        assert_eq!((&here["client"], &here["upstream"]), (&"127.0.0.1".into(), &Value::Null), "{suite}");
        for request in [here, front] {
            let age = request["age_ms"].as_i64().expect("an age");
            assert!((1000..=bound).contains(&age), "{suite}: {age} ms of at most {bound}");
            assert!(
                number(&request["pool"]["block_bytes"]) >= 4096,
                "{suite}: request_pool_size is 4k: {request}"
            );
        }
        let upstream = &front["upstream"];
        assert_eq!(
            (&upstream["peer"], &upstream["state"]),
            (&"127.0.0.1:8080".into(), &"waiting_for_header".into()),
            "{suite}"
        );
        assert!(
            !serde_json::to_string(&requests).expect("JSON").contains("sesame"),
            "{suite}: arguments are shown"
        );
    }
}

#[test]
fn phases_filters_pools_and_configuration_are_the_ones_that_were_set_up() {
    for suite in SUITES {
        let target = quiet(suite);
        let phases = found(&target, &["phases"])[0]["phases"].clone();
        let has = |phase: &str, handler: &str| {
            let of = phases.as_array().expect("phases").iter().find(|p| p["phase"] == phase);
            let handlers =
                of.unwrap_or_else(|| panic!("{suite}: no {phase} in {phases}"))["handlers"].clone();
            handlers.as_array().expect("handlers").contains(&handler.into())
        };
        // nginx.conf has code of Lua in each of these; the functions are exported.
        for (phase, handler) in [
            ("rewrite", "ngx_http_lua_rewrite_handler"),
            ("access", "ngx_http_lua_access_handler"),
            ("log", "ngx_http_lua_log_handler"),
        ] {
            assert!(has(phase, handler), "{suite}: {phase} has no {handler}: {phases}");
        }
        // auto/modules: the first of them sends, the last of them looks first.
        let modules = found(&target, &["filters"])[0]["modules"].clone();
        let modules: Vec<&str> =
            modules.as_array().expect("modules").iter().filter_map(Value::as_str).collect();
        let place = |name: &str| {
            modules.iter().position(|m| *m == name).unwrap_or_else(|| panic!("{suite}: {modules:?}"))
        };
        assert_eq!(modules.last(), Some(&"ngx_http_write_filter_module"), "{suite}");
        assert!(place("ngx_http_gzip_filter_module") < place("ngx_http_chunked_filter_module"), "{suite}");

        let files = found(&target, &["config"])[0]["files"].clone();
        let files = files.as_array().expect("files");
        let main = files.iter().find(|f| f["path"] == "/etc/nginx/nginx.conf").expect("the main file");
        let real = target.exec(&["cat", "/etc/nginx/nginx.conf"]);
        let hidden = real.replace("Basic bm8gb25lIG11c3Qgc2VlIHRoaXM=", "[hidden]");
        assert_ne!(real, hidden, "the file has a secret");
        assert_eq!(main["text"].as_str().expect("text").trim_end(), hidden, "{suite}");
    }
}

#[test]
fn kept_alive_connections_are_in_their_pool() {
    for suite in SUITES {
        let target = quiet(suite);
        for _ in 0..4 {
            let _ = get(&target, "/truth/kept");
        }
        // Of the network namespace, connections to the server behind that stay open.
        let open = process::established_to(target.pid(), 8081);
        let pools = by_worker(&target, &["pools"]);
        let kept = |worker: &Value| {
            let all = worker["upstreams"].as_array().expect("pools").clone();
            let one = all.into_iter().find(|p| p["upstream"] == "kept").expect("kept");
            assert_eq!(one["max_idle"], 3, "{suite}: {one}");
            one
        };
        let idle: u64 = pools.values().map(|w| number(&kept(w)["idle"])).sum();
        assert!(open > 0, "{suite}: nothing is kept alive");
        assert_eq!(idle, open, "{suite}: {pools:?}");
        let used: u64 =
            by_worker(&target, &["connections"]).values().map(|w| number(&w["used"]["outgoing_idle"])).sum();
        assert_eq!(used, open, "{suite}");
    }
}

#[test]
fn a_cosocket_that_lua_keeps_is_in_its_pool() {
    for suite in SUITES {
        let target = quiet(suite);
        let _ = get(&target, "/truth/socket");
        assert_eq!(process::established_to(target.pid(), 8081), 1, "{suite}: one connection is kept");
        let pools: Vec<Value> = found(&target, &["pools"])
            .iter()
            .flat_map(|w| w["cosockets"]["found"].as_array().expect("pools").clone())
            .collect();
        assert_eq!(pools.len(), 1, "{suite}: {pools:?}");
        // truth.lua, keep_socket: three requests over it are two more than the first.
        let is = ["max_idle", "idle", "connections", "most_reused"].map(|f| number(&pools[0][f]));
        assert_eq!((&pools[0]["pool"], is), (&"127.0.0.1:8081".into(), [7, 1, 1, 2]), "{suite}");
    }
}

#[test]
fn processes_are_told_by_role_and_generation() {
    let target = quiet("bookworm");
    let old: BTreeSet<u32> = target.workers().into_iter().collect();
    stay(&target, 1, "GET /truth/wait/x HTTP/1.1\\r\\nHost: inside\\r\\n\\r\\n");
    until("the request to wait", || (stub_status(&target)[0] == 2).then_some(()));
    target.exec(&["nginx", "-s", "reload"]);
    let reloaded = Instant::now();
    until("one worker to leave and the other to be gone", || {
        let left = process::children(target.pid());
        (left.iter().filter(|p| old.contains(p)).count() == 1 && left.len() == 3).then_some(())
    });
    // The client that keeps the request waiting is in the container, too.
    let mut all = parts(&target, &["processes"]);
    all.retain(|p| p["role"] != "other");
    let roles: Vec<&str> = all.iter().filter_map(|p| p["role"].as_str()).collect();
    assert_eq!(roles.iter().filter(|r| **r == "worker").count(), 2, "{roles:?}");
    for part in &all {
        let (pid, seen) = (u32::try_from(number(&part["pid"])).expect("a pid"), &part["found"]);
        assert_eq!(number(&seen["ns_pid"]), process::innermost_pid(pid));
        match part["role"].as_str() {
            Some("draining worker") => {
                assert!(old.contains(&pid) && seen["generation"] == 1, "{part}");
                let since = seen["draining_s"].as_f64().expect("since when");
                assert!(since <= reloaded.elapsed().as_secs_f64() + 1.0, "{since} s");
            }
            Some("worker") => assert!(!old.contains(&pid) && seen["generation"] == 2, "{part}"),
            role => assert_eq!(role, Some("master"), "{part}"),
        }
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its files").count() as u64;
        assert_eq!(number(&seen["open_files"]), open, "{part}");
    }
}
