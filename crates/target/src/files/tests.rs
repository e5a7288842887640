use super::*;
use crate::{Container, EngineError, ResolveError, Summary};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::{Child, Command};

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root/a/b")).unwrap();
    fs::create_dir_all(dir.path().join("root/etc")).unwrap();
    fs::write(dir.path().join("root/etc/passwd"), "inside").unwrap();
    fs::write(dir.path().join("outside"), "outside").unwrap();
    dir
}

#[test]
fn no_link_leads_out() {
    let dir = tree();
    let at = |p: &str| dir.path().join("root").join(p);
    symlink("../../../../../../../../etc/passwd", at("a/b/up")).unwrap();
    symlink("/etc/passwd", at("a/absolute")).unwrap();
    symlink("/", at("a/folder")).unwrap();
    symlink(dir.path().join("outside"), at("a/outside")).unwrap();
    symlink("loop", at("loop")).unwrap();
    let root = Root::at(&at("")).unwrap();
    let read = |p: &str| root.read(Path::new(p), 100);
    for path in [
        "/etc/passwd",
        "etc/passwd",
        "/a/b/up",
        "a/absolute",
        "a/folder/etc/passwd",
        "/../../etc/passwd",
        "a/../../etc/passwd",
    ] {
        assert_eq!(read(path).as_deref(), Ok(b"inside".as_slice()), "{path}");
    }
    assert!(matches!(read("a/outside"), Err(FileError::NotFound { .. })));
    assert!(matches!(read("loop"), Err(FileError::Link { .. })));
    assert!(matches!(read("etc/passwd/x"), Err(FileError::NotFound { .. })));
    assert!(read("etc/passwd\0x").is_err());
}

#[test]
fn magic_links_are_not_followed() {
    let root = Root::at(Path::new("/proc")).unwrap();
    for path in ["self/exe", "self/root/etc/passwd", "self/cwd/Cargo.toml"] {
        assert!(matches!(root.open(Path::new(path)), Err(FileError::Link { .. })), "{path}");
    }
}

#[test]
fn only_regular_files_and_no_waiting() {
    let dir = tree();
    let root = Root::at(&dir.path().join("root")).unwrap();
    let fifo = dir.path().join("root/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .unwrap();
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("root/socket")).unwrap();
    symlink("fifo", dir.path().join("root/link")).unwrap();
    for path in ["fifo", "link", "socket", "a", "/"] {
        let refused = root.open(Path::new(path)).unwrap_err();
        assert_eq!(refused, FileError::NotRegular { path: path.into() });
    }
    let devices = Root::at(Path::new("/dev")).unwrap();
    assert!(matches!(devices.open(Path::new("zero")), Err(FileError::NotRegular { .. })));
    assert!(Root::at(&fifo).is_err());
}

#[test]
fn what_is_too_large_is_refused() {
    let dir = tree();
    let root = Root::at(&dir.path().join("root")).unwrap();
    let path = Path::new("etc/passwd");
    assert_eq!(root.read(path, 6).unwrap(), b"inside");
    assert_eq!(root.read(path, 5), Err(FileError::TooLarge { path: path.into(), max: 5 }));
    // Not by the size the file states: these files say they have none.
    let proc = Root::at(Path::new("/proc")).unwrap();
    assert!(matches!(proc.read(Path::new("cpuinfo"), 10), Err(FileError::TooLarge { max: 10, .. })));
}

fn image(bytes: &[u8]) -> FileImage {
    FileImage::copy(bytes, 100, Path::new("/x"), Source::Root, Identity::Unverified).unwrap()
}

#[test]
fn an_image_is_sealed() {
    let image = image(b"hello");
    assert_eq!((image.bytes(), image.len(), image.is_empty()), (b"hello".as_slice(), 5, false));
    assert_eq!(fs::read(image.fd_path()).unwrap(), b"hello");
    let file = fs::OpenOptions::new().read(true).write(true).open(image.fd_path()).unwrap();
    assert!((&file).write_all(b"X").is_err(), "written");
    assert!(file.set_len(0).is_err(), "shrunk");
    assert!(file.set_len(99).is_err(), "grown");
    use rustix::fs::SealFlags as S;
    assert_eq!(rustix::fs::fcntl_get_seals(&file).unwrap(), S::WRITE | S::SHRINK | S::GROW | S::SEAL);
    assert_eq!(image.bytes(), b"hello");
}

#[test]
fn an_image_has_a_limit_and_may_be_empty() {
    let copy = |n: usize| {
        FileImage::copy(vec![1; n].as_slice(), 100, Path::new("/x"), Source::Root, Identity::Mapped)
    };
    assert_eq!(copy(100).unwrap().bytes(), [1; 100]);
    assert_eq!(copy(101).unwrap_err(), FileError::TooLarge { path: "/x".into(), max: 100 });
    assert!(copy(0).unwrap().bytes().is_empty());
    let endless =
        FileImage::copy(std::io::repeat(0), 1 << 20, Path::new("/x"), Source::Root, Identity::Mapped);
    assert!(matches!(endless, Err(FileError::TooLarge { .. })));
}

/// `sleep`, copied, running from the copy.
struct Sleeper {
    dir: tempfile::TempDir,
    child: Child,
    bytes: Vec<u8>,
}

impl Sleeper {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::copy("/bin/sleep", dir.path().join("sleep")).unwrap();
        let child = Command::new(dir.path().join("sleep")).arg("60").spawn().unwrap();
        Self { bytes: fs::read("/bin/sleep").unwrap(), child, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("sleep")
    }

    fn info(&self) -> ProcessInfo {
        Proc::default().info(self.child.id()).unwrap()
    }

    fn mapping(&self) -> Mapping {
        let ours = |m: &Mapping| matches!(&m.path, MapPath::File { path, .. } if path.parent() == Some(self.dir.path()));
        let maps = || Proc::default().maps(self.child.id()).unwrap().into_iter().find(ours);
        // `spawn` may return before the new program is mapped.
        (0..100)
            .find_map(|_| {
                maps().or_else(|| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    None
                })
            })
            .unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_mapped_file_is_found_by_its_path() {
    let sleeper = Sleeper::new();
    let files = Files::of(&Proc::default(), &sleeper.info());
    let image = files.image(&sleeper.mapping()).unwrap();
    assert_eq!((image.source(), image.bytes()), (Source::Root, sleeper.bytes.as_slice()));
    assert_ne!(image.identity(), Identity::Unverified);
    assert_eq!(image.origin(), sleeper.path());

    let too_small = files.at_most(100).image(&sleeper.mapping());
    assert!(matches!(too_small, Err(ImageError::Unavailable { .. })), "{too_small:?}");
}

#[test]
fn a_file_replaced_without_a_trace_in_maps_is_noticed() {
    let sleeper = Sleeper::new();
    let mut mapping = sleeper.mapping();
    mapping.inode += 1;
    let by_path = Files::of(&Proc::default(), &sleeper.info()).only(&[Source::Root]);
    let refused = by_path.image(&mapping).unwrap_err();
    assert_eq!(refused, ImageError::Unavailable { path: sleeper.path(), tried: vec![Attempt::Replaced] });
    let mut deleted = sleeper.mapping();
    deleted.path = MapPath::File { path: sleeper.path(), deleted: true };
    assert_eq!(
        by_path.image(&deleted).unwrap_err(),
        refused,
        "what the kernel calls deleted is not at its path"
    );
    assert_eq!(by_path.image_at(&sleeper.path()).unwrap().identity(), Identity::Unverified);
}

#[test]
fn a_pid_that_now_is_another_process_gives_nothing() {
    let sleeper = Sleeper::new();
    let mut info = sleeper.info();
    info.start_time_ticks += 1;
    let files = Files::of(&Proc::default(), &info).only(&[Source::Root]);
    let refused = files.image(&sleeper.mapping()).unwrap_err();
    let ImageError::Unavailable { tried, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(tried, [Attempt::Process(ProcError::Gone { pid: info.pid })]);
}

#[test]
fn memory_is_no_file() {
    let sleeper = Sleeper::new();
    let mut mapping = sleeper.mapping();
    mapping.path = MapPath::Special("[vdso]".into());
    let files = Files::of(&Proc::default(), &sleeper.info());
    assert_eq!(files.image(&mapping).unwrap_err(), ImageError::NotAFile { start: mapping.start });
}

struct FakeEngine;

impl Engine for FakeEngine {
    fn origin(&self) -> &Path {
        Path::new("/fake")
    }

    fn list(&self) -> Result<Vec<Summary>, EngineError> {
        Ok(Vec::new())
    }

    fn inspect(&self, id: &str) -> Result<Container, ResolveError> {
        Err(ResolveError::NotFound { name: id.into(), near: Vec::new() })
    }

    fn fetch(&self, id: &str, path: &Path, max: u64) -> Result<Vec<u8>, FetchError> {
        assert_eq!((id, max), ("abc", 1000));
        match path.ends_with("sleep") {
            true => Ok(b"from the engine".to_vec()),
            false => Err(FetchError::NotFound { path: path.into() }),
        }
    }
}

#[test]
fn the_engine_is_asked_when_the_process_is_out_of_reach() {
    let sleeper = Sleeper::new();
    let mapping = sleeper.mapping();
    let nowhere = tempfile::tempdir().unwrap();
    let files = Files::of(&Proc::at(nowhere.path()), &sleeper.info()).at_most(1000);
    let Err(ImageError::Unavailable { tried, .. }) = files.image(&mapping) else { panic!("from nothing") };
    assert!(matches!(tried.as_slice(), [Attempt::Root(_), Attempt::Mapping(_)]), "{tried:?}");

    let files = files.with_engine(&FakeEngine, "abc");
    let image = files.image(&mapping).unwrap();
    assert_eq!((image.source(), image.identity()), (Source::Engine, Identity::Unverified));
    assert_eq!(image.bytes(), b"from the engine");
    assert_eq!(files.image_at(&sleeper.path()).unwrap().source(), Source::Engine);
    let Err(ImageError::Unavailable { tried, .. }) = files.image_at(Path::new("/no")) else {
        panic!("from nothing")
    };
    assert!(matches!(tried.as_slice(), [Attempt::Root(_), Attempt::Engine(FetchError::NotFound { .. })]));

    let mut deleted = mapping;
    deleted.path = MapPath::File { path: sleeper.path(), deleted: true };
    assert!(files.image(&deleted).is_err(), "the engine could only give the new file");
    let Err(ImageError::Unavailable { tried, .. }) = files.only(&[Source::Engine]).image(&deleted) else {
        panic!()
    };
    assert_eq!(tried, [Attempt::Replaced], "never without a reason");
}

/// What needs the right to open `map_files`: root, or CAP_CHECKPOINT_RESTORE.
mod as_root {
    use super::*;

    #[test]
    fn a_deleted_or_replaced_file_is_read_through_its_mapping() {
        let sleeper = Sleeper::new();
        fs::write(sleeper.dir.path().join("new"), "a new version").unwrap();
        let before = sleeper.mapping();
        fs::rename(sleeper.dir.path().join("new"), sleeper.path()).unwrap();
        let files = Files::of(&Proc::default(), &sleeper.info());
        let after = sleeper.mapping();
        assert!(matches!(after.path, MapPath::File { deleted: true, .. }), "{after:?}");
        for mapping in [before, after] {
            let image = files.image(&mapping).unwrap();
            assert_eq!((image.source(), image.identity()), (Source::Mapping, Identity::Mapped));
            assert_eq!(image.bytes(), sleeper.bytes);
        }
    }
}
