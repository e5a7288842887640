//! What LuaJIT was doing: interpreting, running compiled code, collecting garbage, nothing.

use std::io::{self, Write};

use crate::export::csv::{Cell, row};
use crate::export::{ExportError, Exporter};
use crate::model::{Profile, VmState};
use crate::number::percent;

/// `cpu/by-vmstate.csv`: all processes together, then each one.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByVmState;

const HEADER: &str = "scope,pid,role,state,samples,share_percent_of_all,share_percent_of_lua";

impl Exporter for ByVmState {
    fn path(&self) -> &'static str {
        "cpu/by-vmstate.csv"
    }

    fn what(&self) -> &'static str {
        "CPU by what LuaJIT was doing: interpreted, compiled, C, garbage collection, not in Lua"
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        writeln!(out, "{HEADER}")?;
        states(profile, None, out)?;
        for index in 0..profile.processes.len() {
            states(profile, Some(index), out)?;
        }
        Ok(())
    }
}

/// One row a state, zeros included: a missing row would leave the reader guessing.
fn states(profile: &Profile, index: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let states = profile.samples_by_vmstate(index);
    let all: u64 = states.iter().map(|(_, samples)| samples).sum();
    let lua: u64 = states.iter().filter(|(s, _)| *s != VmState::NotLua).map(|(_, samples)| samples).sum();
    let process = index.and_then(|i| profile.processes.get(i));
    for (state, samples) in states {
        row(
            out,
            &[
                Cell::text(if process.is_some() { "process" } else { "all" }),
                process.map_or(Cell::Empty, |p| Cell::Count(p.pid.into())),
                process.map_or(Cell::Empty, |p| Cell::text(p.role.to_string())),
                Cell::text(state.to_string()),
                Cell::Count(samples),
                Cell::Number(percent(samples, all), 2),
                if state == VmState::NotLua { Cell::Empty } else { Cell::Number(percent(samples, lua), 2) },
            ],
        )?;
    }
    Ok(())
}
