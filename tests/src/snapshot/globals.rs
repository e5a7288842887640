//! What the detection of a VM looks at: `GG_State` as LuaJIT lays it out, and its globals.

use super::host;
use super::lua::CFunc;
use super::machine::{BIAS, Machine};
use crate::oracle::layout::gct;
use std::ops::Range;
use upprof_luajit::CodeMap;

/// Entries of the dispatch table: as many as every build measured has (luajit.md 5.2).
const DISPATCH: u64 = 243;

/// A value in a table.
#[derive(Debug, Clone, Copy)]
pub enum Value {
    /// A function.
    Function(CFunc),
    /// A table.
    Table(u64),
}

/// The made-up process's code, for the detection.
#[derive(Debug, Clone, Copy)]
pub struct Code;

impl CodeMap for Code {
    fn code_mapping(&self, addr: u64) -> Option<Range<u64>> {
        let all = BIAS..BIAS + host::MAPPED;
        all.contains(&addr).then_some(all)
    }

    fn function(&self, addr: u64) -> Option<Range<u64>> {
        let ranges = host::FUNCTIONS.iter().map(|f| BIAS + f.vaddr..BIAS + f.vaddr + f.size);
        ranges.into_iter().find(|r| r.contains(&addr))
    }
}

impl Machine {
    /// Fills `GG_State` so that the VM can be recognised: main thread, dispatch table, one trace.
    pub fn make_recognisable(&mut self) {
        let (size, g) = (self.layout().reference, self.heap.g);
        let mainthref = if size == 8 { 192 } else { 140 };
        self.image.put_ref(g + mainthref, self.heap.main_thread, size);
        for i in 0..DISPATCH {
            let target = BIAS + host::VM.vaddr + i * 16;
            self.image.put64(self.dispatch() + i * 8, target);
        }
    }

    /// A table with these string keys.
    pub fn table(&mut self, entries: &[(&str, Value)]) -> u64 {
        let count = u32::try_from(entries.len().next_power_of_two()).expect("a small table");
        let table = self.heap.take(64);
        let nodes = self.heap.take(u64::from(count) * 24);
        self.table_at(table, nodes, count);
        for (i, (key, value)) in entries.iter().enumerate() {
            let key = self.string(key.as_bytes());
            self.put_entry(nodes + i as u64 * 24, key, *value);
        }
        table
    }

    /// Writes a table's header over memory of the test's own: `count` nodes, a power of two.
    pub fn table_at(&mut self, table: u64, nodes: u64, count: u32) {
        let layout = self.layout();
        let (node_at, hmask_at) = if layout.reference == 8 { (40, 52) } else { (20, 28) };
        self.image.put8(table + layout.gct, gct::TAB);
        self.image.put_ref(table + node_at, nodes, layout.reference);
        self.image.put32(table + hmask_at, count - 1);
    }

    /// Writes a node of a table.
    pub fn put_entry(&mut self, node: u64, key: u64, value: Value) {
        let (kind, at) = match value {
            Value::Function(f) => (gct::FUNC, f.func),
            Value::Table(t) => (gct::TAB, t),
        };
        self.put_value(node, kind, at);
        self.put_value(node + 8, gct::STR, key);
    }

    /// Makes a table the globals of the main thread.
    pub fn set_globals(&mut self, table: u64) {
        let at = self.heap.main_thread + self.layout().thread.env;
        self.image.put_ref(at, table, self.layout().reference);
    }

    pub(super) fn put_value(&mut self, at: u64, kind: u8, object: u64) {
        let tag = !u32::from(kind);
        if self.layout().reference == 8 {
            self.image.put64(at, u64::from(tag) << 47 | object);
        } else {
            self.image.put32(at, u32::try_from(object).expect("GC32"));
            self.image.put32(at + 4, tag);
        }
    }

    /// Gives a function a chunk name and a line table of one byte an instruction.
    pub fn debug_info(&mut self, f: super::LuaFunc, chunkname: &str, lines: &[u8]) {
        let (p, size) = (self.layout().proto, self.layout().reference);
        let name = self.string(chunkname.as_bytes());
        let info = self.heap.take(lines.len() as u64);
        self.image.put(info, lines);
        self.image.put_ref(f.proto + p.chunkname, name, size);
        self.image.put_ref(f.proto + p.lineinfo, info, size);
    }

    /// The main thread.
    #[must_use]
    pub fn main_thread(&self) -> u64 {
        self.heap.main_thread
    }

    /// Memory that is in use: what a corruption should hit. The heap, and the native stack.
    #[must_use]
    pub fn live(&self) -> [Range<u64>; 2] {
        [self.heap.used(), self.regs.sp - 128..super::machine::STACK + super::machine::STACK_BYTES]
    }
}
