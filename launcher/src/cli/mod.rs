//! Arguments to a plan. clap's types stay in here.

mod capture;

use crate::failure::Failure;
use crate::plan::Plan;
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  upprof --container apisix                 30 s at 99 Hz, bundle into /out or the current folder
  upprof -c apisix -d 60s -F 199            longer, finer
  upprof -c docker://gw-1 --out /tmp        an explicit engine, another folder
  upprof --pid 4711                         a master and its workers, no engine needed

In a container:
  docker run --rm --privileged --pid=host \\
    -v /var/run/docker.sock:/var/run/docker.sock -v \"$PWD/out:/out\" upprof --container apisix

Exit codes: 0 done, 1 internal, 2 usage, 3 target missing, stopped or ambiguous,
4 kernel or privilege missing, 5 no usable sample, 6 output cannot be written,
130 second interrupt. The first Ctrl-C or SIGTERM ends the window and still writes everything.";

/// Profiles nginx + LuaJIT gateways (OpenResty, Apache APISIX, Kong): one command, one container
/// name, one bundle with a flame graph of C, Lua and kernel code.
#[derive(Debug, Parser)]
#[command(name = "upprof", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    capture: capture::Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sample a container's processes and write a bundle (the default command).
    #[command(after_help = EXAMPLES)]
    Capture(capture::Arguments),
}

/// The command line as a plan. Usage errors, `--help` and `--version` end the process here.
///
/// # Errors
/// A name or combination that clap cannot judge.
pub(crate) fn parse() -> Result<Plan, Failure> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Capture(capture)) => capture.plan(),
        None => arguments.capture.plan(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
