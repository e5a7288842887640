//! `pools`, `filters`, `phases`, `memory-pools`: how a worker is set up.

use super::{of_one, of_workers};
use crate::inspect::world::Process;
use crate::inspect::{Ask, Inspector, World};
use serde::Serialize;
use upprof_luajit::inspect::kept_userdata;
use upprof_nginx::Owner;
use upprof_nginx::inspect::{
    CosocketPool, Filters, MemoryPools, Nginx, Phase, PoolSize, UpstreamPool, cosocket_pools, filters,
    memory_pools, phases, upstream_pools,
};
use upprof_report::inspect::{Cell, Found, Part, Subject, Table};

/// Nothing to remember.
pub(super) struct PoolsInspector;

/// The pools of kept-alive connections of one worker.
#[derive(Serialize)]
pub(super) struct KeepalivePools {
    /// Of `upstream` blocks with `keepalive`.
    upstreams: Vec<UpstreamPool>,
    /// Of Lua's sockets (`setkeepalive`), in each of the worker's VMs.
    cosockets: Found<Vec<CosocketPool>>,
}

/// The pools that Lua keeps in the registry.
fn cosockets(process: &Process, nginx: &Nginx<'_>) -> Result<Vec<CosocketPool>, String> {
    let mut pools = Vec::new();
    for (_, vm) in process.vms.iter().filter(|(owner, _)| *owner == Owner::Http) {
        let kept = kept_userdata(&process.memory(), vm).map_err(|e| e.to_string())?;
        pools.extend(cosocket_pools(nginx, vm.main_thread, &kept).map_err(|e| e.to_string())?);
    }
    Ok(pools)
}

impl Inspector for PoolsInspector {
    type Artifact = KeepalivePools;
    const NAME: &'static str = "pools";
    const ABOUT: &'static str =
        "kept-alive connections to servers behind: of upstream blocks, of Lua's sockets";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<KeepalivePools>> {
        of_workers(world, |process, nginx| {
            let upstreams = upstream_pools(nginx)?;
            Ok(KeepalivePools { upstreams, cosockets: cosockets(process, nginx).into() })
        })
    }

    fn tables(found: &[(&Subject, &KeepalivePools)]) -> Vec<Table> {
        let mut table = Table::new(
            "pools: kept-alive connections to servers behind",
            &["process", "upstream", "idle", "of at most", "most requests", "servers"],
        );
        for (of, pools) in found {
            for pool in &pools.upstreams {
                let peers = pool.peers.iter().map(|(peer, n)| format!("{peer} ({n})"));
                table.row(vec![
                    of.to_string().into(),
                    pool.upstream.as_str().into(),
                    pool.idle.into(),
                    pool.max_idle.into(),
                    pool.most_requests.into(),
                    peers.collect::<Vec<_>>().join(", ").into(),
                ]);
            }
        }
        if found.iter().all(|(_, pools)| pools.upstreams.is_empty()) {
            table.note("no upstream block has keepalive");
        }
        let mut lua = Table::new(
            "pools: kept-alive connections of Lua's sockets",
            &["process", "pool", "idle", "of at most", "connections", "waiting", "most reused"],
        );
        for (of, pools) in found {
            match &pools.cosockets {
                Found::Found(all) => all.iter().for_each(|p| {
                    lua.row(vec![
                        of.to_string().into(),
                        p.pool.as_str().into(),
                        p.idle.into(),
                        p.max_idle.into(),
                        p.connections.into(),
                        p.waiting.into(),
                        p.most_reused.into(),
                    ]);
                }),
                Found::NotTrusted { why } => lua.note(format!("{of}: {why}")),
            }
        }
        vec![table, lua]
    }
}

/// Nothing to remember.
pub(super) struct FiltersInspector;

impl Inspector for FiltersInspector {
    type Artifact = Filters;
    const NAME: &'static str = "filters";
    const ABOUT: &'static str = "the filters that an answer goes through, in their order";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Filters>> {
        of_one(world, |_, nginx| filters(nginx))
    }

    fn tables(found: &[(&Subject, &Filters)]) -> Vec<Table> {
        let mut table = Table::new("filters: in the order they run, by the modules' order", &["module"]);
        for (_, filters) in found {
            filters.modules.iter().for_each(|m| table.row(vec![m.as_str().into()]));
            table.note(format!("first header filter: {}", filters.first_header));
            table.note(format!("first body filter: {}", filters.first_body));
        }
        vec![table]
    }
}

/// Nothing to remember.
pub(super) struct PhasesInspector;

/// The phases of a request.
#[derive(Serialize)]
pub(super) struct Phases {
    phases: Vec<Phase>,
}

impl Inspector for PhasesInspector {
    type Artifact = Phases;
    const NAME: &'static str = "phases";
    const ABOUT: &'static str = "the handlers of each phase of a request, in the order they run";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Phases>> {
        of_one(world, |_, nginx| Ok(Phases { phases: phases(nginx)? }))
    }

    fn tables(found: &[(&Subject, &Phases)]) -> Vec<Table> {
        let mut table = Table::new("phases: handlers in the order they run", &["phase", "handler"]);
        for phase in found.iter().flat_map(|(_, p)| &p.phases) {
            for handler in &phase.handlers {
                table.row(vec![phase.phase.into(), handler.as_str().into()]);
            }
        }
        vec![table]
    }
}

/// Nothing to remember.
pub(super) struct MemoryPoolsInspector;

impl Inspector for MemoryPoolsInspector {
    type Artifact = MemoryPools;
    const NAME: &'static str = "memory-pools";
    const ABOUT: &'static str = "nginx's memory pools: of the configuration, of connections, of requests";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<MemoryPools>> {
        of_workers(world, |_, nginx| memory_pools(nginx))
    }

    fn tables(found: &[(&Subject, &MemoryPools)]) -> Vec<Table> {
        let mut table = Table::new(
            "memory-pools: nginx's (large: allocations of their own, as glibc says)",
            &["process", "of", "pools", "blocks", "in blocks", "unused", "large", "in large", "largest pool"],
        );
        for (of, pools) in found {
            let mut row = |what: &str, count: u64, size: &PoolSize, largest: Cell| {
                table.row(vec![
                    of.to_string().into(),
                    what.into(),
                    count.into(),
                    size.blocks.into(),
                    Cell::Bytes(size.block_bytes),
                    Cell::Bytes(size.unused_bytes),
                    size.large.into(),
                    size.large_bytes.map_or(Cell::Missing, Cell::Bytes),
                    largest,
                ]);
            };
            row("the configuration", 1, &pools.cycle, Cell::Missing);
            for (what, all) in [("connections", &pools.connections), ("requests", &pools.requests)] {
                row(what, all.count, &all.total, Cell::Bytes(all.largest_bytes));
            }
        }
        vec![table]
    }
}
