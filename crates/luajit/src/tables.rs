//! What tables hold of functions, other tables and userdata: for the readers that look for names.

use crate::Vm;
use crate::layout::gct;
use crate::proto::read_string;
use crate::value::{Table, Value};
use upprof_memory::Memory;

const MAX_NODES_OF_TABLE: usize = 1 << 16;
/// Longest key that is used as a name.
const MAX_NAME: usize = 64;

/// An object that may lead to functions, with its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Function(u64),
    Table(u64),
    Userdata(u64),
}

/// A key of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// The address of a string.
    Text(u64),
    Other,
}

impl Object {
    /// The function, table or userdata that a value is.
    pub(crate) fn of(value: Value) -> Option<Self> {
        match value {
            Value::Object(gct::FUNC, at) => Some(Self::Function(at)),
            Value::Object(gct::TAB, at) => Some(Self::Table(at)),
            Value::Object(gct::UDATA, at) => Some(Self::Userdata(at)),
            _ => None,
        }
    }

    /// Its address.
    pub(crate) fn address(self) -> u64 {
        let (Self::Function(at) | Self::Table(at) | Self::Userdata(at)) = self;
        at
    }
}

/// What a table's hash part holds. A table that the budget, in nodes, does not cover holds nothing.
pub(crate) fn entries(mem: &dyn Memory, vm: &Vm, table: u64, budget: &mut usize) -> Vec<(Key, Object)> {
    let Some(table) = Table::read(mem, vm, table) else { return Vec::new() };
    let n = (table.hmask as usize).saturating_add(1);
    if n > MAX_NODES_OF_TABLE || n > *budget {
        return Vec::new();
    }
    *budget -= n;
    let nodes = table.nodes(mem, vm, MAX_NODES_OF_TABLE).unwrap_or_default();
    let entry = |(value, key): (Value, Value)| {
        Some((key.object(gct::STR).map_or(Key::Other, Key::Text), Object::of(value)?))
    };
    nodes.into_iter().filter_map(entry).collect()
}

/// What a table's array part holds.
pub(crate) fn elements(mem: &dyn Memory, vm: &Vm, table: u64, budget: &mut usize) -> Vec<Object> {
    let Some(table) = Table::read(mem, vm, table) else { return Vec::new() };
    let n = table.asize as usize;
    if n == 0 || n > MAX_NODES_OF_TABLE || n > *budget {
        return Vec::new();
    }
    *budget -= n;
    let Ok(bytes) = mem.bytes(table.array, n * 8, MAX_NODES_OF_TABLE * 8) else { return Vec::new() };
    let word = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap_or_default());
    bytes.chunks_exact(8).filter_map(|v| Object::of(Value::decode(vm, word(v)))).collect()
}

/// A key as a name; `None` for those that are too long for one.
pub(crate) fn key_name(mem: &dyn Memory, vm: &Vm, string: u64) -> Option<String> {
    let (name, cut) = read_string(mem, vm, string, MAX_NAME).ok()?;
    (!cut).then(|| String::from_utf8_lossy(&name).into_owned())
}
