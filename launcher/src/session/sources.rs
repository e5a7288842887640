//! The target's own source files: read when a function of theirs is first seen, while its process lives.

use super::processes::Known;
use super::target::Target;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use upprof_luajit::source::Source;
use upprof_target::ProcessInfo;

/// Where a process's files are read: the target, and its processes.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) target: &'a Target,
    pub(super) known: &'a BTreeMap<u32, Known>,
}

/// A source file as it was when it was read.
struct Read {
    functions: Rc<Source>,
    changed: SystemTime,
}

/// Source files, as far as they were needed.
#[derive(Default)]
pub(super) struct Sources {
    /// By mount namespace (or process, where that is not known) and path: what was read, once.
    read: HashMap<(u64, String), Option<Read>>,
    boot: Option<SystemTime>,
    /// Files that could not be used, and why.
    unused: BTreeSet<(String, String)>,
}

impl Sources {
    /// The functions of a source file, unless it was changed after the process started: then the code
    /// that runs may be the old one, and a name from the new lines could be wrong.
    pub(super) fn functions(&mut self, reader: Reader<'_>, pid: u32, file: &str) -> Option<Rc<Source>> {
        let known = reader.known.get(&pid)?;
        let key = (known.mount_namespace.unwrap_or(u64::from(pid)), file.to_owned());
        if !self.read.contains_key(&key) {
            let read = read(reader, known, file);
            let read = read.map_err(|why| self.not_used(file, &why)).ok();
            self.read.insert(key.clone(), read);
        }
        let source = self.read.get(&key)?.as_ref()?;
        let (functions, changed) = (Rc::clone(&source.functions), source.changed);
        if changed > self.started(&known.info)? {
            self.not_used(file, "changed after a process started: it may not be what runs there");
            return None;
        }
        Some(functions)
    }

    /// Notes that a file was no help.
    pub(super) fn not_used(&mut self, file: &str, why: &str) {
        /// A target can name any number of files.
        const MAX: usize = 256;
        if self.unused.len() < MAX {
            self.unused.insert((file.to_owned(), why.to_owned()));
        }
    }

    /// Files that could not be used, and why.
    pub(super) fn unused(&self) -> impl Iterator<Item = &(String, String)> {
        self.unused.iter()
    }

    fn started(&mut self, info: &ProcessInfo) -> Option<SystemTime> {
        self.boot = self.boot.or_else(boot_time);
        Some(self.boot? + ticks(info.start_time_ticks))
    }
}

fn read(reader: Reader<'_>, known: &Known, file: &str) -> Result<Read, String> {
    const MAX_SOURCE: u64 = 8 << 20;
    // The process itself, or when it has ended another that sees the same files.
    let same = |other: &&Known| {
        other.alive && other.mount_namespace.is_some() && other.mount_namespace == known.mount_namespace
    };
    let by = if known.alive { Some(known) } else { reader.known.values().find(same) };
    let by = by.ok_or("its processes ended before it was read")?;
    let files = reader.target.files(&by.info);
    let root = files.root().map_err(ToString::to_string)?;
    let path = absolute(by.info.pid, file)?;
    let opened = root.open(&path).map_err(|e| e.to_string())?;
    let m = opened.metadata().map_err(|e| e.to_string())?;
    // Tools that copy files set mtime to what they like; ctime is the kernel's.
    let changed = u64::try_from(m.mtime().max(m.ctime())).map_err(|e| e.to_string())?;
    let bytes = root.read(&path, MAX_SOURCE).map_err(|e| e.to_string())?;
    if bytes.starts_with(b"\x1bLJ") {
        return Err("bytecode, not source".into());
    }
    Ok(Read {
        functions: Rc::new(Source::parse(&bytes)),
        changed: SystemTime::UNIX_EPOCH + Duration::from_secs(changed),
    })
}

/// A chunk's file as an absolute path in the container: relative names start at the process's folder.
fn absolute(pid: u32, file: &str) -> Result<PathBuf, String> {
    if file.starts_with('/') {
        return Ok(file.into());
    }
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).map_err(|e| format!("its folder: {e}"))?;
    Ok(Path::new(&cwd).join(file))
}

fn ticks(n: u64) -> Duration {
    // SAFETY: sysconf only reads a number of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_second = u64::try_from(per_second).unwrap_or(100).max(1);
    Duration::from_millis(n.saturating_mul(1000) / per_second)
}

/// When the machine was booted, from `/proc/stat`.
fn boot_time() -> Option<SystemTime> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
