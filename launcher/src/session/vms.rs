//! The Lua VMs of a process.

use super::objects::Library;
use std::cell::RefCell;
use std::ops::Range;
use upprof_luajit::{CodeMap, Era, Vm};
use upprof_memory::Memory;
use upprof_nginx::Owner;
use upprof_stacks::{AddressSpace, Objects};

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

/// The Lua VMs of a process by nginx's symbols, each verified, or why there is none.
pub(crate) fn find(
    library: &mut Library,
    space: &AddressSpace,
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

/// What debug information says of the LuaJIT in this process: of the file that exports `lua_newstate`.
fn described_luajit(library: &mut Library, space: &AddressSpace) -> Result<Option<Era>, String> {
    let Some(at) = library.symbol(space, "lua_newstate") else { return Ok(None) };
    match space.find(at) {
        Some(mapped) => library.described_luajit(mapped.object),
        None => Ok(None),
    }
}
