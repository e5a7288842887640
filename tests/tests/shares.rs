//! Four functions do the same work 1, 2, 3 and 4 times. A profile that is right gives them 10, 20, 30 and
//! 40 per cent of the samples: in the interpreter, each in a trace of its own, and all inlined in one trace.

use std::path::Path;
use upprof_tests::harness::bundle::Bundle;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::source::Sources;
use upprof_tests::harness::stacks::Stacks;
use upprof_tests::harness::target::Target;

const SHARES: [f64; 4] = [10.0, 20.0, 30.0, 40.0];
/// What the issue asks for, in points.
const TOLERANCE: f64 = 1.0;
/// At least that many samples: 1 point is 4 standard errors of the largest share.
const MIN_SAMPLES: u64 = 38_400;
const FREQUENCY: &str = "7999";
/// CPU seconds in the window.
const BURN: f64 = 6.0;

/// Captures a target under load until it has used some CPU time.
fn capture(target: &Target, path: &str, burn: f64, arguments: &[&str]) {
    let load = Load::on(target, &[path]);
    // Traces are made before the window: what is measured is the steady state.
    target.burn(1.0);
    let mut upprof = Upprof::on_host()
        .args(arguments.iter().chain(&["--container", target.name(), "-d", "0", "-F", FREQUENCY]))
        .start();
    upprof.sampling();
    target.burn(burn);
    upprof.signal(rustix::process::Signal::INT);
    upprof.wait().exits(0);
    assert_eq!(load.stop().bad, 0);
}

fn folded(folder: &Path) -> Stacks {
    Bundle::only_in(folder).stacks()
}

/// The frames of the four functions.
fn functions(sources: &Sources, prefix: &str, file: &str) -> [String; 4] {
    SHARES.map(|share| sources.lua(&format!("{prefix}_{share}"), file))
}

/// Asserts the share of each function, by the innermost one in each stack. Returns all samples of them.
fn judge(path: &str, stacks: &Stacks, frames: &[String; 4], expected: [f64; 4]) -> u64 {
    let of =
        |frame: &String| stacks.samples(|s| s.frames.iter().rfind(|f| frames.contains(f)) == Some(frame));
    let samples = frames.each_ref().map(of);
    let all: u64 = samples.iter().sum();
    assert!(all >= MIN_SAMPLES, "{all} samples in the four functions");
    let shares = samples.map(|n| n as f64 * 100.0 / all as f64);
    println!("{path}: {shares:.2?} % of {all} samples, expected {expected:.2?}");
    for ((frame, share), expected) in frames.iter().zip(shares).zip(expected) {
        assert!((share - expected).abs() <= TOLERANCE, "{frame} has {share:.2} %, not {expected:.2}");
    }
    all
}

/// Captures one path and judges it. Returns how many samples are in a trace of their own function, and all.
fn shares(path: &str, file: &str) -> (u64, u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::quiet("shares");
    let sources = Sources::of(&target);
    capture(&target, path, BURN, &["--out", folder.path().to_str().expect("UTF-8")]);
    let stacks = folded(folder.path());
    let frames = functions(&sources, "share", file);
    let all = judge(path, &stacks, &frames, SHARES);
    // A trace of one function is hardly ever above another: only for the moment in which machine code
    // leaves the loop, and goes on in the function it returns to.
    let (mut traced, mut elsewhere) = (0, 0);
    for stack in &stacks.0 {
        let Some(trace) = stack.frames.iter().find(|f| f.starts_with("[trace share_")) else { continue };
        let below = stack.callers(trace).unwrap_or_default();
        let function = below.iter().rfind(|f| f.starts_with("lua:")).copied().unwrap_or_default();
        let own = SHARES
            .iter()
            .zip(&frames)
            .find(|(share, _)| trace.starts_with(&format!("[trace share_{share}@")));
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

/// What the thread's own clock (`CLOCK_THREAD_CPUTIME_ID`) says that each function takes, in per cent.
fn measured(target: &Target) -> [f64; 4] {
    let ask = "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /shares/inline/truth HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let answer = target.exec(&["bash", "-c", ask]);
    let numbers = answer.lines().find(|l| l.split(' ').count() == 4 && !l.contains(':'));
    let ns: Vec<f64> = numbers
        .unwrap_or_else(|| panic!("no numbers: {answer}"))
        .split(' ')
        .map(|n| n.parse().expect("a number"))
        .collect();
    let sum: f64 = ns.iter().sum();
    [0, 1, 2, 3].map(|i| ns[i] * 100.0 / sum)
}

#[test]
fn known_shares_of_functions_inlined_in_one_trace() {
    let file = "/app/shares_inline.lua";
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::quiet("shares");
    let sources = Sources::of(&target);
    let truth = measured(&target);
    for (measured, meant) in truth.iter().zip(SHARES) {
        assert!((measured - meant).abs() <= TOLERANCE, "the functions take {truth:.2?} %");
    }
    let path = "/shares/inline";
    capture(&target, path, BURN, &["--out", folder.path().to_str().expect("UTF-8")]);
    let stacks = folded(folder.path());
    let frames = functions(&sources, "inlined", file);
    let all = judge(path, &stacks, &frames, truth);
    // They are all in the loop's trace, called by the loop.
    let caller = sources.lua("inlining_loop", file);
    let trace = sources.trace("inlining_loop", file, "for i");
    let inlined = stacks.samples(|s| {
        let own = s.callers(&trace).unwrap_or_default();
        let [.., outer, inner, _] = own.as_slice() else { return false };
        *outer == caller && frames.iter().any(|f| f == inner)
    });
    println!("{path}: {inlined} of {all} samples are inlined in the loop's trace");
    assert!(inlined * 100 >= all * 99, "{inlined} of {all} samples are inlined in the loop's trace");
}

/// Every compiled function of the demo, its own callers included, is at one of its own lines.
#[test]
fn lines_of_compiled_code_are_inside_their_functions() {
    const PATHS: [&str; 8] = [
        "/jit/loop",
        "/jit/recursion",
        "/jit/inline",
        "/jit/branches",
        "/jit/ffi",
        "/jit/garbage",
        "/shares/jit",
        "/shares/inline",
    ];
    let target = Target::quiet("lines");
    let sources = Sources::of(&target);
    for path in PATHS {
        let file = tempfile::Builder::new().suffix(".folded").tempfile().expect("a file");
        let output = file.path().to_str().expect("UTF-8");
        capture(&target, path, 0.3, &["record", "--lines", "-o", output]);
        let stacks = Stacks::parse(&std::fs::read_to_string(file.path()).expect("folded stacks"));
        let (mut samples, mut inside, mut doubtful) = (0, 0, 0);
        for stack in &stacks.0 {
            let Some(trace) = stack.frames.iter().position(|f| f.starts_with("[trace ")) else { continue };
            let Some((file, definition, line)) = stack.frames[..trace].last().and_then(|f| place(f)) else {
                continue;
            };
            if !file.starts_with("/app/") {
                continue;
            }
            samples += stack.count;
            let range = definition..=sources.end(file, definition);
            match line {
                Some(line) if range.contains(&line) => inside += stack.count,
                // Said not to be known: the trace was replaced before its snapshots could be read, say.
                None => doubtful += stack.count,
                Some(_) => println!("{path}: {:?}", &stack.frames[..=trace]),
            }
        }
        println!(
            "{path}: of {samples} samples in traces {inside} are at a line inside their function, {doubtful} without"
        );
        assert!(samples > 300, "{path}: only {samples} samples in traces");
        assert_eq!(inside + doubtful, samples, "{path}");
        assert!(doubtful * 200 <= samples, "{path}: {doubtful} of {samples} samples without a line");
    }
}

/// File, line of definition and line being executed of `lua:NAME@FILE:DEFINITION#LINE`.
fn place(frame: &str) -> Option<(&str, usize, Option<usize>)> {
    let (_, rest) = frame.strip_prefix("lua:")?.split_once('@')?;
    let (function, line) = rest.rsplit_once('#')?;
    let (file, definition) = function.rsplit_once(':')?;
    Some((file, definition.parse().ok()?, line.parse().ok()))
}
