//! upprof's own JSON: everything a profile holds, with a schema of its own (`docs/formats.md`), written
//! and read here.

use std::collections::HashMap;
use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::export::ascii_json::write_json;
use crate::export::text::frame_text;
use crate::export::{ExportError, Exporter};
use crate::model::{
    Counter, Focus, Frame, FrameId, FrameKind, Location, OriginId, Process, Profile, Sample, VmState,
};
use crate::origin::{Origin, Phase};

/// `*.json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl Exporter for Json {
    fn path(&self) -> &'static str {
        "cpu/profile.json"
    }

    fn what(&self) -> &'static str {
        "The whole profile as JSON: frames, stacks, counts, processes and counters, for scripts"
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        Ok(write_json(out, &Document::from(profile))?)
    }
}

/// The file's shape. Numbers carry their unit in the name; indices count from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`Document::FORMAT`].
    pub format: String,
    /// [`Document::VERSION`]: grows when a field changes its meaning or goes away.
    pub version: u32,
    container: String,
    started_unix_ns: u64,
    duration_ns: u64,
    frequency_hz: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    focus: Option<Focus>,
    processes: Vec<Process>,
    counters: Vec<Counter>,
    frames: Vec<NamedFrame>,
    locations: Vec<FrameAt>,
    /// Absent in files of versions before 0.2.
    #[serde(default = "nobody_asked")]
    origins: Vec<Origin>,
    samples: Vec<Stack>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NamedFrame {
    kind: FrameKind,
    /// Only for readers of the file: made from the others, and not read back.
    #[serde(default)]
    text: String,
    name: String,
    file: Option<String>,
    line: u32,
}

/// A [`Location`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct FrameAt {
    frame: u32,
    line: u32,
    address: u64,
}

/// A [`Sample`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stack {
    count: u64,
    process: usize,
    vmstate: VmState,
    #[serde(default)]
    origin: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    /// Root first.
    stack: Vec<u32>,
}

fn nobody_asked() -> Vec<Origin> {
    vec![Origin::Unknown]
}

/// Why a document is no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDocument {
    /// Another kind of file.
    #[error("it is no profile of upprof: its format is {0:?}")]
    Format(String),
    /// A later layout.
    #[error("its layout is version {0}, and this upprof reads up to {max}", max = Document::VERSION)]
    Version(u32),
    /// An index leads nowhere.
    #[error("{what} {index} does not exist")]
    Index {
        /// `frame`, `location`, `origin` or `process`.
        what: &'static str,
        /// The index.
        index: u64,
    },
    /// Deeper than any stack is.
    #[error("a stack has {0} frames, and no stack has more than {max}", max = Document::MAX_DEPTH)]
    Depth(usize),
    /// A number that no capture gives, and sums of which would overflow.
    #[error("{0} is above 2^53")]
    TooLarge(&'static str),
}

impl Document {
    /// What the file says it is.
    pub const FORMAT: &'static str = "upprof-profile";
    /// The layout that is written, and the newest that is read.
    pub const VERSION: u32 = 1;
    /// Frames of one stack: the kernel side's limits are far below.
    pub const MAX_DEPTH: usize = 4096;
    /// What JSON's readers hold exactly.
    const MAX_NUMBER: u64 = 1 << 53;

    /// The profile, every index and number of it checked: a file may come from anywhere.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn into_profile(self) -> Result<Profile, InvalidDocument> {
        if self.format != Self::FORMAT {
            return Err(InvalidDocument::Format(self.format));
        }
        if self.version > Self::VERSION {
            return Err(InvalidDocument::Version(self.version));
        }
        self.check()?;
        let mut profile = Profile::default();
        profile.container = self.container;
        profile.started_unix_ns = self.started_unix_ns;
        profile.duration_ns = self.duration_ns;
        profile.frequency_hz = self.frequency_hz;
        profile.focus = self.focus;
        profile.processes = self.processes;
        profile.counters = self.counters;
        // Interned: a file may list one frame twice.
        let frames: Vec<FrameId> = self
            .frames
            .into_iter()
            .map(|f| profile.intern(Frame { kind: f.kind, name: f.name, file: f.file, line: f.line }))
            .collect();
        let locations: Vec<Location> = self
            .locations
            .iter()
            .map(|l| Location { frame: frames[l.frame as usize], line: l.line, address: l.address })
            .collect();
        profile.origins = self.origins;
        profile.samples = self
            .samples
            .into_iter()
            .map(|s| Sample {
                stack: s.stack.iter().map(|l| locations[*l as usize]).collect(),
                count: s.count,
                process: s.process,
                vmstate: s.vmstate,
                origin: OriginId(s.origin),
                phase: s.phase,
            })
            .collect();
        Ok(profile)
    }

    fn check(&self) -> Result<(), InvalidDocument> {
        let index = |what, index: usize, list: usize| match index < list {
            true => Ok(()),
            false => Err(InvalidDocument::Index { what, index: index as u64 }),
        };
        for location in &self.locations {
            index("frame", location.frame as usize, self.frames.len())?;
        }
        let mut samples = 0_u64;
        for sample in &self.samples {
            index("process", sample.process, self.processes.len())?;
            index("origin", sample.origin as usize, self.origins.len())?;
            if sample.stack.len() > Self::MAX_DEPTH {
                return Err(InvalidDocument::Depth(sample.stack.len()));
            }
            for location in &sample.stack {
                index("location", *location as usize, self.locations.len())?;
            }
            samples = samples.saturating_add(sample.count);
        }
        let sum = |numbers: &mut dyn Iterator<Item = u64>| numbers.fold(0, u64::saturating_add);
        let numbers = [
            ("the number of samples", samples),
            ("a counter", sum(&mut self.counters.iter().map(|c| c.count))),
            ("CPU time", sum(&mut self.processes.iter().filter_map(|p| p.cpu_ns))),
        ];
        let large = numbers.iter().find(|(_, number)| *number > Self::MAX_NUMBER);
        large.map_or(Ok(()), |(what, _)| Err(InvalidDocument::TooLarge(what)))
    }
}

impl From<&Profile> for Document {
    fn from(profile: &Profile) -> Self {
        let mut index: HashMap<Location, u32> = HashMap::new();
        let mut locations = Vec::new();
        let mut at = |location: &Location| {
            *index.entry(*location).or_insert_with(|| {
                locations.push(FrameAt {
                    frame: location.frame.0,
                    line: location.line,
                    address: location.address,
                });
                // One for each distinct location, of which a process's memory has not 2^32.
                u32::try_from(locations.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let samples = profile
            .samples
            .iter()
            .map(|s| Stack {
                count: s.count,
                process: s.process,
                vmstate: s.vmstate,
                origin: s.origin.0,
                phase: s.phase,
                stack: s.stack.iter().map(&mut at).collect(),
            })
            .collect();
        let frame = |f: &Frame| NamedFrame {
            kind: f.kind,
            text: frame_text(f),
            name: f.name.clone(),
            file: f.file.clone(),
            line: f.line,
        };
        Self {
            format: Self::FORMAT.into(),
            version: Self::VERSION,
            container: profile.container.clone(),
            started_unix_ns: profile.started_unix_ns,
            duration_ns: profile.duration_ns,
            frequency_hz: profile.frequency_hz,
            focus: profile.focus.clone(),
            processes: profile.processes.clone(),
            counters: profile.counters.clone(),
            frames: profile.frames.iter().map(frame).collect(),
            locations,
            origins: if profile.origins.is_empty() { nobody_asked() } else { profile.origins.clone() },
            samples,
        }
    }
}
