//! speedscope: the JSON that <https://www.speedscope.app> reads, by its published schema
//! (`file-format-schema.json`).

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use serde::Serialize;

use crate::export::ascii_json::write_json;
use crate::export::stacks::Texts;
use crate::export::text::escape;
use crate::export::{ExportError, Exporter, Style};
use crate::model::{Location, Profile, Sample};
use crate::number::percent;

/// `*.speedscope.json`: all processes together first, then each one that has samples.
#[derive(Debug, Clone, Copy, Default)]
pub struct Speedscope(pub Style);

impl Exporter for Speedscope {
    fn path(&self) -> &'static str {
        "cpu/profile.speedscope.json"
    }

    fn what(&self) -> &'static str {
        "The profile for speedscope: all processes, then each one"
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        // The viewer has an order of its own for callers and callees.
        let style = Style { inverted: false, ..self.0 };
        let texts = Texts::new(profile, style);
        let mut builder = Builder { profile, texts: &texts, frames: Vec::new(), index: HashMap::new() };
        let mut profiles = vec![builder.stacks(None)];
        let samples = profile.samples_by_process();
        let sampled: Vec<usize> = (0..samples.len()).filter(|i| samples[*i] > 0).collect();
        if sampled.len() > 1 {
            profiles.extend(sampled.into_iter().map(|i| builder.stacks(Some(i))));
        }
        let file = File {
            schema: "https://www.speedscope.app/file-format-schema.json",
            exporter: concat!("upprof ", env!("CARGO_PKG_VERSION")),
            name: format!("CPU time of {}", escape(&profile.target())),
            active_profile_index: 0,
            shared: Shared { frames: builder.frames },
            profiles,
        };
        Ok(write_json(out, &file)?)
    }
}

/// The names are the format's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'t> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: &'static str,
    name: String,
    active_profile_index: usize,
    shared: Shared<'t>,
    profiles: Vec<Stacks>,
}

#[derive(Serialize)]
struct Shared<'t> {
    frames: Vec<Frame<'t>>,
}

#[derive(Serialize)]
struct Frame<'t> {
    name: &'t str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

/// The format's sampled profile. Its x axis is a sum of CPU time, not a clock.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stacks {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

struct Builder<'t> {
    profile: &'t Profile,
    texts: &'t Texts<'t>,
    frames: Vec<Frame<'t>>,
    index: HashMap<&'t str, usize>,
}

impl<'t> Builder<'t> {
    /// Of one process, or of all.
    fn stacks(&mut self, process: Option<usize>) -> Stacks {
        let profile = self.profile;
        // Merged and in the order of names, as a flame graph: the order in time is not known.
        let mut merged: BTreeMap<Vec<&'t str>, (Vec<usize>, u64)> = BTreeMap::new();
        for sample in profile.samples.iter().filter(|s| process.is_none_or(|p| p == s.process)) {
            let stack = self.stack(sample);
            let names = stack.iter().map(|i| self.frames[*i].name).collect();
            merged.entry(names).or_insert((stack, 0)).1 += sample.count;
        }
        let (samples, counts): (Vec<_>, Vec<u64>) = merged.into_values().unzip();
        let (unit, weights) = self.weights(&counts);
        Stacks {
            r#type: "sampled",
            name: self.name(process, counts.iter().sum()),
            unit,
            start_value: 0,
            end_value: weights.iter().fold(0, |sum, weight| sum.saturating_add(*weight)),
            samples,
            weights,
        }
    }

    fn name(&self, process: Option<usize>, samples: u64) -> String {
        let share = percent(samples, self.profile.total());
        match process {
            None => "all processes".to_owned(),
            Some(index) => {
                let label = self.profile.process_label(index).unwrap_or_default();
                format!("{label}, pid {} ({share:.1} %)", self.profile.processes[index].pid)
            }
        }
    }

    /// CPU time; or counts, when the frequency is not known.
    fn weights(&self, counts: &[u64]) -> (&'static str, Vec<u64>) {
        match self.profile.sample_ns() {
            Some(ns) => ("nanoseconds", counts.iter().map(|count| count.saturating_mul(ns)).collect()),
            None => ("none", counts.to_vec()),
        }
    }

    fn stack(&mut self, sample: &Sample) -> Vec<usize> {
        let texts = self.texts;
        let role = texts.role(sample.process).map(|text| (text, None));
        let frames = sample.stack.iter().map(|l| (texts.frame(l), Some(*l)));
        let mut stack: Vec<usize> =
            role.into_iter().chain(frames).map(|(text, l)| self.frame(text, l)).collect();
        if stack.is_empty() {
            stack.push(self.frame(Texts::NO_STACK, None));
        }
        stack
    }

    fn frame(&mut self, text: &'t str, location: Option<Location>) -> usize {
        if let Some(index) = self.index.get(text) {
            return *index;
        }
        let known = location.map(|l| (self.profile.frame(l.frame), l.line));
        self.frames.push(Frame {
            name: text,
            file: known.and_then(|(f, _)| f.file.as_deref()).map(escape),
            line: known.map(|(f, at)| if self.texts.style.lines { at } else { f.line }).filter(|l| *l > 0),
        });
        self.index.insert(text, self.frames.len() - 1);
        self.frames.len() - 1
    }
}
