//! Names of Lua functions from the target's own source files.

use super::lua::LuaBook;
use super::processes::Processes;
use super::target::Target;
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use upprof_luajit::source::{Chunk, name_at};
use upprof_profile::raw::{PackedFrame, RawFrame};
use upprof_stacks::{LuaName, LuaNames};
use upprof_target::{FileError, Files};

/// Shown for a function whose source is not there.
const NO_SOURCE: &str = "?";
/// Shown for a function that its source gives no name.
const ANONYMOUS: &str = "(anonymous)";
const MAIN_CHUNK: &str = "(main chunk)";

/// Source files of one process's root, as far as they were needed.
pub(super) struct Sources<'a> {
    book: &'a LuaBook,
    files: HashMap<u32, Files<'a>>,
    started: HashMap<u32, SystemTime>,
    texts: RefCell<HashMap<(u64, String), Option<String>>>,
    /// Mount namespaces.
    roots: HashMap<u32, u64>,
    not_used: RefCell<Vec<(String, String)>>,
}

impl<'a> Sources<'a> {
    pub(super) fn of(target: &'a Target, processes: &'a Processes) -> Self {
        let boot = boot_time();
        let mut files = HashMap::new();
        let mut started = HashMap::new();
        let mut roots = HashMap::new();
        for (pid, known) in processes.known.iter().filter(|(_, k)| k.alive) {
            files.insert(*pid, target.files(&known.info));
            if let Some(boot) = boot {
                started.insert(*pid, boot + ticks(known.info.start_time_ticks));
            }
        }
        for (pid, known) in &processes.known {
            roots.extend(known.mount_namespace.map(|ns| (*pid, ns)));
        }
        Self {
            book: &processes.book,
            files,
            started,
            texts: RefCell::default(),
            roots,
            not_used: RefCell::default(),
        }
    }

    /// Source files that could not be used, and why.
    pub(super) fn not_used(&self) -> Vec<(String, String)> {
        self.not_used.borrow().clone()
    }

    /// A process that sees the files of `pid`: itself, or when it has ended another of its mount
    /// namespace.
    fn reader_for(&self, pid: u32) -> Option<u32> {
        if self.files.contains_key(&pid) {
            return Some(pid);
        }
        let root = self.roots.get(&pid)?;
        self.files.keys().copied().filter(|other| self.roots.get(other) == Some(root)).min()
    }

    /// A source file's text.
    fn with_text<T>(&self, pid: u32, file: &str, use_it: impl FnOnce(&str) -> T) -> Option<T> {
        let pid = self.reader_for(pid)?;
        // Processes of one mount namespace share the texts that were read.
        let key = (self.roots.get(&pid).copied().unwrap_or(u64::from(pid)), file.to_owned());
        if !self.texts.borrow().contains_key(&key) {
            let text = match self.read(pid, file) {
                Ok(text) => Some(text),
                Err(why) => {
                    self.not_used.borrow_mut().push((file.to_owned(), why));
                    None
                }
            };
            self.texts.borrow_mut().insert(key.clone(), text);
        }
        self.texts.borrow().get(&key)?.as_deref().map(use_it)
    }

    fn read(&self, pid: u32, file: &str) -> Result<String, String> {
        const MAX_SOURCE: u64 = 8 << 20;
        let files = self.files.get(&pid).ok_or("the process has ended")?;
        let root = files.root().map_err(ToString::to_string)?;
        let path = absolute(pid, file)?;
        let read = |e: FileError| e.to_string();
        let opened = root.open(&path).map_err(read)?;
        // Tools that copy files set mtime to what they like; ctime is the kernel's.
        let changed = opened.metadata().ok().and_then(|m| {
            let seconds = u64::try_from(MetadataExt::mtime(&m).max(MetadataExt::ctime(&m))).ok()?;
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        });
        if let (Some(changed), Some(started)) = (changed, self.started.get(&pid))
            && changed > *started
        {
            // The code that runs may be the old one: a name from the new lines could be wrong.
            return Err("changed after the process started: functions are shown by line only".into());
        }
        root.read(&path, MAX_SOURCE)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(read)
    }

    fn function_name(&self, pid: u32, chunk: &Chunk, line: u32) -> String {
        if line == 0 {
            return MAIN_CHUNK.into();
        }
        let Chunk::File(file) = chunk else { return NO_SOURCE.into() };
        match self.with_text(pid, file, |text| name_at(text, line)) {
            Some(Some(name)) => name,
            Some(None) => ANONYMOUS.into(),
            None => NO_SOURCE.into(),
        }
    }
}

impl LuaNames for Sources<'_> {
    fn lua(&self, pid: u32, frame: PackedFrame) -> Option<LuaName> {
        let read = self.book.get(pid, frame)?;
        let chunk = Chunk::parse(&read.proto.chunkname);
        let definition = read.proto.firstline;
        let function = match chunk.directive() {
            // Code written inline in nginx's configuration is named by its directive and place.
            Some((directive, file, line)) if definition == 0 => LuaName {
                name: directive.to_owned(),
                file: Some(file.to_owned()),
                definition: line,
                line: read.line,
            },
            _ => LuaName {
                name: self.function_name(pid, &chunk, definition),
                file: Some(chunk.display().to_owned()),
                definition,
                line: read.line,
            },
        };
        if !matches!(frame.unpack(), RawFrame::Trace { .. }) {
            return Some(function);
        }
        // A trace is named by the function it starts in and the line it starts at.
        let place = function.file.as_deref().unwrap_or_default();
        Some(LuaName { name: format!("{}@{place}:{}", function.name, read.line), ..function })
    }

    fn c_function(&self, pid: u32, function: u64, ffid: u8) -> Option<String> {
        self.book.c_function(pid, function, ffid)
    }
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
