use crate::shown_path;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The kernel asks to try again when a `..` raced with a rename; a target could rename for ever.
const MAX_RACES: usize = 16;

/// Why a file could not be opened or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is nothing there.
    #[error("{} does not exist", shown_path(path))]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// A folder, a device, a socket, a pipe.
    #[error("{} is not a regular file", shown_path(path))]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// A chain of links without end, or a link that leads out of the root.
    #[error("{} is behind a link that is not followed", shown_path(path))]
    Link {
        /// The file.
        path: PathBuf,
    },
    /// More than the caller accepts.
    #[error("{} is larger than {max} bytes", shown_path(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The caller's limit.
        max: u64,
    },
    /// The kernel refuses.
    #[error("opening {} is not permitted", shown_path(path))]
    Denied {
        /// The file.
        path: PathBuf,
    },
    /// Any other failure.
    #[error("{}: {why}", shown_path(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        why: String,
    },
}

impl FileError {
    pub(super) fn of(error: Errno, path: &Path) -> Self {
        let path = path.to_owned();
        match error {
            Errno::NOENT | Errno::NOTDIR => Self::NotFound { path },
            Errno::LOOP | Errno::XDEV => Self::Link { path },
            Errno::ACCESS | Errno::PERM => Self::Denied { path },
            _ => Self::Io { path, why: error.to_string() },
        }
    }
}

/// A root folder, held open: paths are looked up as a process with this root would, and never lead out.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

impl Root {
    /// The root at `dir`: `/proc/PID/root` for a process's.
    ///
    /// # Errors
    /// [`FileError`] when it is no folder or may not be opened.
    pub fn at(dir: &Path) -> Result<Self, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| FileError::of(e, dir))?;
        Ok(Self { dir })
    }

    /// Opens a regular file for reading. `..` and links, absolute ones too, stay inside the root; a
    /// pipe or a device is refused without being opened.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(&self, path: &Path) -> Result<File, FileError> {
        let held = self.open_path(path).map_err(|e| FileError::of(e, path))?;
        reopen_regular(&held, path)
    }

    /// The bytes of a regular file.
    ///
    /// # Errors
    /// [`FileError`], also when there are more than `max`.
    pub fn read(&self, path: &Path, max: u64) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        let file = self.open(path)?;
        file.take(max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| FileError::Io { path: path.to_owned(), why: e.to_string() })?;
        if bytes.len() as u64 > max {
            return Err(FileError::TooLarge { path: path.to_owned(), max });
        }
        Ok(bytes)
    }

    /// The names in a folder that are UTF-8, `max` of them at most.
    pub(crate) fn list(&self, path: &Path, max: usize) -> Result<Vec<String>, FileError> {
        let fault = |e| FileError::of(e, path);
        let dir = self.look_up(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK).map_err(fault)?;
        let mut names = Vec::new();
        for entry in Dir::new(dir).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(_) if names.len() == max => break,
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// Holds what is at `path`, whatever it is, without opening it.
    pub(crate) fn open_path(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.look_up(path, OFlags::PATH)
    }

    fn look_up(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut races = 0;
        loop {
            match rustix::fs::openat2(&self.dir, path, flags | OFlags::CLOEXEC, Mode::empty(), inside) {
                Err(Errno::AGAIN | Errno::INTR) if races < MAX_RACES => races += 1,
                other => return other,
            }
        }
    }
}

/// Opens for reading what is held, if it is a regular file. The type is known before the open: opening
/// a device can have effects, and opening a pipe waits. `O_NONBLOCK` keeps a lease from making us wait.
pub(super) fn reopen_regular(held: impl AsFd, path: &Path) -> Result<File, FileError> {
    let stat = rustix::fs::fstat(&held).map_err(|e| FileError::of(e, path))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FileError::NotRegular { path: path.to_owned() });
    }
    let again = format!("/proc/self/fd/{}", held.as_fd().as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(again, flags, Mode::empty()).map_err(|e| FileError::of(e, path))?;
    Ok(File::from(fd))
}
