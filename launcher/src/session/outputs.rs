//! Files that were named one by one: opened before anything is sampled, written at the end.

use crate::failure::Failure;
use crate::plan::{Format, Outputs, Place, View};
use crate::ui::Voice;
use std::borrow::Cow;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use upprof_profile::Profile;
use upprof_profile::export::ExportError;
use upprof_report::{BundleError, Manifest, NewFile, Recording};

/// Places that can be written to.
pub(super) struct Opened<'a> {
    files: Vec<(Sink, &'a Place, Format)>,
    raw: Option<(Sink, &'a Place)>,
    view: &'a View,
}

enum Sink {
    File(NewFile),
    Stdout,
}

impl<'a> Opened<'a> {
    /// Checks every place: a bad one is told in the first second, not after the last.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Output`].
    pub(super) fn open(outputs: &'a Outputs) -> Result<Self, Failure> {
        let mut files = Vec::new();
        for output in &outputs.files {
            files.push((Sink::open(&output.place)?, &output.place, output.format));
        }
        let raw = match &outputs.raw {
            Some(place) => Some((Sink::open(place)?, place)),
            None => None,
        };
        Ok(Self { files, raw, view: &outputs.view })
    }

    /// Writes everything; the recording first, from which the rest can be made again.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Output`]; what was written before is kept.
    pub(super) fn write(self, profile: &Profile, manifest: &Manifest, voice: Voice) -> Result<(), Failure> {
        if let Some((sink, place)) = self.raw {
            sink.write(&mut |out| Recording::write(profile, manifest, out))?;
            voice.note(&format!("recording: {place}"));
        }
        let shown = match &self.view.focus {
            Some(regex) => Cow::Owned(profile.focused(regex.as_str(), |text| regex.is_match(text))),
            None => Cow::Borrowed(profile),
        };
        for (sink, place, format) in self.files {
            let exporter = format.exporter(self.view.style);
            sink.write(&mut |out| exporter.write(&shown, out))?;
            voice.note(&format!("wrote {place}"));
        }
        if let (Some(reason), Some(_)) = (shown.no_samples_reason(), &shown.focus) {
            voice.warn(&reason);
        }
        Ok(())
    }
}

impl Sink {
    fn open(place: &Place) -> Result<Self, Failure> {
        match place {
            Place::Stdout => Ok(Self::Stdout),
            Place::File(path) => NewFile::create(path).map(Self::File).map_err(|e| Failure::file(&e)),
        }
    }

    fn write(self, fill: &mut dyn FnMut(&mut dyn Write) -> Result<(), ExportError>) -> Result<(), Failure> {
        let written = match self {
            Self::File(file) => file.write(fill),
            Self::Stdout => to_stdout(fill),
        };
        written.map_err(|e| Failure::file(&e))
    }
}

/// A reader that has seen enough (`… -o - | head`) is no failure.
pub(super) fn to_stdout(
    fill: &mut dyn FnMut(&mut dyn Write) -> Result<(), ExportError>,
) -> Result<(), BundleError> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = fill(&mut out).and_then(|()| Ok(out.flush()?));
    match written {
        Err(ExportError::Io(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|source| BundleError::Write { path: PathBuf::from("stdout"), source }),
    }
}
