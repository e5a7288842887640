//! Four functions do the same work 1, 2, 3 and 4 times. A profile that is right gives them 10, 20, 30 and
//! 40 per cent of the samples: in the interpreter and, each in a trace of its own, in machine code.

use upprof_tests::harness::bundle::Bundle;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::source::Sources;
use upprof_tests::harness::target::Target;

const SHARES: [(&str, f64); 4] =
    [("share_10", 10.0), ("share_20", 20.0), ("share_30", 30.0), ("share_40", 40.0)];
/// What the issue asks for.
const MIN_SAMPLES: u64 = 3_000;
const TOLERANCE: f64 = 2.0;
/// CPU seconds in the window. At some 10,000 samples, 2 points are 4 standard errors of the largest share.
const BURN: f64 = 11.0;

/// Captures one path and asserts the share of each function, by the innermost one in each stack.
/// Returns how many samples of them are in a trace of their own, and all.
fn shares(path: &str, file: &str) -> (u64, u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::quiet("shares");
    let sources = Sources::of(&target);
    let load = Load::on(&target, &[path]);
    // Traces are made before the window: what is measured is the steady state.
    target.burn(1.0);
    let mut upprof = Upprof::on_host()
        .args(["--container", target.name(), "-d", "0", "-F", "999"])
        .out(folder.path())
        .start();
    upprof.sampling();
    target.burn(BURN);
    upprof.signal(rustix::process::Signal::INT);
    upprof.wait().exits(0);
    assert_eq!(load.stop().bad, 0);

    let stacks = Bundle::only_in(folder.path()).stacks();
    let frames = SHARES.map(|(name, _)| sources.lua(name, file));
    let of =
        |frame: &String| stacks.samples(|s| s.frames.iter().rfind(|f| frames.contains(f)) == Some(frame));
    let samples = frames.each_ref().map(of);
    let all: u64 = samples.iter().sum();
    assert!(all >= MIN_SAMPLES, "{all} samples in the four functions");
    for ((name, expected), samples) in SHARES.iter().zip(samples) {
        let share = samples as f64 * 100.0 / all as f64;
        println!("{path}: {name} has {share:.2} % of {all} samples");
        assert!((share - expected).abs() <= TOLERANCE, "{name} has {share:.2} % of {all} samples");
    }
    // A trace of one function is hardly ever above another: only for the moment in which machine code
    // leaves the loop, and goes on in the function it returns to.
    let (mut traced, mut elsewhere) = (0, 0);
    for stack in &stacks.0 {
        let Some(trace) = stack.frames.iter().find(|f| f.starts_with("[trace share_")) else { continue };
        let below = stack.callers(trace).unwrap_or_default();
        let function = below.iter().rfind(|f| f.starts_with("lua:")).copied().unwrap_or_default();
        let own =
            SHARES.iter().zip(&frames).find(|((name, _), _)| trace.starts_with(&format!("[trace {name}@")));
        let matches = own.is_some_and(|(_, frame)| frame == function);
        *(if matches { &mut traced } else { &mut elsewhere }) += stack.count;
    }
    println!("{path}: {traced} samples in a trace of their own, {elsewhere} above another function");
    assert!(elsewhere * 1000 <= all, "{elsewhere} of {all} samples are above another function");
    (traced, all)
}

#[test]
fn known_shares_in_the_interpreter() {
    let (traced, all) = shares("/shares/interp", "/app/shares_interp.lua");
    assert_eq!(traced, 0, "of {all} samples: the file switches the compiler off");
}

#[test]
fn known_shares_in_machine_code() {
    let (traced, all) = shares("/shares/jit", "/app/shares_jit.lua");
    assert!(traced * 100 >= all * 95, "{traced} of {all} samples are in their function's trace");
}
