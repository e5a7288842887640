//! `gc`: the collector of each Lua VM.

use super::{Ask, Inspector, World};
use std::collections::HashMap;
use std::time::Duration;
use upprof_luajit::inspect::{Gc, GcRates};
use upprof_report::inspect::{Cell, Part, Subject, Table};

/// Remembers how the total of each VM went since the last look.
#[derive(Default)]
pub(super) struct GcInspector {
    /// By process, its start and the VM's address.
    course: HashMap<(u32, u64, u64), Course>,
}

#[derive(Default)]
struct Course {
    last: u64,
    rises: u64,
    falls: u64,
    looks: u32,
}

impl Course {
    fn add(&mut self, total: u64) {
        if self.looks > 0 {
            self.rises += total.saturating_sub(self.last);
            self.falls += self.last.saturating_sub(total);
        }
        self.last = total;
        self.looks += 1;
    }
}

impl Inspector for GcInspector {
    type Artifact = Gc;
    const NAME: &'static str = "gc";
    const ABOUT: &'static str = "Lua memory and its collector, with allocation and free rates under --watch";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Gc>> {
        let mut course = std::mem::take(&mut self.course);
        world.of_vms(|process, vm, memory| {
            let mut gc = Gc::read(memory, vm)?;
            let id = (process.info.pid, process.info.start_time_ticks, vm.g);
            let mut seen = course.remove(&id).unwrap_or_default();
            seen.add(gc.total_bytes);
            // Bytes for now: `compare` knows the time.
            gc.rates = (seen.looks > 1).then_some(GcRates {
                allocated_bytes_per_s: seen.rises as f64,
                freed_bytes_per_s: seen.falls as f64,
                looks: seen.looks,
            });
            self.course.insert(id, Course { last: gc.total_bytes, looks: 1, ..Course::default() });
            Ok::<_, upprof_luajit::inspect::NotTrusted>(gc)
        })
    }

    fn between(&mut self, world: &World<'_>) {
        for process in world.processes() {
            for (_, vm) in &process.vms {
                let id = (process.info.pid, process.info.start_time_ticks, vm.g);
                if let (Some(course), Ok(total)) =
                    (self.course.get_mut(&id), Gc::total(&process.memory(), vm))
                {
                    course.add(total);
                }
            }
        }
    }

    fn compare(now: &mut Gc, _before: &Gc, elapsed: Duration) {
        if let Some(rates) = &mut now.rates {
            rates.allocated_bytes_per_s /= elapsed.as_secs_f64();
            rates.freed_bytes_per_s /= elapsed.as_secs_f64();
        }
    }

    fn tables(found: &[(&Subject, &Gc)]) -> Vec<Table> {
        let mut table = Table::new(
            "gc: Lua memory and its collector",
            &[
                "process",
                "total",
                "threshold",
                "debt",
                "estimate",
                "state",
                "pause",
                "stepmul",
                "alloc",
                "freed",
            ],
        );
        for (of, gc) in found {
            table.row(vec![
                of.to_string().into(),
                Cell::Bytes(gc.total_bytes),
                gc.threshold_bytes.map_or_else(|| "stopped".into(), Cell::Bytes),
                Cell::Bytes(gc.debt_bytes),
                Cell::Bytes(gc.estimate_bytes),
                gc.state.text().into(),
                Cell::Percent(gc.pause_percent.into()),
                Cell::Percent(gc.stepmul_percent.into()),
                gc.rates.map(|r| Cell::BytesPerSecond(r.allocated_bytes_per_s)).into(),
                gc.rates.map(|r| Cell::BytesPerSecond(r.freed_bytes_per_s)).into(),
            ]);
        }
        vec![table]
    }
}
