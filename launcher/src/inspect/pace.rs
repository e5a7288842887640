//! How often what takes long is looked at again under `--watch`.

use super::{AnyInspector, Ask, Shown, World};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Looks through the memory of VMs may take this share of a CPU for each worker: a part of the one per
/// cent that watching may cost, as the other inspectors come every time.
const SHARE: f64 = 0.003;

/// When the inspectors that grow with the heap are due.
#[derive(Default)]
pub(super) struct Pace {
    due: Option<Instant>,
}

impl Pace {
    /// One round: all inspectors, or without those that are not due.
    pub(super) fn look(
        &mut self,
        inspectors: &mut [Box<dyn AnyInspector>],
        world: &World<'_>,
        ask: &Ask,
    ) -> Vec<Shown> {
        let due = self.due.is_none_or(|due| Instant::now() >= due);
        let mut cost = Duration::ZERO;
        let mut shown = Vec::new();
        for inspector in inspectors.iter_mut().filter(|i| due || !i.grows_with_heap()) {
            let before = cpu_time();
            shown.push(inspector.look(world, ask));
            if inspector.grows_with_heap() {
                cost += cpu_time().saturating_sub(before);
            }
        }
        if due {
            self.due = Some(Instant::now() + rest(cost, world.workers()));
        }
        shown
    }
}

/// How long to let looks alone that took this much CPU time.
fn rest(cost: Duration, workers: usize) -> Duration {
    cost.div_f64(SHARE * workers.max(1) as f64)
}

/// CPU time of this process so far: on a busy machine less than the time that has passed.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_take_long_rest_long() {
        let ms = Duration::from_millis;
        // 0.3 % of a CPU, or of two for two workers.
        assert_eq!(rest(ms(3), 1), ms(1000));
        assert_eq!(rest(ms(300), 2), ms(50_000));
        assert_eq!(rest(ms(3), 0), ms(1000), "a program without workers");
        assert_eq!(rest(Duration::ZERO, 4), Duration::ZERO);
    }
}
