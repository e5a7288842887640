//! Where a walk over the objects of a VM starts: the globals, the registry, the metatables of types.

use crate::Vm;
use crate::detect::reference;
use crate::layout::gct;
use crate::proto::read_string;
use crate::value::Value;
use upprof_memory::Memory;

/// The globals of the main thread.
pub(crate) fn globals(mem: &dyn Memory, vm: &Vm) -> Option<u64> {
    reference(mem, vm.fixed, vm.main_thread.wrapping_add(vm.fixed.l_env)).ok()
}

/// The registry: `global_State.registrytv`.
pub(crate) fn registry(mem: &dyn Memory, vm: &Vm) -> Option<u64> {
    let value = mem.u64(vm.g.wrapping_add(vm.era.registry.into())).ok()?;
    Value::decode(vm, value).object(gct::TAB)
}

/// The metatable of a table or userdata, which have it in the same place (lj_obj.h).
pub(crate) fn metatable(mem: &dyn Memory, vm: &Vm, of: u64) -> Option<u64> {
    let at = reference(mem, vm.fixed, of.wrapping_add(vm.fixed.tab_metatable)).ok()?;
    (at != 0).then_some(at)
}

/// The metatables that all values of a type share, with the type's name: `global_State.gcroot` begins
/// with the names of the metamethods (lj_obj.h GCROOT_MMNAME), and these follow them. It moves between
/// versions, and is found by those names.
pub(crate) fn type_metatables(mem: &dyn Memory, vm: &Vm) -> Vec<(&'static str, u64)> {
    /// From `jit_base` to `gcroot`: `ctype_state`, and since 2020-06 the random generator.
    const FAR: u64 = 128;
    const MAX_METAMETHODS: u64 = 32;
    let step = u64::from(vm.fixed.ref_size);
    let base = vm.g.wrapping_add(u64::from(vm.era.jit_base));
    let at = |offset: u64| reference(mem, vm.fixed, base.wrapping_add(offset)).ok();
    let spells = |offset: u64, text: &[u8]| {
        at(offset)
            .and_then(|s| read_string(mem, vm, s, text.len() + 1).ok())
            .is_some_and(|(found, _)| found == text)
    };
    let first = (step..FAR)
        .step_by(usize::from(vm.fixed.ref_size))
        .find(|offset| spells(*offset, b"__index") && spells(offset + step, b"__newindex"));
    let Some(first) = first else { return Vec::new() };
    let kind = |offset: u64| at(offset).and_then(|o| mem.u8(o.wrapping_add(vm.fixed.gct)).ok());
    let types = (0..MAX_METAMETHODS)
        .map(|n| first + n * step)
        .find(|offset| at(*offset) == Some(0) || kind(*offset) != Some(gct::STR));
    let Some(types) = types else { return Vec::new() };
    let named =
        [(gct::STR, "string"), (gct::THREAD, "thread"), (gct::FUNC, "function"), (gct::CDATA, "ffi.cdata")];
    let found = named.map(|(number, name)| {
        let offset = types + u64::from(number) * step;
        (kind(offset) == Some(gct::TAB)).then(|| at(offset)).flatten().map(|table| (name, table))
    });
    found.into_iter().flatten().collect()
}
