//! What cannot be done is told in three parts, with the exit code of the contract (`README.md`).
//! A message names what the user typed, what exists instead, and no control character of either.

use std::os::unix::net::UnixListener;
use upprof_tests::harness::bundle;
use upprof_tests::harness::docker::{Container, unique};
use upprof_tests::harness::run::{Outcome, Told, Upprof};
use upprof_tests::harness::target;

const USAGE: i32 = 2;
const TARGET: i32 = 3;

/// A container that runs and does nothing, with these options.
fn sleeper(purpose: &str, options: &[&str]) -> Container {
    let command = ["--network", "none", "--init", target::IMAGE, "sleep", "infinity"];
    Container::run(purpose, &[options, &command].concat())
}

/// A call that must end by itself, long before the window could: a failure at the start.
fn call(arguments: &[&str]) -> (Outcome, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let outcome = Upprof::on_host().args(arguments).args(["-d", "24h"]).out(folder.path()).run();
    (outcome, folder)
}

/// The same, and nothing may be left behind.
fn fails(code: i32, arguments: &[&str]) -> Told {
    let (outcome, folder) = call(arguments);
    let told = outcome.fails(code);
    assert!(bundle::all_in(folder.path()).is_empty(), "a folder of a capture that never was");
    told
}

#[test]
fn no_such_container_but_one_with_a_similar_name() {
    let gateway = sleeper("gateway", &[]);
    let typed = gateway.name().replace("gateway", "gatewey");
    let told = fails(TARGET, &["--container", &typed]);
    assert!(told.what.contains(&format!("'{typed}'")), "{told:?}");
    assert!(told.likely.contains(gateway.name()), "{told:?}");
    assert!(told.attempt.contains("--container upt-"), "{told:?}");
}

#[test]
fn no_such_container_and_none_like_it() {
    let told = fails(TARGET, &["--container", "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"]);
    assert!(told.attempt.contains("docker ps"), "{told:?}");
}

#[test]
fn a_service_of_two_containers_is_ambiguous() {
    let service = unique("service");
    let label = format!("com.docker.compose.service={service}");
    let both = [sleeper("one", &["--label", &label]), sleeper("two", &["--label", &label])];
    let told = fails(TARGET, &["--container", &service]);
    assert!(told.what.contains("2 containers"), "{told:?}");
    for one in &both {
        assert!(told.likely.contains(one.name()) && told.likely.contains(&one.id()[..12]), "{told:?}");
    }
}

#[test]
fn an_id_prefix_that_fits_two_containers_is_ambiguous_and_a_longer_one_is_not() {
    let first = sleeper("first", &[]);
    // Two IDs with the same start cannot be had at will, but a service may be called so.
    let prefix = &first.id()[..12];
    let second = sleeper("second", &["--label", &format!("com.docker.compose.service={prefix}")]);
    let told = fails(TARGET, &["--container", prefix]);
    assert!(told.likely.contains(first.name()) && told.likely.contains(second.name()), "{told:?}");
    let told = fails(TARGET, &["--container", &format!("docker://{prefix}")]);
    assert!(told.what.contains("2 containers"), "{told:?}");
    // One digit more means one: it is found, sleeps, and gives no sample.
    let folder = tempfile::tempdir().expect("a folder");
    let longer = &first.id()[..13];
    let outcome = Upprof::on_host().args(["--container", longer, "-d", "1s"]).out(folder.path()).run();
    outcome.exits(5);
    let manifest = bundle::Bundle::only_in(folder.path()).manifest();
    assert_eq!(manifest.container.map(|c| c.id).as_deref(), Some(first.id()));
}

#[test]
fn a_stopped_container_is_told_from_a_missing_one() {
    let created = Container::create("created", &[target::IMAGE]);
    let told = fails(TARGET, &["--container", created.name()]);
    assert!(told.what.contains("not running: created"), "{told:?}");
    assert!(told.attempt.contains(&format!("docker start {}", created.name())), "{told:?}");
    let exited = sleeper("exited", &[]);
    exited.kill();
    let told = fails(TARGET, &["--container", exited.name()]);
    assert!(told.what.contains("not running: exited"), "{told:?}");
}

#[test]
fn names_that_no_container_can_have() {
    let long = "n".repeat(10_240);
    let names =
        ["a/b", "../../etc/passwd", "a\nb", "\x1b]0;pwned\x07", "docker://a/b", "podman://a", "", &long];
    for name in names {
        let (outcome, folder) = call(&["--container", name]);
        let told = outcome.fails(USAGE);
        assert!(bundle::all_in(folder.path()).is_empty());
        assert!(outcome.stderr.len() < 2048, "{} bytes for a name of {}", outcome.stderr.len(), name.len());
        let control = outcome.stderr.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(control, None, "{:?}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 3, "{told:?}");
    }
}

#[test]
fn no_target_and_arguments_that_are_none() {
    assert!(fails(USAGE, &[]).attempt.contains("--container"));
    for arguments in [
        &["--container", "a", "--pid", "1"][..],
        &["--pid", "0"],
        &["--pid", "x"],
        &["--container", "a", "-F", "0"],
        &["--container", "a", "--no-such-option"],
    ] {
        let (outcome, _folder) = call(arguments);
        outcome.exits(USAGE);
    }
    for duration in ["5x", "-1s", "25h", ""] {
        let outcome = Upprof::on_host().args(["--container", "a", &format!("-d{duration}")]).run();
        outcome.exits(USAGE);
    }
}

#[test]
fn a_pid_that_does_not_exist() {
    let max = std::fs::read_to_string("/proc/sys/kernel/pid_max").expect("a limit");
    let beyond = (max.trim().parse::<u32>().expect("a number") + 1).to_string();
    let told = fails(TARGET, &["--pid", &beyond]);
    assert!(told.what.contains(&beyond), "{told:?}");
}

#[test]
fn a_socket_that_is_missing_or_that_nobody_listens_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("engine.sock");
    let ask = || {
        Upprof::on_host()
            .args(["--container", "any", "-d", "24h", "--host-root", "/nowhere"])
            .env("DOCKER_HOST", &format!("unix://{}", socket.display()))
            .out(folder.path())
            .run()
            .fails(TARGET)
    };
    let path = socket.display().to_string();
    let missing = ask();
    assert!(missing.what.contains(&path) && missing.what.contains("no engine socket"), "{missing:?}");
    assert!(
        missing.attempt.contains("-v /var/run/docker.sock") && missing.attempt.contains("--pid"),
        "{missing:?}"
    );
    drop(UnixListener::bind(&socket).expect("a socket"));
    let refused = ask();
    assert!(refused.what.contains(&format!("nothing listens on {path}")), "{refused:?}");
    assert!(refused.likely.contains("not running"), "{refused:?}");
}

#[test]
fn a_socket_that_was_not_mounted() {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = format!("{}:/out", folder.path().display());
    let told = Upprof::in_docker(&["--privileged", "--pid=host", "-v", &mount])
        // The host's root would lead to its socket all the same.
        .args(["--container", "any", "-d", "24h", "--host-root", "/nowhere"])
        .run()
        .fails(TARGET);
    assert!(told.likely.contains("not mounted"), "{told:?}");
    assert!(told.attempt.contains("-v /var/run/docker.sock:/var/run/docker.sock"), "{told:?}");
}
