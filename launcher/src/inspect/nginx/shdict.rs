//! `shdict`: what is in a shared dictionary.

use super::{of_one, of_target, unix_ms};
use crate::inspect::{Ask, Inspector, World};
use serde::Serialize;
use upprof_nginx::inspect::{Dict, Entry, Nginx, Untrusted, Wanted, Zone, dict, zones};
use upprof_report::inspect::{Cell, Found, Part, Subject, Table};

/// Entries that are looked at: seconds of reading.
const MAX_ENTRIES: usize = 2_000_000;

/// Nothing to remember.
pub(super) struct ShdictInspector;

/// A dictionary by its name.
#[derive(Serialize)]
pub(super) struct Named {
    name: String,
    size_bytes: u64,
    free_pages: u64,
    #[serde(flatten)]
    dict: Found<Dict>,
}

/// The dictionaries that were asked for.
#[derive(Serialize)]
pub(super) struct Dicts {
    dicts: Vec<Named>,
}

impl Inspector for ShdictInspector {
    type Artifact = Dicts;
    const NAME: &'static str = "shdict";
    const ABOUT: &'static str =
        "entries of lua_shared_dict: shdict [NAME] [--key KEY] [--show-values], all of them without NAME";
    const BY_DEFAULT: bool = false;
    /// Keys can be secrets: session numbers, tokens.
    const IN_BUNDLE: bool = false;

    fn look(&mut self, world: &World<'_>, ask: &Ask) -> Vec<Part<Dicts>> {
        let mut parts = of_one(world, |_, nginx| {
            let all = zones(nginx)?.into_iter().flatten().filter(is_dict);
            let wanted = all.filter(|z| ask.dict.as_ref().is_none_or(|name| *name == z.name));
            Ok(Dicts { dicts: wanted.map(|zone| named(nginx, &zone, ask)).collect() })
        });
        if let (Some(Part { found: Found::Found(found), .. }), Some(_)) = (parts.first(), &ask.dict)
            && found.dicts.is_empty()
        {
            parts = vec![of_target(Err(Untrusted::None("lua_shared_dict of that name")))];
        }
        parts
    }

    fn tables(found: &[(&Subject, &Dicts)]) -> Vec<Table> {
        let dicts = || found.iter().flat_map(|(_, found)| &found.dicts);
        let mut table = Table::new(
            "shdict: shared dictionaries (bytes of keys and values without the allocator's own)",
            &["dict", "size", "free pages", "entries", "expired", "no ttl", "keys", "values", "read"],
        );
        for named in dicts() {
            match &named.dict {
                Found::Found(d) => table.row(vec![
                    named.name.as_str().into(),
                    Cell::Bytes(named.size_bytes),
                    named.free_pages.into(),
                    d.entries.into(),
                    d.expired.into(),
                    d.without_ttl.into(),
                    Cell::Bytes(d.key_bytes),
                    Cell::Bytes(d.value_bytes),
                    match (d.torn, d.truncated) {
                        (true, _) => "while it changed".into(),
                        (_, true) => "in part".into(),
                        _ => "whole".into(),
                    },
                ]),
                Found::NotTrusted { why } => table.note(format!("{}: {why}", named.name)),
            }
        }
        let mut entries =
            Table::new("shdict: entries", &["dict", "which", "key", "type", "length", "expires in", "value"]);
        for named in dicts() {
            let Found::Found(d) = &named.dict else { continue };
            let mut row = |which: &str, e: &Entry| {
                entries.row(vec![
                    named.name.as_str().into(),
                    which.into(),
                    e.key.as_str().into(),
                    e.kind.into(),
                    e.value_len.into(),
                    e.ttl_ms.map_or_else(|| "never".into(), super::ms),
                    e.value.clone().into(),
                ]);
            };
            d.asked.iter().for_each(|e| row("asked for", e));
            d.last_used.iter().for_each(|e| row("used last", e));
            d.next_evicted.iter().for_each(|e| row("evicted next", e));
            d.largest.iter().for_each(|e| row("large", e));
        }
        vec![table, entries]
    }
}

/// By its tag: Lua's module for http or for stream, or another that makes such dictionaries.
fn is_dict(zone: &Zone) -> bool {
    zone.owner.as_ref().is_some_and(|owner| owner.contains("_lua"))
}

fn named(nginx: &Nginx<'_>, zone: &Zone, ask: &Ask) -> Named {
    let wanted = Wanted {
        key: ask.key.as_deref(),
        values: ask.show_values,
        now_unix_ms: unix_ms(),
        max_entries: MAX_ENTRIES,
    };
    Named {
        name: zone.name.clone(),
        size_bytes: zone.size_bytes,
        free_pages: zone.free_pages,
        dict: dict(nginx, zone, &wanted).into(),
    }
}
