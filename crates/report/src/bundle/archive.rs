//! The bundle as one file to send: a tar, gzipped, that depends on nothing but its content.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::{INCOMPLETE, TEMPORARY};
use crate::utc::Utc;

/// Deeper folders than a bundle has are not followed.
const MAX_DEPTH: usize = 8;

/// Writes the archive of a folder.
pub(super) fn write(folder: &Path, started: Utc, file: &mut File) -> io::Result<()> {
    let name = folder.file_name().map(PathBuf::from).ok_or(io::ErrorKind::InvalidInput)?;
    let gzip = GzEncoder::new(BufWriter::new(file), Compression::default());
    let mut tar = tar::Builder::new(gzip);
    append_folder(&mut tar, folder, &name, started, 0)?;
    tar.into_inner()?.finish()?.flush()
}

fn append_folder(
    tar: &mut tar::Builder<impl Write>,
    folder: &Path,
    name: &Path,
    started: Utc,
    depth: usize,
) -> io::Result<()> {
    let mut own = header(EntryType::Directory, 0o755, 0, started);
    tar.append_data(&mut own, name.join(""), io::empty())?;
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        let name = name.join(entry.file_name());
        let passing = name.to_string_lossy().ends_with(TEMPORARY) || entry.file_name() == INCOMPLETE;
        if kind.is_dir() && depth < MAX_DEPTH {
            append_folder(tar, &entry.path(), &name, started, depth + 1)?;
        } else if kind.is_file() && !passing {
            let mut file = File::open(entry.path())?;
            let mut header = header(EntryType::Regular, 0o644, file.metadata()?.len(), started);
            tar.append_data(&mut header, name, &mut file)?;
        }
    }
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: u64, started: Utc) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(started.unix_seconds());
    header.set_uid(0);
    header.set_gid(0);
    header
}
