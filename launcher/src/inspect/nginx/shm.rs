//! `shm`: shared memory zones.

use super::of_one;
use crate::inspect::{Ask, Inspector, World};
use serde::Serialize;
use std::time::Duration;
use upprof_nginx::inspect::{Zone, zones};
use upprof_report::inspect::{Cell, Found, Part, Subject, Table};

/// Nothing to remember.
pub(super) struct ShmInspector;

/// A zone, and who holds its lock.
#[derive(Serialize)]
pub(super) struct ZoneSeen {
    #[serde(flatten)]
    zone: Zone,
    /// The lock's holder by its pid on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_holder: Option<Holder>,
}

/// Who holds a lock.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Holder {
    /// This process of the target, by its pid on the host.
    Pid(u32),
    /// No process of the target has that pid: it ended with the lock, and everybody waits for ever.
    Gone,
}

/// All zones, each on its own.
#[derive(Serialize)]
pub(super) struct Zones {
    zones: Vec<Found<ZoneSeen>>,
}

impl Inspector for ShmInspector {
    type Artifact = Zones;
    const NAME: &'static str = "shm";
    const ABOUT: &'static str =
        "shared memory zones: owner, free pages, slots with their failures, who holds the lock";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Zones>> {
        of_one(world, |_, nginx| {
            let seen = zones(nginx)?.into_iter().map(|zone| {
                let zone = zone.map(|zone| {
                    let lock_holder = zone.lock_holder_ns_pid.map(|pid| holder(world, pid));
                    ZoneSeen { zone, lock_holder }
                });
                zone.into()
            });
            Ok(Zones { zones: seen.collect() })
        })
    }

    fn compare(now: &mut Zones, before: &Zones, elapsed: Duration) {
        for (now, before) in now.zones.iter_mut().zip(&before.zones) {
            let (Found::Found(now), Found::Found(before)) = (now, before) else { continue };
            if now.zone.name != before.zone.name {
                continue;
            }
            for (now, before) in now.zone.slots.iter_mut().zip(&before.zone.slots) {
                let more = now.failures.saturating_sub(before.failures);
                now.failures_per_second = Some(more as f64 / elapsed.as_secs_f64());
            }
        }
    }

    fn tables(found: &[(&Subject, &Zones)]) -> Vec<Table> {
        let mut table = Table::new(
            "shm: shared memory zones (failures: allocations that got no memory; larger than half a page nginx does not count them)",
            &[
                "zone",
                "owner",
                "size",
                "pages",
                "free pages",
                "requests",
                "failures",
                "failing",
                "lock",
                "waiting",
            ],
        );
        let mut slots = Table::new(
            "shm: slots that are used",
            &["zone", "slot", "places", "used", "requests", "failures", "failing"],
        );
        for zone in found.iter().flat_map(|(_, zones)| &zones.zones) {
            let seen = match zone {
                Found::Found(seen) => seen,
                Found::NotTrusted { why } => {
                    table.note(format!("a zone: {why}"));
                    continue;
                }
            };
            let zone = &seen.zone;
            let rate = |slots: &[upprof_nginx::inspect::Slot]| -> Cell {
                let all: Option<f64> = slots.iter().map(|s| s.failures_per_second).sum();
                all.map_or(Cell::Missing, Cell::PerSecond)
            };
            table.row(vec![
                zone.name.as_str().into(),
                zone.owner.clone().into(),
                Cell::Bytes(zone.size_bytes),
                zone.pages.into(),
                zone.free_pages.into(),
                zone.slots.iter().map(|s| s.requests).sum::<u64>().into(),
                zone.slots.iter().map(|s| s.failures).sum::<u64>().into(),
                rate(&zone.slots),
                match seen.lock_holder {
                    None => "free".into(),
                    Some(Holder::Pid(pid)) => format!("held by {pid}").into(),
                    Some(Holder::Gone) => {
                        format!("held by {}, which is gone", zone.lock_holder_ns_pid.unwrap_or_default())
                            .into()
                    }
                },
                zone.lock_waiters.into(),
            ]);
            for slot in zone.slots.iter().filter(|s| s.requests > 0) {
                slots.row(vec![
                    zone.name.as_str().into(),
                    Cell::Bytes(slot.size_bytes),
                    slot.total.into(),
                    slot.used.into(),
                    slot.requests.into(),
                    slot.failures.into(),
                    rate(std::slice::from_ref(slot)),
                ]);
            }
        }
        vec![table, slots]
    }
}

/// The process with this pid in the target's own pid namespace.
fn holder(world: &World<'_>, ns_pid: u32) -> Holder {
    let has = |p: &&crate::inspect::world::Process| p.info.ns_pid == Some(ns_pid);
    world.processes().iter().find(has).map_or(Holder::Gone, |p| Holder::Pid(p.info.pid))
}
