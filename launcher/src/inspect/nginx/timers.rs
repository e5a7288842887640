//! `timers`: of Lua and of nginx.

use super::{monotonic_ms, of_workers};
use crate::inspect::{Ask, Inspector, World};
use upprof_nginx::inspect::{Timers, timers};
use upprof_report::inspect::{Cell, Part, Subject, Table};

/// Nothing to remember.
pub(super) struct TimersInspector;

impl Inspector for TimersInspector {
    type Artifact = Timers;
    const NAME: &'static str = "timers";
    const ABOUT: &'static str = "Lua timers against their limits, nginx's timers by what they call";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Timers>> {
        of_workers(world, |_, nginx| timers(nginx, monotonic_ms()))
    }

    fn tables(found: &[(&Subject, &Timers)]) -> Vec<Table> {
        let mut table = Table::new(
            "timers: of each worker",
            &[
                "process",
                "Lua pending",
                "of at most",
                "Lua running",
                "of at most",
                "nginx timers",
                "overdue",
                "next in",
            ],
        );
        let mut handlers =
            Table::new("timers: by what they call", &["process", "handler", "timers", "overdue", "next in"]);
        for (of, timers) in found {
            let lua = |n: fn(&upprof_nginx::inspect::LuaTimers) -> u64| -> Cell {
                timers.lua.as_ref().map(n).into()
            };
            table.row(vec![
                of.to_string().into(),
                lua(|l| l.pending),
                lua(|l| l.max_pending),
                lua(|l| l.running),
                lua(|l| l.max_running),
                timers.total.into(),
                timers.overdue.into(),
                timers.next_ms.map_or(Cell::Missing, super::ms),
            ]);
            if timers.torn {
                table.note(format!("{of}: the timers changed while they were read, some may be missing"));
            }
            for h in &timers.handlers {
                handlers.row(vec![
                    of.to_string().into(),
                    h.handler.as_str().into(),
                    h.count.into(),
                    h.overdue.into(),
                    super::ms(h.next_ms),
                ]);
            }
        }
        vec![table, handlers]
    }
}
