//! A target that chooses its names to break the reader, captured for real: names stay text in every file
//! of the bundle and on the terminal. `fixtures/hostile/evil.lua` lists what it tries.

use rustix::process::Signal;
use std::collections::BTreeSet;
use upprof_tests::harness::bundle::Bundle;
use upprof_tests::harness::docker::Container;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::process;
use upprof_tests::harness::run::{Outcome, Upprof};
use upprof_tests::harness::stacks::is_lua;
use upprof_tests::harness::target::{IMAGE, Target};
use upprof_tests::harness::wait::until;
use upprof_tests::harness::xml::{self, Active};

/// At most the flame graph's own script, and what calls it.
fn assert_no_code_of_others(what: &str, active: &Active, scripts: usize) {
    assert_eq!(active.scripts.len(), scripts, "{what}");
    assert!(active.scripts.iter().all(|s| !s.contains("alert(") && !s.contains("alert`")), "{what}");
    assert!(active.handlers.iter().all(|(_, code)| code == "init(evt)"), "{what}: {:?}", active.handlers);
    assert!(!active.elements.contains("img"), "{what}");
    let local = |a: &String| a.starts_with("./") || a.starts_with('#');
    assert!(active.addresses.iter().all(local), "{what}: {:?}", active.addresses);
}

/// Every file of a bundle, and what was said, holds text and nothing that acts.
fn assert_harmless(bundle: &Bundle, outcome: &Outcome) {
    let control = |text: &str| text.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
    assert_eq!(control(&outcome.stderr), None, "{:?}", outcome.stderr);
    let files = [
        "cpu/flame.svg",
        "cpu/lua.svg",
        "cpu/profile.folded",
        "cpu/by-worker.csv",
        "manifest.yaml",
        "index.html",
    ];
    for file in files {
        assert_eq!(control(&bundle.text(file)), None, "{file}");
    }
    // Without Lua the second picture is one that says so, and needs no script.
    let lua = usize::from(bundle.stacks().samples(|s| s.has_lua()) > 0);
    for (picture, scripts) in [("cpu/flame.svg", 1), ("cpu/lua.svg", lua)] {
        assert_no_code_of_others(picture, &xml::active(&bundle.text(picture)), scripts);
    }
    let page = bundle.text("index.html");
    assert_no_code_of_others("the page", &xml::active(&page), 0);
    assert_no_code_of_others("its frame", &xml::active(&xml::frame(&page)), 1);
    // `stacks` is strict: one line a stack, a count at its end.
    assert_eq!(bundle.stacks().total(), bundle.manifest().capture.samples);
}

#[test]
fn names_of_chunks_functions_and_libraries() {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hostile:/hostile:ro");
    let target = Target::start(
        "hostile",
        &["-v", mount, IMAGE, "nginx", "-c", "/hostile/nginx.conf", "-g", "daemon off;"],
    );
    let load = Load::on(&target, &["/"]);
    let mut upprof = Upprof::on_host()
        .args(["--container", target.name(), "-v", "-d", "0", "-F", "999"])
        .out(folder.path())
        .start();
    upprof.sampling();
    target.burn(2.0);
    upprof.signal(Signal::INT);
    let outcome = upprof.wait();
    outcome.exits(0);
    assert_eq!(load.stop().bad, 0);
    let bundle = Bundle::only_in(folder.path());
    assert_harmless(&bundle, &outcome);

    // Each is there, as docs/formats.md says it is written.
    let stacks = bundle.stacks();
    let frames: BTreeSet<&str> = stacks.0.iter().flat_map(|s| &s.frames).map(String::as_str).collect();
    for shown in [
        r#"lua:(main chunk)@<script>alert(1)</script>\x3b"'\x0a\x1b[31m:0"#,
        r"lua:(main chunk)@/hostile/<img src=x onerror=alert(2)>\x3b.lua:0",
        "lua:(main chunk)@]]></script><script>alert(3)//:0",
        "lua:<script>alert`4`</script>@nginx.conf:7",
        r#"lua:(main chunk)@[string "--<script>alert(5)</script>…"]:0"#,
        r"lua:(main chunk)@x\u{202e}gnp.exe 12:0",
        "lua:(main chunk)@\u{fffd}\u{fffd}\u{fffd} no text:0",
        r"cfunc:<script>alert(7)</script>\x3b.\x1b]0\x3bpwned\x07\x0a\x209",
    ] {
        assert!(
            frames.contains(shown),
            "{shown} is not in {:#?}",
            frames.iter().filter(|f| is_lua(f)).collect::<Vec<_>>()
        );
    }
    let longest = frames.iter().map(|f| f.chars().count()).max();
    assert!(longest <= Some(200), "a frame of {longest:?} characters");
    // Shown, not run.
    let page = bundle.text("index.html");
    for (what, document) in [
        ("the picture", xml::active(&bundle.text("cpu/flame.svg"))),
        ("the page", xml::active(&page)),
        ("its frame", xml::active(&xml::frame(&page))),
    ] {
        assert!(document.text.contains(r#"<script>alert(1)</script>\x3b"'\x0a\x1b[31m"#), "{what}");
    }
}

#[test]
fn names_of_programs_and_their_files() {
    let folder = tempfile::tempdir().expect("a folder");
    // A program whose file, title and command name are hostile.
    let script = r#"f=$(printf '/tmp/<script>alert(8);\n\033[31m 5'); cp /bin/dash "$f"; exec "$f" -c 'while :; do :; done'"#;
    let busy = Container::run("program", &["--network", "none", IMAGE, "bash", "-c", script]);
    until("the program", || process::arguments(busy.pid())[0].contains("alert(8)").then_some(()));
    let mut upprof = Upprof::on_host()
        .args(["--container", busy.name(), "-v", "--keep-binaries", "-d", "0", "-F", "499"])
        .out(folder.path())
        .start();
    upprof.sampling();
    let from = process::cpu_seconds(busy.pid());
    until("the program to work", || (process::cpu_seconds(busy.pid()) - from >= 0.5).then_some(()));
    upprof.signal(Signal::INT);
    let outcome = upprof.wait();
    outcome.exits(0);
    let bundle = Bundle::only_in(folder.path());
    assert_harmless(&bundle, &outcome);
    let shown = r"<script>alert(8)\x3b\x0a\x1b[31m 5+0x";
    let stacks = bundle.stacks();
    let own = stacks.samples(|s| s.frames.iter().any(|f| f.starts_with(shown)));
    assert!(own * 2 > stacks.total(), "{own} of {} samples in {shown}", stacks.total());
    for file in bundle.files().keys() {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+/".contains(c);
        assert!(file.chars().all(plain), "{file:?}");
    }
}
