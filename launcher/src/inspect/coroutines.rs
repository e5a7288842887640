//! `coroutines`: of each Lua VM.

use super::{Ask, Inspector, World};
use upprof_luajit::inspect::{Coroutines, NotTrusted};
use upprof_report::inspect::{Cell, Part, Subject, Table};

/// Places in tables; JSON has more.
const SHOWN: usize = 12;

pub(super) struct CoroutinesInspector;

impl Inspector for CoroutinesInspector {
    type Artifact = Coroutines;
    const NAME: &'static str = "coroutines";
    const ABOUT: &'static str = "coroutines by state, their stacks, and the lines where they wait";
    const GROWS_WITH_HEAP: bool = true;

    fn look(&mut self, world: &World<'_>, ask: &Ask) -> Vec<Part<Coroutines>> {
        world.of_vms(|process, vm, memory| {
            let heap = world.heap(process, vm, ask.max_objects);
            let heap = heap.as_ref().as_ref().map_err(NotTrusted::clone)?;
            Ok::<_, NotTrusted>(Coroutines::read(memory, vm, heap))
        })
    }

    fn tables(found: &[(&Subject, &Coroutines)]) -> Vec<Table> {
        let heads = ["process", "coroutines", "suspended", "running", "dead", "stacks", "largest stack"];
        let mut table = Table::new("coroutines", &heads);
        let mut places =
            Table::new("coroutines: where suspended ones wait", &["process", "line", "coroutines"]);
        for (of, c) in found {
            table.row(vec![
                of.to_string().into(),
                c.all.into(),
                c.suspended.into(),
                c.running.into(),
                c.dead.into(),
                Cell::Bytes(c.stack_bytes),
                Cell::Bytes(c.largest_stack_bytes),
            ]);
            for w in c.waiting.iter().take(SHOWN) {
                places.row(vec![of.to_string().into(), w.at.to_string().into(), w.count.into()]);
            }
            if let Some(torn) = &c.torn {
                table.note(format!("{of}: torn: {torn}"));
            }
        }
        let mut tables = vec![table, places];
        tables.retain(|t| !t.is_empty());
        tables
    }
}
