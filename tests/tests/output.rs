//! Where the bundle goes: refused before sampling when nothing can be written there, marked when the
//! disk fills up at the end, and with the target's binaries when they are asked for.

use std::collections::BTreeSet;
use std::path::Path;
use upprof_tests::harness::bundle::{self, Bundle, INCOMPLETE};
use upprof_tests::harness::docker::docker;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::run::{SOCKET, Upprof};
use upprof_tests::harness::target::Target;
use upprof_tests::harness::xml;

const OUTPUT: i32 = 6;

/// A window that no test waits for: an output that is found bad in time ends before it.
const LONG: &str = "24h";

#[test]
fn a_folder_that_cannot_be_is_refused_before_sampling() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").expect("a file");
    let target = Target::quiet("refused");
    let upprof = Upprof::on_host().args(["--container", target.name(), "-d", LONG]);
    let told = upprof.out(&file.join("inside")).run().fails(OUTPUT);
    assert!(told.what.contains(&file.display().to_string()), "{told:?}");
    assert!(told.likely.contains("a part of the path is a file"), "{told:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "in the way");
}

#[test]
fn a_read_only_mount_is_refused_before_sampling() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::quiet("read-only");
    let mounts = [format!("{SOCKET}:{SOCKET}"), format!("{}:/out:ro", folder.path().display())];
    let told = Upprof::in_docker(&["--privileged", "--pid=host", "-v", &mounts[0], "-v", &mounts[1]])
        .args(["--container", target.name(), "-d", LONG])
        .run()
        .fails(OUTPUT);
    assert!(told.what.contains("/out") && told.likely.contains("read-only"), "{told:?}");
    assert!(bundle::all_in(folder.path()).is_empty());
}

#[test]
fn a_container_without_a_folder_to_keep_the_bundle_is_refused_before_sampling() {
    let target = Target::quiet("unmounted");
    let socket = format!("{SOCKET}:{SOCKET}");
    let told = Upprof::in_docker(&["--privileged", "--pid=host", "-v", &socket])
        .args(["--container", target.name(), "-d", LONG])
        .run()
        .fails(OUTPUT);
    assert!(told.attempt.contains("-v \"$PWD/out:/out\""), "{told:?}");
}

/// Runs a capture into a tmpfs of this many KiB, in a mount namespace of its own, and returns what was
/// left there.
fn into_a_small_disk(target: &Target, kib: u32, left: &Path) -> upprof_tests::harness::run::Outcome {
    // $1 is the size, $2 where the tmpfs goes, $3 where its files are saved to, the rest is the call.
    const SCRIPT: &str = "mount -t tmpfs -o size=\"$1\"k none \"$2\" || exit 99
        out=$2 left=$3; shift 3; \"$@\"; code=$?; cp -r \"$out/.\" \"$left\"; exit $code";
    let disk = tempfile::tempdir().expect("a folder");
    let path = |p: &Path| p.to_str().expect("UTF-8").to_owned();
    let (size, disk_path, left) = (kib.to_string(), path(disk.path()), path(left));
    Upprof::under(&["unshare", "-m", "sh", "-c", SCRIPT, "sh", &size, &disk_path, &left])
        .args(["--container", target.name(), "-d", "2s", "-F", "999"])
        .out(disk.path())
        .run()
}

#[test]
fn a_disk_that_fills_up_leaves_whole_files_and_a_mark() {
    let target = Target::quiet("full");
    let _load = Load::on(&target, &["/mix"]);
    let all = tempfile::tempdir().expect("a folder");
    let upprof = Upprof::on_host().args(["--container", target.name(), "-d", "2s", "-F", "999"]);
    upprof.out(all.path()).run().exits(0);
    let whole: BTreeSet<String> = Bundle::only_in(all.path()).files().into_keys().collect();
    // Too small for the first file, and for one of the later ones.
    for kib in [16, 400] {
        let folder = tempfile::tempdir().expect("a folder");
        let told = into_a_small_disk(&target, kib, folder.path()).fails(OUTPUT);
        assert!(told.likely.contains("the disk is full"), "{kib} KiB: {told:?}");
        let bundle = Bundle::only_in(folder.path());
        let files = bundle.files();
        println!("{kib} KiB hold {:?}", files.keys().collect::<Vec<_>>());
        assert!(files.contains_key(INCOMPLETE), "{kib} KiB: {:?}", files.keys());
        assert!(!bundle.archive_path().exists(), "{kib} KiB: an archive of a part");
        // What is there is whole: nothing half written under any name.
        for (name, bytes) in &files {
            assert!(name == INCOMPLETE || whole.contains(name), "{kib} KiB: {name}");
            if name.ends_with(".json") {
                serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
            }
            if name.ends_with(".svg") || name.ends_with(".html") {
                xml::active(std::str::from_utf8(bytes).expect("UTF-8"));
            }
        }
        assert!(files.len() < whole.len(), "{kib} KiB were enough");
    }
}

#[test]
fn the_binaries_are_kept_when_asked_for() {
    let target = Target::quiet("binaries");
    let _load = Load::on(&target, &["/recursion"]);
    let folder = tempfile::tempdir().expect("a folder");
    let upprof =
        Upprof::on_host().args(["--container", target.name(), "--keep-binaries", "-d", "1s", "-F", "499"]);
    upprof.out(folder.path()).run().exits(0);
    let bundle = Bundle::only_in(folder.path());
    let listed: Vec<String> = bundle.manifest().artifacts.into_iter().map(|a| a.path).collect();
    let archive = bundle.archive();
    let library = target.exec(&["sh", "-c", "readlink -f /usr/lib/*/libluajit-5.1.so.2"]);
    for path in ["/usr/sbin/nginx", &library] {
        let name = format!("binaries/{}", path.rsplit('/').next().expect("a name"));
        let copy = folder.path().join("expected");
        docker(["cp", &format!("{}:{path}", target.id()), copy.to_str().expect("UTF-8")]);
        let expected = std::fs::read(&copy).expect("a copy");
        assert!(expected.starts_with(b"\x7fELF"), "{path}");
        assert!(bundle.bytes(&name) == expected, "{name} is not {path}");
        assert!(archive[&name] == expected && listed.contains(&name), "{listed:?}");
    }
}
