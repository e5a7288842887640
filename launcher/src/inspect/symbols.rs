//! `symbols`: what is known of each file that the target runs, and which layouts were chosen.

use super::{Ask, Inspector, World};
use serde::Serialize;
use std::collections::BTreeSet;
use upprof_report::inspect::{Found, Part, Subject, Table};

pub(super) struct SymbolsInspector;

/// The files of the target, and its Lua VMs.
#[derive(Serialize)]
pub(super) struct Symbols {
    files: Vec<File>,
    lua_vms: Vec<LuaVm>,
    /// Files that could not be used, and why.
    unusable: Vec<Unusable>,
}

/// An ELF file that is mapped as code.
#[derive(Serialize)]
struct File {
    /// Its name. Hostile.
    file: String,
    /// GNU build id, hexadecimal.
    build_id: Option<String>,
    /// Debug information (`.debug_info`).
    dwarf: bool,
    /// The full table of symbols, which stripping takes away.
    symtab: bool,
    /// The table of exported symbols.
    dynsym: bool,
    /// Rules for unwinding.
    unwind_rows: usize,
    /// The version of LuaJIT that is built into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    luajit: Option<String>,
}

/// A VM and the layout that is used to read it.
#[derive(Serialize)]
struct LuaVm {
    pid: u32,
    vm: String,
    layout: String,
    /// What made the layout a candidate: debug information, or the table of known ones.
    source: &'static str,
    /// What had to agree with the live memory.
    trusted_because: &'static str,
}

#[derive(Serialize)]
struct Unusable {
    file: String,
    why: String,
}

impl Inspector for SymbolsInspector {
    type Artifact = Symbols;
    const NAME: &'static str = "symbols";
    const ABOUT: &'static str = "each file's build id and symbols, and which layouts were chosen";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Symbols>> {
        let library = world.library();
        let mapped: BTreeSet<_> =
            world.processes().iter().flat_map(|p| p.space.mapped()).map(|m| m.object).collect();
        let files = mapped.into_iter().map(|id| {
            let object = library.objects.get(id);
            let has = |section: &str| library.has_section(id, section);
            File {
                file: object.name.clone(),
                build_id: library.build_id(id),
                dwarf: has(".debug_info"),
                symtab: has(".symtab"),
                dynsym: has(".dynsym"),
                unwind_rows: object.table.rows().len(),
                luajit: library.luajit_version(id),
            }
        });
        let symbols = Symbols {
            files: files.collect(),
            lua_vms: world.processes().iter().flat_map(lua_vms).collect(),
            unusable: library
                .unusable
                .iter()
                .map(|(file, why)| Unusable { file: file.clone(), why: why.clone() })
                .collect(),
        };
        vec![Part { of: Subject::default(), found: Found::Found(symbols) }]
    }

    fn tables(found: &[(&Subject, &Symbols)]) -> Vec<Table> {
        let yes = |b: bool| if b { "yes" } else { "-" }.into();
        let heads = ["file", "build id", "DWARF", "symtab", "dynsym", "unwind rows", "LuaJIT"];
        let mut files = Table::new("symbols: files that the target runs", &heads);
        let mut vms = Table::new("symbols: Lua VMs", &["process", "layout", "from"]);
        for (_, symbols) in found {
            for f in &symbols.files {
                files.row(vec![
                    f.file.clone().into(),
                    f.build_id.clone().into(),
                    yes(f.dwarf),
                    yes(f.symtab),
                    yes(f.dynsym),
                    (f.unwind_rows as u64).into(),
                    f.luajit.clone().into(),
                ]);
            }
            for u in &symbols.unusable {
                files.note(format!("{}: not usable: {}", u.file, u.why));
            }
            for vm in &symbols.lua_vms {
                let who = format!("{} ({})", vm.pid, vm.vm);
                vms.row(vec![who.into(), vm.layout.clone().into(), vm.source.into()]);
            }
            if let Some(vm) = symbols.lua_vms.first() {
                vms.note(format!("trusted because {}", vm.trusted_because));
            }
        }
        vec![files, vms]
    }
}

fn lua_vms(process: &super::world::Process) -> Vec<LuaVm> {
    let one = |(owner, vm): &(upprof_nginx::Owner, upprof_luajit::Vm)| LuaVm {
        pid: process.info.pid,
        vm: owner.to_string(),
        layout: vm.describe(),
        source: if vm.era.id == "debug-information" { "debug information" } else { "known layouts" },
        trusted_because: "main thread, mainthref, cur_L, jit_base, vmstate and the dispatch table agree with the \
                          live memory",
    };
    process.vms.iter().map(one).collect()
}
