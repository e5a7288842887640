mod image;
mod root;
#[cfg(test)]
mod tests;

pub use image::{FileImage, Identity, MAX_IMAGE, Source};
pub use root::{FileError, Root};

use crate::{Engine, FetchError, MapPath, Mapping, Proc, ProcError, ProcessInfo, shown_path};
use rustix::fs::{Mode, OFlags, Stat};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What overlayfs calls itself in `statfs`.
const OVERLAYFS: u64 = 0x794c_7630;

/// One way to a file that did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Attempt {
    /// The process's root cannot be used.
    #[error("through the process's root: {0}")]
    Root(
        /// Why.
        FileError,
    ),
    /// The mapped file is not at its path any more: deleted, or another is there.
    #[error("by its path: the mapped file was deleted or replaced")]
    Replaced,
    /// The process's mapping cannot be opened.
    #[error("through the process's mapping: {0}")]
    Mapping(
        /// Why.
        FileError,
    ),
    /// The engine does not give it.
    #[error("from the engine: {0}")]
    Engine(
        /// Why.
        FetchError,
    ),
    /// The process is not the one it was.
    #[error("the process: {0}")]
    Process(
        /// Why.
        ProcError,
    ),
}

/// Why a file's image could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The mapping is memory, not a file.
    #[error("the mapping at {start:#x} is not of a file")]
    NotAFile {
        /// Where the mapping starts.
        start: u64,
    },
    /// No way led to it.
    #[error("{} cannot be read: {}", shown_path(path), reasons(tried))]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// Each way that was tried, in order.
        tried: Vec<Attempt>,
    },
}

fn reasons(tried: &[Attempt]) -> String {
    tried.iter().map(Attempt::to_string).collect::<Vec<_>>().join("; ")
}

/// The files of one process of a container, by every way there is. Holds the container's root open:
/// not to be kept longer than needed.
pub struct Files<'a> {
    proc: Proc,
    process: ProcessInfo,
    root: Result<Root, Attempt>,
    engine: Option<(&'a dyn Engine, String)>,
    max: u64,
    ways: Vec<Source>,
}

impl<'a> Files<'a> {
    /// The files that `process` sees. A root that cannot be opened is no error yet.
    #[must_use]
    pub fn of(proc: &Proc, process: &ProcessInfo) -> Self {
        let root = Root::at(&proc.path(process.pid, "root")).map_err(Attempt::Root);
        // The pid may have been given to another process: what was opened counts only if it has not.
        let root = root.and_then(|root| same_process(proc, process).map(|()| root));
        Self {
            proc: proc.clone(),
            process: process.clone(),
            root,
            engine: None,
            max: MAX_IMAGE,
            ways: vec![Source::Root, Source::Mapping, Source::Engine],
        }
    }

    /// Also asks `engine`, for the container with this ID, when nothing else works.
    #[must_use]
    pub fn with_engine(mut self, engine: &'a dyn Engine, container_id: &str) -> Self {
        self.engine = Some((engine, container_id.to_owned()));
        self
    }

    /// Refuses files with more bytes than this, in place of [`MAX_IMAGE`].
    #[must_use]
    pub fn at_most(mut self, bytes: u64) -> Self {
        self.max = bytes;
        self
    }

    /// Uses only these ways.
    #[must_use]
    pub fn only(mut self, ways: &[Source]) -> Self {
        self.ways.retain(|w| ways.contains(w));
        self
    }

    /// The container's root as the process sees it.
    ///
    /// # Errors
    /// [`Attempt`] when it cannot be opened.
    pub fn root(&self) -> Result<&Root, &Attempt> {
        self.root.as_ref()
    }

    /// A copy of the mapped file: by its path inside the root if that is still the file that is
    /// mapped, through the mapping itself if it is not or was deleted, from the engine if neither can
    /// be opened.
    ///
    /// # Errors
    /// [`ImageError`] with each way tried.
    pub fn image(&self, mapping: &Mapping) -> Result<FileImage, ImageError> {
        let MapPath::File { path, deleted } = &mapping.path else {
            return Err(ImageError::NotAFile { start: mapping.start });
        };
        let mut tried = Vec::new();
        // Opened once, before anything is compared with it: an open file keeps its inode number.
        let mapped = self.mapped(mapping);
        for way in &self.ways {
            let image = match way {
                Source::Root if *deleted => Err(Attempt::Replaced),
                Source::Root => self.by_path(path, |file| check(file, mapping, mapped.as_ref().ok())),
                Source::Mapping => mapped.as_ref().map_err(Clone::clone).and_then(|at| {
                    let file = root::reopen_regular(at, path).map_err(Attempt::Mapping)?;
                    FileImage::copy(file, self.max, path, Source::Mapping, Identity::Mapped)
                        .map_err(Attempt::Mapping)
                }),
                Source::Engine if *deleted || self.engine.is_none() => continue,
                Source::Engine => self.by_engine(path),
            };
            match image {
                Ok(image) => return Ok(image),
                Err(e) => tried.push(e),
            }
        }
        if tried.is_empty() && *deleted {
            tried.push(Attempt::Replaced);
        }
        Err(ImageError::Unavailable { path: path.clone(), tried })
    }

    /// A copy of the file at `path`, as the process sees it.
    ///
    /// # Errors
    /// [`ImageError`] with each way tried.
    pub fn image_at(&self, path: &Path) -> Result<FileImage, ImageError> {
        let mut tried = Vec::new();
        for way in &self.ways {
            let image = match way {
                Source::Root => self.by_path(path, |_| Some(Identity::Unverified)),
                Source::Engine if self.engine.is_some() => self.by_engine(path),
                Source::Engine | Source::Mapping => continue,
            };
            match image {
                Ok(image) => return Ok(image),
                Err(e) => tried.push(e),
            }
        }
        Err(ImageError::Unavailable { path: path.to_owned(), tried })
    }

    fn by_path(&self, path: &Path, check: impl Fn(&File) -> Option<Identity>) -> Result<FileImage, Attempt> {
        let root = self.root.as_ref().map_err(Clone::clone)?;
        let file = root.open(path).map_err(Attempt::Root)?;
        let identity = check(&file).ok_or(Attempt::Replaced)?;
        FileImage::copy(file, self.max, path, Source::Root, identity).map_err(Attempt::Root)
    }

    fn by_engine(&self, path: &Path) -> Result<FileImage, Attempt> {
        let (engine, id) = self.engine.as_ref().ok_or(Attempt::Engine(FetchError::Unsupported))?;
        let bytes = engine.fetch(id, path, self.max).map_err(Attempt::Engine)?;
        FileImage::copy(bytes.as_slice(), self.max, path, Source::Engine, Identity::Unverified)
            .map_err(|_| Attempt::Engine(FetchError::TooLarge { path: path.to_owned(), max: self.max }))
    }

    /// The mapped file, held but not opened. Not tried when the way is switched off.
    fn mapped(&self, mapping: &Mapping) -> Result<std::os::fd::OwnedFd, Attempt> {
        let MapPath::File { path, .. } = &mapping.path else {
            return Err(Attempt::Mapping(FileError::NotFound { path: PathBuf::new() }));
        };
        if !self.ways.contains(&Source::Mapping) {
            return Err(Attempt::Mapping(FileError::NotFound { path: path.clone() }));
        }
        let name = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
        let at = self.proc.path(self.process.pid, &name);
        let held = rustix::fs::open(at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Attempt::Mapping(FileError::of(e, path)))?;
        same_process(&self.proc, &self.process)?;
        Ok(held)
    }
}

/// Whether `file`, found by path, is the mapped one; `None` when it is another.
///
/// The mapping itself, when it can be had, answers exactly: both are asked for device and inode in the
/// same way. The numbers in `maps` are second best: the device there is never overlayfs's own, and
/// older kernels give the inode of the layer below, which `stat` does not give for a file that
/// was copied up. So on overlayfs a different inode proves nothing.
fn check(file: &File, mapping: &Mapping, mapped: Option<&std::os::fd::OwnedFd>) -> Option<Identity> {
    let found = rustix::fs::fstat(file).ok()?;
    if let Some(mapped) = mapped.and_then(|m| rustix::fs::fstat(m).ok()) {
        let key = |s: &Stat| (s.st_dev, s.st_ino);
        return (key(&found) == key(&mapped)).then_some(Identity::Mapped);
    }
    if found.st_ino == mapping.inode {
        return Some(Identity::SameInode);
    }
    let kind = rustix::fs::fstatfs(file).ok()?.f_type;
    (u64::try_from(kind) == Ok(OVERLAYFS)).then_some(Identity::Unverified)
}

fn same_process(proc: &Proc, process: &ProcessInfo) -> Result<(), Attempt> {
    let now = proc.stat(process.pid).map_err(Attempt::Process)?;
    let gone = || Attempt::Process(ProcError::Gone { pid: process.pid });
    (now.start_time == process.start_time_ticks).then_some(()).ok_or_else(gone)
}

impl std::fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files")
            .field("process", &self.process)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}
