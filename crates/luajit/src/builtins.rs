//! Names of C functions and fast functions, found by walking the globals once: numbers of fast
//! functions shift between versions and stripped C functions have no symbol, tables do not lie.

use crate::Vm;
use crate::detect::reference;
use crate::layout::gct;
use crate::proto::read_string;
use std::collections::{HashMap, HashSet, VecDeque};
use upprof_memory::Memory;

/// `(lua_CFunction, ffid)` to a name such as `string.gsub`.
pub type Builtins = HashMap<(u64, u8), String>;

const MAX_TABLES: usize = 4096;
/// Nodes looked at in all, empty ones included: 4.8 MB of reads.
const MAX_NODES: usize = 200_000;
const MAX_NODES_OF_TABLE: usize = 1 << 16;
const MAX_NAME: usize = 64;
/// `package.loaded.x.y.f` and no deeper.
const MAX_DEPTH: usize = 4;
/// Bytes of a hash node: value, key, next (lj_obj.h Node), the same in both modes.
pub(crate) const NODE: usize = 24;

/// The functions found for one `(lua_CFunction, ffid)`: address of the `GCfunc`, shortest name.
type Found = HashMap<(u64, u8), Vec<(u64, String)>>;

/// Walks the globals of the main thread, tables nearest to `_G` first, so that the shortest name of a
/// function wins. Bounded in tables, nodes and depth; what cannot be read is left out.
///
/// Closures over one C function (cjson.safe wraps both of its functions in the same one) cannot be told
/// apart by its address: up to three names are given together, more are no name at all.
#[must_use]
pub fn builtins(mem: &dyn Memory, vm: &Vm) -> Builtins {
    const MAX_NAMES: usize = 3;
    walk(mem, vm)
        .into_iter()
        .filter(|(_, functions)| functions.len() <= MAX_NAMES)
        .map(|(id, functions)| {
            let mut names: Vec<String> = functions.into_iter().map(|(_, name)| name).collect();
            names.sort();
            (id, names.join("|"))
        })
        .collect()
}

fn walk(mem: &dyn Memory, vm: &Vm) -> Found {
    let mut names = Found::new();
    let Ok(globals) = reference(mem, vm.fixed, vm.main_thread.wrapping_add(vm.fixed.l_env)) else {
        return names;
    };
    let mut seen = HashSet::from([globals]);
    let mut queue = VecDeque::from([(globals, String::new(), 0)]);
    let mut budget = MAX_NODES;
    while let Some((table, prefix, depth)) = queue.pop_front() {
        for (key, value) in string_entries(mem, vm, table, &mut budget) {
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Function(f) => {
                    if let Some(id) = c_function(mem, vm, f) {
                        let same: &mut Vec<(u64, String)> = names.entry(id).or_default();
                        if !same.iter().any(|(known, _)| *known == f) {
                            same.push((f, name));
                        }
                    }
                }
                Value::Table(t) if depth < MAX_DEPTH && seen.len() < MAX_TABLES && seen.insert(t) => {
                    // Modules are known by their own names, not by the table that lists them.
                    let name = if name == "package.loaded" { String::new() } else { name };
                    queue.push_back((t, name, depth + 1));
                }
                Value::Table(_) | Value::Other => {}
            }
        }
    }
    names
}

enum Value {
    Function(u64),
    Table(u64),
    Other,
}

/// Type and address of a tagged value (lj_obj.h): GC64 has the type in the top 17 bits.
pub(crate) fn untag(vm: &Vm, v: u64) -> (u8, u64) {
    if vm.fixed.ref_size == 8 {
        (!(v.cast_signed() >> 47) as u8, v & ((1 << 47) - 1))
    } else {
        (!(v >> 32) as u8, v & 0xffff_ffff)
    }
}

/// The entries of a table whose keys are strings. A table that the budget does not cover has none.
fn string_entries(mem: &dyn Memory, vm: &Vm, table: u64, budget: &mut usize) -> Vec<(String, Value)> {
    let f = vm.fixed;
    let head = || {
        (mem.u8(table.wrapping_add(f.gct)).ok()? == gct::TAB).then_some((
            reference(mem, f, table.wrapping_add(f.tab_node)).ok()?,
            mem.u32(table.wrapping_add(f.tab_hmask)).ok()? as usize,
        ))
    };
    let Some((node, hmask)) = head() else { return Vec::new() };
    let n = hmask.saturating_add(1);
    if n > MAX_NODES_OF_TABLE || n > *budget {
        return Vec::new();
    }
    *budget -= n;
    let Ok(bytes) = mem.bytes(node, n * NODE, MAX_NODES_OF_TABLE * NODE) else { return Vec::new() };
    let word = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap_or_default());
    bytes
        .chunks_exact(NODE)
        .filter_map(|n| {
            let (value_type, value) = untag(vm, word(&n[..8]));
            let (key_type, key) = untag(vm, word(&n[8..16]));
            if key_type != gct::STR {
                return None;
            }
            let value = match value_type {
                gct::FUNC => Value::Function(value),
                gct::TAB => Value::Table(value),
                _ => Value::Other,
            };
            if matches!(value, Value::Other) {
                return None;
            }
            let (name, cut) = read_string(mem, vm, key, MAX_NAME).ok()?;
            (!cut).then(|| (String::from_utf8_lossy(&name).into_owned(), value))
        })
        .collect()
}

/// The identity of a C function or fast function; `None` for a Lua function.
fn c_function(mem: &dyn Memory, vm: &Vm, func: u64) -> Option<(u64, u8)> {
    let f = vm.fixed;
    if mem.u8(func.wrapping_add(f.gct)).ok()? != gct::FUNC {
        return None;
    }
    let ffid = mem.u8(func.wrapping_add(f.fn_ffid)).ok()?;
    (ffid != 0).then_some((mem.u64(func.wrapping_add(f.fn_f)).ok()?, ffid))
}
