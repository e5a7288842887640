//! `strings`: the table of interned strings of each Lua VM.

use super::{Ask, Inspector, World};
use upprof_luajit::inspect::{HashKind, Strings};
use upprof_report::inspect::{Cell, Part, Subject, Table};

pub(super) struct StringsInspector;

impl Inspector for StringsInspector {
    type Artifact = Strings;
    const NAME: &'static str = "strings";
    const ABOUT: &'static str = "the table of interned strings: load, chains, hash";
    const GROWS_WITH_HEAP: bool = true;

    fn look(&mut self, world: &World<'_>, ask: &Ask) -> Vec<Part<Strings>> {
        world.of_vms(|process, vm, _| Strings::read(&process.memory(), vm, ask.max_objects, true))
    }

    fn tables(found: &[(&Subject, &Strings)]) -> Vec<Table> {
        let heads =
            ["process", "strings", "memory", "slots", "load", "longest chain", "dense chains", "hash"];
        let mut table = Table::new("strings: the table of interned strings", &heads);
        let mut chains = Table::new(
            "strings: how many chains have so many strings",
            &["process", "strings in a chain: chains"],
        );
        for (of, s) in found {
            table.row(vec![
                of.to_string().into(),
                s.count.into(),
                Cell::Bytes(s.bytes),
                s.slots.into(),
                Cell::Percent(s.load * 100.0),
                s.longest_chain.into(),
                s.dense_chains.into(),
                hash(s.hash).into(),
            ]);
            let some = s.chains.iter().enumerate().filter(|(_, n)| **n > 0);
            let text: Vec<String> = some.map(|(length, n)| format!("{length}: {n}")).collect();
            chains.row(vec![of.to_string().into(), text.join("  ").into()]);
            if s.sampled_every > 1 {
                table.note(format!("{of}: memory and chains are of one chain in {}", s.sampled_every));
            }
            if let Some(torn) = &s.torn {
                table.note(format!("{of}: torn: {torn}"));
            }
        }
        vec![table, chains]
    }
}

fn hash(kind: HashKind) -> &'static str {
    match kind {
        HashKind::Sparse => "sparse",
        HashKind::Other => "another (CRC32?)",
        HashKind::Unknown => "-",
    }
}
