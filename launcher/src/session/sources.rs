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
use upprof_profile::Doubt;
use upprof_profile::raw::{PackedFrame, RawFrame};
use upprof_stacks::{LuaName, LuaNames};
use upprof_target::Files;

/// Shown for a function whose source is not there.
const NO_SOURCE: &str = "?";
/// Shown for a function that its source gives no name.
const ANONYMOUS: &str = "(anonymous)";
const MAIN_CHUNK: &str = "(main chunk)";

/// A source file as it is now.
struct Source {
    text: String,
    changed: SystemTime,
}

/// Source files of one process's root, as far as they were needed.
pub(super) struct Sources<'a> {
    book: &'a LuaBook,
    files: HashMap<u32, Files<'a>>,
    started: HashMap<u32, SystemTime>,
    texts: RefCell<HashMap<(u64, String), Option<Source>>>,
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
        for (pid, known) in &processes.known {
            if known.alive {
                files.insert(*pid, target.files(&known.info));
            }
            roots.extend(known.mount_namespace.map(|ns| (*pid, ns)));
            started.extend(boot.map(|boot| (*pid, boot + ticks(known.info.start_time_ticks))));
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
    pub(super) fn unused(&self) -> Vec<(String, String)> {
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

    /// Uses a source file's text, unless it was changed after the process started: then the code that
    /// runs may be the old one, and a name from the new lines could be wrong.
    fn with_text<T>(&self, pid: u32, file: &str, use_it: impl FnOnce(&str) -> T) -> Option<T> {
        let Some(reader) = self.reader_for(pid) else {
            self.not_used(
                file,
                "its processes ended before it was read: functions are shown by line only".into(),
            );
            return None;
        };
        // Processes of one mount namespace share the texts that were read.
        let key = (self.roots.get(&reader).copied().unwrap_or(u64::from(reader)), file.to_owned());
        let mut texts = self.texts.borrow_mut();
        let source = texts
            .entry(key)
            .or_insert_with(|| self.read(reader, file).map_err(|why| self.not_used(file, why)).ok());
        let source = source.as_ref()?;
        let started = self.started.get(&pid).copied()?;
        if source.changed > started {
            self.not_used(
                file,
                "changed after a process started: its functions are shown by line only".into(),
            );
            return None;
        }
        Some(use_it(&source.text))
    }

    fn not_used(&self, file: &str, why: String) {
        let entry = (file.to_owned(), why);
        let mut all = self.not_used.borrow_mut();
        if !all.contains(&entry) {
            all.push(entry);
        }
    }

    fn read(&self, pid: u32, file: &str) -> Result<Source, String> {
        const MAX_SOURCE: u64 = 8 << 20;
        let files = self.files.get(&pid).ok_or("the process has ended")?;
        let root = files.root().map_err(ToString::to_string)?;
        let path = absolute(pid, file)?;
        let opened = root.open(&path).map_err(|e| e.to_string())?;
        let m = opened.metadata().map_err(|e| e.to_string())?;
        // Tools that copy files set mtime to what they like; ctime is the kernel's.
        let changed = u64::try_from(m.mtime().max(m.ctime())).map_err(|e| e.to_string())?;
        let bytes = root.read(&path, MAX_SOURCE).map_err(|e| e.to_string())?;
        Ok(Source {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            changed: SystemTime::UNIX_EPOCH + Duration::from_secs(changed),
        })
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
        let RawFrame::Trace { number, doubt, .. } = frame.unpack() else { return Some(function) };
        // A trace is named by the function it starts in and the line it starts at; by its number where the
        // functions that it runs are not known.
        let place = function.file.as_deref().unwrap_or_default();
        let name = match (doubt, number) {
            (Some(_), Some(number)) => Doubt::trace_by_number(number, &format!("{place}:{}", read.line)),
            _ => format!("{}@{place}:{}", function.name, read.line),
        };
        Some(LuaName { name, ..function })
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
