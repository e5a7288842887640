//! `modules`: what each Lua VM has loaded.

use super::{Ask, Inspector, World};
use upprof_luajit::inspect::Modules;
use upprof_report::inspect::{Part, Subject, Table};

pub(super) struct ModulesInspector;

impl Inspector for ModulesInspector {
    type Artifact = Modules;
    const NAME: &'static str = "modules";
    const ABOUT: &'static str = "package.loaded with versions, and whether resty.core is there";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Modules>> {
        world.of_vms(|_, vm, memory| Modules::read(memory, vm))
    }

    fn tables(found: &[(&Subject, &Modules)]) -> Vec<Table> {
        let mut tables: Vec<Table> = Vec::new();
        let mut shown: Vec<(&Modules, Vec<String>)> = Vec::new();
        for (of, modules) in found {
            // Workers of one master have the same ones: said once.
            match shown.iter_mut().find(|(m, _)| m == modules) {
                Some((_, who)) => who.push(of.to_string()),
                None => shown.push((modules, vec![of.to_string()])),
            }
        }
        for (modules, who) in shown {
            let title = format!("modules: package.loaded of {}", who.join(", "));
            let mut table = Table::new(title, &["module", "version"]);
            for m in &modules.modules {
                table.row(vec![m.name.clone().into(), m.version.clone().into()]);
            }
            table.note(if modules.resty_core {
                "resty.core is loaded"
            } else {
                "resty.core is not loaded: calls of ngx_lua's API are not compiled"
            });
            tables.push(table);
        }
        tables
    }
}
