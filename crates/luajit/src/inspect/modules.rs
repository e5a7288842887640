//! `package.loaded`: which modules a VM has, and their versions.

use super::{NotTrusted, registry};
use crate::Vm;
use crate::layout::gct;
use crate::proto::read_string;
use crate::value::{Table, Value};
use serde::Serialize;
use upprof_memory::Memory;

const MAX_MODULES: usize = 1 << 16;
const MAX_NODES_OF_MODULE: usize = 1 << 13;
const MAX_NAME: usize = 256;
const MAX_VERSION: usize = 64;

/// The modules of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Modules {
    /// By name.
    pub modules: Vec<Module>,
    /// Whether lua-resty-core is loaded: without it ngx_lua's API is not compiled by the JIT.
    pub resty_core: bool,
}

/// One key of `package.loaded`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Module {
    /// Its name, as `require` was given it. Hostile.
    pub name: String,
    /// Its `_VERSION` or `version`, if it is a table that has one. Hostile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Modules {
    /// Reads them.
    ///
    /// # Errors
    /// [`NotTrusted`] when the registry has no `_LOADED`.
    pub fn read(mem: &dyn Memory, vm: &Vm) -> Result<Self, NotTrusted> {
        let registry = registry(mem, vm)?;
        let registry =
            Table::read(mem, vm, registry).ok_or(NotTrusted::Layout("the registry is no table"))?;
        // LUA_LOADLIBNAME keeps it here (lib_package.c).
        let loaded = registry.get(mem, vm, "_LOADED", MAX_MODULES).and_then(|v| v.object(gct::TAB));
        let loaded = loaded.and_then(|at| Table::read(mem, vm, at));
        let loaded = loaded.ok_or(NotTrusted::Layout("the registry has no table _LOADED"))?;
        let mut modules: Vec<Module> = loaded
            .nodes(mem, vm, MAX_MODULES)?
            .into_iter()
            .filter(|(value, _)| *value != Value::Nil)
            .filter_map(|(value, key)| {
                let (name, _) = read_string(mem, vm, key.object(gct::STR)?, MAX_NAME).ok()?;
                let name = String::from_utf8_lossy(&name).into_owned();
                Some(Module { name, version: version(mem, vm, value) })
            })
            .collect();
        modules.sort();
        let resty_core = modules.iter().any(|m| m.name == "resty.core" || m.name.starts_with("resty.core."));
        Ok(Self { modules, resty_core })
    }
}

fn version(mem: &dyn Memory, vm: &Vm, module: Value) -> Option<String> {
    let table = Table::read(mem, vm, module.object(gct::TAB)?)?;
    let mut nodes = table.nodes(mem, vm, MAX_NODES_OF_MODULE).ok()?;
    // Nearly all else that a module has are functions: their names need not be read.
    nodes.retain(|(value, _)| matches!(value, Value::Number(_) | Value::Object(gct::STR, _)));
    let named = |wanted: &str| {
        nodes.iter().find_map(|(value, key)| {
            let (text, cut) = read_string(mem, vm, key.object(gct::STR)?, wanted.len()).ok()?;
            (!cut && text == wanted.as_bytes()).then_some(*value)
        })
    };
    match named("_VERSION").or_else(|| named("version"))? {
        Value::Object(gct::STR, at) => {
            let (text, _) = read_string(mem, vm, at, MAX_VERSION).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        }
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}
