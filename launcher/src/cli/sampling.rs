//! How long and how often: the arguments of commands that sample.

use super::target;
use crate::failure::Failure;
use crate::plan::{Plan, parse_duration};
use std::time::Duration;

/// What clap parses a duration into: its own type, so that clap does not see an `Option`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window(Option<Duration>);

fn window(text: &str) -> Result<Window, String> {
    parse_duration(text).map(Window)
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: target::Arguments,
    /// How long to sample (ms, s, m, h); 0 until stopped
    #[arg(short, long, value_name = "TIME", env = "UPPROF_DURATION", default_value = "30s", value_parser = window)]
    duration: Window,
    /// Samples a second on each CPU
    #[arg(short = 'F', long, value_name = "HZ", env = "UPPROF_FREQUENCY", default_value_t = 99, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    frequency: u32,
    #[command(flatten)]
    voice: target::VoiceArguments,
}

impl Arguments {
    pub(super) fn plan(self) -> Result<Plan, Failure> {
        Ok(Plan {
            target: self.target.plan()?,
            duration: self.duration.0,
            frequency_hz: self.frequency,
            voice: self.voice.voice(),
        })
    }
}
