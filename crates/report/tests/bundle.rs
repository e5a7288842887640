//! The bundle's folder and archive, on a real file system.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use upprof_profile::export::ExportError;
use upprof_report::{BundleDir, BundleError, INCOMPLETE, Utc};

fn start() -> Utc {
    Utc::from_unix_ns(1_776_161_472_000_000_000)
}

fn bundle(out: &Path) -> BundleDir {
    BundleDir::create(out, "apisix", start()).expect("a writable folder")
}

fn put(bundle: &BundleDir, name: &str, text: &str) -> u64 {
    bundle.write(name, |out| Ok(out.write_all(text.as_bytes())?)).expect(name)
}

/// Every file and folder below, as relative paths.
fn names(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(path).expect("a folder") {
            let path = entry.expect("an entry").path();
            names.insert(path.strip_prefix(folder).expect("below").display().to_string());
            if path.is_dir() {
                todo.push(path);
            }
        }
    }
    names
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn a_bundle_is_marked_until_it_is_finished() {
    let out = tempfile::tempdir().expect("a folder");
    let bundle = bundle(&out.path().join("not/there/yet"));
    let path = bundle.path().to_owned();
    assert_eq!(path.file_name().and_then(|n| n.to_str()), Some("apisix-20260414T101112Z"));
    assert_eq!(names(&path), set(&[INCOMPLETE]), "marked before anything else is there");
    assert_eq!(put(&bundle, "cpu/profile.folded", "main 1\n"), 7);
    put(&bundle, "index.html", "<p>");
    assert!(path.join(INCOMPLETE).exists());
    assert_eq!(bundle.finish().expect("finished"), path);
    assert_eq!(names(&path), set(&["cpu", "cpu/profile.folded", "index.html"]));
    for (file, mode) in [("cpu/profile.folded", 0o644), ("index.html", 0o644), ("cpu", 0o755), ("", 0o755)] {
        let found = fs::metadata(path.join(file)).expect(file).permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}: {found:o}");
    }
}

#[test]
fn a_name_that_is_taken_gets_a_number() {
    let out = tempfile::tempdir().expect("a folder");
    fs::write(out.path().join("apisix-20260414T101112Z-2.tar.gz"), "").expect("an archive of someone");
    let name = |b: &BundleDir| b.path().file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(name(&bundle(out.path())), "apisix-20260414T101112Z");
    assert_eq!(name(&bundle(out.path())), "apisix-20260414T101112Z-3", "an archive takes a name, too");
    assert_eq!(name(&bundle(out.path())), "apisix-20260414T101112Z-4");
}

#[test]
fn captures_at_once_get_folders_of_their_own() {
    let out = tempfile::tempdir().expect("a folder");
    let paths: BTreeSet<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|_| scope.spawn(|| bundle(out.path()).path().to_owned())).collect();
        all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(paths.len(), 16);
}

#[test]
fn where_nothing_can_be_written_is_found_before_sampling() {
    let out = tempfile::tempdir().expect("a folder");
    let file = out.path().join("file");
    fs::write(&file, "").expect("a file");
    let error = BundleDir::create(&file, "apisix", start()).expect_err("a file is no folder");
    assert!(matches!(&error, BundleError::NotWritable { path, .. } if *path == file), "{error:?}");
    assert!(error.to_string().starts_with(&format!("cannot write into {}", file.display())), "{error}");
    assert!(!error.is_out_of_space());
}

#[test]
fn a_file_that_fails_leaves_nothing_and_keeps_the_mark() {
    let out = tempfile::tempdir().expect("a folder");
    let bundle = bundle(out.path());
    let error = bundle
        .write("cpu/flame.svg", |out| {
            out.write_all(b"half of it")?;
            out.flush()?;
            Err(ExportError::Io(io::ErrorKind::StorageFull.into()))
        })
        .expect_err("the disk is full");
    assert!(error.is_out_of_space());
    assert_eq!(error.path(), Some(bundle.path().join("cpu/flame.svg").as_path()));
    assert_eq!(names(bundle.path()), set(&[INCOMPLETE, "cpu"]));
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let out = tempfile::tempdir().expect("a folder");
    let bundle = bundle(out.path());
    put(&bundle, "index.html", "old");
    let read = || fs::read_to_string(bundle.path().join("index.html")).expect("a file");
    bundle
        .write("index.html", |out| {
            out.write_all(b"new")?;
            out.flush()?;
            assert_eq!(read(), "old", "nobody sees a part");
            Err(ExportError::Io(io::ErrorKind::Other.into()))
        })
        .expect_err("it failed");
    assert_eq!(read(), "old");
    put(&bundle, "index.html", "new");
    assert_eq!(read(), "new");
}

#[test]
fn names_stay_in_the_folder() {
    let out = tempfile::tempdir().expect("a folder");
    let bundle = bundle(out.path());
    for name in ["", "/etc/passwd", "../x", "a/../../x", "./x", "cpu/", INCOMPLETE, "x.partial"] {
        let error = bundle.write(name, |_| Ok(())).expect_err(name);
        assert!(matches!(error, BundleError::Name { .. }), "{name}: {error:?}");
    }
    assert_eq!(names(out.path()).len(), 2, "the folder and its mark");
}

#[test]
fn nothing_to_tell_leaves_no_folder() {
    let out = tempfile::tempdir().expect("a folder");
    bundle(out.path()).discard().expect("discarded");
    assert_eq!(names(out.path()), BTreeSet::new());
    let kept = bundle(out.path());
    put(&kept, "index.html", "x");
    kept.discard().expect("kept");
    assert_eq!(names(out.path()).len(), 3, "a folder with a file in it stays, and stays marked");
}

fn unpack(archive: &Path) -> Vec<(String, String)> {
    let file = fs::File::open(archive).expect("an archive");
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let entries = tar.entries().expect("a tar");
    entries
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let header = entry.header();
            let mode = if header.entry_type().is_dir() { 0o755 } else { 0o644 };
            assert_eq!(header.mode().expect("a mode"), mode);
            assert_eq!((header.uid().expect("uid"), header.gid().expect("gid")), (0, 0));
            assert_eq!(header.mtime().expect("a time"), start().unix_seconds());
            let name = entry.path().expect("a path").display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            (name, text)
        })
        .collect()
}

#[test]
fn the_archive_is_the_folder_without_the_mark() {
    let out = tempfile::tempdir().expect("a folder");
    let bundle = bundle(out.path());
    put(&bundle, "manifest.yaml", "format: 1\n");
    put(&bundle, "cpu/profile.folded", "main 1\n");
    put(&bundle, "cpu/flame.svg", "<svg/>");
    let archive = bundle.archive().expect("archived");
    assert_eq!(archive, out.path().join("apisix-20260414T101112Z.tar.gz"));
    let root = "apisix-20260414T101112Z";
    let entry = |name: &str, text: &str| (format!("{root}/{name}"), text.to_owned());
    assert_eq!(
        unpack(&archive),
        [
            entry("", ""),
            entry("cpu/", ""),
            entry("cpu/flame.svg", "<svg/>"),
            entry("cpu/profile.folded", "main 1\n"),
            entry("manifest.yaml", "format: 1\n"),
        ]
    );
    let mode = fs::metadata(&archive).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode, 0o644);
}

#[test]
fn the_same_files_make_the_same_archive() {
    let out = tempfile::tempdir().expect("a folder");
    let bytes = |order: [&str; 2]| {
        let folder = tempfile::tempdir_in(out.path()).expect("a folder");
        let bundle = bundle(folder.path());
        for name in order {
            put(&bundle, name, name);
        }
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(order[0].len() as u64);
        let file = fs::File::options().write(true).open(bundle.path().join(order[0])).expect("a file");
        file.set_modified(old).expect("a time");
        fs::read(bundle.archive().expect("archived")).expect("bytes")
    };
    assert_eq!(bytes(["a.csv", "cpu/b.csv"]), bytes(["cpu/b.csv", "a.csv"]));
}

#[test]
fn an_archive_that_fails_leaves_the_folder() {
    let out = tempfile::tempdir().expect("a folder");
    let bundle = bundle(out.path());
    put(&bundle, "index.html", "x");
    // Something is in the way of the temporary file.
    fs::create_dir(out.path().join("apisix-20260414T101112Z.tar.gz.partial")).expect("in the way");
    let error = bundle.archive().expect_err("it is in the way");
    assert_eq!(error.path(), Some(bundle.archive_path().as_path()));
    assert_eq!(names(bundle.path()), set(&[INCOMPLETE, "index.html"]));
    assert!(!bundle.archive_path().exists());
}
