//! Recordings: what is written is read, and what is no recording is refused.

#[path = "../../profile/tests/common/mod.rs"]
mod common;

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use upprof_profile::Profile;
use upprof_profile::export::{Exporter, FlameGraph, FlameView, Folded, Json, Pprof};
use upprof_report::manifest::{Host, Skipped};
use upprof_report::{Manifest, Recording, RecordingError};

fn manifest(profile: &Profile) -> Manifest {
    let mut manifest = Manifest::of(profile);
    manifest.host = Host { kernel_release: "6.18".into(), ..Host::default() };
    manifest.skipped = vec![Skipped { what: common::HOSTILE.concat(), why: "no".into() }];
    manifest
}

fn write(profile: &Profile, manifest: &Manifest) -> Vec<u8> {
    let mut out = Vec::new();
    Recording::write(profile, manifest, &mut out).expect("a Vec takes everything");
    out
}

fn rendered(profile: &Profile) -> Vec<Vec<u8>> {
    let all: [&dyn Exporter; 4] = [&FlameGraph::new(FlameView::All), &Folded::default(), &Pprof, &Json];
    let bytes = all.map(|exporter| {
        let mut out = Vec::new();
        exporter.write(profile, &mut out).expect("a Vec takes everything");
        out
    });
    bytes.into()
}

#[test]
fn every_format_of_a_recording_is_that_of_the_capture() {
    for profile in [common::tiny(), common::gateway(), common::hostile(), common::idle()] {
        let manifest = manifest(&profile);
        let read = Recording::read(&write(&profile, &manifest)[..]).expect("a recording");
        assert!(rendered(&profile) == rendered(&read.profile), "{}", profile.container);
        assert_eq!(read.manifest, manifest);
    }
}

/// The JSON of a recording, changed, packed again.
fn changed(from: &str, to: &str) -> Vec<u8> {
    let profile = common::tiny();
    let mut json = String::new();
    GzDecoder::new(&write(&profile, &manifest(&profile))[..]).read_to_string(&mut json).expect("gzip");
    let (before, after) = json.split_once(from).unwrap_or_else(|| panic!("no {from}"));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    write!(gzip, "{before}{to}{after}").expect("a Vec takes everything");
    gzip.finish().expect("a Vec takes everything")
}

fn refused(file: &[u8]) -> RecordingError {
    Recording::read(file).expect_err("no recording")
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    assert!(Recording::read(&changed("\"6.18\"", "\"6.19\"")[..]).is_ok(), "the test changes files rightly");
    let later = refused(&changed("\"version\":1", "\"version\":2"));
    assert!(matches!(later, RecordingError::Version(2)), "{later:?}");
    let other = refused(&changed("upprof-recording", "upprof-stacks"));
    assert!(matches!(&other, RecordingError::Format(f) if f == "upprof-stacks"), "{other:?}");
    let index = refused(&changed("\"stack\":[0,2,3,4]", "\"stack\":[0,2,3,40]"));
    assert!(matches!(index, RecordingError::Profile(_)), "{index:?}");
    let shape = refused(&changed("\"count\":50", "\"count\":-50"));
    assert!(matches!(shape, RecordingError::Shape(_)), "{shape:?}");
    for text in [&b""[..], b"main 1\n", b"\x1f\x8b", &[0; 100]] {
        let error = refused(text);
        assert!(matches!(error, RecordingError::Io(_)), "{error:?}");
    }
}

#[test]
fn a_recording_that_was_cut_off_anywhere_is_refused() {
    let profile = common::tiny();
    let whole = write(&profile, &manifest(&profile));
    for end in 0..whole.len() {
        assert!(Recording::read(&whole[..end]).is_err(), "{end} of {} bytes", whole.len());
    }
}

#[test]
fn a_recording_with_flipped_bits_does_no_harm() {
    let profile = common::tiny();
    let whole = write(&profile, &manifest(&profile));
    let mut refused = 0;
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        // The gzip header's time and name of a system are nobody's business; all else is checked.
        refused += usize::from(Recording::read(&flipped[..]).is_err());
    }
    assert!(refused + 10 >= whole.len(), "{refused} of {}", whole.len());
}
