//! The connections of a worker: what its table's places are used for, its listening sockets, and the
//! timers that watch over connections.

use crate::inspect::view::{MAX_NAME, bit, word_at};
use crate::inspect::{Nginx, Untrusted};
use serde::Serialize;

/// `worker_connections` of this many would be a table of 250 MB.
const MAX_CONNECTIONS: u64 = 1 << 20;
/// A free list that changes while it is followed is followed again.
const ATTEMPTS: usize = 5;
/// `ngx_stat_*` count over all workers since nginx was started.
const STATS: [&str; 7] = [
    "ngx_stat_accepted",
    "ngx_stat_handled",
    "ngx_stat_requests",
    "ngx_stat_active",
    "ngx_stat_reading",
    "ngx_stat_writing",
    "ngx_stat_waiting",
];

/// A worker's connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Places in the table (`worker_connections`).
    pub max: u64,
    /// Places that are free.
    pub free: u64,
    /// Places in use, by what for; together with `free` they are `max`.
    pub used: Used,
    /// When timers of connections fire.
    pub timers: ConnectionTimers,
    /// Its listening sockets.
    pub listeners: Vec<Listener>,
    /// The counters of stub_status, of all workers together, when this build has them.
    pub stub_status: Option<StubStatus>,
}

/// Places of the table that are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Used {
    /// Listening sockets.
    pub listening: u64,
    /// Clients whose connection is busy with a request.
    pub client_active: u64,
    /// Clients without a request: new ones, and kept alive ones.
    pub client_waiting: u64,
    /// Connections to others (upstream servers, cosockets, resolvers) that are busy.
    pub outgoing_active: u64,
    /// Connections to others that are kept in a pool.
    pub outgoing_idle: u64,
    /// Places without a socket: running Lua timers, and others' pretended connections.
    pub without_socket: u64,
    /// The channel to the master and other things that are no connection.
    pub internal: u64,
}

impl Used {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.listening
            + self.client_active
            + self.client_waiting
            + self.outgoing_active
            + self.outgoing_idle
            + self.without_socket
            + self.internal
    }
}

/// Timers of connections, by the time that is left. Deferred deadlines are what nginx has set, not what
/// is configured: `keepalive_timeout` and its like show here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct ConnectionTimers {
    /// Timers for reading.
    pub read: Left,
    /// Timers for writing.
    pub write: Left,
}

/// Timers by the time that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Left {
    /// Past their time: the worker has not come to them.
    pub overdue: u64,
    /// Less than a second.
    pub under_1s: u64,
    /// Less than ten seconds.
    pub under_10s: u64,
    /// Less than a minute.
    pub under_1min: u64,
    /// More.
    pub longer: u64,
}

impl Left {
    fn add(&mut self, left_ms: i64) {
        match left_ms {
            ..0 => self.overdue += 1,
            0..1_000 => self.under_1s += 1,
            1_000..10_000 => self.under_10s += 1,
            10_000..60_000 => self.under_1min += 1,
            _ => self.longer += 1,
        }
    }
}

/// A listening socket of nginx's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// The address as nginx prints it.
    pub address: String,
    /// Its file descriptor, in every process of nginx the same.
    pub fd: i32,
    /// What nginx asked for with `listen(2)`; the kernel may allow less (`somaxconn`). -1 is the default.
    pub backlog: i32,
    /// The worker's number it belongs to, with `reuseport`.
    pub worker: Option<u64>,
}

/// What stub_status prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StubStatus {
    /// Connections accepted since nginx was started.
    pub accepted: u64,
    /// Connections that got a place.
    pub handled: u64,
    /// Requests since nginx was started.
    pub requests: u64,
    /// Clients that are connected.
    pub active: u64,
    /// Of those, reading a request's header.
    pub reading: u64,
    /// Of those, answering.
    pub writing: u64,
    /// Of those, waiting for a request.
    pub waiting: u64,
}

/// The connections of a process, `now_ms` being the machine's `CLOCK_MONOTONIC` in milliseconds.
///
/// # Errors
/// [`Untrusted`] when the table does not check out, or keeps changing; a process without connections
/// (the master) has none.
pub fn connections(nginx: &Nginx<'_>, now_ms: u64) -> Result<Connections, Untrusted> {
    let mut last = Untrusted::None("attempt");
    for _ in 0..ATTEMPTS {
        let table = Table::read(nginx)?;
        let events = Events::of(&table)?;
        match table.free_places() {
            Ok(free) => {
                let (used, timers) = table.count(&free, &events, table.shift(&free)?, now_ms);
                return Ok(Connections {
                    max: table.len,
                    free: table.free.1,
                    used,
                    timers,
                    listeners: listeners(nginx)?,
                    stub_status: stub_status(nginx),
                });
            }
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// The connections of `ngx_cycle_t`, as they were at one time.
pub(crate) struct Table<'a> {
    nginx: &'a Nginx<'a>,
    len: u64,
    free: (u64, u64),
    at: u64,
    connections: Vec<u8>,
    events: [u64; 2],
}

/// The events of all places, for reading and for writing.
struct Events([Vec<u8>; 2]);

impl Events {
    fn of(table: &Table<'_>) -> Result<Self, Untrusted> {
        let size = table.nginx.at.event.size;
        let [read, write] = table.events.map(|at| array(table.nginx, at, table.len, size));
        Ok(Self([read?, write?]))
    }
}

/// An array with an element for each place.
fn array(nginx: &Nginx<'_>, at: u64, len: u64, size: u64) -> Result<Vec<u8>, Untrusted> {
    let len = usize::try_from(len * size).unwrap_or(usize::MAX);
    Ok(nginx.mem.bytes(at, len, (MAX_CONNECTIONS * 512) as usize)?)
}

/// One place of the table.
pub(crate) struct Place<'a> {
    number: usize,
    /// Its `ngx_connection_t`.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Table<'a> {
    /// Reads the table. The first connection must point at the first events: that pins the sizes and
    /// offsets of all three.
    pub(crate) fn read(nginx: &'a Nginx<'a>) -> Result<Self, Untrusted> {
        let (cycle, connection) = (&nginx.at.cycle, &nginx.at.connection);
        let get = |at| nginx.u64(nginx.cycle.wrapping_add(at));
        let (at, len) = (get(cycle.connections)?, get(cycle.connection_n)?);
        if at == 0 {
            return Err(Untrusted::None("connection table in this process"));
        }
        if !(1..=MAX_CONNECTIONS).contains(&len) {
            return Err(Untrusted::Check { what: "ngx_cycle->connection_n", value: len });
        }
        let events = [get(cycle.read_events)?, get(cycle.write_events)?];
        let connections = array(nginx, at, len, connection.size)?;
        for i in [0, len / 2, len - 1] {
            let this = &connections[(i * connection.size) as usize..];
            for (member, first) in [connection.read, connection.write].into_iter().zip(events) {
                let value = word_at(this, member);
                if value != first.wrapping_add(i * nginx.at.event.size) && value != 0 {
                    return Err(Untrusted::Check { what: "the event of a connection, not its own,", value });
                }
            }
        }
        let free = (get(cycle.free_connections)?, get(cycle.free_connection_n)?);
        Ok(Self { nginx, len, free, at, connections, events })
    }

    /// Which places are free, by their number: the list through `ngx_connection_t.data`, as long as nginx
    /// says it is.
    pub(crate) fn free_places(&self) -> Result<Vec<bool>, Untrusted> {
        let of = &self.nginx.at.connection;
        let mut free = vec![false; self.len as usize];
        let (mut at, len) = self.free;
        let mut found = 0;
        while at != 0 {
            let number = self.number(at).filter(|number| !free[*number]);
            let Some(number) = number else {
                return Err(Untrusted::Check { what: "a free connection, not one of the table,", value: at });
            };
            free[number] = true;
            found += 1;
            at = word_at(&self.connections[number * of.size as usize..], of.data);
        }
        match found == len {
            true => Ok(free),
            false => Err(Untrusted::Check {
                what: "ngx_cycle->free_connection_n, not the list's length,",
                value: len,
            }),
        }
    }

    /// All places.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let size = self.nginx.at.connection.size as usize;
        let all = self.connections.chunks_exact(size).enumerate();
        all.map(|(number, bytes)| Place { number, bytes })
    }

    /// Those that are not among these free ones.
    pub(crate) fn used(&self, free: &[bool]) -> impl Iterator<Item = Place<'_>> {
        self.places().filter(|place| !free.get(place.number).is_some_and(|free| *free))
    }

    /// The number of the place at an address.
    fn number(&self, at: u64) -> Option<usize> {
        let (offset, size) = (at.wrapping_sub(self.at), self.nginx.at.connection.size);
        (offset < self.len * size && offset.is_multiple_of(size)).then_some((offset / size) as usize)
    }

    /// Whether an address is that of a place of this table: in `data` of a free place the next free one.
    pub(crate) fn holds(&self, at: u64) -> bool {
        self.number(at).is_some()
    }

    /// By how many bits a patched build has moved `idle` and `reusable` from where its version has them:
    /// Debian 12's 1.22.1 has the bit before them that nginx itself has since 1.23.4 (`pipeline`). nginx
    /// counts the reusable connections: the place is right where so many bits are set. Under load the
    /// count is of a moment later than the table, so the nearest wins; when both places are as near, no
    /// connection is told differently by them but by that moment.
    fn shift(&self, free: &[bool]) -> Result<u64, Untrusted> {
        let (cycle, of) = (&self.nginx.at.cycle, &self.nginx.at.connection);
        // ngx_cycle.h: between the two are modules_used and the queue of reusable connections.
        let counted = self.nginx.u64(self.nginx.cycle.wrapping_add(cycle.modules_n + 32))?;
        let set = |shift| self.used(free).filter(|p| bit(p.bytes, of.reusable_bit + shift)).count() as u64;
        Ok([0, 1].into_iter().min_by_key(|shift| set(*shift).abs_diff(counted)).unwrap_or(0))
    }

    fn count(&self, free: &[bool], events: &Events, shift: u64, now_ms: u64) -> (Used, ConnectionTimers) {
        let (of, event) = (&self.nginx.at.connection, &self.nginx.at.event);
        let (mut used, mut timers) = (Used::default(), ConnectionTimers::default());
        for place in self.used(free) {
            let from = place.number * event.size as usize;
            let [read, write] = events.0.each_ref().map(|all| &all[from..from + event.size as usize]);
            let idle = bit(place.bytes, of.idle_bit + shift);
            let waiting = bit(place.bytes, of.reusable_bit + shift);
            let kind = match place.fd(of.fd) {
                -1 => &mut used.without_socket,
                _ if bit(read, event.accept_bit) => &mut used.listening,
                _ if word_at(place.bytes, of.listening) != 0 && (idle || waiting) => &mut used.client_waiting,
                _ if word_at(place.bytes, of.listening) != 0 => &mut used.client_active,
                // A number is given to what connects, not to the channel.
                _ if word_at(place.bytes, of.number) == 0 => &mut used.internal,
                _ if idle => &mut used.outgoing_idle,
                _ => &mut used.outgoing_active,
            };
            *kind += 1;
            for (bytes, left) in [(read, &mut timers.read), (write, &mut timers.write)] {
                if bit(bytes, event.timer_set_bit) {
                    left.add(word_at(bytes, event.timer).wrapping_sub(now_ms).cast_signed());
                }
            }
        }
        (used, timers)
    }
}

impl Place<'_> {
    fn fd(&self, at: u64) -> i32 {
        (word_at(self.bytes, at) as u32).cast_signed()
    }
}

fn listeners(nginx: &Nginx<'_>) -> Result<Vec<Listener>, Untrusted> {
    const MAX: u64 = 4096;
    let of = &nginx.at.listening;
    let array = nginx.array(nginx.cycle.wrapping_add(nginx.at.cycle.listening))?;
    if array.len > MAX {
        return Err(Untrusted::Check { what: "the number of listening sockets", value: array.len });
    }
    (0..array.len)
        .map(|i| {
            let at = array.elts.wrapping_add(i * of.size);
            let bytes = nginx.mem.bytes(at, of.size as usize, 4096)?;
            let int = |at| (word_at(&bytes, at) as u32).cast_signed();
            Ok(Listener {
                address: nginx.string(at.wrapping_add(of.addr_text), MAX_NAME)?,
                fd: int(of.fd),
                backlog: int(of.backlog),
                worker: bit(&bytes, of.reuseport_bit).then(|| word_at(&bytes, of.worker)),
            })
        })
        .collect()
}

/// `ngx_stat_*`: pointers into memory that all workers share. `None` in a build without stub_status,
/// where the symbols are missing.
fn stub_status(nginx: &Nginx<'_>) -> Option<StubStatus> {
    let mut n = [0; STATS.len()];
    for (name, n) in STATS.into_iter().zip(&mut n) {
        let counter = nginx.u64((nginx.symbol)(name)?).ok()?;
        *n = nginx.u64(counter).ok()?;
    }
    let [accepted, handled, requests, active, reading, writing, waiting] = n;
    Some(StubStatus { accepted, handled, requests, active, reading, writing, waiting })
}
