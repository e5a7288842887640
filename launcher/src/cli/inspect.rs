//! `upprof inspect`.

use super::target;
use crate::failure::{Exit, Failure};
use crate::inspect::{Ask, Plan, all};
use crate::plan::parse_duration;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use std::ffi::OsStr;
use std::time::Duration;

pub(super) const EXAMPLES: &str = "\
Examples:
  upprof inspect -c apisix                    everything that needs no question of its own
  upprof inspect -c apisix gc jit             two of them
  upprof inspect -c apisix shdict limits --key 10.0.0.1    one entry of a shared dictionary
  upprof inspect -c apisix gc --watch 1s      again and again, with rates
  upprof inspect -p 4711 jit --json           for programs (docs/inspect.md)

Nothing of it needs BPF: memory is read, and the target is not stopped, signalled or written to.";

fn every(text: &str) -> Result<Duration, String> {
    parse_duration(text)?.ok_or_else(|| "0 is no interval".into())
}

/// Names of inspectors, told in the help text with what they show. Any word passes: the one behind
/// `shdict` is a dictionary's name.
#[derive(Clone)]
struct What;

impl TypedValueParser for What {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(all().into_iter().map(|i| PossibleValue::new(i.name()).help(i.about()))))
    }
}

/// Takes the dictionary's name from among the names of inspectors.
fn split(words: Vec<String>) -> Result<(Vec<String>, Option<String>), Failure> {
    let known: Vec<&str> = all().iter().map(|i| i.name()).collect();
    let mut what: Vec<String> = Vec::new();
    let mut dict = None;
    for word in words {
        if known.contains(&word.as_str()) {
            what.push(word);
        } else if dict.is_none() && what.last().is_some_and(|w| w == "shdict") {
            dict = Some(word);
        } else {
            return Err(Failure::new(
                Exit::Usage,
                format!("there is no inspector {:?}", upprof_target::shown(&word, 64)),
                "a word that is none of the names, or a dictionary's name that does not follow shdict",
                format!("one or more of: {}", known.join(", ")),
            ));
        }
    }
    Ok((what, dict))
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// What to look at [default: all but the costly ones]; after shdict, the name of a dictionary
    #[arg(value_name = "WHAT", value_parser = What)]
    what: Vec<String>,
    #[command(flatten)]
    target: target::Arguments,
    /// One entry of a dictionary, with shdict
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Show what is stored too, not only how much of it
    #[arg(long, env = "UPPROF_SHOW_VALUES")]
    show_values: bool,
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
        let (what, dict) = split(self.what)?;
        Ok(Plan {
            target: self.target.plan()?,
            what,
            ask: Ask { max_objects: self.max_objects, dict, key: self.key, show_values: self.show_values },
            json: self.json,
            watch: self.watch,
            voice: self.voice.voice(),
        })
    }
}
