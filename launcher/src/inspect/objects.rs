//! `objects`: a census of each Lua VM's heap.

use super::{Ask, Inspector, World};
use std::time::Duration;
use upprof_luajit::inspect::Objects;
use upprof_report::inspect::{Cell, Part, Subject, Table};

pub(super) struct ObjectsInspector;

impl Inspector for ObjectsInspector {
    type Artifact = Objects;
    const NAME: &'static str = "objects";
    const ABOUT: &'static str =
        "objects by type, the largest tables and who holds them; differences under --watch";
    const BY_DEFAULT: bool = false;
    const GROWS_WITH_HEAP: bool = true;

    fn look(&mut self, world: &World<'_>, ask: &Ask) -> Vec<Part<Objects>> {
        world.of_vms(|process, vm, _| Objects::read(&process.memory(), vm, ask.max_objects))
    }

    fn compare(now: &mut Objects, before: &Objects, _elapsed: Duration) {
        now.compare(before);
    }

    fn tables(found: &[(&Subject, &Objects)]) -> Vec<Table> {
        found.iter().flat_map(|(of, objects)| [types(of, objects), largest(of, objects)]).collect()
    }
}

fn types(of: &Subject, objects: &Objects) -> Table {
    let heads = ["type", "objects", "memory", "largest", "objects since", "memory since"];
    let mut table = Table::new(format!("objects: by type of {of}"), &heads);
    for t in &objects.types {
        let change = objects.changes.as_ref().map(|all| all.iter().find(|c| c.name == t.name));
        let signed = |n: Option<i64>| change.map(|_| format!("{:+}", n.unwrap_or(0)));
        table.row(vec![
            t.name.into(),
            t.count.into(),
            Cell::Bytes(t.bytes),
            Cell::Bytes(t.largest_bytes),
            signed(change.flatten().map(|c| c.count)).into(),
            signed(change.flatten().map(|c| c.bytes)).map(|n| format!("{n} B")).into(),
        ]);
    }
    let (sum, total) = (Cell::Bytes(objects.bytes), Cell::Bytes(objects.gc_total_bytes));
    table.note(format!("{sum} in objects, {total} counted by the collector"));
    if let Some(torn) = &objects.torn {
        table.note(format!("torn: {torn}"));
    }
    table
}

fn largest(of: &Subject, objects: &Objects) -> Table {
    let heads = ["memory", "array slots", "hash slots", "held by"];
    let mut table = Table::new(format!("objects: largest tables of {of}"), &heads);
    for t in &objects.largest_tables {
        table.row(vec![
            Cell::Bytes(t.bytes),
            t.array_slots.into(),
            t.hash_slots.into(),
            t.path.clone().unwrap_or_else(|| "(nothing that was looked at)".into()).into(),
        ]);
    }
    table
}
