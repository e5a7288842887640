//! What upprof may not do is named before the kernel says only "not permitted".

use std::path::Path;
use upprof_tests::harness::bundle::{self, Bundle};
use upprof_tests::harness::docker::unique;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::run::{SOCKET, Told, Upprof};
use upprof_tests::harness::target::Target;

const KERNEL: i32 = 4;

/// Calls the image without one thing of the documented command. It must fail before it asks for the
/// container, which does not exist.
fn in_docker(options: &[&str]) -> Told {
    let folder = tempfile::tempdir().expect("a folder");
    let mounts = [format!("{SOCKET}:{SOCKET}"), format!("{}:/out", folder.path().display())];
    let told = Upprof::in_docker(&[options, &["-v", &mounts[0], "-v", &mounts[1]]].concat())
        .args(["--container", &unique("none"), "-d", "24h"])
        .run()
        .fails(KERNEL);
    assert!(bundle::all_in(folder.path()).is_empty());
    told
}

/// Calls the program with fewer capabilities than root has.
fn without(capabilities: &str, name: &str, out: &Path) -> Upprof {
    let bounding = format!("--bounding-set={capabilities}");
    Upprof::under(&["setpriv", &bounding]).args(["--container", name]).out(out)
}

#[test]
fn without_the_hosts_pids() {
    let told = in_docker(&["--privileged"]);
    assert!(told.likely.contains("--pid=host"), "{told:?}");
    assert!(told.attempt.contains("docker run --rm --privileged --pid=host"), "{told:?}");
}

#[test]
fn without_privileges_in_docker() {
    let told = in_docker(&["--pid=host"]);
    assert!(told.what.contains("CAP_BPF"), "{told:?}");
    assert!(told.attempt.contains("--privileged"), "{told:?}");
}

#[test]
fn with_the_capabilities_and_a_seccomp_filter_that_refuses_bpf() {
    let folder = tempfile::tempdir().expect("a folder");
    let filter = folder.path().join("filter.json");
    let rules =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&filter, rules).expect("a file");
    let target = Target::quiet("seccomp");
    let security = format!("seccomp={}", filter.display());
    let mounts = [format!("{SOCKET}:{SOCKET}"), format!("{}:/out", folder.path().display())];
    let told = Upprof::in_docker(&[
        "--pid=host",
        "--cap-add=SYS_ADMIN",
        "--cap-add=SYS_PTRACE",
        "--security-opt",
        &security,
        "-v",
        &mounts[0],
        "-v",
        &mounts[1],
    ])
    .args(["--container", target.name(), "-d", "24h"])
    .run()
    .fails(KERNEL);
    assert!(told.what.contains("bpf(2)") && told.what.contains("seccomp"), "{told:?}");
    assert!(bundle::all_in(folder.path()).is_empty(), "an empty folder misleads");
}

#[test]
fn each_missing_capability_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for (missing, named) in [
        ("-sys_admin,-bpf", "CAP_BPF"),
        ("-sys_admin,-perfmon", "CAP_PERFMON"),
        ("-sys_ptrace", "CAP_SYS_PTRACE"),
    ] {
        let told = without(missing, &unique("none"), folder.path()).args(["-d", "24h"]).run().fails(KERNEL);
        assert!(told.what.contains(named), "without {missing}: {told:?}");
    }
    assert!(bundle::all_in(folder.path()).is_empty());
}

#[test]
fn three_capabilities_are_enough_to_sample() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::quiet("few");
    let _load = Load::on(&target, &["/recursion"]);
    let mut upprof = without("-all,+bpf,+perfmon,+sys_ptrace", target.name(), folder.path())
        .args(["-d", "0", "-F", "499"])
        .start();
    upprof.sampling();
    target.burn(1.0);
    upprof.signal(rustix::process::Signal::INT);
    upprof.wait().exits(0);
    let stacks = Bundle::only_in(folder.path()).stacks();
    assert!(stacks.samples(|s| s.has_lua()) > 0);
}
