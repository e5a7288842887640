//! From a request to its result: the one place that wires the rooms.

mod finish;
mod labels;
mod lua;
mod names;
pub(crate) mod objects;
mod outputs;
mod processes;
mod record;
mod report;
mod sources;
mod stack;
pub(crate) mod target;
mod traces;
pub(crate) mod vms;
pub(crate) mod window;

use crate::failure::Failure;
use crate::plan::{Capture, Plan, Request};
use processes::Processes;
use std::time::Instant;
use target::Target;
use upprof_report::{BundleDir, Utc};
use window::{Signals, Taken};

/// Does what was asked.
///
/// # Errors
/// The failure to tell and its exit code. What was collected until then is kept.
pub(crate) fn run(request: &Request) -> Result<(), Failure> {
    match request {
        Request::Capture(plan) => capture(plan),
        Request::Record(plan) => record::record(plan),
        Request::Report(plan) => report::report(plan),
        Request::Stack(plan) => stack::stack(plan),
        Request::Inspect(plan) => crate::inspect::run(plan),
    }
}

/// `upprof capture`.
fn capture(capture: &Capture) -> Result<(), Failure> {
    let begun = Instant::now();
    let plan = &capture.plan;
    let signals = Signals::install();
    target::check_privileges()?;
    let target = Target::find(&plan.target)?;
    let started = Utc::now();
    // Before sampling: a bad folder is told in the first second, not after the last.
    let bundle =
        BundleDir::create(&capture.out, &target.label(), started).map_err(|e| Failure::output(&e))?;
    let (processes, taken) = match sample(plan, &target, &signals, begun) {
        Ok(done) => done,
        Err(failure) => {
            // Nothing was collected; an empty folder would only mislead.
            let _ = bundle.discard();
            return Err(failure);
        }
    };
    finish::bundle(capture, &target, &processes, &taken, bundle)
}

/// Looks at the target and samples it.
fn sample(
    plan: &Plan,
    target: &Target,
    signals: &Signals,
    begun: Instant,
) -> Result<(Processes, Taken), Failure> {
    let mut processes = Processes::look_at(target, plan.voice)?;
    let taken = window::sample(plan, target, &mut processes, signals, plan.voice, begun)?;
    Ok((processes, taken))
}
