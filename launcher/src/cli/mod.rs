//! Arguments to a request. clap's types stay in here: one file a command, and what commands share in
//! `target`, `sampling` and `output`.

mod capture;
mod inspect;
mod output;
mod record;
mod report;
mod sampling;
mod stack;
mod target;

use crate::failure::Failure;
use crate::plan::Request;
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  upprof --container apisix                 30 s at 99 Hz, bundle into /out or the current folder
  upprof -c apisix -d 60s -F 199            longer, finer
  upprof -c docker://gw-1 --out /tmp        an explicit engine, another folder
  upprof --pid 4711                         a master and its workers, no engine needed
  upprof record -c apisix -o flame.svg      one file instead of a bundle
  upprof stack -c apisix                    what every worker is doing, now
  upprof inspect -c apisix                  what is in its memory: collector, JIT compiler, and more

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
    /// Sample a container's processes and write a bundle (the default command)
    #[command(after_help = EXAMPLES)]
    Capture(capture::Arguments),
    /// Sample and write just the files that are named, each in the format of its name
    #[command(after_help = record::EXAMPLES)]
    Record(record::Arguments),
    /// Render a recording or a bundle again, offline
    #[command(after_help = report::EXAMPLES)]
    Report(report::Arguments),
    /// Print one stack of C, Lua and kernel code for each worker, as it is now
    #[command(after_help = stack::EXAMPLES)]
    Stack(stack::Arguments),
    /// Show what is in the target's memory: collector, JIT compiler, and more; needs no BPF
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::Arguments),
}

/// The command line as a request. Usage errors, `--help` and `--version` end the process here.
///
/// # Errors
/// A name or combination that clap cannot judge.
pub(crate) fn parse() -> Result<Request, Failure> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Capture(capture)) => capture.plan().map(Request::Capture),
        Some(Command::Record(record)) => record.plan().map(Request::Record),
        Some(Command::Report(report)) => report.plan().map(Request::Report),
        Some(Command::Stack(stack)) => stack.plan().map(Request::Stack),
        Some(Command::Inspect(inspect)) => inspect.plan().map(Request::Inspect),
        None => arguments.capture.plan().map(Request::Capture),
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
