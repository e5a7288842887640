//! `upprof [capture]`.

use super::sampling;
use crate::failure::{Exit, Failure};
use crate::plan::Capture;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    #[command(flatten)]
    sampling: sampling::Arguments,
    /// Folder to make the bundle in [default: /out when it exists, else the current folder]
    #[arg(long, value_name = "DIR", env = "UPPROF_OUT")]
    out: Option<PathBuf>,
    /// Copy the nginx and LuaJIT binaries into the bundle
    #[arg(long, env = "UPPROF_KEEP_BINARIES")]
    keep_binaries: bool,
}

impl Arguments {
    pub(super) fn plan(self) -> Result<Capture, Failure> {
        Ok(Capture {
            plan: self.sampling.plan()?,
            out: match self.out {
                Some(out) => out,
                None => default_out()?,
            },
            keep_binaries: self.keep_binaries,
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
