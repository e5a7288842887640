//! `connections` and `requests`: what a worker is busy with.

use super::{monotonic_ms, of_workers, unix_ms};
use crate::inspect::world::{Process, World};
use crate::inspect::{Ask, Inspector};
use serde::Serialize;
use std::path::PathBuf;
use upprof_nginx::inspect::{
    Connections, Kind, Left, Listener, Request, Upstream, UpstreamState, connections, requests,
};
use upprof_report::inspect::{Cell, Part, Subject, Table};
use upprof_target::{ListenLosses, ListenQueue};

/// Nothing to remember.
pub(super) struct ConnectionsInspector;

/// A worker's connections, and what the kernel says of its listening sockets.
#[derive(Serialize)]
pub(super) struct Seen {
    #[serde(flatten)]
    connections: Connections,
    queues: Vec<Queue>,
    /// Times that a queue in the target's network namespace was full, since that was made; `None` when
    /// the kernel does not tell.
    listen_overflows: Option<u64>,
    /// Connections it dropped, those among them.
    listen_drops: Option<u64>,
}

/// The queue of a listening socket.
#[derive(Serialize)]
struct Queue {
    address: String,
    /// What nginx asked for; the kernel may allow less.
    backlog: i32,
    /// Connections that nobody has accepted yet (Recv-Q); `None` for a socket that is not this process's.
    waiting: Option<u64>,
}

/// What the kernel says of a network namespace. All workers of a container have the same one, which is
/// read once a look.
struct Network {
    namespace: Option<PathBuf>,
    listening: Vec<ListenQueue>,
    losses: Option<ListenLosses>,
}

impl Network {
    fn of<'n>(
        known: &'n mut Vec<Self>,
        world: &World<'_>,
        process: &Process,
        listeners: &[Listener],
    ) -> &'n Self {
        let (proc, pid) = (&world.target.proc, process.info.pid);
        let namespace = proc.network(pid);
        let same = known.iter().position(|n| n.namespace.is_some() && n.namespace == namespace);
        let i = same.unwrap_or_else(|| {
            let ipv6 = listeners.iter().any(|l| l.address.starts_with('['));
            let listening = proc.listen_queues(pid, ipv6).unwrap_or_default();
            known.push(Self { namespace, listening, losses: proc.listen_losses(pid).ok() });
            known.len() - 1
        });
        &known[i]
    }
}

impl Seen {
    fn of(world: &World<'_>, process: &Process, connections: Connections, network: &Network) -> Self {
        let (proc, pid) = (&world.target.proc, process.info.pid);
        let waiting = |fd: i32| {
            let inode = proc.socket_inode(pid, u32::try_from(fd).ok()?)?;
            network.listening.iter().find(|q| q.inode == inode).map(|q| q.waiting)
        };
        let queues = connections.listeners.iter().map(|l| Queue {
            address: l.address.clone(),
            backlog: l.backlog,
            waiting: waiting(l.fd),
        });
        let queues = queues.collect();
        Self {
            connections,
            queues,
            listen_overflows: network.losses.map(|l| l.overflows),
            listen_drops: network.losses.map(|l| l.drops),
        }
    }
}

impl Inspector for ConnectionsInspector {
    type Artifact = Seen;
    const NAME: &'static str = "connections";
    const ABOUT: &'static str = "places of the connection table by use, listening sockets, connection timers";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Seen>> {
        let mut networks = Vec::new();
        of_workers(world, |process, nginx| {
            let connections = connections(nginx, monotonic_ms())?;
            let network = Network::of(&mut networks, world, process, &connections.listeners);
            Ok(Seen::of(world, process, connections, network))
        })
    }

    fn tables(found: &[(&Subject, &Seen)]) -> Vec<Table> {
        let mut table = Table::new(
            "connections: places of each worker's table",
            &[
                "process",
                "max",
                "free",
                "used",
                "client busy",
                "client waiting",
                "out busy",
                "out idle",
                "listening",
                "without socket",
                "internal",
            ],
        );
        let mut timers = Table::new(
            "connections: timers by the time that is left",
            &["process", "for", "overdue", "< 1 s", "< 10 s", "< 1 min", "longer"],
        );
        let mut queues = Table::new(
            "connections: listening sockets",
            &["process", "address", "backlog asked for", "not accepted yet"],
        );
        for (of, seen) in found {
            for q in &seen.queues {
                queues.row(vec![
                    of.to_string().into(),
                    q.address.as_str().into(),
                    q.backlog.to_string().into(),
                    q.waiting.into(),
                ]);
            }
            let c = &seen.connections;
            let u = &c.used;
            let mut row: Vec<Cell> = vec![of.to_string().into()];
            row.extend(
                [
                    c.max,
                    c.free,
                    u.total(),
                    u.client_active,
                    u.client_waiting,
                    u.outgoing_active,
                    u.outgoing_idle,
                    u.listening,
                    u.without_socket,
                    u.internal,
                ]
                .map(Cell::Count),
            );
            table.row(row);
            for (what, left) in [("reading", &c.timers.read), ("writing", &c.timers.write)] {
                let Left { overdue, under_1s, under_10s, under_1min, longer } = *left;
                let mut row: Vec<Cell> = vec![of.to_string().into(), what.into()];
                row.extend([overdue, under_1s, under_10s, under_1min, longer].map(Cell::Count));
                timers.row(row);
            }
        }
        if let Some(s) = found.iter().find_map(|(_, seen)| seen.connections.stub_status) {
            table.note(format!(
                "all workers, since nginx was started: {} accepted, {} handled, {} requests; now {} active: {} reading, {} writing, {} waiting",
                s.accepted, s.handled, s.requests, s.active, s.reading, s.writing, s.waiting
            ));
        }
        let lost = |seen: &&Seen| Some((seen.listen_overflows?, seen.listen_drops?));
        if let Some((overflows, drops)) = found.iter().find_map(|(_, seen)| lost(seen)) {
            queues.note(format!(
                "network namespace, since it was made: {overflows} times full, {drops} connections dropped"
            ));
        }
        vec![table, queues, timers]
    }
}

/// Nothing to remember.
pub(super) struct RequestsInspector;

/// What a worker serves now.
#[derive(Serialize)]
pub(super) struct Requests {
    requests: Vec<Request>,
}

impl Inspector for RequestsInspector {
    type Artifact = Requests;
    const NAME: &'static str = "requests";
    const ABOUT: &'static str = "requests that are being served, oldest first, and running Lua timers";

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Requests>> {
        of_workers(world, |_, nginx| Ok(Requests { requests: requests(nginx, unix_ms())? }))
    }

    fn tables(found: &[(&Subject, &Requests)]) -> Vec<Table> {
        let mut table = Table::new(
            "requests: being served, oldest first",
            &["process", "kind", "age", "method", "host", "URI", "client", "phase", "upstream", "pool"],
        );
        for (of, found) in found {
            for r in &found.requests {
                let kind = match r.kind {
                    Kind::Client => "request",
                    Kind::ClientStream => "stream",
                    Kind::Timer => "timer",
                };
                table.row(vec![
                    of.to_string().into(),
                    kind.into(),
                    r.age_ms.map_or(Cell::Missing, super::ms),
                    r.method.as_str().into(),
                    r.host.as_str().into(),
                    r.uri.as_str().into(),
                    r.client.as_str().into(),
                    r.phase.map_or(Cell::Missing, Cell::from),
                    r.upstream.as_ref().map(upstream).into(),
                    Cell::Bytes(r.pool.block_bytes + r.pool.large_bytes.unwrap_or(0)),
                ]);
            }
        }
        if found.iter().all(|(_, found)| found.requests.is_empty()) {
            table.note("none at this moment");
        }
        vec![table]
    }
}

fn upstream(upstream: &Upstream) -> String {
    let peer = upstream.peer.as_deref().unwrap_or("?");
    match (upstream.state, upstream.connect_ms) {
        (UpstreamState::Starting, _) => format!("{peer}: starting"),
        (UpstreamState::Connecting, _) => format!("{peer}: connecting"),
        (UpstreamState::WaitingForHeader, Some(ms)) => format!("{peer}: no answer yet, connected in {ms} ms"),
        (UpstreamState::WaitingForHeader, None) => format!("{peer}: no answer yet"),
        (UpstreamState::ReadingBody, _) => format!("{peer}: {}, body", upstream.status),
        (UpstreamState::Finished, _) => format!("{peer}: {}, done", upstream.status),
    }
}
