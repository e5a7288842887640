//! What functions are called, for every way to define one. The truth is in the application's source
//! (`fixtures/names`): a comment on the line that a function starts on says what it must be called.

use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use upprof_tests::harness::bundle::Bundle;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::stacks::Stacks;
use upprof_tests::harness::target::Target;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/names");
/// CPU seconds of the workers in the window, at 999 Hz: some hundred samples for each function.
const BURN: f64 = 10.0;
const MIN_SAMPLES: u64 = 10;
const NO_DEBUG_INFO: &str = "no debug info (bytecode module)";

/// The frames that a source says there must be, one for each of its comments.
fn told(file: &str, shown_as: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("{FIXTURES}/{file}")).expect("a fixture");
    let frame = |(line, text): (usize, &str)| {
        let name = text.split_once("-- is: ")?.1;
        Some(format!("lua:{name}@{shown_as}:{line}"))
    };
    let frames: Vec<String> = (1..).zip(text.lines()).filter_map(frame).collect();
    assert!(!frames.is_empty());
    frames
}

fn capture(suite: &str) -> Bundle {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = format!("{FIXTURES}:/names:ro");
    let start = "cp /names/moved.lua /tmp/ && exec nginx -c /names/nginx.conf -g 'daemon off;'";
    let image = format!("upprof-target:{suite}");
    let target = Target::start("names", &["-v", &mount, &image, "sh", "-c", start]);
    target.exec(&["rm", "/tmp/moved.lua"]);
    let _load = Load::on_all_workers(&target, &["/"]);
    let mut upprof = Upprof::on_host()
        .args(["--container", target.name(), "-d", "0", "-F", "999"])
        .out(folder.path())
        .start();
    upprof.sampling();
    target.burn(BURN);
    upprof.signal(Signal::INT);
    upprof.wait().exits(0);
    // The bundle outlives this function, and is small.
    let kept = folder.keep();
    Bundle::only_in(&kept)
}

/// Samples that have a frame.
fn samples(stacks: &Stacks, frame: &str) -> u64 {
    stacks.samples(|s| s.frames.iter().any(|f| f == frame))
}

fn check(suite: &str) {
    let bundle = capture(suite);
    let stacks = bundle.stacks();
    let frames: BTreeSet<&str> = stacks.0.iter().flat_map(|s| &s.frames).map(String::as_str).collect();
    let lua: Vec<&&str> =
        frames.iter().filter(|f| f.starts_with("lua:") || f.starts_with("cfunc:")).collect();

    // Every form, by its source; and by memory, where the source is gone.
    for frame in told("forms.lua", "/names/forms.lua").iter().chain(&told("moved.lua", "/tmp/moved.lua")) {
        let seen = samples(&stacks, frame);
        assert!(seen >= MIN_SAMPLES, "{suite}: {seen} samples of {frame} in {lua:#?}");
    }
    // Two on one line are told apart.
    for name in ["form_of_x", "form_of_y"] {
        let start = format!("lua:{name}@/names/forms.lua:");
        assert!(frames.iter().any(|f| f.starts_with(&start)), "{suite}: no {name} in {lua:#?}");
    }
    // The text of a chunk is its source; code in nginx's configuration has none that can be found.
    for start in ["lua:form_of_text@[string \"local function form_of_text(x)…\"]:1", "lua:inline_local@"] {
        assert!(frames.iter().any(|f| f.starts_with(start)), "{suite}: no {start} in {lua:#?}");
    }
    assert!(!frames.iter().any(|f| f.contains("decoy")), "{suite}: {lua:#?}");

    // The same function is the same frame in both workers: no name twice, and one name a line.
    let mut by_place: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for frame in frames.iter().filter(|f| f.contains("@/names/") || f.contains("@/tmp/")) {
        let Some((name, place)) = frame.strip_prefix("lua:").and_then(|f| f.split_once('@')) else {
            continue;
        };
        by_place.entry(place).or_default().insert(name);
    }
    for (place, names) in by_place.iter().filter(|(place, _)| !place.ends_with(".ljbc:0")) {
        let apart = names.iter().all(|n| n.starts_with("form_of_"));
        assert!(names.len() == 1 || apart, "{suite}: {place} has {names:?}");
    }
    let unnamed: Vec<&&str> = frames.iter().filter(|f| f.starts_with("lua:?@")).collect();
    assert!(unnamed.is_empty(), "{suite}: {unnamed:?}");

    // Bytecode without debug information says so, with the names that tables still have.
    let ljbc = |f: &&&str| f.ends_with("@/names/stripped.ljbc:0");
    let stripped: Vec<&&str> = frames.iter().filter(ljbc).collect();
    assert!(stripped.iter().all(|f| f.contains(NO_DEBUG_INFO)), "{suite}: {stripped:?}");
    for name in ["vendor.stripped.run", "vendor.stripped.stripped_field"] {
        let start = format!("lua:{name} - {NO_DEBUG_INFO}@");
        assert!(stripped.iter().any(|f| f.starts_with(&start)), "{suite}: no {start} in {stripped:?}");
    }
    // The local one has a number instead, the same in both workers.
    let numbered = format!("lua:{NO_DEBUG_INFO} ");
    assert_eq!(stripped.iter().filter(|f| f.starts_with(&numbered)).count(), 1, "{suite}: {stripped:?}");
    let said = bundle.manifest().skipped;
    for (what, why) in [("/names/stripped.ljbc", NO_DEBUG_INFO), ("/tmp/moved.lua", "does not exist")] {
        let found = said.iter().any(|s| s.what.contains(what) && s.why.contains(why));
        assert!(found, "{suite}: {what} is not in {said:?}");
    }

    // C functions that no global leads to.
    for (name, caller) in [
        ("cfunc:ffi.cdata.__call", "calls_ffi"),
        ("cfunc:ffi.cdata.__index", "indexes_cdata"),
        ("cfunc:io.file:seek", "reads_file"),
        ("cfunc:io.file:read", "reads_file"),
    ] {
        let caller = format!("lua:{caller}@/names/builtin.lua:");
        let in_order = stacks.samples(|s| {
            let at = s.frames.iter().position(|f| f.starts_with(&caller));
            at.is_some_and(|at| s.frames.get(at + 1).is_some_and(|f| f == name))
        });
        assert!(in_order >= MIN_SAMPLES, "{suite}: {in_order} samples of {name} in {lua:#?}");
    }
    // What the FFI calls has its symbol, on top of the call.
    let called = stacks.samples(|s| {
        let call = s.frames.iter().position(|f| f == "cfunc:ffi.cdata.__call");
        let adler = s.frames.iter().position(|f| f.starts_with("adler32"));
        call.is_some() && call < adler
    });
    assert!(called >= MIN_SAMPLES, "{suite}: {called} samples in adler32");
    std::fs::remove_dir_all(bundle.path.parent().expect("our folder")).expect("ours");
}

#[test]
fn every_form_on_debian_12() {
    check("bookworm");
}

#[test]
fn every_form_on_debian_11() {
    check("bullseye");
}

#[test]
fn every_form_on_debian_13() {
    check("trixie");
}
