//! A census of the heap, and who holds its largest tables.

use super::heap::{Count, Heap};
use super::path::paths;
use super::{Gc, NotTrusted, Strings};
use crate::Vm;
use crate::value::Table;
use serde::Serialize;
use upprof_memory::Memory;

/// Every object of a heap by type, and its largest tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Objects {
    /// By type, strings first.
    pub types: Vec<Count>,
    /// Sum of the above, bytes.
    pub bytes: u64,
    /// What the collector counts, bytes. The rest is what is no object: the string table, buffers,
    /// snapshots of traces, C types, and what was allocated or freed meanwhile.
    pub gc_total_bytes: u64,
    /// Largest first.
    pub largest_tables: Vec<LargeTable>,
    /// What changed since the look before, by type; types without a change are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Change>>,
    /// Why the numbers are not of one moment, or not complete, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<String>,
}

/// A large table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LargeTable {
    /// How it is reached from the globals (`_G`), the loaded modules (`package.loaded`), the registry or
    /// the main thread's stack; `None` when nothing there holds it: garbage that was not collected
    /// yet, or beyond what was looked at. Hostile.
    pub path: Option<String>,
    /// Its address: the same table in two looks.
    pub address: u64,
    /// Header, array part and hash part, bytes; not what its values point at.
    pub bytes: u64,
    /// Slots of the array part.
    pub array_slots: u32,
    /// Slots of the hash part.
    pub hash_slots: u32,
}

/// A type's difference between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The type.
    #[serde(rename = "type")]
    pub name: &'static str,
    /// More objects, or fewer.
    pub count: i64,
    /// More bytes, or fewer.
    pub bytes: i64,
}

impl Objects {
    /// Walks the heap, at most `max_objects` objects, and then from the roots to its largest tables.
    ///
    /// # Errors
    /// [`NotTrusted`] when there is no heap to walk.
    pub fn read(live: &dyn Memory, vm: &Vm, max_objects: u32) -> Result<Self, NotTrusted> {
        let (heap, copy) = Heap::walk_copied(live, vm, max_objects)?;
        let mem: &dyn Memory = &copy;
        let strings = Strings::read(mem, vm, max_objects, false)?;
        let total = Gc::total(live, vm)?;
        let mut types = vec![Count {
            name: "string",
            count: strings.lengths.iter().sum(),
            bytes: strings.bytes,
            largest_bytes: strings.largest_bytes,
        }];
        types.extend(&heap.counts);
        let wanted: Vec<u64> = heap.largest.iter().map(|(_, at)| *at).collect();
        let mut paths = paths(mem, vm, &wanted, max_objects);
        let largest = heap.largest.iter().filter_map(|(bytes, at)| {
            let table = Table::read(mem, vm, *at)?;
            Some(LargeTable {
                path: paths.remove(at),
                address: *at,
                bytes: *bytes,
                array_slots: table.asize,
                hash_slots: if table.hmask == 0 { 0 } else { table.hmask.saturating_add(1) },
            })
        });
        Ok(Self {
            bytes: types.iter().map(|t| t.bytes).sum(),
            largest_tables: largest.collect(),
            types,
            gc_total_bytes: total,
            changes: None,
            torn: heap.torn.or(strings.torn),
        })
    }

    /// Notes what changed since an earlier look at the same VM.
    pub fn compare(&mut self, before: &Self) {
        let less = |now: u64, then: u64| now.cast_signed().wrapping_sub(then.cast_signed());
        let changes = self.types.iter().filter_map(|now| {
            let then = before.types.iter().find(|b| b.name == now.name)?;
            let (count, bytes) = (less(now.count, then.count), less(now.bytes, then.bytes));
            (count != 0 || bytes != 0).then_some(Change { name: now.name, count, bytes })
        });
        self.changes = Some(changes.collect());
    }
}
