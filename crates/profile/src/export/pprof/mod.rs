//! pprof: the gzipped protobuf that `go tool pprof`, Pyroscope, Parca and speedscope read.

use std::collections::HashMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use crate::export::text::{escape, escape_up_to, frame_text};
use crate::export::{ExportError, Exporter};
use crate::model::{Frame, FrameId, FrameKind, Location, Profile, Sample};
use crate::origin::Origin;

pub mod proto;

/// Longest sentence in a comment, in characters.
const MAX_COMMENT: usize = 1_000;
/// Longest path or host in a label, in characters: all that is kept of one, escaped.
const MAX_LABEL: usize = 600;

/// `cpu/profile.pb.gz`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pprof;

impl Exporter for Pprof {
    fn path(&self) -> &'static str {
        "cpu/profile.pb.gz"
    }

    fn what(&self) -> &'static str {
        "The profile for go tool pprof, Pyroscope, Parca and speedscope, with container, pid, worker, \
         vmstate, method, path, host and phase as labels"
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        let bytes = Builder::new(profile).build().encode_to_vec();
        let mut gzip = GzEncoder::new(out, Compression::default());
        gzip.write_all(&bytes)?;
        gzip.finish()?;
        Ok(())
    }
}

/// Collects the tables that a pprof file is made of. Index 0 of the strings is the empty string and
/// ids start at 1: both are the format's rules.
struct Builder<'p> {
    profile: &'p Profile,
    out: proto::Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<FrameId, u64>,
    locations: HashMap<Location, u64>,
    mappings: HashMap<String, u64>,
    /// By process: pid, role and number.
    processes: Vec<Vec<proto::Label>>,
}

impl<'p> Builder<'p> {
    fn new(profile: &'p Profile) -> Self {
        let mut builder = Self {
            profile,
            out: proto::Profile::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            mappings: HashMap::new(),
            processes: Vec::new(),
        };
        builder.string("");
        builder.processes = (0..profile.processes.len()).map(|i| builder.process_labels(i)).collect();
        builder
    }

    fn build(mut self) -> proto::Profile {
        let samples = self.value_type("samples", "count");
        let cpu = self.value_type("cpu", "nanoseconds");
        self.out.sample_type = vec![samples, cpu];
        self.out.default_sample_type = cpu.r#type;
        self.out.period_type = Some(cpu);
        self.out.period = self.nanoseconds(1);
        self.out.time_nanos = signed(self.profile.started_unix_ns);
        self.out.duration_nanos = signed(self.profile.duration_ns);
        for sample in &self.profile.samples {
            let sample = self.sample(sample);
            self.out.sample.push(sample);
        }
        self.comments();
        self.out
    }

    /// What was lost travels with the file: `go tool pprof -comments` prints it.
    fn comments(&mut self) {
        let mut comments = vec![format!(
            "upprof: samples are CPU time at {} Hz on each CPU; 1 sample = {} ns of one core",
            self.profile.frequency_hz,
            self.nanoseconds(1)
        )];
        if let Some(focus) = &self.profile.focus {
            let pattern = escape_up_to(&focus.pattern, MAX_COMMENT);
            comments
                .push(format!("only samples with a frame that matches {pattern}: of {}", focus.of_samples));
        }
        comments.push(self.profile.uncertainty().sentence());
        for counter in &self.profile.counters {
            let meaning = escape_up_to(&counter.meaning, MAX_COMMENT);
            comments.push(format!("{} = {}: {meaning}", escape(&counter.name), counter.count));
        }
        self.out.comment = comments.into_iter().map(|text| self.string(&text)).collect();
    }

    fn sample(&mut self, sample: &Sample) -> proto::Sample {
        let vmstate = self.label("vmstate", &sample.vmstate.to_string());
        let mut label = self.processes.get(sample.process).cloned().unwrap_or_default();
        label.push(vmstate);
        label.extend(self.request_labels(sample));
        // Root first, so that the first mapping is the program: pprof shows its name as the file.
        let mut location_id: Vec<u64> = sample.stack.iter().map(|l| self.location(*l)).collect();
        location_id.reverse();
        proto::Sample {
            location_id,
            value: vec![signed(sample.count), self.nanoseconds(sample.count)],
            label,
        }
    }

    /// String labels: both `go tool pprof -tagfocus` and Pyroscope match them as written, where a
    /// numeric pid would be scaled and shown with a unit.
    fn process_labels(&mut self, index: usize) -> Vec<proto::Label> {
        let mut labels = Vec::new();
        if !self.profile.container.is_empty() {
            labels.push(self.label("container", &escape(&self.profile.container)));
        }
        labels.push(self.label("pid", &self.profile.processes[index].pid.to_string()));
        if let Some(worker) = self.profile.process_label(index) {
            labels.push(self.label("worker", &worker));
        }
        labels
    }

    /// `-tagfocus` and its like take the samples of one route, host or phase.
    fn request_labels(&mut self, sample: &Sample) -> Vec<proto::Label> {
        let mut labels = Vec::new();
        match self.profile.origin(sample) {
            Origin::NotLua | Origin::Unknown => {}
            Origin::Request { method, host, path } => {
                labels.push(self.label("method", method));
                labels.push(self.label("path", &escape_up_to(path, MAX_LABEL)));
                if !host.is_empty() {
                    labels.push(self.label("host", &escape_up_to(host, MAX_LABEL)));
                }
            }
            other => labels.push(self.label("path", other.stand_in().unwrap_or_default())),
        }
        if let Some(phase) = sample.phase {
            labels.push(self.label("phase", &phase.to_string()));
        }
        labels
    }

    fn label(&mut self, key: &str, value: &str) -> proto::Label {
        proto::Label { key: self.string(key), str: self.string(value), ..Default::default() }
    }

    fn location(&mut self, location: Location) -> u64 {
        if let Some(id) = self.locations.get(&location) {
            return *id;
        }
        let frame = self.profile.frame(location.frame);
        let mapping_id = self.mapping(frame);
        let function_id = self.function(location.frame, frame);
        let id = self.out.location.len() as u64 + 1;
        self.out.location.push(proto::Location {
            id,
            mapping_id,
            address: location.address,
            line: vec![proto::Line { function_id, line: location.line.into() }],
            is_folded: false,
        });
        self.locations.insert(location, id);
        id
    }

    /// Only the module's name: addresses differ from worker to worker, so a range would be wrong
    /// for all but one. `has_functions` keeps pprof from symbolising again.
    fn mapping(&mut self, frame: &Frame) -> u64 {
        let module = match (frame.kind, &frame.file) {
            (FrameKind::Native, Some(file)) => escape(file),
            (FrameKind::Kernel, _) => "[kernel]".to_owned(),
            _ => return 0,
        };
        if let Some(id) = self.mappings.get(&module) {
            return *id;
        }
        let id = self.out.mapping.len() as u64 + 1;
        let filename = self.string(&module);
        self.out.mapping.push(proto::Mapping { id, filename, has_functions: true, ..Default::default() });
        self.mappings.insert(module, id);
        id
    }

    fn function(&mut self, frame_id: FrameId, frame: &Frame) -> u64 {
        if let Some(id) = self.functions.get(&frame_id) {
            return *id;
        }
        let id = self.out.function.len() as u64 + 1;
        let name = self.string(&frame_text(frame));
        let system_name = self.string(&frame.name);
        let filename = self.string(&escape(frame.file.as_deref().unwrap_or_default()));
        let start_line = frame.line.into();
        self.out.function.push(proto::Function { id, name, system_name, filename, start_line });
        self.functions.insert(frame_id, id);
        id
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> proto::ValueType {
        proto::ValueType { r#type: self.string(kind), unit: self.string(unit) }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = signed(self.out.string_table.len() as u64);
        self.out.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }

    /// CPU time that this many samples stand for; 0 when the frequency is unknown.
    fn nanoseconds(&self, samples: u64) -> i64 {
        let ns = (u128::from(samples) * 1_000_000_000).checked_div(self.profile.frequency_hz.into());
        i64::try_from(ns.unwrap_or(0)).unwrap_or(i64::MAX)
    }
}

/// The format's integers are signed; what does not fit is shown as the largest.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
