//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// How long anything may take before it counts as never. Generous on purpose: a slow machine is no
/// failure, and only a failing test waits this long.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Between two looks. The machine may have few cores, and looking takes some of them.
const PAUSE: Duration = Duration::from_millis(25);

/// Polls until `look` gives something.
///
/// # Panics
/// When [`DEADLINE`] has passed without it.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        std::thread::sleep(PAUSE);
    }
}
