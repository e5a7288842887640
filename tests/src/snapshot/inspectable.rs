//! What inspectors look at, in a made-up VM: the collector's list, the string table, the registry, the
//! compiler's parameters. Offsets by hand from lj_obj.h and lj_jit.h of luajit2 2023, not the product's.

use super::globals::Value;
use super::machine::Machine;
use crate::oracle::layout::gct;

/// Offsets from `global_State`.
struct Global {
    gc_total: u64,
    currentwhite: u64,
    root: u64,
    strings: u64,
    registry: u64,
    flags: u64,
    trace: u64,
    param: u64,
}

const GC64: Global = Global {
    gc_total: 16,
    currentwhite: 32,
    root: 40,
    strings: 152,
    registry: 272,
    flags: 904,
    trace: 1120,
    param: 2368,
};
const GC32: Global = Global {
    gc_total: 16,
    currentwhite: 24,
    root: 32,
    strings: 104,
    registry: 216,
    flags: 640,
    trace: 856,
    param: 2096,
};

/// JIT_PARAMDEF's defaults (lj_jit.h), luajit2's.
const PARAMETERS: [u32; 15] = [8000, 16000, 500, 100, 500, 3, 56, 10, 4, 4, 15, 3, 2, 64, 40960];

impl Machine {
    fn global(&self) -> &'static Global {
        if self.layout().reference == 8 { &GC64 } else { &GC32 }
    }

    /// Fills in what inspectors read: the list holds `objects`, the string table has `strings` in one
    /// chain each, and `package.loaded` is `loaded`.
    pub fn make_inspectable(&mut self, objects: &[u64], strings: &[u64], loaded: u64) {
        let (g, of, size) = (self.heap.g, self.global(), self.layout().reference);
        self.image.put_ref(g + of.gc_total, 300_000, size);
        self.image.put_ref(g + of.gc_total + size, 600_000, size);
        self.image.put8(g + of.currentwhite, 0x21);
        self.link(g + of.root, objects);

        let slots = strings.len().next_power_of_two() as u64;
        let table = self.heap.take(slots * size);
        for (slot, string) in (0..).zip(strings) {
            self.image.put_ref(table + slot * size, *string, size);
        }
        self.image.put64(g + of.strings, table);
        self.image.put32(g + of.strings + 8, slots as u32 - 1);
        self.image.put32(g + of.strings + 12, strings.len() as u32);

        let registry = self.table(&[("_LOADED", Value::Table(loaded)), ("other", Value::Table(loaded))]);
        self.put_value(g + of.registry, gct::TAB, registry);

        self.image.put32(g + of.flags, 1);
        for (i, parameter) in (0..).zip(PARAMETERS) {
            self.image.put32(g + of.param + i * 4, parameter);
        }
        // An array of traces without one in it.
        self.image.put32(g + of.trace + 12, 0);
    }

    /// Chains objects by their first word, from the word at `head` on.
    pub fn link(&mut self, head: u64, objects: &[u64]) {
        let size = self.layout().reference;
        let mut at = head;
        for object in objects {
            self.image.put_ref(at, *object, size);
            at = *object;
        }
        self.image.put_ref(at, 0, size);
    }

    /// Where the collector's list begins.
    #[must_use]
    pub fn gc_root(&self) -> u64 {
        self.heap.g + self.global().root
    }
}
