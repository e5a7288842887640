use super::FileError;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// Files larger than this are not copied unless the caller says so: 512 MiB.
pub const MAX_IMAGE: u64 = 512 << 20;

/// Where an image came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// By path, inside the process's root.
    Root,
    /// Through `/proc/PID/map_files`.
    Mapping,
    /// From the engine's archive of the container.
    Engine,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Root => "the process's root",
            Self::Mapping => "the process's mapping",
            Self::Engine => "the engine's archive",
        })
    }
}

/// How sure it is that an image is of the file that is mapped. Even so its bytes may have been
/// overwritten since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// It is: the mapping itself was opened, or names the same device and inode.
    Mapped,
    /// It has the inode number in `maps`; the device could not be compared.
    SameInode,
    /// Only the path is the same: compare build IDs, or be content with less.
    Unverified,
}

/// A copy of a file that nobody can change any more, in memory.
#[derive(Debug)]
pub struct FileImage {
    fd: OwnedFd,
    // `None` for an empty file, which cannot be mapped.
    map: Option<NonNull<u8>>,
    len: usize,
    origin: PathBuf,
    source: Source,
    identity: Identity,
}

// SAFETY: the memory behind `map` is mapped read-only from a sealed memfd, which nothing can write or
// resize, stays mapped until the drop of the only owner, and is read through shared references only.
unsafe impl Send for FileImage {}
// SAFETY: as above; there is no way to change it through a shared reference.
unsafe impl Sync for FileImage {}

impl FileImage {
    /// Copies what `from` gives, if it gives no more than `max` bytes.
    pub(super) fn copy(
        mut from: impl Read,
        max: u64,
        origin: &Path,
        source: Source,
        identity: Identity,
    ) -> Result<Self, FileError> {
        let io = |why: String| FileError::Io { path: origin.to_owned(), why };
        let fault = |e: rustix::io::Errno| io(e.to_string());
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut copy = File::from(rustix::fs::memfd_create(c"upprof-image", flags).map_err(fault)?);
        let mut piece = vec![0; 256 << 10];
        let mut total = 0_u64;
        loop {
            let n = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(io(e.to_string())),
            };
            total += n as u64;
            if total > max {
                return Err(FileError::TooLarge { path: origin.to_owned(), max });
            }
            copy.write_all(&piece[..n]).map_err(|e| io(e.to_string()))?;
        }
        let len = usize::try_from(total).map_err(|e| io(e.to_string()))?;
        let fd = OwnedFd::from(copy);
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&fd, seals).map_err(fault)?;
        let map = if len == 0 {
            None
        } else {
            // SAFETY: a new mapping at an address of the kernel's choice replaces none that exists.
            let at = unsafe {
                rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, &fd, 0)
            };
            NonNull::new(at.map_err(fault)?.cast())
        };
        Ok(Self { fd, map, len, origin: origin.to_owned(), source, identity })
    }

    /// An image of bytes that are no file, such as a library that the kernel maps by itself.
    ///
    /// # Errors
    /// [`FileError::Io`] when no memory can be had for it.
    pub fn of_memory(bytes: &[u8], name: &Path) -> Result<Self, FileError> {
        Self::copy(bytes, MAX_IMAGE, name, Source::Mapping, Identity::Mapped)
    }

    /// The file's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self.map {
            None => &[],
            // SAFETY: `map` is the start of `len` mapped, readable bytes, unmapped only on drop. The
            // memfd behind them was sealed against writing, shrinking and unsealing before it was
            // mapped, so the bytes never change and no access faults for want of a page of the file.
            Some(map) => unsafe { std::slice::from_raw_parts(map.as_ptr(), self.len) },
        }
    }

    /// A path for libraries that want one. Good in this process, while the image lives.
    #[must_use]
    pub fn fd_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The path it was asked for by, as the container sees it; the target's choice, to be printed
    /// escaped.
    #[must_use]
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Where it came from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// How sure it is that this is the mapped file.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }
}

impl Drop for FileImage {
    fn drop(&mut self) {
        if let Some(map) = self.map {
            // SAFETY: this mapping was made in `copy` with this length, and `bytes` lends it no longer
            // than `self` lives. A failure leaves it mapped, which is harmless.
            let _ = unsafe { rustix::mm::munmap(map.as_ptr().cast(), self.len) };
        }
    }
}
