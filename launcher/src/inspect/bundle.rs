//! The artifacts inside a bundle: `inspect/NAME.json`.

use super::{Ask, World, all};
use crate::session::target::Target;
use upprof_report::inspect::to_json;
use upprof_report::manifest::{Artifact, Skipped};
use upprof_report::{BundleDir, BundleError};

/// Objects of a heap that a bundle takes stock of: a second of work at most.
const MAX_OBJECTS: u32 = 2_000_000;

/// What was written, and what was not.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) skipped: Vec<Skipped>,
}

/// Looks at the target once, with every inspector that needs no question of its own, and writes what
/// they found. Nothing that cannot be read fails a bundle: it is among the skipped.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(target: &Target, bundle: &BundleDir) -> Result<Written, BundleError> {
    let mut written = Written::default();
    let skip = |what: &str, why: &str| Skipped { what: format!("inspect/{what}.json"), why: why.into() };
    let world = match World::look_at(target) {
        Ok(world) => world,
        Err(failure) => {
            written.skipped.push(skip("*", &failure.what));
            return Ok(written);
        }
    };
    let ask = Ask { max_objects: MAX_OBJECTS, ..Ask::default() };
    for mut inspector in all().into_iter().filter(|i| i.in_bundle()) {
        let shown = inspector.look(&world, &ask);
        if shown.found == 0 {
            written.skipped.push(skip(inspector.name(), &shown.first_refusal.unwrap_or_default()));
            continue;
        }
        let json = to_json(&shown.json).unwrap_or_default();
        let path = format!("inspect/{}.json", inspector.name());
        let size = bundle.write(&path, |out| Ok(writeln!(out, "{json}")?))?;
        let what = format!("{} (docs/inspect.md)", inspector.about());
        written.artifacts.push(Artifact { path, what, size_bytes: Some(size) });
    }
    Ok(written)
}
