//! Stacks of one moment, as text and as JSON.

#[path = "../../profile/tests/common/mod.rs"]
mod common;

use serde_json::{Value, json};
use upprof_profile::{Profile, Role, VmState};
use upprof_report::{Doing, Now};

/// A master asleep, a worker in Lua, one that could not be caught.
fn moment() -> (Profile, Vec<Doing>) {
    let mut m = common::Maker::default();
    m.profile.container = "gate\u{202e}way".into();
    let master = m.process(201, Role::Master, None);
    let first = m.process(202, Role::Worker, None);
    let second = m.process(203, Role::Worker, None);
    m.profile.processes[second].lua_unavailable = Some("layout\nnot known".into());
    m.profile.processes[second].ns_pid = Some(203);
    m.sample(
        first,
        VmState::Interpreted,
        1,
        &["native main nginx", "lua f\x1b /a.lua 1", "cfunc string.rep"],
    );
    m.sample(master, VmState::NotLua, 1, &["native main nginx", "kernel sigsuspend"]);
    let doing = vec![Doing::Waiting, Doing::Running, Doing::Unknown("it ended\u{7}".into())];
    (m.profile, doing)
}

#[test]
fn text_goes_from_the_leaf_to_the_root() {
    let (profile, doing) = moment();
    let mut out = Vec::new();
    Now { profile: &profile, doing: &doing }.write_text(&mut out).expect("a Vec takes everything");
    let expected = "\
master 1, pid 201 (1 in the container): waiting
  sigsuspend [kernel]
  main
worker 1, pid 202 (2 in the container): running, Lua: interpreted
  cfunc:string.rep
  lua:f\\x1b@/a.lua:1#3
  main
worker 2, pid 203: unknown
  no stack: it ended\\x07
  Lua is not shown: layout\\x0anot known
";
    assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
}

#[test]
fn json_goes_from_the_root_to_the_leaf() {
    let (profile, doing) = moment();
    let mut out = Vec::new();
    Now { profile: &profile, doing: &doing }.write_json(&mut out).expect("a Vec takes everything");
    assert!(out.iter().all(|b| matches!(b, b' '..=b'~' | b'\n')), "printable ASCII only");
    let document: Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(
        (&document["format"], &document["version"], &document["container"]),
        (&json!("upprof-stacks"), &json!(1), &json!("gate\u{202e}way"))
    );
    let processes = document["processes"].as_array().expect("processes");
    assert_eq!(
        processes[1],
        json!({
            "pid": 202, "ns_pid": 2, "role": "worker", "doing": "running", "vmstate": "interpreted",
            "missing": null, "lua_unavailable": null,
            "stack": [
                {"kind": "native", "text": "main", "name": "main", "file": "nginx", "definition": 0, "line": 0},
                {"kind": "lua", "text": "lua:f\\x1b@/a.lua:1#3", "name": "f\x1b", "file": "/a.lua",
                 "definition": 1, "line": 3},
                {"kind": "lua_c", "text": "cfunc:string.rep", "name": "string.rep", "file": null,
                 "definition": 0, "line": 0},
            ]
        })
    );
    let last = &processes[2];
    assert_eq!((&last["doing"], &last["missing"]), (&json!("unknown"), &json!("it ended\u{7}")));
    assert_eq!((&last["vmstate"], &last["stack"]), (&Value::Null, &json!([])));
}
