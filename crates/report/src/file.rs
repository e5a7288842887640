//! A single file, written whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use upprof_profile::export::ExportError;

use crate::bundle::BundleError;

/// A file that can be written, which was checked when it was made. What was there before stays until the
/// new content is whole. Dropped unwritten, it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    to: To,
}

#[derive(Debug)]
enum To {
    /// Written beside the place, then renamed.
    Beside(NamedTempFile),
    /// A device or a pipe: written as it comes.
    Through(File),
}

impl NewFile {
    /// Checks that the file can be written. Call it before sampling.
    ///
    /// # Errors
    /// [`BundleError::NotWritable`].
    pub fn create(path: &Path) -> Result<Self, BundleError> {
        let open = || {
            let special = fs::metadata(path).is_ok_and(|m| !m.is_file());
            if special {
                // A folder is refused here, by the system's own words.
                return OpenOptions::new().write(true).open(path).map(To::Through);
            }
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            tempfile::Builder::new().prefix(".upprof-").tempfile_in(folder).map(To::Beside)
        };
        let to = open().map_err(|source| BundleError::NotWritable { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), to })
    }

    /// Writes it, mode 0644.
    ///
    /// # Errors
    /// [`BundleError::Write`].
    pub fn write(
        self,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
    ) -> Result<(), BundleError> {
        let Self { path, to } = self;
        let fill = |file: &File| {
            let mut buffer = BufWriter::new(file);
            fill(&mut buffer)?;
            Ok(buffer.flush()?)
        };
        let written = match to {
            To::Through(file) => fill(&file),
            To::Beside(temporary) => fill(temporary.as_file()).and_then(|()| {
                temporary.as_file().set_permissions(Permissions::from_mode(0o644))?;
                temporary.persist(&path).map_err(|e| e.error)?;
                Ok(())
            }),
        };
        written.map_err(|source| BundleError::Write { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_until_the_new_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.svg");
        fs::write(&path, "before").expect("a file");
        let failed = NewFile::create(&path).expect("writable").write(|out| {
            out.write_all(b"half")?;
            Err(std::io::Error::other("no more").into())
        });
        assert!(matches!(failed, Err(BundleError::Write { path: p, .. }) if p == path));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "before");
        drop(NewFile::create(&path).expect("writable"));
        NewFile::create(&path).expect("writable").write(|out| Ok(out.write_all(b"after")?)).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("there"), "after");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else is left");
    }

    #[test]
    fn what_cannot_be_a_file_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in [folder.path().to_owned(), folder.path().join("no/such/folder"), folder.path().join("..")]
        {
            let refused = NewFile::create(&path);
            assert!(matches!(refused, Err(BundleError::NotWritable { path: p, .. }) if p == path));
        }
    }

    #[test]
    fn a_device_is_written_to_and_stays_one() {
        let null = Path::new("/dev/null");
        NewFile::create(null).expect("writable").write(|out| Ok(out.write_all(b"gone")?)).expect("written");
        assert!(!fs::metadata(null).expect("there").is_file());
    }
}
