//! Names of C functions and fast functions, found by walking the globals once: numbers of fast
//! functions shift between versions and stripped C functions have no symbol, tables do not lie.

use crate::Vm;
use crate::layout::gct;
use crate::roots;
use crate::roots::metatable;
use crate::tables::{Key, Object, entries, key_name};
use std::collections::{HashMap, HashSet, VecDeque};
use upprof_memory::Memory;

/// `(lua_CFunction, ffid)` to a name such as `string.gsub`.
pub type Builtins = HashMap<(u64, u8), String>;

const MAX_TABLES: usize = 4096;
/// Nodes looked at in all, empty ones included: 4.8 MB of reads.
const MAX_NODES: usize = 200_000;
/// `package.loaded.x.y.f` and no deeper.
const MAX_DEPTH: usize = 4;

/// A table to look into.
struct Place {
    table: u64,
    /// What stands before a function's name: `string.`, `io.file:`, nothing for globals.
    prefix: String,
    depth: usize,
}

/// Walks the globals of the main thread, the metatables of types and those in the registry, tables
/// nearest to `_G` first, so that the shortest name of a function wins. Bounded in tables, nodes and
/// depth; what cannot be read is left out.
///
/// Closures over one C function (cjson.safe wraps both of its functions in the same one) cannot be told
/// apart by its address: up to three names are given together, more are no name at all.
#[must_use]
pub fn builtins(mem: &dyn Memory, vm: &Vm) -> Builtins {
    const MAX_NAMES: usize = 3;
    let mut walk = Walk { mem, vm, names: HashMap::new(), seen: HashSet::new(), queue: VecDeque::new() };
    walk.run();
    let joined = |functions: Vec<(u64, String)>| {
        let mut names: Vec<String> = functions.into_iter().map(|(_, name)| name).collect();
        names.sort();
        // Metatables that share their methods give each the same name.
        names.dedup();
        (names.len() <= MAX_NAMES).then(|| names.join("|"))
    };
    walk.names.into_iter().filter_map(|(id, functions)| Some((id, joined(functions)?))).collect()
}

struct Walk<'a> {
    mem: &'a dyn Memory,
    vm: &'a Vm,
    /// The functions found for one `(lua_CFunction, ffid)`: address of the `GCfunc`, shortest name.
    names: HashMap<(u64, u8), Vec<(u64, String)>>,
    seen: HashSet<u64>,
    queue: VecDeque<Place>,
}

impl Walk<'_> {
    fn run(&mut self) {
        let mut budget = MAX_NODES;
        if let Some(globals) = roots::globals(self.mem, self.vm) {
            self.add(globals, String::new(), 0);
        }
        for (kind, table) in roots::type_metatables(self.mem, self.vm) {
            self.add(table, format!("{kind}."), MAX_DEPTH);
        }
        if let Some(registry) = roots::registry(self.mem, self.vm) {
            self.seen.insert(registry);
            self.add_registry(registry, &mut budget);
        }
        while let Some(place) = self.queue.pop_front() {
            for (key, value) in entries(self.mem, self.vm, place.table, &mut budget) {
                self.entry(&place, key, value);
            }
        }
    }

    /// What libraries keep in the registry: metatables, by a name or by an address that is nobody's name.
    fn add_registry(&mut self, registry: u64, budget: &mut usize) {
        for (key, value) in entries(self.mem, self.vm, registry, budget) {
            let Object::Table(table) = value else { continue };
            let name = match key {
                Key::Text(at) => key_name(self.mem, self.vm, at),
                Key::Other => None,
            };
            match name.as_deref() {
                // Modules are reached by the globals; these are for hosts that hide them.
                Some("_LOADED") => self.add(table, String::new(), 1),
                // lualib.h LUA_FILEHANDLE
                Some("FILE*") => self.add(table, "io.file:".into(), MAX_DEPTH),
                Some(name) => self.add(table, format!("{name}:"), MAX_DEPTH),
                None => self.add(table, "object:".into(), MAX_DEPTH),
            }
        }
    }

    fn add(&mut self, table: u64, prefix: String, depth: usize) {
        if self.seen.len() < MAX_TABLES && self.seen.insert(table) {
            self.queue.push_back(Place { table, prefix, depth });
        }
    }

    fn entry(&mut self, place: &Place, key: Key, value: Object) {
        let Key::Text(key) = key else { return };
        let key = || key_name(self.mem, self.vm, key);
        let path = |key: &str| format!("{}{key}", place.prefix);
        match value {
            Object::Function(f) => {
                let Some(id) = c_function(self.mem, self.vm, f) else { return };
                let Some(key) = key() else { return };
                // A metamethod is not called as a method.
                let name = match place.prefix.strip_suffix(':') {
                    Some(class) if key.starts_with("__") => format!("{class}.{key}"),
                    _ => path(&key),
                };
                let same: &mut Vec<(u64, String)> = self.names.entry(id).or_default();
                if !same.iter().any(|(known, _)| *known == f) {
                    same.push((f, name));
                }
            }
            // A class whose methods are in a table of their own.
            Object::Table(table) if place.prefix.ends_with(':') => {
                if key().as_deref() == Some("__index") {
                    self.add(table, place.prefix.clone(), MAX_DEPTH);
                }
            }
            Object::Table(table) if place.depth < MAX_DEPTH => {
                let Some(key) = key() else { return };
                // Modules are known by their own names, not by the table that lists them.
                let prefix = match path(&key) {
                    all if all == "package.loaded" => String::new(),
                    one => format!("{one}."),
                };
                self.add(table, prefix, place.depth + 1);
            }
            Object::Userdata(object) if place.depth < MAX_DEPTH => {
                if let Some(meta) = metatable(self.mem, self.vm, object)
                    && !self.seen.contains(&meta)
                    && let Some(key) = key()
                {
                    self.add(meta, format!("{}:", path(&key)), MAX_DEPTH);
                }
            }
            Object::Table(_) | Object::Userdata(_) => {}
        }
    }
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
