//! Names of C functions and fast functions, found by walking the globals once: numbers of fast
//! functions shift between versions and stripped C functions have no symbol, tables do not lie.

use crate::Vm;
use crate::detect::reference;
use crate::layout::gct;
use crate::proto::read_string;
use crate::value::{Table, Value};
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
                Value::Object(gct::FUNC, f) => {
                    if let Some(id) = c_function(mem, vm, f) {
                        let same: &mut Vec<(u64, String)> = names.entry(id).or_default();
                        if !same.iter().any(|(known, _)| *known == f) {
                            same.push((f, name));
                        }
                    }
                }
                Value::Object(gct::TAB, t)
                    if depth < MAX_DEPTH && seen.len() < MAX_TABLES && seen.insert(t) =>
                {
                    // Modules are known by their own names, not by the table that lists them.
                    let name = if name == "package.loaded" { String::new() } else { name };
                    queue.push_back((t, name, depth + 1));
                }
                _ => {}
            }
        }
    }
    names
}

/// The entries of a table whose keys are strings and whose values are functions or tables. A table that
/// the budget does not cover has none.
fn string_entries(mem: &dyn Memory, vm: &Vm, table: u64, budget: &mut usize) -> Vec<(String, Value)> {
    let Some(table) = Table::read(mem, vm, table) else { return Vec::new() };
    let n = (table.hmask as usize).saturating_add(1);
    if n > MAX_NODES_OF_TABLE || n > *budget {
        return Vec::new();
    }
    *budget -= n;
    let nodes = table.nodes(mem, vm, MAX_NODES_OF_TABLE).unwrap_or_default();
    let entries = nodes.into_iter().filter_map(|(value, key)| {
        let Value::Object(gct::FUNC | gct::TAB, _) = value else { return None };
        let (name, cut) = read_string(mem, vm, key.object(gct::STR)?, MAX_NAME).ok()?;
        (!cut).then(|| (String::from_utf8_lossy(&name).into_owned(), value))
    });
    entries.collect()
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
