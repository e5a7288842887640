//! The recording: a capture in one file, from which every format can be made again without the target.
//!
//! Gzipped JSON, `docs/formats.md`. Names are resolved in it already: what they were read from is gone
//! when the target is.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use upprof_profile::Profile;
use upprof_profile::export::{Document, ExportError, InvalidDocument, write_json};

use crate::manifest::Manifest;

const FORMAT: &str = "upprof-recording";
/// The layout that is written, and the newest that is read.
const VERSION: u32 = 1;
/// Most bytes of JSON that are read: many times what the kernel side's tables can fill, and little enough
/// that a few bytes which unpack into a lot do no harm.
const MAX_BYTES: u64 = 512 << 20;

/// A capture, to be rendered again.
#[derive(Debug, Clone)]
pub struct Recording {
    /// What was measured.
    pub profile: Profile,
    /// How.
    pub manifest: Manifest,
}

/// Why a file could not be read as a recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file could not be read, or is not gzip.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not JSON, or not of this shape.
    #[error("it is not a recording: {0}")]
    Shape(#[from] serde_json::Error),
    /// Another kind of file.
    #[error("it is no recording of upprof: its format is {0:?}")]
    Format(String),
    /// A later layout.
    #[error("its layout is version {0}, and this upprof reads up to {VERSION}")]
    Version(u32),
    /// It unpacks into more than any recording is.
    #[error("it unpacks into more than {max_bytes} bytes")]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// The profile in it contradicts itself.
    #[error(transparent)]
    Profile(#[from] InvalidDocument),
}

/// What the file says it is: read before the rest, which a later version may have changed.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
}

#[derive(Serialize)]
struct Written<'a> {
    format: &'static str,
    version: u32,
    manifest: &'a Manifest,
    profile: Document,
}

#[derive(Deserialize)]
struct Content {
    manifest: Manifest,
    profile: Document,
}

impl Recording {
    /// Where the recording goes in the bundle.
    pub const PATH: &'static str = "cpu/recording.upprof";
    /// What it is, in a sentence.
    pub const WHAT: &'static str = "The recording: upprof report renders it again, as any format";

    /// Writes a recording.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(profile: &Profile, manifest: &Manifest, out: &mut dyn Write) -> Result<(), ExportError> {
        let mut gzip = GzEncoder::new(out, Compression::default());
        let written = Written { format: FORMAT, version: VERSION, manifest, profile: profile.into() };
        write_json(&mut gzip, &written)?;
        gzip.finish()?;
        Ok(())
    }

    /// Reads a recording, which may come from anywhere: size, indices and sums are checked.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn read(input: impl Read) -> Result<Self, RecordingError> {
        Self::read_up_to(input, MAX_BYTES)
    }

    fn read_up_to(input: impl Read, max_bytes: u64) -> Result<Self, RecordingError> {
        let mut json = Vec::new();
        GzDecoder::new(input).take(max_bytes + 1).read_to_end(&mut json)?;
        if json.len() as u64 > max_bytes {
            return Err(RecordingError::TooLarge { max_bytes });
        }
        let header: Header = serde_json::from_slice(&json)?;
        if header.format != FORMAT {
            return Err(RecordingError::Format(header.format));
        }
        if header.version > VERSION {
            return Err(RecordingError::Version(header.version));
        }
        let content: Content = serde_json::from_slice(&json)?;
        drop(json);
        Ok(Self { profile: content.profile.into_profile()?, manifest: content.manifest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_unpacks_into_too_much_is_not_unpacked() {
        let mut file = Vec::new();
        Recording::write(&Profile::default(), &Manifest::default(), &mut file)
            .expect("a Vec takes everything");
        let mut json = Vec::new();
        GzDecoder::new(&file[..]).read_to_end(&mut json).expect("gzip");
        let size = json.len() as u64;
        assert!(Recording::read_up_to(&file[..], size).is_ok());
        let refused = Recording::read_up_to(&file[..], size - 1);
        assert!(matches!(refused, Err(RecordingError::TooLarge { max_bytes }) if max_bytes == size - 1));
    }
}
