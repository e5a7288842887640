//! `upprof report`.

use super::{output, target};
use crate::failure::{Exit, Failure};
use crate::plan::Report;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  upprof report a.upprof -o a.svg                       a recording (upprof record --raw) as a flame graph
  upprof report out/apisix-20261122T002927Z -o a.json   of a bundle, by its folder
  upprof report a.upprof -o - --focus 'cfunc:ngx\\.re'   folded stacks with ngx.re.* in them
  upprof report a.upprof --out .                        the whole bundle again, page and archive

Needs no privileges, no target and no network. Formats by file name are those of upprof record.";

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// A recording, or the folder of a bundle
    #[arg(value_name = "RECORDING|BUNDLE")]
    from: PathBuf,
    #[command(flatten)]
    output: output::Arguments,
    /// Folder to make a bundle in, as capture does
    #[arg(long, value_name = "DIR", env = "UPPROF_OUT")]
    out: Option<PathBuf>,
    #[command(flatten)]
    voice: target::VoiceArguments,
}

impl Arguments {
    pub(super) fn plan(self) -> Result<Report, Failure> {
        let outputs = self.output.plan(None)?;
        if outputs.files.is_empty() && self.out.is_none() {
            return Err(Failure::new(
                Exit::Usage,
                "no output was given",
                "report writes the files that are named, or a bundle",
                "-o flame.svg, or --out DIR for a bundle; upprof report --help shows the formats",
            ));
        }
        Ok(Report { from: self.from, outputs, out: self.out, voice: self.voice.voice() })
    }
}
