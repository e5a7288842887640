//! The Lua VMs of a process.

use super::objects::Library;
use std::cell::RefCell;
use std::ops::Range;
use upprof_luajit::{CodeMap, Era, Vm};
use upprof_memory::Memory;
use upprof_nginx::Owner;
use upprof_stacks::{AddressSpace, Objects};
use upprof_target::{MapPath, Mapping};

/// A process's code, for the detection of LuaJIT.
struct Code<'a> {
    space: &'a AddressSpace,
    objects: &'a Objects,
}

impl CodeMap for Code<'_> {
    fn code_mapping(&self, addr: u64) -> Option<Range<u64>> {
        self.space.find(addr).map(|m| m.start..m.end)
    }

    fn function(&self, addr: u64) -> Option<Range<u64>> {
        let m = self.space.find(addr)?;
        let f = self.objects.get(m.object).table.function_at(addr.wrapping_sub(m.bias))?;
        let at = |v: u32| u64::from(v).wrapping_add(m.bias);
        Some(at(f.start)..at(f.end))
    }
}

/// The Lua VMs of a process, each verified, or why there is none: by nginx's symbols, and in any other program
/// that exports LuaJIT's API by what a VM looks like in memory.
pub(crate) fn find(
    library: &mut Library,
    space: &AddressSpace,
    maps: &[Mapping],
    memory: &dyn Memory,
) -> (Vec<(Owner, Vm)>, Option<String>) {
    let mut vms = Vec::new();
    let mut reasons = Vec::new();
    for owner in [Owner::Http, Owner::Stream] {
        match find_one(library, space, memory, owner) {
            Ok(vm) => vms.push((owner, vm)),
            Err(why) => reasons.push(format!("{owner}: {why}")),
        }
    }
    if library.symbol(space, "ngx_cycle").is_none() && library.symbol(space, "lua_newstate").is_some() {
        match find_hosted(library, space, maps, memory) {
            Ok(found) => vms.extend(found.into_iter().map(|vm| (Owner::Host, vm))),
            Err(why) => reasons.push(format!("{}: {why}", Owner::Host)),
        }
    }
    let why = vms.is_empty().then(|| reasons.join("; "));
    (vms, why)
}

fn find_one(
    library: &mut Library,
    space: &AddressSpace,
    memory: &dyn Memory,
    owner: Owner,
) -> Result<Vm, String> {
    let shared = RefCell::new(&mut *library);
    let symbol = |name: &str| {
        let known = upprof_nginx::SYMBOLS.iter().find(|s| **s == name)?;
        shared.borrow_mut().symbol(space, known)
    };
    let state = upprof_nginx::lua_state(memory, &symbol, owner).map_err(|e| e.to_string())?;
    let described = described_luajit(library, space)?;
    let code = Code { space, objects: &library.objects };
    upprof_luajit::attach(memory, &code, state, described.as_ref()).map_err(|e| e.to_string())
}

/// VMs that no symbol leads to. What looks like one and is refused is not one; the last refusal is told when all
/// are.
fn find_hosted(
    library: &mut Library,
    space: &AddressSpace,
    maps: &[Mapping],
    memory: &dyn Memory,
) -> Result<Vec<Vm>, String> {
    let data = |m: &&Mapping| m.read && m.write && !m.exec && !matches!(m.path, MapPath::File { .. });
    let ranges: Vec<Range<u64>> = maps.iter().filter(data).map(|m| m.start..m.end).collect();
    let described = described_luajit(library, space)?;
    let code = Code { space, objects: &library.objects };
    let mut refused = "no main thread of a VM in its memory".to_owned();
    let mut found = Vec::new();
    for thread in upprof_luajit::main_threads(memory, &ranges) {
        match upprof_luajit::attach(memory, &code, thread, described.as_ref()) {
            Ok(vm) => found.push(vm),
            Err(e) => refused = e.to_string(),
        }
    }
    if found.is_empty() { Err(refused) } else { Ok(found) }
}

/// What debug information says of the LuaJIT in this process: of the file that exports `lua_newstate`.
fn described_luajit(library: &mut Library, space: &AddressSpace) -> Result<Option<Era>, String> {
    let Some(at) = library.symbol(space, "lua_newstate") else { return Ok(None) };
    match space.find(at) {
        Some(mapped) => library.described_luajit(mapped.object),
        None => Ok(None),
    }
}
