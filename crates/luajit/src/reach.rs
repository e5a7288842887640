//! Which Lua functions a VM's tables lead to, and which prototype each prototype was made by: for
//! functions whose source cannot be read.

use crate::Vm;
use crate::bytecode::{Body, Stored};
use crate::detect::reference;
use crate::layout::gct;
use crate::proto::Proto;
use crate::roots;
use crate::roots::metatable;
use crate::tables::{Key, Object, elements, entries, key_name};
use crate::value::Value;
use std::collections::{HashMap, HashSet, VecDeque};
use upprof_memory::Memory;

/// Objects looked at: modules come first, the data of an application last.
const MAX_OBJECTS: usize = 50_000;
/// Nodes and array slots of tables, and constants of prototypes: 12 MB of reads.
const MAX_NODES: usize = 500_000;
/// Bytes of prototypes that make others.
const MAX_BYTES: usize = 64 << 20;
/// `GCproto.flags`: makes other functions (lj_obj.h).
const PROTO_CHILD: u8 = 1;
/// `module.x.y.f` is a name, what is deeper is not.
const MAX_NAME_DEPTH: u8 = 4;
/// LuaJIT's limit is 60 (LJ_MAX_UPVAL).
const MAX_UPVALUES: u8 = 60;

/// What was found by one walk over a VM's objects.
#[derive(Debug, Default)]
pub struct Reach {
    /// Prototype to the one whose bytecode makes it.
    parents: HashMap<u64, u64>,
    /// Prototype to the name that the tables lead to it by, the shortest.
    paths: HashMap<u64, String>,
    /// Whether the walk ended at its bounds, not at the end of what can be reached.
    pub cut: bool,
}

struct Walk<'a> {
    mem: &'a dyn Memory,
    vm: &'a Vm,
    reach: Reach,
    seen: HashSet<u64>,
    /// What to look at, its name, and how deep it is.
    queue: VecDeque<(Object, Option<String>, u8)>,
    nodes: usize,
    bytes: usize,
}

impl Reach {
    /// Walks the objects of a VM, tables nearest to the globals first. Bounded in objects and in bytes;
    /// what cannot be read is left out.
    #[must_use]
    pub fn of(mem: &dyn Memory, vm: &Vm) -> Self {
        let mut walk = Walk {
            mem,
            vm,
            reach: Self::default(),
            seen: HashSet::new(),
            queue: VecDeque::new(),
            nodes: MAX_NODES,
            bytes: MAX_BYTES,
        };
        walk.run();
        walk.reach
    }

    /// What a function is called in memory: `M.access` or `(anonymous in f)` by the bytecode of the
    /// function that made it, `module.access` by the tables it is in.
    #[must_use]
    pub fn name(&self, mem: &dyn Memory, vm: &Vm, proto: u64) -> Option<String> {
        self.name_within(mem, vm, proto, 0)
    }

    fn name_within(&self, mem: &dyn Memory, vm: &Vm, proto: u64, depth: u32) -> Option<String> {
        const MAX_DEPTH: u32 = 8;
        let path = self.paths.get(&proto).cloned();
        let parent = self.parents.get(&proto).copied().filter(|_| depth < MAX_DEPTH);
        let Some(parent) = parent else { return path };
        // The prototype there now may be another.
        let Some(body) = Body::read(mem, vm, parent).filter(|b| b.made(proto)) else { return path };
        match body.stores(proto) {
            Stored::As(name) => Some(name),
            Stored::In(key) => Some(path.unwrap_or(key)),
            Stored::Nowhere if path.is_some() => path,
            Stored::Nowhere => {
                let main = Proto::read_unsampled(mem, vm, parent).ok().filter(|p| p.firstline == 0);
                let place = if main.is_some() { None } else { self.name_within(mem, vm, parent, depth + 1) };
                Some(match place {
                    Some(place) if place.starts_with("(anonymous") => place,
                    Some(place) => format!("(anonymous in {place})"),
                    None => "(anonymous)".into(),
                })
            }
        }
    }
}

impl Walk<'_> {
    fn run(&mut self) {
        if let Some(globals) = roots::globals(self.mem, self.vm) {
            self.add(Object::Table(globals), Some(String::new()), 0);
        }
        if let Some(registry) = roots::registry(self.mem, self.vm) {
            // Before the registry itself, which leads to it without a name.
            for (key, value) in entries(self.mem, self.vm, registry, &mut self.nodes) {
                let Key::Text(at) = key else { continue };
                if key_name(self.mem, self.vm, at).as_deref() == Some("_LOADED") {
                    self.add(value, Some(String::new()), 1);
                }
            }
            self.add(Object::Table(registry), None, 0);
        }
        for (_, table) in roots::type_metatables(self.mem, self.vm) {
            self.add(Object::Table(table), None, 0);
        }
        while let Some((value, path, depth)) = self.queue.pop_front() {
            match value {
                Object::Table(table) => {
                    self.table(table, path.as_deref(), depth);
                    self.meta(table);
                }
                Object::Userdata(object) => self.meta(object),
                Object::Function(function) => self.function(function, path),
            }
        }
    }

    fn add(&mut self, value: Object, path: Option<String>, depth: u8) {
        if self.seen.len() >= MAX_OBJECTS {
            self.reach.cut = true;
        } else if self.seen.insert(value.address()) {
            self.queue.push_back((value, path, depth));
        }
    }

    fn table(&mut self, table: u64, path: Option<&str>, depth: u8) {
        for (key, value) in entries(self.mem, self.vm, table, &mut self.nodes) {
            let named = match (key, path) {
                (Key::Text(at), Some(path)) if depth < MAX_NAME_DEPTH => {
                    key_name(self.mem, self.vm, at).map(|key| match path {
                        "" => key,
                        path => format!("{path}.{key}"),
                    })
                }
                _ => None,
            };
            self.add(value, named, depth + 1);
        }
        for value in elements(self.mem, self.vm, table, &mut self.nodes) {
            self.add(value, None, MAX_NAME_DEPTH);
        }
    }

    fn meta(&mut self, object: u64) {
        if let Some(table) = metatable(self.mem, self.vm, object) {
            self.add(Object::Table(table), None, MAX_NAME_DEPTH);
        }
    }

    /// A Lua function: its prototype, and what its upvalues hold.
    fn function(&mut self, function: u64, path: Option<String>) {
        let f = self.vm.fixed;
        let head = || {
            if self.mem.u8(function.wrapping_add(f.gct)).ok()? != gct::FUNC
                || self.mem.u8(function.wrapping_add(f.fn_ffid)).ok()? != 0
            {
                return None;
            }
            let code = reference(self.mem, f, function.wrapping_add(f.fn_pc)).ok()?;
            let upvalues = self.mem.u8(function.wrapping_add(f.fn_nupvalues)).ok()?;
            Some((code.checked_sub(f.pt_size)?, upvalues.min(MAX_UPVALUES)))
        };
        let Some((proto, upvalues)) = head() else { return };
        self.proto(proto);
        if let Some(path) = path {
            self.reach.paths.entry(proto).or_insert(path);
        }
        let mut body = None;
        for i in 0..upvalues {
            let at = function.wrapping_add(f.fn_uvptr + u64::from(i) * u64::from(f.ref_size));
            let read = || {
                let upvalue = reference(self.mem, f, at).ok()?;
                let v = reference(self.mem, f, upvalue.wrapping_add(f.uv_v)).ok()?;
                Object::of(Value::decode(self.vm, self.mem.u64(v).ok()?))
            };
            let Some(value) = read().filter(|v| !self.seen.contains(&v.address())) else { continue };
            // What the functions of a module share, they know by the names of the module's locals.
            let body = body.get_or_insert_with(|| Body::read(self.mem, self.vm, proto));
            let name = body.as_ref().and_then(|body| body.upvalue(i.into()));
            self.bytes = self.bytes.saturating_sub(body.as_ref().map_or(0, Body::len));
            self.add(value, name.filter(|_| self.bytes > 0), 1);
        }
    }

    /// A prototype and those it makes, all the way down.
    fn proto(&mut self, proto: u64) {
        let mut todo = vec![proto];
        while let Some(at) = todo.pop() {
            if self.seen.len() >= MAX_OBJECTS {
                self.reach.cut = true;
                return;
            }
            let flags = self.mem.u8(at.wrapping_add(self.vm.fixed.pt_flags)).unwrap_or(0);
            if !self.seen.insert(at) || flags & PROTO_CHILD == 0 {
                continue;
            }
            let Some(body) = Body::read(self.mem, self.vm, at) else { continue };
            self.bytes = self.bytes.saturating_sub(body.len());
            for constant in body.constants() {
                self.nodes = self.nodes.saturating_sub(1);
                if self.nodes == 0 || self.bytes == 0 {
                    self.reach.cut = true;
                    return;
                }
                if self.mem.u8(constant.wrapping_add(self.vm.fixed.gct)) == Ok(gct::PROTO) {
                    self.reach.parents.entry(constant).or_insert(at);
                    todo.push(constant);
                }
            }
        }
    }
}
