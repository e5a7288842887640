//! `upprof [capture]`.

use crate::failure::{Exit, Failure};
use crate::plan::{Plan, Who, parse_duration};
use std::path::{Path, PathBuf};
use std::time::Duration;
use upprof_target::ContainerName;

/// What clap parses a duration into: its own type, so that clap does not see an `Option`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window(Option<Duration>);

fn window(text: &str) -> Result<Window, String> {
    parse_duration(text).map(Window)
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// Container to profile: its name, its compose service, an unambiguous ID prefix, or docker://NAME
    #[arg(short, long, value_name = "NAME", env = "UPPROF_CONTAINER", conflicts_with = "pid")]
    container: Option<String>,
    /// Process to profile, by its pid on the host; an nginx master brings its workers. Repeatable
    #[arg(short, long, value_name = "PID", env = "UPPROF_PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// How long to sample (ms, s, m, h); 0 until stopped
    #[arg(short, long, value_name = "TIME", env = "UPPROF_DURATION", default_value = "30s", value_parser = window)]
    duration: Window,
    /// Samples a second on each CPU
    #[arg(short = 'F', long, value_name = "HZ", env = "UPPROF_FREQUENCY", default_value_t = 99, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    frequency: u32,
    /// Folder to make the bundle in [default: /out when it exists, else the current folder]
    #[arg(long, value_name = "DIR", env = "UPPROF_OUT")]
    out: Option<PathBuf>,
    /// Copy the nginx and LuaJIT binaries into the bundle
    #[arg(long, env = "UPPROF_KEEP_BINARIES")]
    keep_binaries: bool,
    /// No progress and no notes: only warnings, errors and the file to open
    #[arg(short, long, env = "UPPROF_QUIET", conflicts_with = "verbose")]
    quiet: bool,
    /// Say what is found while setting up
    #[arg(short, long, env = "UPPROF_VERBOSE")]
    verbose: bool,
    /// Where the host's root file system is seen: used to find the engine without its socket mounted
    #[arg(long, value_name = "DIR", env = "UPPROF_HOST_ROOT", default_value = "/proc/1/root")]
    host_root: PathBuf,
}

impl Arguments {
    pub(super) fn plan(self) -> Result<Plan, Failure> {
        let who = match (self.container, self.pid) {
            (Some(name), _) => Who::Container(ContainerName::parse(&name)?),
            (None, pids) if !pids.is_empty() => Who::Pids(pids),
            (None, _) => {
                return Err(Failure::new(
                    Exit::Usage,
                    "no target was given",
                    "upprof profiles one container or some processes",
                    "--container NAME or --pid PID; upprof --help shows examples",
                ));
            }
        };
        Ok(Plan {
            who,
            duration: self.duration.0,
            frequency_hz: self.frequency,
            out: match self.out {
                Some(out) => out,
                None => default_out()?,
            },
            keep_binaries: self.keep_binaries,
            quiet: self.quiet,
            verbose: self.verbose,
            host_root: self.host_root,
        })
    }
}

/// `/out` when something is there, else the current folder; unless that is the root of a container's
/// own file system, where the bundle would vanish with the container.
fn default_out() -> Result<PathBuf, Failure> {
    let mounted = Path::new("/out");
    if mounted.is_dir() {
        return Ok(mounted.into());
    }
    match std::env::current_dir() {
        Ok(here) if here != Path::new("/") => Ok(".".into()),
        _ => Err(Failure::new(
            Exit::Output,
            "there is no folder to write the bundle into",
            "nothing is mounted at /out, and what is written into a container's own root goes with it",
            "add -v \"$PWD/out:/out\" to docker run, or give a folder with --out",
        )),
    }
}
