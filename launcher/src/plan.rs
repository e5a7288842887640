//! A validated request. Pure: nothing is opened, asked or changed here.

use crate::ui::Voice;
use regex_lite::Regex;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use upprof_profile::export::{Exporter, FlameGraph, FlameView, Folded, Json, Pprof, Speedscope, Style};
use upprof_target::{ContainerName, shown_path};

/// What shall be done: one variant a command.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Capture(Capture),
    Record(Record),
    Report(Report),
    Stack(Stack),
    Inspect(crate::inspect::Plan),
}

/// Who shall be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Container(ContainerName),
    Pids(Vec<u32>),
}

/// A live target, and where to look for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetPlan {
    pub(crate) who: Who,
    /// Where the host's root is seen from here.
    pub(crate) host_root: PathBuf,
}

/// One window of samples.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: TargetPlan,
    /// `None`: until stopped.
    pub(crate) duration: Option<Duration>,
    /// Samples a second on each CPU.
    pub(crate) frequency_hz: u32,
    pub(crate) voice: Voice,
}

/// `upprof [capture]`: a window that becomes a bundle.
#[derive(Debug, Clone)]
pub(crate) struct Capture {
    pub(crate) plan: Plan,
    /// Folder that the bundle is made in.
    pub(crate) out: PathBuf,
    pub(crate) keep_binaries: bool,
}

/// `upprof record`: a window that becomes files.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) plan: Plan,
    pub(crate) outputs: Outputs,
}

/// `upprof report`: a recording that becomes files, a bundle, or both.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// A recording, or a bundle's folder.
    pub(crate) from: PathBuf,
    pub(crate) outputs: Outputs,
    /// Folder that a bundle is made in, if one is wanted.
    pub(crate) out: Option<PathBuf>,
    pub(crate) voice: Voice,
}

/// `upprof stack`: what each process is doing now.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) target: TargetPlan,
    pub(crate) voice: Voice,
    pub(crate) json: bool,
}

/// Files to write of one profile.
#[derive(Debug, Clone)]
pub(crate) struct Outputs {
    pub(crate) files: Vec<Output>,
    /// Where the recording goes, which is always whole: `view` does not change it.
    pub(crate) raw: Option<Place>,
    pub(crate) view: View,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) place: Place,
    pub(crate) format: Format,
}

/// Where data goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    File(PathBuf),
    Stdout,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&shown_path(path)),
            Self::Stdout => f.write_str("stdout"),
        }
    }
}

/// Which part of a profile is shown, and how.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Only samples with a frame whose text matches.
    pub(crate) focus: Option<Regex>,
    pub(crate) style: Style,
}

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Svg,
    Folded,
    Pprof,
    Speedscope,
    /// upprof's own.
    Json,
}

impl Format {
    /// As arguments name them.
    pub(crate) const NAMES: [(&str, Self); 5] = [
        ("svg", Self::Svg),
        ("folded", Self::Folded),
        ("pprof", Self::Pprof),
        ("speedscope", Self::Speedscope),
        ("json", Self::Json),
    ];

    /// What the end of a file's name says. Longer ends first: `.speedscope.json` is no `.json`.
    const BY_NAME: [(&str, Self); 5] = [
        (".svg", Self::Svg),
        (".folded", Self::Folded),
        (".pb.gz", Self::Pprof),
        (".speedscope.json", Self::Speedscope),
        (".json", Self::Json),
    ];

    /// The format that a file's name tells.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        Self::BY_NAME.iter().find(|(end, _)| name.ends_with(end)).map(|(_, format)| *format)
    }

    /// Whether the order of frames is the format's to choose.
    pub(crate) const fn has_order(self) -> bool {
        matches!(self, Self::Svg | Self::Folded)
    }

    pub(crate) fn exporter(self, style: Style) -> Box<dyn Exporter> {
        match self {
            Self::Svg => Box::new(FlameGraph::styled(FlameView::All, style)),
            Self::Folded => Box::new(Folded(style)),
            Self::Pprof => Box::new(Pprof),
            Self::Speedscope => Box::new(Speedscope(style)),
            Self::Json => Box::new(Json),
        }
    }
}

/// `90s`, `5m`, `1h`, `500ms`, or plain seconds. 0 is no duration at all: until stopped.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn parse_duration(text: &str) -> Result<Option<Duration>, String> {
    const MAX: Duration = Duration::from_secs(24 * 3600);
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("'{}' is no unit of time (ms, s, m, h)", unit.escape_debug())),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number such as 30s, 5m or 0".to_owned())?;
    let duration = Duration::try_from_secs_f64(number * scale).map_err(|e| e.to_string())?;
    if duration > MAX {
        return Err("longer than 24h; 0 captures until stopped".into());
    }
    Ok((!duration.is_zero()).then_some(duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_format() {
        for (name, format) in [
            ("a.svg", Some(Format::Svg)),
            ("/x/a.b.folded", Some(Format::Folded)),
            ("a.pb.gz", Some(Format::Pprof)),
            ("a.speedscope.json", Some(Format::Speedscope)),
            ("a.json", Some(Format::Json)),
            ("speedscope.json", Some(Format::Json)),
            ("a.gz", None),
            ("svg", None),
            ("a.svg/", Some(Format::Svg)),
            ("/", None),
        ] {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn durations_with_units() {
        for (text, ms) in [
            ("30s", 30_000),
            ("30", 30_000),
            ("5m", 300_000),
            ("1.5s", 1_500),
            ("250ms", 250),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Some(Duration::from_millis(ms))), "{text}");
        }
        assert_eq!(parse_duration("0"), Ok(None));
        for bad in ["", "s", "-1s", "5x", "1e9h", "25h", "5 m"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
