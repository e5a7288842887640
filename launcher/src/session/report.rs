//! `upprof report`: a recording into files, without its target.

use super::finish;
use super::outputs::Opened;
use crate::failure::{Exit, Failure};
use crate::plan::Report;
use std::fs::File;
use std::path::Path;
use upprof_report::{BundleDir, Page, Recording, RecordingError, Utc};
use upprof_target::shown_path;

pub(super) fn report(report: &Report) -> Result<(), Failure> {
    let outputs = Opened::open(&report.outputs)?;
    let recording = read(&report.from)?;
    outputs.write(&recording.profile, &recording.manifest, report.voice)?;
    match &report.out {
        Some(out) => bundle(recording, out, report),
        None => Ok(()),
    }
}

/// A recording, or that of a bundle.
fn read(from: &Path) -> Result<Recording, Failure> {
    let path = if from.is_dir() { from.join(Recording::PATH) } else { from.to_owned() };
    let read = || Recording::read(File::open(&path)?);
    read().map_err(|e| {
        let likely = match &e {
            RecordingError::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {
                "a typing error, or a folder that is no bundle"
            }
            RecordingError::Version(_) => "a newer upprof made it",
            RecordingError::Io(_) | RecordingError::Shape(_) | RecordingError::Format(_) => {
                "another kind of file, or one that was cut off: pictures and profiles cannot be rendered again"
            }
            _ => "it was damaged or made by something else",
        };
        Failure::new(
            Exit::Usage,
            format!("{} cannot be read: {e}", shown_path(&path)),
            likely,
            "name a file of upprof record --raw, or the folder of a bundle",
        )
    })
}

/// The bundle, as the capture would have made it.
fn bundle(recording: Recording, out: &Path, report: &Report) -> Result<(), Failure> {
    let Recording { profile, mut manifest } = recording;
    let label = match profile.container.as_str() {
        "" => format!("pid-{}", profile.processes.first().map_or(0, |p| p.pid)),
        name => name.to_owned(),
    };
    let started = Utc::from_unix_ns(profile.started_unix_ns);
    let failed = |e| Failure::output(&e);
    let bundle = BundleDir::create(out, &label, started).map_err(failed)?;
    let archive =
        finish::write_files(&[], Vec::new(), &profile, &mut manifest, None, &bundle).map_err(failed)?;
    let dir = bundle.finish().map_err(failed)?;
    report.voice.note(&format!("archive: {}", shown_path(&archive)));
    crate::ui::say(&format!("open {}", shown_path(&dir.join(Page::PATH))));
    Ok(())
}
