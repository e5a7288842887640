//! `jit`: the JIT compiler of each Lua VM.

use super::{Ask, Inspector, World};
use std::collections::BTreeMap;
use upprof_luajit::inspect::{Checked, Jit, NotTrusted};
use upprof_report::inspect::{Cell, Part, Subject, Table};

/// Rows of traces and places in tables; JSON has all.
const SHOWN: usize = 12;

pub(super) struct JitInspector;

impl Inspector for JitInspector {
    type Artifact = Jit;
    const NAME: &'static str = "jit";
    const ABOUT: &'static str =
        "the JIT compiler: settings, machine code, traces, aborts, blacklisted functions";
    const GROWS_WITH_HEAP: bool = true;

    fn look(&mut self, world: &World<'_>, ask: &Ask) -> Vec<Part<Jit>> {
        world.of_vms(|process, vm, memory| {
            let heap = world.heap(process, vm, ask.max_objects);
            let heap = heap.as_ref().as_ref().map_err(NotTrusted::clone)?;
            Jit::read(memory, vm, heap)
        })
    }

    fn tables(found: &[(&Subject, &Jit)]) -> Vec<Table> {
        let mut tables = vec![overview(found)];
        for (of, jit) in found {
            tables.extend([traces(of, jit), aborts(of, jit), not_compiled(of, jit)]);
        }
        tables.retain(|t| !t.is_empty());
        tables
    }
}

fn overview(found: &[(&Subject, &Jit)]) -> Table {
    let mut table = Table::new(
        "jit: the JIT compiler",
        &[
            "process",
            "jit",
            "traces",
            "maxtrace",
            "mcode",
            "of which traces",
            "maxmcode",
            "functions",
            "compiled",
            "blacklisted",
            "off",
            "aborts",
        ],
    );
    for (of, jit) in found {
        let code = |get: fn(&upprof_luajit::inspect::MachineCode) -> u64| -> Cell {
            jit.mcode.known().map(|m| Cell::Bytes(get(m))).into()
        };
        table.row(vec![
            of.to_string().into(),
            if jit.on { "on" } else { "off" }.into(),
            Cell::Count(jit.traces.len() as u64),
            jit.parameters.get("maxtrace").map(|n| u64::try_from(*n).unwrap_or(0)).into(),
            code(|m| m.allocated_bytes),
            code(|m| m.traces_bytes),
            code(|m| m.limit_bytes),
            jit.functions.all.into(),
            jit.functions.compiled.into(),
            jit.functions.blacklisted.into(),
            jit.functions.never_compiled.into(),
            Cell::Count(jit.aborts.len() as u64 + u64::from(jit.aborts_elsewhere)),
        ]);
        if let Checked::NotTrusted { not_trusted } = &jit.mcode {
            table.note(format!("{of}: machine code not trusted: {not_trusted}"));
        }
        if let Some(torn) = &jit.torn {
            table.note(format!("{of}: functions torn: {torn}"));
        }
    }
    table
}

/// Root traces with what hangs on them, largest first: one row a place where traces start.
fn traces(of: &Subject, jit: &Jit) -> Table {
    #[derive(Default)]
    struct Group {
        roots: u64,
        sides: u64,
        bytes: u64,
        links: Vec<&'static str>,
    }
    let start = |number: u32| {
        let root = jit.traces.iter().find(|t| t.number == number)?;
        root.start.as_ref().map(ToString::to_string)
    };
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for t in &jit.traces {
        let place = start(if t.root == 0 { t.number } else { t.root }).unwrap_or_else(|| "?".into());
        let group = groups.entry(place).or_default();
        *(if t.root == 0 { &mut group.roots } else { &mut group.sides }) += 1;
        group.bytes += u64::from(t.mcode_bytes);
        if let Some(link) = t.link_type
            && !group.links.contains(&link)
        {
            group.links.push(link);
        }
    }
    let mut rows: Vec<(String, Group)> = groups.into_iter().collect();
    rows.sort_by(|a, b| b.1.bytes.cmp(&a.1.bytes).then_with(|| a.0.cmp(&b.0)));
    let heads = ["root traces start at", "roots", "side traces", "mcode", "ends"];
    let mut table = Table::new(format!("jit: traces of {of}"), &heads);
    let more = rows.len().saturating_sub(SHOWN);
    for (place, g) in rows.into_iter().take(SHOWN) {
        let cells = vec![
            place.into(),
            g.roots.into(),
            g.sides.into(),
            Cell::Bytes(g.bytes),
            g.links.join(", ").into(),
        ];
        table.row(cells);
    }
    if more > 0 {
        table.note(format!("and {more} more places; --json has every trace"));
    }
    table
}

fn aborts(of: &Subject, jit: &Jit) -> Table {
    let mut table =
        Table::new(format!("jit: aborts of {of}"), &["hot line", "penalty", "reason of the last abort"]);
    for a in jit.aborts.iter().take(SHOWN) {
        table.row(vec![a.at.to_string().into(), u32::from(a.penalty).into(), a.reason.into()]);
    }
    if jit.aborts_elsewhere > 0 {
        table.note(format!("and {} in functions that are gone", jit.aborts_elsewhere));
    }
    table
}

fn not_compiled(of: &Subject, jit: &Jit) -> Table {
    let mut table = Table::new(format!("jit: never compiled of {of}"), &["place", "why"]);
    let black = jit.blacklisted.iter().map(|b| (&b.at, format!("blacklisted {}", b.what)));
    let off = jit.never_compiled.iter().map(|at| (at, "turned off (jit.off)".to_owned()));
    for (at, why) in black.chain(off).take(SHOWN) {
        table.row(vec![at.to_string().into(), why.into()]);
    }
    let more = (jit.blacklisted.len() + jit.never_compiled.len()).saturating_sub(SHOWN);
    if more > 0 {
        table.note(format!("and {more} more; --json has all"));
    }
    table
}
