//! `upprof record`.

use super::{output, sampling};
use crate::failure::{Exit, Failure};
use crate::plan::Record;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  upprof record -c apisix -o flame.svg                   a flame graph of 30 s
  upprof record -c apisix -d 10s -o a.svg -o a.pb.gz     two formats of one window
  upprof record -c apisix --raw a.upprof                 keep it; upprof report renders it later
  upprof record -c apisix -o - | grep ngx_ssl            folded stacks for other programs
  upprof record -p 4711 -o waf.svg --focus 'waf\\.lua'    only samples with that file on the stack
  upprof record -c apisix -o who.svg --invert            leaf functions at the root

Formats by file name:
  .svg               flame graph for any browser
  .folded            one line a stack: grep, diff, flamegraph.pl, inferno
  .pb.gz             pprof: go tool pprof, Pyroscope, Parca
  .speedscope.json   https://www.speedscope.app, and its file works offline
  .json              everything, with a documented schema (docs/formats.md)

Exit codes: as upprof --help has them; 5 means that no sample was taken, and the files say so.";

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    #[command(flatten)]
    sampling: sampling::Arguments,
    #[command(flatten)]
    output: output::Arguments,
    /// Keep the recording: names, stacks, counts and how it was measured, for upprof report
    #[arg(long, value_name = "FILE", env = "UPPROF_RAW")]
    raw: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn plan(self) -> Result<Record, Failure> {
        let outputs = self.output.plan(self.raw)?;
        if outputs.files.is_empty() && outputs.raw.is_none() {
            return Err(Failure::new(
                Exit::Usage,
                "no output was given",
                "record writes the files that are named, and none by itself",
                "-o flame.svg, or --raw FILE; upprof record --help shows the formats",
            ));
        }
        Ok(Record { outputs, plan: self.sampling.plan()? })
    }
}
