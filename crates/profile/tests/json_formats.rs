//! speedscope's JSON and upprof's own, against files written by hand, hostile names and broken files.

mod common;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use upprof_profile::export::{Document, Exporter, Folded, InvalidDocument, Json, Pprof, Speedscope, Style};
use upprof_profile::{Origin, Phase, Profile};

fn bytes(exporter: &dyn Exporter, profile: &Profile) -> Vec<u8> {
    let mut out = Vec::new();
    exporter.write(profile, &mut out).expect("a Vec takes everything");
    out
}

fn value(exporter: &dyn Exporter, profile: &Profile) -> Value {
    let bytes = bytes(exporter, profile);
    assert!(bytes.iter().all(|b| matches!(b, b' '..=b'~' | b'\n')), "printable ASCII only");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn golden(text: &str) -> Value {
    serde_json::from_str(text).expect("a golden file")
}

#[test]
fn both_match_the_golden_files() {
    let mut speedscope = value(&Speedscope::default(), &common::tiny());
    let by = speedscope.as_object_mut().and_then(|o| o.remove("exporter"));
    assert!(by.is_some_and(|by| by.as_str().is_some_and(|by| by.starts_with("upprof "))));
    assert_eq!(speedscope, golden(include_str!("golden/profile.speedscope.json")));
    assert_eq!(value(&Json, &common::tiny()), golden(include_str!("golden/profile.json")));
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().expect("a list").iter().map(|n| n.as_u64().expect("a number")).collect()
}

/// What the published schema asks of a sampled profile, and what the viewer relies on beyond it.
fn check_speedscope(file: &Value) {
    let frames = file["shared"]["frames"].as_array().expect("frames");
    assert!(frames.iter().all(|f| f["name"].is_string()));
    for frame in frames {
        assert!(frame.get("file").is_none_or(Value::is_string), "{frame}");
        assert!(frame.get("line").is_none_or(|l| l.as_u64() > Some(0)), "{frame}");
    }
    let names: std::collections::BTreeSet<&str> = frames.iter().filter_map(|f| f["name"].as_str()).collect();
    assert_eq!(names.len(), frames.len(), "one frame a name, or the viewer shows it twice");
    let profiles = file["profiles"].as_array().expect("profiles");
    assert!(!profiles.is_empty());
    for profile in profiles {
        assert_eq!(profile["type"], "sampled");
        assert!(profile["name"].is_string() && profile["startValue"] == 0);
        let weights = numbers(&profile["weights"]);
        let samples = profile["samples"].as_array().expect("samples");
        assert_eq!(samples.len(), weights.len());
        assert_eq!(profile["endValue"].as_u64(), Some(weights.iter().sum()));
        for stack in samples {
            let stack = numbers(stack);
            assert!(!stack.is_empty() && stack.iter().all(|i| (*i as usize) < frames.len()));
        }
    }
}

#[test]
fn speedscope_is_sound_for_any_profile() {
    for profile in [common::gateway(), common::hostile(), common::idle(), Profile::default()] {
        check_speedscope(&value(&Speedscope::default(), &profile));
    }
    let mut unknown = common::tiny();
    unknown.frequency_hz = 0;
    let counts = value(&Speedscope::default(), &unknown);
    assert_eq!(
        (&counts["profiles"][0]["unit"], &counts["profiles"][0]["endValue"]),
        (&json!("none"), &json!(100))
    );
}

#[test]
fn speedscope_and_folded_tell_the_same_stacks() {
    let profile = common::gateway();
    let file = value(&Speedscope::default(), &profile);
    let name = |i: u64| file["shared"]["frames"][i as usize]["name"].as_str().expect("a name");
    let all = &file["profiles"][0];
    let ns = 1_000_000_000 / u64::from(profile.frequency_hz);
    let stacks: BTreeMap<String, u64> =
        std::iter::zip(all["samples"].as_array().expect("samples"), numbers(&all["weights"]))
            .map(|(stack, weight)| {
                (numbers(stack).into_iter().map(name).collect::<Vec<_>>().join(";"), weight / ns)
            })
            .collect();
    let folded = String::from_utf8(bytes(&Folded::default(), &profile)).expect("UTF-8");
    let expected: BTreeMap<String, u64> = folded
        .lines()
        .filter_map(|l| l.rsplit_once(' '))
        .map(|(stack, count)| (stack.to_owned(), count.parse().expect("a count")))
        .collect();
    assert_eq!(stacks, expected);
}

#[test]
fn what_is_written_as_json_is_read_back_whole() {
    let mut labelled = common::tiny();
    let request =
        Origin::Request { method: "GET".into(), host: "a.example".into(), path: "/b\u{202e}".into() };
    labelled.samples[1].origin = labelled.intern_origin(&request);
    labelled.samples[1].phase = Some(Phase::HeaderFilter);
    labelled.samples[2].origin = labelled.intern_origin(&Origin::NotLua);
    let focused = common::tiny().focused("hot|gsub", |text| text.contains("hot"));
    for profile in [labelled, common::gateway(), common::hostile(), common::idle(), focused] {
        let document: Document = serde_json::from_slice(&bytes(&Json, &profile)).expect("our own JSON");
        let read = document.into_profile().expect("a profile");
        assert_eq!(read.samples, profile.samples);
        assert!(read.samples.iter().all(|s| read.origin(s) == profile.origin(s)));
        for exporter in [&Folded::default() as &dyn Exporter, &Pprof, &Json, &Speedscope::default()] {
            assert!(bytes(exporter, &profile) == bytes(exporter, &read), "{}", exporter.path());
        }
    }
}

#[test]
fn a_file_that_contradicts_itself_is_refused() {
    let broken = |path: &str, to: Value| {
        let mut file = golden(include_str!("golden/profile.json"));
        *file.pointer_mut(path).unwrap_or_else(|| panic!("no {path}")) = to;
        let document: Document = serde_json::from_value(file).expect("the right shape");
        document.into_profile().expect_err(path)
    };
    let index = |what, index| InvalidDocument::Index { what, index };
    assert_eq!(broken("/format", json!("pprof")), InvalidDocument::Format("pprof".into()));
    assert_eq!(broken("/version", json!(2)), InvalidDocument::Version(2));
    assert_eq!(broken("/locations/3/frame", json!(10)), index("frame", 10));
    assert_eq!(broken("/samples/0/stack/1", json!(10)), index("location", 10));
    assert_eq!(broken("/samples/6/process", json!(3)), index("process", 3));
    assert_eq!(broken("/samples/6/process", json!(u64::MAX)), index("process", u64::MAX));
    assert_eq!(broken("/samples/3/origin", json!(1)), index("origin", 1));
    let deep = vec![0; Document::MAX_DEPTH + 1];
    assert_eq!(broken("/samples/2/stack", json!(deep)), InvalidDocument::Depth(4097));
    let large = 1_u64 << 53;
    assert_eq!(broken("/samples/0/count", json!(large)), InvalidDocument::TooLarge("the number of samples"));
    assert_eq!(
        broken("/samples/0/count", json!(u64::MAX)),
        InvalidDocument::TooLarge("the number of samples")
    );
    assert_eq!(broken("/counters/0/count", json!(u64::MAX)), InvalidDocument::TooLarge("a counter"));
    assert_eq!(broken("/processes/0/cpu_ns", json!(u64::MAX)), InvalidDocument::TooLarge("CPU time"));
}

#[test]
fn lines_tell_frames_apart() {
    let lines = Style { lines: true, inverted: false };
    let folded = String::from_utf8(bytes(&Folded(lines), &common::tiny())).expect("UTF-8");
    assert_eq!(
        folded.lines().last(),
        Some("main;lua:access@/app/main.lua:10#12;lua:hot@/app/hot.lua:5#7;[trace loop@/app/hot.lua:7] 50")
    );
    let speedscope = value(&Speedscope(lines), &common::tiny());
    let frame = &speedscope["shared"]["frames"][3];
    assert_eq!(
        frame,
        &json!({"name": "lua:access@/app/main.lua:10#12", "file": "/app/main.lua", "line": 12})
    );
    // Two lines of one function are two frames, and a line that is not known says so.
    let mut profile = common::tiny();
    profile.samples[1].stack[1].line = 0;
    let folded = String::from_utf8(bytes(&Folded(lines), &profile)).expect("UTF-8");
    assert!(folded.contains("main;lua:access@/app/main.lua:10#? 30\n"), "{folded}");
    assert!(folded.contains("main;lua:access@/app/main.lua:10#12 3\n"), "{folded}");
}

#[test]
fn inverted_stacks_start_at_the_leaf() {
    let inverted = Style { lines: false, inverted: true };
    let folded = String::from_utf8(bytes(&Folded(inverted), &common::tiny())).expect("UTF-8");
    let expected = "\
        [trace loop@/app/hot.lua:7];lua:hot@/app/hot.lua:5;lua:access@/app/main.lua:10;main 50\n\
        [unknown];main 1\n\
        do_syscall_64 [kernel];main;[master] 1\n\
        gc_sweep;[GC];lua:access@/app/main.lua:10;main 6\n\
        lj_str_new;cfunc:string.gsub;lua:access@/app/main.lua:10;main 9\n\
        lua:access@/app/main.lua:10;main 33\n";
    assert_eq!(folded, expected);
    assert_eq!(
        bytes(&Speedscope(inverted), &common::tiny()),
        bytes(&Speedscope::default(), &common::tiny()),
        "the viewer inverts"
    );
}

#[test]
fn focus_keeps_whole_stacks_and_says_of_how_many() {
    let tiny = common::tiny();
    let focused = tiny.focused("string\\.", |text| text == "cfunc:string.gsub" || text == "[GC]");
    let folded = String::from_utf8(bytes(&Folded::default(), &focused)).expect("UTF-8");
    let expected = "\
        main;lua:access@/app/main.lua:10;[GC];gc_sweep 6\n\
        main;lua:access@/app/main.lua:10;cfunc:string.gsub;lj_str_new 9\n";
    assert_eq!(folded, expected);
    let focus = focused.focus.clone().expect("a focus");
    assert_eq!((focus.pattern.as_str(), focus.of_samples), ("string\\.", 100));
    assert_eq!(focused.counters, tiny.counters);
    // What matches nothing says so, and not that the target was idle.
    let nothing = tiny.focused("no such", |_| false);
    assert_eq!(
        nothing.no_samples_reason().as_deref(),
        Some("none of 100 samples has a frame that matches no such")
    );
}
