//! Userdata that C code keeps in tables of the registry.

use super::{NotTrusted, registry};
use crate::Vm;
use crate::layout::gct;
use crate::proto::read_string;
use crate::value::Table;
use upprof_memory::Memory;

const MAX_NODES: usize = 1 << 16;
const MAX_KEY: usize = 256;
/// Userdata that are told, of all tables together.
const MAX_FOUND: usize = 1 << 14;

/// Userdata under string keys in tables that are values of the registry, as (key, address of what the
/// userdata holds). The registry's own keys are not looked at: ngx_lua's are addresses of its own.
///
/// # Errors
/// [`NotTrusted`] when the registry cannot be read.
pub fn kept_userdata(mem: &dyn Memory, vm: &Vm) -> Result<Vec<(String, u64)>, NotTrusted> {
    let root = registry(mem, vm)?;
    let root = Table::read(mem, vm, root).ok_or(NotTrusted::Layout("the registry is no table"))?;
    let mut found = Vec::new();
    for (value, _) in root.nodes(mem, vm, MAX_NODES)? {
        let Some(table) = value.object(gct::TAB).and_then(|at| Table::read(mem, vm, at)) else { continue };
        let Ok(nodes) = table.nodes(mem, vm, MAX_NODES) else { continue };
        for (value, key) in nodes {
            let (Some(data), Some(key)) = (value.object(gct::UDATA), key.object(gct::STR)) else { continue };
            let Ok((key, false)) = read_string(mem, vm, key, MAX_KEY) else { continue };
            if found.len() < MAX_FOUND {
                let payload = data.wrapping_add(vm.fixed.ud_size);
                found.push((String::from_utf8_lossy(&key).into_owned(), payload));
            }
        }
    }
    Ok(found)
}
