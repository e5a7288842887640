//! `upprof stack`.

use super::target;
use crate::failure::Failure;
use crate::plan::Stack;

pub(super) const EXAMPLES: &str = "\
Examples:
  upprof stack -c apisix            what every worker is doing, now
  upprof stack -p 4711 --json       one worker (or a master's), for programs

A worker on a CPU is caught by the next tick of a timer; for one that sleeps the kernel tells where, and
its stack is read while it does. Nothing is stopped. Frames go from the leaf, on top, down to the root;
with --json from root to leaf, as in all formats.";

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: target::Arguments,
    /// JSON instead of text (docs/formats.md)
    #[arg(long, env = "UPPROF_JSON")]
    json: bool,
    #[command(flatten)]
    voice: target::VoiceArguments,
}

impl Arguments {
    pub(super) fn plan(self) -> Result<Stack, Failure> {
        Ok(Stack { target: self.target.plan()?, voice: self.voice.voice(), json: self.json })
    }
}
