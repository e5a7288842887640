//! Who used the CPU: one row a process.

use std::io::Write;

use crate::export::csv::{Cell, row};
use crate::export::{ExportError, Exporter};
use crate::model::Profile;
use crate::number::{percent, seconds};

/// `cpu/by-worker.csv`: shows an uneven spread of load, and which process has no Lua stacks and why.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByWorker;

const HEADER: &str =
    "pid,ns_pid,role,samples,share_percent,cpu_seconds_sampled,cpu_seconds_proc,lua_percent,lua_unavailable";

impl Exporter for ByWorker {
    fn path(&self) -> &'static str {
        "cpu/by-worker.csv"
    }

    fn what(&self) -> &'static str {
        "CPU by process: samples, CPU seconds by sampling and by /proc, share with Lua on the stack"
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        writeln!(out, "{HEADER}")?;
        let total = profile.total();
        for (index, samples) in profile.samples_by_process().into_iter().enumerate() {
            let process = &profile.processes[index];
            let lua = profile.samples_with_lua(Some(index));
            row(
                out,
                &[
                    Cell::Count(process.pid.into()),
                    process.ns_pid.map_or(Cell::Empty, |pid| Cell::Count(pid.into())),
                    Cell::text(process.role.to_string()),
                    Cell::Count(samples),
                    Cell::Number(percent(samples, total), 2),
                    Cell::Number(profile.sampled_seconds(samples), 2),
                    process.cpu_ns.map_or(Cell::Empty, |ns| Cell::Number(seconds(ns), 2)),
                    if samples == 0 { Cell::Empty } else { Cell::Number(percent(lua, samples), 2) },
                    process.lua_unavailable.as_deref().map_or(Cell::Empty, Cell::text),
                ],
            )?;
        }
        Ok(())
    }
}
