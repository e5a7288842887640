//! How a window ends, and that what was collected until then is always written.

use rustix::process::Signal;
use std::path::Path;
use upprof_tests::harness::bundle::{self, Bundle, INCOMPLETE};
use upprof_tests::harness::docker::Container;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::run::{Running, Upprof};
use upprof_tests::harness::target::Target;

/// No capture of these tests ends by its duration.
const LONG: &str = "24h";
const NO_SAMPLES: i32 = 5;
const SECOND_INTERRUPT: i32 = 130;

fn capture(target: &Container, out: &Path, arguments: &[&str]) -> Running {
    Upprof::on_host().args(["--container", target.name()]).args(arguments).out(out).start()
}

/// A whole bundle: every file that its manifest lists, the same in the archive, and no mark.
fn assert_whole(bundle: &Bundle) {
    let files = bundle.files();
    let listed: Vec<String> = bundle.manifest().artifacts.into_iter().map(|a| a.path).collect();
    let present: Vec<&String> = files.keys().collect();
    let mut sorted: Vec<&String> = listed.iter().collect();
    sorted.sort();
    assert_eq!(present, sorted, "files, and the manifest's list");
    assert!(bundle.archive() == files, "the archive differs from the folder");
    assert!(!bundle.path.join(INCOMPLETE).exists());
}

#[test]
fn one_interrupt_ends_the_window_and_writes_everything() {
    let target = Target::quiet("interrupted");
    let _load = Load::on(&target, &["/recursion"]);
    for signal in [Signal::INT, Signal::TERM] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut upprof = capture(&target, folder.path(), &["-d", LONG, "-F", "499"]);
        upprof.sampling();
        target.burn(0.5);
        upprof.signal(signal);
        let outcome = upprof.wait();
        outcome.exits(0);
        let bundle = Bundle::only_in(folder.path());
        assert_eq!(outcome.opened(), bundle.path);
        assert_whole(&bundle);
        assert_eq!(bundle.manifest().capture.ended_by, "interrupted");
        assert!(bundle.stacks().samples(|s| s.has_lua()) > 0);
    }
}

#[test]
fn whoever_keeps_interrupting_gets_out_at_once() {
    let target = Target::quiet("impatient");
    let _load = Load::on(&target, &["/recursion"]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut upprof = capture(&target, folder.path(), &["-d", LONG, "-F", "499"]);
    upprof.sampling();
    target.burn(0.5);
    // Signals that have not arrived yet become one: hence until it is over, not twice.
    let status = loop {
        if let Some(status) = upprof.status() {
            break status;
        }
        upprof.signal(Signal::INT);
        std::thread::yield_now();
    };
    assert_eq!(status.code(), Some(SECOND_INTERRUPT));
    let bundle = Bundle::only_in(folder.path());
    assert!(
        bundle.path.join(INCOMPLETE).exists(),
        "an unfinished folder must say so: {:?}",
        bundle.files().keys()
    );
    assert!(!bundle.archive_path().exists());
}

#[test]
fn a_target_that_exits_leaves_what_it_gave() {
    let target = Target::quiet("killed");
    let _load = Load::on(&target, &["/recursion"]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut upprof = capture(&target, folder.path(), &["-d", LONG, "-F", "499"]);
    upprof.sampling();
    target.burn(1.0);
    target.kill();
    let outcome = upprof.wait();
    outcome.exits(0);
    assert!(outcome.stderr.contains("warning: the target exited"), "{}", outcome.stderr);
    let bundle = Bundle::only_in(folder.path());
    assert_eq!(outcome.opened(), bundle.path);
    assert_whole(&bundle);
    let manifest = bundle.manifest();
    assert_eq!(manifest.capture.ended_by, "target exited");
    assert!(manifest.capture.samples > 0 && bundle.stacks().total() == manifest.capture.samples);
    // 1 s of CPU at 499 Hz, nearly all of it in this file's functions.
    let stacks = bundle.stacks();
    let lua = stacks.samples(|s| s.frames.iter().any(|f| f.contains("@/app/calls.lua:")));
    assert!(lua >= 250, "{lua} samples have the function's file");
    // Their names are in a file that is gone with the target: it was read when they were first seen.
    let named =
        stacks.samples(|s| s.frames.iter().any(|f| f.starts_with("lua:recursion_inner@/app/calls.lua:")));
    assert!(named >= 250, "{named} samples have its name: {:?}", manifest.skipped);
    let nameless = stacks.samples(|s| s.frames.iter().any(|f| f.starts_with("lua:?@/app/")));
    assert_eq!(nameless, 0, "functions by line only");
}

#[test]
fn a_target_that_exits_before_it_gave_anything() {
    let target = Target::quiet("gone");
    let folder = tempfile::tempdir().expect("a folder");
    // The first tick comes after a second, when the target is long gone.
    let mut upprof = capture(&target, folder.path(), &["-d", LONG, "-F", "1"]);
    upprof.sampling();
    target.kill();
    let outcome = upprof.wait();
    let told = outcome.fails(NO_SAMPLES);
    assert!(told.what.contains("no sample"), "{told:?}");
    let bundle = Bundle::only_in(folder.path());
    assert!(told.attempt.contains(&bundle.path.display().to_string()), "{told:?}");
    assert_whole(&bundle);
    assert_eq!(bundle.manifest().capture.ended_by, "target exited");
}

#[test]
fn an_idle_target_gives_no_sample_and_a_bundle_that_says_so() {
    let target = Target::quiet("idle");
    let folder = tempfile::tempdir().expect("a folder");
    let outcome = capture(&target, folder.path(), &["-d", "2s"]).wait();
    let told = outcome.fails(NO_SAMPLES);
    assert!(told.likely.contains("idle"), "{told:?}");
    let bundle = Bundle::only_in(folder.path());
    assert_whole(&bundle);
    assert_eq!(bundle.manifest().capture.ended_by, "duration");
    assert_eq!((bundle.stacks().total(), bundle.manifest().capture.samples), (0, 0));
    assert!(bundle.text("index.html").to_lowercase().contains("no sample"));
    let rows = bundle.workers();
    assert_eq!(rows.iter().filter(|row| row.role == "worker").count(), target.workers().len());
}

#[test]
fn two_captures_at_once_do_not_disturb_each_other() {
    let target = Target::quiet("twice");
    let _load = Load::on(&target, &["/recursion"]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut both = [499, 199].map(|hz| capture(&target, folder.path(), &["-d", LONG, "-F", &hz.to_string()]));
    for upprof in &mut both {
        upprof.sampling();
    }
    target.burn(1.0);
    for upprof in &both {
        upprof.signal(Signal::INT);
    }
    let opened = both.map(|upprof| {
        let outcome = upprof.wait();
        outcome.exits(0);
        outcome.opened()
    });
    assert_ne!(opened[0], opened[1]);
    let bundles = bundle::all_in(folder.path());
    assert_eq!(bundles.len(), 2);
    let mut frequencies: Vec<u32> = bundles.iter().map(|b| b.manifest().capture.frequency_hz).collect();
    frequencies.sort_unstable();
    assert_eq!(frequencies, [199, 499]);
    for bundle in &bundles {
        assert_whole(bundle);
        let hz = f64::from(bundle.manifest().capture.frequency_hz);
        // Of the second that both saw, each has at least half of its ticks.
        let lua = bundle.stacks().samples(|s| s.has_lua());
        assert!(lua as f64 >= hz / 2.0, "{lua} samples at {hz} Hz");
    }
}
