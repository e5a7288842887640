//! `upprof inspect`.

use super::target;
use crate::failure::Failure;
use crate::inspect::{Ask, Plan, all};
use crate::plan::parse_duration;
use clap::builder::PossibleValuesParser;
use std::time::Duration;

pub(super) const EXAMPLES: &str = "\
Examples:
  upprof inspect -c apisix                    everything that needs no question of its own
  upprof inspect -c apisix gc jit             two of them
  upprof inspect -c apisix gc --watch 1s      again and again, with rates
  upprof inspect -p 4711 jit --json           for programs (docs/inspect.md)

Nothing of it needs BPF: memory is read, and the target is not stopped, signalled or written to.";

fn every(text: &str) -> Result<Duration, String> {
    parse_duration(text)?.ok_or_else(|| "0 is no interval".into())
}

/// The names that can be asked for, with what they show.
fn names() -> PossibleValuesParser {
    let values = all().into_iter().map(|i| clap::builder::PossibleValue::new(i.name()).help(i.about()));
    PossibleValuesParser::new(values.collect::<Vec<_>>())
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// What to look at [default: all but the costly ones]
    #[arg(value_name = "WHAT", value_parser = names())]
    what: Vec<String>,
    #[command(flatten)]
    target: target::Arguments,
    /// One line of JSON a look instead of tables
    #[arg(long, env = "UPPROF_JSON")]
    json: bool,
    /// Look again after this time, until stopped (ms, s, m)
    #[arg(long, value_name = "TIME", env = "UPPROF_WATCH", value_parser = every)]
    watch: Option<Duration>,
    /// Most objects of a Lua heap that are looked at
    #[arg(long, value_name = "N", env = "UPPROF_MAX_OBJECTS", default_value_t = 5_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_objects: u32,
    #[command(flatten)]
    voice: target::VoiceArguments,
}

impl Arguments {
    pub(super) fn plan(self) -> Result<Plan, Failure> {
        Ok(Plan {
            target: self.target.plan()?,
            what: self.what,
            ask: Ask { max_objects: self.max_objects },
            json: self.json,
            watch: self.watch,
            voice: self.voice.voice(),
        })
    }
}
