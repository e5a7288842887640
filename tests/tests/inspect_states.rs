//! `upprof inspect` of an nginx in states that are rare, or short: under load and across a reload, with a lock
//! that is held, with requests over HTTP/2, as a build that keeps no configuration.

use serde_json::Value;
use std::collections::BTreeSet;
use upprof_tests::harness::inspect::{found, get, parts, stay, stay_at};
use upprof_tests::harness::load::Load;
use upprof_tests::harness::process;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::target::Target;
use upprof_tests::harness::wait::until;

const WAITS: &str = "GET /truth/wait/x HTTP/1.1\\r\\nHost: inside\\r\\n\\r\\n";

fn pid(part: &Value) -> u32 {
    part["pid"].as_u64().and_then(|pid| pid.try_into().ok()).unwrap_or_else(|| panic!("no pid: {part}"))
}

/// Every inspector once, config and shdict too; the artifacts.
fn everything(target: &Target) -> Vec<Value> {
    let outcome = Upprof::on_host()
        .args(["inspect", "--quiet", "--json", "--container", target.name()])
        .args(["processes", "shm", "shdict", "connections", "requests", "timers", "pools", "filters"])
        .args(["phases", "memory-pools", "config", "gc", "strings", "jit", "modules", "coroutines"])
        .args(["objects", "symbols"])
        .run();
    outcome.exits(0);
    let round: Value = serde_json::from_str(&outcome.stdout).expect("one line of JSON");
    round["artifacts"].as_array().expect("artifacts").clone()
}

/// Requests of one process that wait in /truth/wait/.
fn waiting(artifact: &[Value], of: u32) -> usize {
    let mine = artifact.iter().find(|p| pid(p) == of).unwrap_or_else(|| panic!("no part of {of}"));
    let requests = mine["found"]["requests"].as_array().unwrap_or_else(|| panic!("{mine}"));
    requests.iter().filter(|r| r["uri"] == "/truth/wait/x").count()
}

#[test]
fn under_load_and_across_a_reload() {
    for suite in ["bookworm", "bullseye", "trixie", "gc32"] {
        let image = format!("upprof-target:{suite}");
        let target = Target::start("inspect-reload", &[&image]);
        let old: BTreeSet<u32> = target.workers().into_iter().collect();
        let paths = ["/mix", "/phases", "/truth/kept"];
        let load = Load::on_all_workers(&target, &paths);
        stay(&target, 1, WAITS);
        let holder = until("the request to wait", || {
            let requests = parts(&target, &["requests"]);
            old.iter().copied().find(|worker| waiting(&requests, *worker) == 1)
        });
        target.burn(0.5);
        for artifact in everything(&target) {
            let all = artifact["parts"].as_array().expect("parts");
            assert!(!all.is_empty(), "{suite}: {artifact}");
            for part in all {
                assert!(part["not_trusted"].is_null(), "{suite} {}: {part}", artifact["what"]);
            }
        }

        target.exec(&["nginx", "-s", "reload"]);
        // While workers come and go it must neither fail nor get stuck.
        until("one old worker to be left", || {
            let _ = everything(&target);
            let left = process::children(target.pid());
            let old_ones = left.iter().filter(|p| old.contains(p)).count();
            (old_ones == 1 && left.len() == 3).then_some(())
        });
        // Connections of the load to old workers are closed by the reload; a new one goes to the new workers.
        assert!(load.stop().all > 0, "{suite}");
        let load = Load::on_all_workers(&target, &paths);
        target.burn(0.5);
        let processes = parts(&target, &["processes"]);
        let by_role =
            |role: &str| -> Vec<&Value> { processes.iter().filter(|p| p["role"] == role).collect() };
        let (draining, workers) = (by_role("draining worker"), by_role("worker"));
        assert_eq!((draining.len(), workers.len()), (1, 2), "{suite}: {processes:?}");
        assert_eq!(pid(draining[0]), holder, "{suite}: who holds the request");
        assert_eq!(draining[0]["found"]["generation"], 1, "{suite}: {}", draining[0]);
        assert!(draining[0]["found"]["draining_s"].as_f64().expect("since when") >= 0.0, "{suite}");
        for worker in &workers {
            assert!(!old.contains(&pid(worker)) && worker["found"]["generation"] == 2, "{suite}: {worker}");
        }
        // What it holds.
        assert_eq!(waiting(&parts(&target, &["requests"]), holder), 1, "{suite}");
        assert!(load.stop().all > 0, "{suite}");
    }
}

/// truth.lua, lock: the application writes into the lock what nginx does when it takes it.
#[test]
fn a_held_lock_is_told_with_its_holder_and_who_waits() {
    for suite in ["bookworm", "bullseye", "trixie", "gc32", "static"] {
        let image = format!("upprof-target:{suite}");
        let target = Target::start("inspect-lock", &["--env", "TIMER_TICK=off", &image]);
        let zone = || {
            let zones = found(&target, &["shm"])[0]["zones"].as_array().expect("zones").clone();
            let mut truth = zones.into_iter().filter(|z| z["found"]["name"] == "truth");
            truth.next().expect("the dictionary's zone")["found"].clone()
        };
        assert!(zone()["lock_holder_ns_pid"].is_null(), "{suite}: nobody asked yet: {}", zone());

        // The largest pid there can be on any Linux (PID_MAX_LIMIT) is no process's here.
        let nobody = get(&target, "/truth/lock?pid=4194304");
        let held = zone();
        assert_eq!(held["lock_holder_ns_pid"], nobody.trim().parse::<u64>().expect("a pid"), "{suite}");
        assert_eq!(held["lock_holder"], "gone", "{suite}: {held}");

        let holder: u64 = get(&target, "/truth/lock").trim().parse().expect("a pid");
        let inside = |worker: &u32| process::innermost_pid(*worker) == holder;
        let outside = target.workers().into_iter().find(inside).expect("a worker");
        let held = zone();
        assert_eq!(held["lock_holder_ns_pid"], holder, "{suite}: {held}");
        assert_eq!(held["lock_holder"]["pid"], outside, "{suite}: {held}");
        assert_eq!(held["lock_waiters"], 0, "{suite}: {held}");

        // Asks for what is locked.
        stay(&target, 1, "GET /truth HTTP/1.1\\r\\nHost: inside\\r\\n\\r\\n");
        let held = until("a worker to wait for the lock", || Some(zone()).filter(|z| z["lock_waiters"] == 1));
        assert_eq!(held["lock_holder"]["pid"], outside, "{suite}: {held}");
    }
}

/// HTTP/2 with prior knowledge (RFC 9113, 3.3): the preface, empty SETTINGS, one HEADERS frame that ends the
/// stream; HPACK (RFC 7541) by the static table and literals without Huffman.
fn http2_get(path: &str) -> String {
    let literal = |index: u8, text: &str| [&[index, text.len() as u8], text.as_bytes()].concat();
    // :method GET, :scheme http, then :path and :authority with values of their own.
    let headers = [vec![0x82, 0x86], literal(0x04, path), literal(0x01, "over.http2")].concat();
    let frame = |kind: u8, flags: u8, stream: u8, body: &[u8]| {
        [&[0, 0, body.len() as u8, kind, flags, 0, 0, 0, stream], body].concat()
    };
    let bytes =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frame(1, 0x05, 1, &headers)];
    bytes.concat().iter().map(|b| format!("\\x{b:02x}")).collect()
}

/// docs/inspect-nginx.md: one over HTTP/2 is shown while it has a connection to a server behind.
#[test]
fn a_request_over_http2_is_shown_while_it_waits_for_a_server_behind() {
    const SPEAK: &str = "sed -i 's/listen 127.0.0.1:8080 reuseport;/& listen 127.0.0.1:8082 http2;/' \
                         /etc/nginx/nginx.conf && exec nginx -g 'daemon off;'";
    for suite in ["bookworm", "bullseye", "trixie"] {
        let image = format!("upprof-target:{suite}");
        let options = ["--env", "TIMER_TICK=off", &image, "bash", "-c", SPEAK];
        let target = Target::start("inspect-http2", &options);
        stay_at(&target, 8082, 1, &http2_get("/truth/behind/x"));
        let streams = || -> Vec<Value> {
            let workers = found(&target, &["requests"]);
            let all = workers.iter().flat_map(|w| w["requests"].as_array().cloned().unwrap_or_default());
            all.filter(|r| r["kind"] == "client_stream").collect()
        };
        let stream = until("the request to wait", || streams().pop());
        assert_eq!(
            (&stream["method"], &stream["host"], &stream["uri"]),
            (&"GET".into(), &"over.http2".into(), &"/truth/behind/x".into()),
            "{suite}: {stream}"
        );
        assert_eq!(stream["upstream"]["peer"], "127.0.0.1:8080", "{suite}: {stream}");
    }
}
