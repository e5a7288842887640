//! The bundle's folder: made before sampling starts, marked until it is whole.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use upprof_profile::export::ExportError;

use crate::utc::Utc;

mod archive;

/// The mark that a folder is still being written, or that writing it failed.
pub const INCOMPLETE: &str = "INCOMPLETE";
const INCOMPLETE_TEXT: &str = "upprof is still writing this folder, or was stopped while it did.\n\
    Files that are here are whole; others are missing.\n";
/// Ends the name of a file that is being written.
const TEMPORARY: &str = ".partial";
/// More captures of one container in one second than anyone makes.
const MAX_SAME_SECOND: u32 = 1_000;
/// Longest part of a folder's name that comes from the container's name.
const MAX_NAME: usize = 64;

/// Why a bundle, or a file of it, was not written. Exit code 6.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The folder could not be made, or nothing can be written into it.
    #[error("cannot write into {}: {source}", path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written; what was there of it is removed.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ExportError,
    },
    /// A file's name leaves the folder or is one of the bundle's own. A bug of the caller.
    #[error("{name:?} is no name for a file of a bundle")]
    Name {
        /// The name.
        name: String,
    },
}

impl BundleError {
    fn write(path: &Path, source: impl Into<ExportError>) -> Self {
        Self::Write { path: path.to_owned(), source: source.into() }
    }

    /// The path that could not be written.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::NotWritable { path, .. } | Self::Write { path, .. } => Some(path),
            Self::Name { .. } => None,
        }
    }

    /// Whether the disk, or the user's share of it, is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        let error = match self {
            Self::NotWritable { source, .. } | Self::Write { source: ExportError::Io(source), .. } => source,
            _ => return false,
        };
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// A bundle that is being written. Dropped before [`BundleDir::finish`], it stays as it is, marked
/// by a file [`INCOMPLETE`].
#[derive(Debug)]
pub struct BundleDir {
    path: PathBuf,
    started: Utc,
}

impl BundleDir {
    /// Makes `<out>/<container>-<UTC time>/` and checks that files can be written into it. Call it
    /// before sampling. A name that is taken, also by an archive, gets `-2`, `-3`, …; two captures
    /// that start at once get two folders.
    ///
    /// # Errors
    /// [`BundleError::NotWritable`].
    pub fn create(out: &Path, container: &str, started: Utc) -> Result<Self, BundleError> {
        let failed = |path: &Path, source| BundleError::NotWritable { path: path.to_owned(), source };
        fs::create_dir_all(out).map_err(|e| failed(out, e))?;
        let stem = format!("{}-{}", sanitised(container), started.compact());
        for number in 1..=MAX_SAME_SECOND {
            let name = if number == 1 { stem.clone() } else { format!("{stem}-{number}") };
            let bundle = Self { path: out.join(name), started };
            if fs::symlink_metadata(bundle.archive_path()).is_ok() {
                continue;
            }
            // Atomic: of two captures, one makes it and the other sees that it exists.
            match DirBuilder::new().mode(0o755).create(&bundle.path) {
                Ok(()) => return bundle.marked(),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(out, error)),
            }
        }
        Err(failed(&out.join(stem), io::ErrorKind::AlreadyExists.into()))
    }

    /// The mark is the probe, too: where it can be written, so can the rest.
    fn marked(self) -> Result<Self, BundleError> {
        let mark = self.path.join(INCOMPLETE);
        let written = set_mode(&self.path, 0o755)
            .and_then(|()| fs::write(&mark, INCOMPLETE_TEXT))
            .and_then(|()| set_mode(&mark, 0o644));
        match written {
            Ok(()) => Ok(self),
            Err(source) => {
                // Best effort: the error to tell is the first one.
                let _ = fs::remove_file(&mark);
                let _ = fs::remove_dir(&self.path);
                Err(BundleError::NotWritable { path: self.path, source })
            }
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where [`BundleDir::archive`] writes.
    #[must_use]
    pub fn archive_path(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".tar.gz");
        name.into()
    }

    /// Writes one file, mode 0644, and returns its size in bytes. Nobody sees it before it is
    /// whole, and a failure leaves nothing of it.
    ///
    /// # Errors
    /// [`BundleError::Write`] with the file's path; [`BundleError::Name`] for a name that is not a
    /// plain relative path.
    pub fn write(
        &self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
    ) -> Result<u64, BundleError> {
        let path = self.path.join(self.checked(name)?);
        if let Some(parent) = path.parent() {
            make_folders(&self.path, parent).map_err(|e| BundleError::write(parent, e))?;
        }
        write_whole(&path, |file| {
            let mut buffer = BufWriter::new(file);
            fill(&mut buffer)?;
            Ok(buffer.flush()?)
        })
        .map_err(|source| BundleError::Write { path, source })
    }

    /// Writes `<folder>.tar.gz` from the files written so far, and returns its path. The same
    /// files make the same bytes: names are sorted, owners are 0 and times are the capture's.
    ///
    /// # Errors
    /// [`BundleError::Write`] with the archive's path. The folder is not changed.
    pub fn archive(&self) -> Result<PathBuf, BundleError> {
        let path = self.archive_path();
        match write_whole(&path, |file| Ok(archive::write(&self.path, self.started, file)?)) {
            Ok(_) => Ok(path),
            Err(source) => Err(BundleError::Write { path, source }),
        }
    }

    /// Says that the bundle is whole: removes the mark. Returns the folder.
    ///
    /// # Errors
    /// [`BundleError::Write`] when the mark cannot be removed.
    pub fn finish(self) -> Result<PathBuf, BundleError> {
        let mark = self.path.join(INCOMPLETE);
        fs::remove_file(&mark).map_err(|e| BundleError::write(&mark, e))?;
        Ok(self.path)
    }

    /// Takes the folder away again, when nothing was written into it: for a capture that failed
    /// before it had anything to tell. Keeps it otherwise.
    ///
    /// # Errors
    /// [`BundleError::NotWritable`] when the empty folder cannot be removed.
    pub fn discard(self) -> Result<(), BundleError> {
        let Self { path, .. } = self;
        let mark = path.join(INCOMPLETE);
        let discard = || -> io::Result<()> {
            if fs::read_dir(&path)?.count() > 1 {
                return Ok(());
            }
            fs::remove_file(mark)?;
            fs::remove_dir(&path)
        };
        discard().map_err(|source| BundleError::NotWritable { path: path.clone(), source })
    }

    fn checked<'n>(&self, name: &'n str) -> Result<&'n Path, BundleError> {
        let path = Path::new(name);
        let plain = !name.is_empty() && path.components().all(|c| matches!(c, Component::Normal(_)));
        if !plain || name == INCOMPLETE || name.ends_with(TEMPORARY) || name.ends_with('/') {
            return Err(BundleError::Name { name: name.to_owned() });
        }
        Ok(path)
    }
}

/// Letters, digits, `.`, `_` and `-`; no dot or dash at the start.
fn sanitised(container: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = container.chars().map(plain).collect();
    let name: String = name.trim_start_matches(['.', '-']).chars().take(MAX_NAME).collect();
    if name.is_empty() { "capture".to_owned() } else { name }
}

/// The folders between the bundle and a file of it.
fn make_folders(bundle: &Path, folder: &Path) -> io::Result<()> {
    if folder == bundle || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folders(bundle, parent)?;
    }
    DirBuilder::new().mode(0o755).create(folder)?;
    set_mode(folder, 0o755)
}

/// Writes next to the place and renames, so that a reader sees a whole file or none.
fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let temporary = PathBuf::from(temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    let written = fill(&mut file).and_then(|()| {
        // Whatever the umask: the reader is seldom the user that captured.
        file.set_permissions(Permissions::from_mode(0o644))?;
        let bytes = file.metadata()?.len();
        fs::rename(&temporary, path)?;
        Ok(bytes)
    });
    if written.is_err() {
        // Best effort: the error to tell is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_are_plain() {
        for (container, name) in [
            ("apisix", "apisix"),
            ("pod/ns/name", "pod_ns_name"),
            ("../../etc", "_.._etc"),
            ("-rf", "rf"),
            ("", "capture"),
            ("...", "capture"),
            ("ä b\n", "__b_"),
        ] {
            assert_eq!(sanitised(container), name, "{container:?}");
        }
        assert_eq!(sanitised(&"x".repeat(300)).len(), MAX_NAME);
    }
}
