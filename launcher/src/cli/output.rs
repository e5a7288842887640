//! What is written, where, in which format, and which part of it: the arguments of `record` and `report`.

use crate::failure::{Exit, Failure};
use crate::plan::{Format, Output, Outputs, Place, View};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use regex_lite::Regex;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use upprof_profile::export::Style;
use upprof_target::shown_path;

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// File to write; its name decides the format: .svg, .folded, .pb.gz, .speedscope.json or .json.
    /// "-" is stdout, as folded stacks unless --format says otherwise. Repeatable
    #[arg(short, long, value_name = "FILE", env = "UPPROF_OUTPUT")]
    output: Vec<PathBuf>,
    /// Format of every output, whatever its name
    #[arg(short, long, value_name = "FORMAT", env = "UPPROF_FORMAT", requires = "output", value_parser = format())]
    format: Option<Format>,
    /// Only samples with a frame whose text matches this regular expression; their stacks stay whole
    #[arg(long, value_name = "REGEX", env = "UPPROF_FOCUS", requires = "output")]
    focus: Option<Regex>,
    /// Stacks from the leaf down to the root: who calls what burns the CPU (.svg and .folded)
    #[arg(long, env = "UPPROF_INVERT", requires = "output")]
    invert: bool,
    /// The line being executed behind each Lua frame, so that lines are told apart
    #[arg(long, env = "UPPROF_LINES", requires = "output")]
    lines: bool,
}

impl Arguments {
    /// The outputs, and a recording beside them if `raw` names one.
    pub(super) fn plan(self, raw: Option<PathBuf>) -> Result<Outputs, Failure> {
        let format = self.format;
        let files: Result<Vec<Output>, Failure> =
            self.output.iter().map(|path| output(path, format)).collect();
        let files = files?;
        let raw = raw.map(place).transpose()?;
        let places: Vec<&Place> = files.iter().map(|f| &f.place).chain(&raw).collect();
        if let Some(twice) = (1..places.len()).find(|i| places[..*i].contains(&places[*i])) {
            return Err(usage(
                format!("{} is written twice", places[twice]),
                "two outputs have the same name",
                "give each output a name of its own",
            ));
        }
        if self.invert && !files.iter().any(|f| f.format.has_order()) {
            return Err(usage(
                "no output can be inverted",
                "--invert turns flame graphs and folded stacks around; in the other formats the viewer does",
                "-o FILE.svg or -o FILE.folded",
            ));
        }
        let style = Style { lines: self.lines, inverted: self.invert };
        Ok(Outputs { files, raw, view: View { focus: self.focus, style } })
    }
}

fn usage(what: impl Into<String>, likely: &str, attempt: &str) -> Failure {
    Failure::new(Exit::Usage, what, likely, attempt)
}

fn output(path: &Path, format: Option<Format>) -> Result<Output, Failure> {
    let place = place(path.to_owned())?;
    let by_name = || match &place {
        Place::Stdout => Ok(Format::Folded),
        Place::File(path) => Format::of(path).ok_or_else(|| {
            usage(
                format!("{} names no format", shown_path(path)),
                "the format is told by the end of the name",
                ".svg, .folded, .pb.gz, .speedscope.json or .json; or say it with --format",
            )
        }),
    };
    let format = format.map_or_else(by_name, Ok)?;
    Ok(Output { place, format })
}

/// The names of formats, and what they stand for.
fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::NAMES.map(|(name, _)| name)).map(|name| {
        let named = Format::NAMES.into_iter().find(|(n, _)| *n == name);
        named.map_or(Format::Folded, |(_, format)| format)
    })
}

/// A place that can be written to: a terminal is none for data.
fn place(path: PathBuf) -> Result<Place, Failure> {
    if path != Path::new("-") {
        return Ok(Place::File(path));
    }
    if std::io::stdout().is_terminal() {
        return Err(usage(
            "stdout is a terminal",
            "profiles are data for files and other programs",
            "give a file's name, or pass it on: upprof record … -o - | less",
        ));
    }
    Ok(Place::Stdout)
}
