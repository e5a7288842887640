//! One capture, from a plan to a bundle: the one place that wires the rooms.

mod finish;
mod lua;
mod objects;
mod processes;
mod sources;
mod target;
mod window;

use crate::failure::Failure;
use crate::plan::Plan;
use crate::ui::Voice;
use processes::Processes;
use std::time::Instant;
use target::Target;
use upprof_report::{BundleDir, Utc};

/// Runs a capture.
///
/// # Errors
/// The failure to tell and its exit code. What was collected until then is kept.
pub(crate) fn capture(plan: &Plan) -> Result<(), Failure> {
    let begun = Instant::now();
    let voice = Voice { quiet: plan.quiet, verbose: plan.verbose };
    let signals = window::Signals::install();
    target::check_privileges()?;
    let target = Target::find(plan)?;
    let started = Utc::now();
    // Before sampling: a bad folder is told in the first second, not after the last.
    let bundle = BundleDir::create(&plan.out, &target.label(), started).map_err(|e| Failure::output(&e))?;

    let sampled = (|| {
        let mut processes = Processes::look_at(&target, voice)?;
        let taken = window::sample(plan, &target, &mut processes, &signals, voice, begun)?;
        Ok((processes, taken))
    })();
    let (processes, taken) = match sampled {
        Ok(done) => done,
        Err(failure) => {
            // Nothing was collected; an empty folder would only mislead.
            let _ = bundle.discard();
            return Err(failure);
        }
    };
    finish::write(plan, &target, processes, taken, bundle, voice)
}
