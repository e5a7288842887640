//! Whose processes: the arguments that every command with a live target takes.

use crate::failure::{Exit, Failure};
use crate::plan::{TargetPlan, Who};
use crate::ui::Voice;
use std::path::PathBuf;
use upprof_target::ContainerName;

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// Container to look at: its name, its compose service, an unambiguous ID prefix, or docker://NAME
    #[arg(short, long, value_name = "NAME", env = "UPPROF_CONTAINER", conflicts_with = "pid")]
    container: Option<String>,
    /// Process to look at, by its pid on the host; an nginx master brings its workers. Repeatable
    #[arg(short, long, value_name = "PID", env = "UPPROF_PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// Where the host's root file system is seen: used to find the engine without its socket mounted
    #[arg(long, value_name = "DIR", env = "UPPROF_HOST_ROOT", default_value = "/proc/1/root")]
    host_root: PathBuf,
}

impl Arguments {
    pub(super) fn plan(self) -> Result<TargetPlan, Failure> {
        let who = match (self.container, self.pid) {
            (Some(name), _) => Who::Container(ContainerName::parse(&name)?),
            (None, pids) if !pids.is_empty() => Who::Pids(pids),
            (None, _) => {
                return Err(Failure::new(
                    Exit::Usage,
                    "no target was given",
                    "upprof looks at one container or some processes",
                    "--container NAME or --pid PID; upprof --help shows examples",
                ));
            }
        };
        Ok(TargetPlan { who, host_root: self.host_root })
    }
}

/// How much to say.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(skip)]
pub(super) struct VoiceArguments {
    /// No progress and no notes: only warnings, errors and the result
    #[arg(short, long, env = "UPPROF_QUIET", conflicts_with = "verbose")]
    quiet: bool,
    /// Say what is found while setting up
    #[arg(short, long, env = "UPPROF_VERBOSE")]
    verbose: bool,
}

impl VoiceArguments {
    pub(super) const fn voice(self) -> Voice {
        Voice { quiet: self.quiet, verbose: self.verbose }
    }
}
