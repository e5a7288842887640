//! Whose request a sample is: against functions that only one route, phase or timer of the target calls.

use rustix::process::Signal;
use std::collections::BTreeMap;
use upprof_tests::harness::bundle::Bundle;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::pprof::{self, Pprof, Stack};
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::target::Target;

/// Lua functions, by the beginning of their text, with the only path that leads to them.
const ROUTES: [(&str, &str); 9] = [
    ("lua:share_", "/shares/interp"),
    ("lua:sort_comparator_by_weight@", "/sort"),
    ("lua:gsub_replacer_callback@", "/gsub"),
    ("lua:ffi_callback_body@", "/ffi/callback"),
    ("lua:coroutine_body_generator@", "/coroutine"),
    ("lua:raw_coroutine_inner@", "/coroutine/raw"),
    ("lua:light_thread_body@", "/thread"),
    ("lua:pcre_gsub_callback@", "/regex"),
    ("lua:M.log_phase_work@", "/phases"),
];
/// The function that each phase of /phases calls.
const PHASES: [&str; 7] = ["set", "rewrite", "access", "content", "header_filter", "body_filter", "log"];
const TIMER: &str = "lua:timer_tick_body@";
const STAND_IN: &str = "(no request: timer or other)";

/// Captures until the workers have used this many CPU seconds.
fn capture(target: &Target, out: &std::path::Path, cpu_seconds: f64) -> Bundle {
    let arguments = ["--container", target.name(), "-d", "0", "-F", "999"];
    let mut upprof = Upprof::on_host().args(arguments).out(out).start();
    upprof.sampling();
    target.burn(cpu_seconds);
    upprof.signal(Signal::INT);
    upprof.wait().exits(0);
    Bundle::only_in(out)
}

fn samples<'p>(stacks: impl IntoIterator<Item = &'p Stack>) -> i64 {
    stacks.into_iter().map(|s| s.samples).sum()
}

/// Samples by the first columns of a table.
fn by(bundle: &Bundle, file: &str, keys: &[&str]) -> BTreeMap<String, i64> {
    let key =
        |row: &BTreeMap<String, String>| keys.iter().map(|k| row[*k].as_str()).collect::<Vec<_>>().join(" ");
    bundle.table(file).iter().map(|row| (key(row), row["samples"].parse().expect("a count"))).collect()
}

/// How many samples have a function, and that all of them carry these labels.
fn all_carry(pprof: &Pprof, function: &str, labels: &[(&str, &str)]) -> i64 {
    let with: Vec<&Stack> = pprof.stacks.iter().filter(|s| s.has(function)).collect();
    let right = |s: &&&Stack| labels.iter().all(|(key, value)| s.label(key) == *value);
    let wrong: Vec<_> = with.iter().filter(|s| !right(s)).map(|s| (&s.labels, &s.functions)).collect();
    assert!(wrong.is_empty(), "{function} without {labels:?}: {wrong:#?}");
    samples(with)
}

#[test]
fn every_sample_of_a_route_a_phase_or_a_timer_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::ticking("requests");
    let paths: Vec<String> = ROUTES.iter().map(|(_, path)| format!("{path}?token=hunter2")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let load = Load::on(&target, &paths);
    let bundle = capture(&target, folder.path(), 6.0);
    assert_eq!(load.stop().bad, 0);

    let pprof = pprof::decode(&bundle.bytes("cpu/profile.pb.gz"));
    assert_eq!(bundle.counter("requests_unread"), 0);
    assert_eq!(bundle.counter("requests_beyond_limit"), 0);
    for (function, path) in ROUTES {
        let labels = [("method", "GET"), ("path", path), ("host", "127.0.0.1")];
        assert!(all_carry(&pprof, function, &labels) > 0, "{function} was never seen");
    }
    for phase in PHASES {
        let labels = [("path", "/phases"), ("phase", phase)];
        assert!(all_carry(&pprof, &format!("lua:M.{phase}_phase_work@"), &labels) > 0, "{phase} never seen");
    }
    assert!(all_carry(&pprof, TIMER, &[("path", STAND_IN), ("phase", "timer")]) > 0);

    // The tables say what the labels say, and leave nothing out.
    let total = pprof.samples;
    let routes = by(&bundle, "cpu/by-route.csv", &["method", "path"]);
    let (hosts, phases) =
        (by(&bundle, "cpu/by-host.csv", &["host"]), by(&bundle, "cpu/by-phase.csv", &["phase"]));
    for table in [&routes, &hosts, &phases] {
        assert_eq!(table.values().sum::<i64>(), total, "{table:?}");
    }
    for (_, path) in ROUTES {
        let labelled = samples(pprof.stacks.iter().filter(|s| s.label("path") == path));
        assert_eq!(routes[&format!("GET {path}")], labelled);
    }
    assert_eq!(routes[&format!(" {STAND_IN}")], phases["timer"]);
    assert_eq!(phases["set"], samples(pprof.stacks.iter().filter(|s| s.label("phase") == "set")));
    let told = ROUTES.iter().map(|(_, path)| routes[&format!("GET {path}")]).sum::<i64>();
    assert_eq!(hosts["127.0.0.1"], told);
    assert!(!bundle.files().contains_key("cpu/by-plugin.csv"), "nothing here is a plugin");

    // A query string is nowhere.
    for (file, bytes) in bundle.files() {
        assert!(!bytes.windows(7).any(|w| w == b"hunter2"), "{file}");
    }
    assert!(!pprof.labels["path"].iter().any(|p| p.contains('?') || p.contains("token")));
}

#[test]
fn more_requests_than_are_told_apart_are_told_by_their_first_segment() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::start(
        "flood",
        &["--env", "TIMER_TICK=off", "--entrypoint", "sh", "upprof-target", "-c", FLOOD_CONF],
    );
    let paths: Vec<String> = (0..4000).map(|n| format!("/users/{n}/orders")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let load = Load::on(&target, &paths);
    let bundle = capture(&target, folder.path(), 5.0);
    assert_eq!(load.stop().bad, 0);

    let routes = by(&bundle, "cpu/by-route.csv", &["method", "path"]);
    let whole = routes.keys().filter(|r| r.ends_with("/orders")).count();
    assert!((512..=2048).contains(&whole), "{whole} are told apart");
    assert!(routes["GET /users/\u{2026}"] > 0, "{:?}", routes.iter().filter(|(_, n)| **n > 5));
    assert_eq!(bundle.counter("requests_beyond_limit"), 0);
    let total = i64::try_from(bundle.counter("samples")).expect("a count");
    assert_eq!(routes.values().sum::<i64>(), total);
}

/// Every path burns a little; one worker.
const FLOOD_CONF: &str = r"cat >/tmp/flood.conf <<'CONF'
user www-data;
worker_processes 1;
error_log /dev/stderr warn;
include /etc/nginx/modules-enabled/*.conf;
events {}
http {
    access_log off;
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:8080;
        location / {
            content_by_lua_block {
                local x = 0
                for i = 1, 100000 do x = (x * 3 + i) % 65536 end
                ngx.say(x)
            }
        }
    }
}
CONF
exec nginx -c /tmp/flood.conf -g 'daemon off;'";
