//! `upprof record`: a window into files.

use super::outputs::Opened;
use super::target::{self, Target};
use super::window::Signals;
use super::{finish, sample};
use crate::failure::Failure;
use crate::plan::Record;
use std::time::Instant;

pub(super) fn record(record: &Record) -> Result<(), Failure> {
    let begun = Instant::now();
    let plan = &record.plan;
    let signals = Signals::install();
    target::check_privileges()?;
    let target = Target::find(&plan.target)?;
    let outputs = Opened::open(&record.outputs)?;
    let (processes, taken) = sample(plan, &target, &signals, begun)?;
    let (profile, manifest) = finish::describe(plan, &target, &processes, &taken);
    finish::tell(&profile, &taken, plan.voice);
    outputs.write(&profile, &manifest, plan.voice)?;
    match profile.no_samples_reason() {
        Some(reason) => Err(Failure::no_samples(&reason, "the files that were written")),
        None => Ok(()),
    }
}
