//! A small nginx 1.22.1, written by hand from its headers (bytes as `offsetof` gives them for a build
//! with `--with-compat`), whole and broken in every way.

use super::*;
use std::cell::Cell;
use std::collections::HashMap;
use upprof_memory::{Memory, ReadError};

const SIGNATURE: &[u8] = b"8,4,8,0011111111010111001111111111111111\0";
const CORE_MODULE: u64 = 0x2000;
const HTTP_MODULE: u64 = 0x2100;
const LUA_MODULE: u64 = 0x2200;
const CYCLE: u64 = 0x1_0000;
const ZONE: u64 = 0x1_2000;
const LUA_CONF: u64 = 0x1_6000;
const CONNECTIONS: u64 = 0x2_0000;
const READ_EVENTS: u64 = 0x3_0000;
const WRITE_EVENTS: u64 = 0x4_0000;
const TREE: u64 = 0x5_0000;
const POOL: u64 = 0x6_0000;
const CONF_BUFFER: u64 = 0x7_0000;
const SHM: u64 = 0x10_0000;
const SHM_SIZE: u64 = 0x2_0000;
const SHCTX: u64 = SHM + 0x2000;
const NODES: u64 = SHM + 0x3000;
const NOW: u64 = 1_700_000_000_000;

/// Words at addresses; what was not written is 0 in known pages and unmapped elsewhere.
#[derive(Clone, Default)]
struct World {
    words: HashMap<u64, u64>,
    reads: Cell<u64>,
}

impl Memory for World {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if buf.is_empty() {
            return Ok(());
        }
        let miss = ReadError::Unmapped { addr, len: buf.len() };
        let end = addr.checked_add(buf.len() as u64).ok_or(miss)?;
        if addr < 0x1000 || end > SHM + SHM_SIZE {
            return Err(miss);
        }
        self.reads.set(self.reads.get() + buf.len() as u64);
        for (i, byte) in buf.iter_mut().enumerate() {
            let at = addr + i as u64;
            let word = self.words.get(&(at & !7)).copied().unwrap_or(0);
            *byte = word.to_le_bytes()[(at & 7) as usize];
        }
        Ok(())
    }
}

impl World {
    fn put(&mut self, at: u64, words: &[u64]) {
        self.words.extend(words.iter().enumerate().map(|(i, w)| (at + i as u64 * 8, *w)));
    }

    fn put_bytes(&mut self, at: u64, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            let at = at + i as u64;
            let word = self.words.entry(at & !7).or_default();
            let mut all = word.to_le_bytes();
            all[(at & 7) as usize] = *byte;
            *word = u64::from_le_bytes(all);
        }
    }

    /// An entry of the dictionary: links, then the node over `color`.
    fn node(&mut self, at: u64, links: [u64; 3], kind: u8, key: &[u8], value: &[u8], expires: u64) {
        self.put(at, &[7, links[0], links[1], links[2]]);
        let mut node = vec![0, kind];
        node.extend((key.len() as u16).to_le_bytes());
        node.extend((value.len() as u32).to_le_bytes());
        node.extend(expires.to_le_bytes());
        node.extend([0; 20]); // queue, user flags
        node.extend(key);
        node.extend(value);
        self.put_bytes(at + 32, &node);
    }

    fn whole() -> Self {
        let mut w = Self::default();
        w.put(0x1000, &[CYCLE]); // ngx_cycle
        w.put_bytes(0x3000, SIGNATURE);
        for (module, name, kind) in [
            (CORE_MODULE, &b"ngx_core_module\0"[..], 0x4552_4f43),
            (HTTP_MODULE, b"ngx_http_module\0", 0x4552_4f43),
            (LUA_MODULE, b"ngx_http_lua_module\0", 0x5054_5448),
        ] {
            w.put(module + 8, &[3, 0x3100 + (module & 0xfff)]);
            w.put(module + 40, &[1_022_001, 0x3000]);
            w.put(module + 72, &[kind]);
            w.put_bytes(0x3100 + (module & 0xfff), name);
        }
        w.put(LUA_MODULE, &[1]);
        w.put(CYCLE, &[0x1_4000, POOL]); // conf_ctx, pool
        w.put(CYCLE + 120, &[CONNECTIONS + 2 * 240, 2]); // free_connections, free_connection_n
        w.put(CYCLE + 136, &[0x1_1000, 3]); // modules, modules_n
        w.put(0x1_1000, &[CORE_MODULE, HTTP_MODULE, LUA_MODULE]);
        w.put(CYCLE + 192, &[0x1_3000, 0, 296]); // listening
        w.put(CYCLE + 272, &[0x1_5000, 1, 24]); // config_dump
        w.put(CYCLE + 432, &[0, ZONE, 1, 0, 88]); // shared_memory
        w.put(CYCLE + 488, &[4]); // connection_n
        w.put(CYCLE + 504, &[CONNECTIONS, READ_EVENTS, WRITE_EVENTS]);
        // conf_ctx[3] -> main_conf -> [1]
        w.put(0x1_4000 + 3 * 8, &[0x1_4100]);
        w.put(0x1_4100, &[0x1_4200]);
        w.put(0x1_4200 + 8, &[LUA_CONF]);
        w.put(LUA_CONF + 48, &[CYCLE, POOL, 1024, 5, 256, 2]);
        w.put(0x1_5000, &[10, 0x1_5100, CONF_BUFFER]);
        w.put_bytes(0x1_5100, b"/etc/n.cnf");
        w.put(
            CONF_BUFFER,
            &[CONF_BUFFER + 100, CONF_BUFFER + 126, 0, 0, CONF_BUFFER + 100, CONF_BUFFER + 126],
        );
        w.put_bytes(CONF_BUFFER + 100, b"set $admin_key opensesame;");
        w.connections();
        w.shm();
        w.put(0x2800, &[TREE, 0x2900]); // ngx_event_timer_rbtree: root, sentinel
        w.timer(TREE, [TREE + 0x100, 0x2900, 0], 1500);
        w.timer(TREE + 0x100, [0x2900, 0x2900, TREE], 900);
        // d.last, d.end, d.next, d.failed; max, current, chain, large
        w.put(POOL, &[POOL + 200, POOL + 1024, POOL + 2048, 0, 944, POOL, 0, POOL + 100]);
        w.put(POOL + 2048, &[POOL + 3000, POOL + 2048 + 1024, 0, 0]);
        w.put_bytes(POOL + 100, &[0_u64.to_le_bytes(), (POOL + 0x2010).to_le_bytes()].concat());
        w.put(POOL + 0x2008, &[513]); // glibc: a chunk of 512 bytes, the one before it in use
        w
    }

    /// A tree's node is 40 bytes into its event; the handler 16.
    fn timer(&mut self, at: u64, links: [u64; 3], key: u64) {
        self.put(at - 40 + 16, &[0xabc0]);
        self.put(at, &[key, links[0], links[1], links[2]]);
    }

    /// A client, a running timer of Lua without a socket, and two free places.
    fn connections(&mut self) {
        for i in 0..4 {
            self.put(CONNECTIONS + i * 240 + 8, &[READ_EVENTS + i * 96, WRITE_EVENTS + i * 96]);
            self.put(CONNECTIONS + i * 240 + 24, &[u64::from(u32::MAX)]);
        }
        self.put(CONNECTIONS + 24, &[9]);
        self.put(CONNECTIONS + 64, &[0x1_3000]); // listening
        self.put(CONNECTIONS + 224, &[0b11 << (8 + 6)]); // idle, reusable: bits 6 and 7 of byte 225
        self.put(CYCLE + 176, &[1]); // reusable_connections_n
        self.put(CONNECTIONS + 2 * 240, &[CONNECTIONS + 3 * 240]);
    }

    fn shm(&mut self) {
        self.put(ZONE + 8, &[SHM, SHM_SIZE, 5, 0x1_3500]);
        self.put(ZONE + 64, &[LUA_MODULE]);
        self.put_bytes(0x1_3500, b"limit");
        self.put(SHM, &[17, 3, 8, 3]); // lock, wait, min_size, min_shift
        self.put(SHM + 72, &[SHM + 0x400, 20, SHM + 0x1000, SHM + SHM_SIZE]); // stats, pfree, start, end
        self.put(SHM + 184, &[SHCTX, SHM]); // data, addr
        self.put(SHM + 0x400 + 4 * 32, &[32, 30, 99, 6]); // slot of 128 bytes
        let (root, left, right) = (NODES, NODES + 0x100, NODES + 0x200);
        self.put(SHCTX, &[root, SHCTX + 24, 0]);
        self.put(SHCTX + 64, &[left + 48, right + 48]); // the queue's last and first
        let none = SHCTX + 24;
        self.node(root, [left, right, 0], 4, b"root", b"abc", 0);
        self.node(left, [none, none, root], 3, b"left", &2.5_f64.to_le_bytes(), NOW + 5000);
        self.node(right, [none, none, root], 1, b"right", &[1], NOW - 1);
    }
}

fn symbol(name: &'static str) -> Option<u64> {
    Some(match name {
        "ngx_cycle" => 0x1000,
        "ngx_core_module" => CORE_MODULE,
        "ngx_http_module" => HTTP_MODULE,
        "ngx_http_lua_module" => LUA_MODULE,
        "ngx_event_timer_rbtree" => 0x2800,
        _ => return None,
    })
}

fn with<T>(world: &World, look: impl FnOnce(&Nginx<'_>) -> Result<T, Untrusted>) -> Result<T, Untrusted> {
    look(&Nginx::attach(world, &symbol, &|addr| format!("{addr:#x}"))?)
}

fn wanted() -> Wanted<'static> {
    Wanted { key: Some("left"), values: true, now_unix_ms: NOW, max_entries: 1000 }
}

fn the_zone(nginx: &Nginx<'_>) -> Result<Zone, Untrusted> {
    zones(nginx)?.remove(0)
}

#[test]
fn a_zone_is_read_with_its_owner_its_slots_and_its_lock() {
    let zone = with(&World::whole(), the_zone).expect("a zone");
    assert_eq!((zone.name.as_str(), zone.owner.as_deref()), ("limit", Some("ngx_http_lua_module")));
    assert_eq!((zone.size_bytes, zone.pages, zone.free_pages), (SHM_SIZE, 31, 20));
    assert_eq!((zone.lock_holder_ns_pid, zone.lock_waiters), (Some(17), 3));
    let sizes: Vec<u64> = zone.slots.iter().map(|s| s.size_bytes).collect();
    assert_eq!(sizes, [8, 16, 32, 64, 128, 256, 512, 1024, 2048]);
    let slot = zone.slots[4];
    assert_eq!((slot.total, slot.used, slot.requests, slot.failures), (32, 30, 99, 6));
}

#[test]
fn a_zone_that_contradicts_itself_is_refused() {
    for (at, value) in [
        (SHM + 192, SHM + 8),           // another address
        (SHM + 96, SHM + SHM_SIZE - 8), // another end
        (SHM + 88, SHM + SHM_SIZE),     // starts behind its end
        (SHM + 24, 13),                 // slots larger than a page
        (SHM + 16, 16),                 // the smallest size is not 1 << min_shift
        (SHM + 80, 32),                 // more free pages than pages
        (SHM, 1 << 40),                 // a lock that no pid has
        (SHM + 72, SHM - 8),            // statistics outside
    ] {
        let mut world = World::whole();
        world.put(at, &[value]);
        let refused = with(&world, the_zone);
        assert!(matches!(refused, Err(Untrusted::Check { .. })), "{at:#x} = {value:#x}: {refused:?}");
    }
}

#[test]
fn a_dictionary_is_counted_and_its_entries_told() {
    let found =
        with(&World::whole(), |nginx| dict(nginx, &the_zone(nginx)?, &wanted())).expect("a dictionary");
    assert_eq!((found.entries, found.expired, found.without_ttl, found.ttl.under_10s), (3, 1, 1, 1));
    assert_eq!((found.key_bytes, found.value_bytes), (13, 12));
    assert_eq!(found.types, Types { string: 1, number: 1, boolean: 1, list: 0 });
    let asked = found.asked.expect("left");
    assert_eq!((asked.value.as_deref(), asked.ttl_ms), (Some("2.5"), Some(5000)));
    assert_eq!(found.next_evicted.map(|e| e.key).as_deref(), Some("left"));
    assert_eq!(found.last_used.map(|e| e.key).as_deref(), Some("right"));
    assert!(!found.torn && !found.truncated);
    let few = Wanted { max_entries: 2, ..wanted() };
    let cut = with(&World::whole(), |nginx| dict(nginx, &the_zone(nginx)?, &few)).expect("a dictionary");
    assert!(cut.truncated && cut.entries == 2);
}

#[test]
fn a_tree_that_does_not_hang_together_is_torn() {
    let (root, left) = (NODES, NODES + 0x100);
    for (at, value) in [
        (left + 24, left),     // another parent
        (left + 8, root),      // a circle
        (root + 8, SHM + 8),   // outside of what the allocator gives
        (root + 16, u64::MAX), // nowhere
    ] {
        let mut world = World::whole();
        world.put(at, &[value]);
        let found = with(&world, |nginx| dict(nginx, &the_zone(nginx)?, &wanted())).expect("a part of it");
        assert!(found.torn && found.entries < 4, "{at:#x} = {value:#x}: {found:?}");
    }
    let mut world = World::whole();
    world.put(SHCTX + 8, &[SHCTX]);
    assert!(with(&world, |nginx| dict(nginx, &the_zone(nginx)?, &wanted())).is_err(), "no dictionary at all");
}

/// A request of the client; members from `start_sec` on lie `moved` bytes further than in 1.22.1, as in a
/// build that somebody has patched a member into.
fn with_request(moved: u64) -> World {
    const REQUEST: u64 = 0x8_0000;
    const TEXT: u64 = 0x8_1000;
    let mut world = World::whole();
    world.put(CONNECTIONS, &[REQUEST]); // data
    world.put(REQUEST, &[0x5054_5448, CONNECTIONS]); // signature, connection
    world.put(REQUEST + 88, &[POOL]);
    world.put_bytes(TEXT, b"GET /a/path?token=sesame HTTP/1.1");
    let at = REQUEST + moved;
    world.put(at + 960, &[NOW / 1000 - 2, 500]); // start_sec, start_msec
    world.put(at + 976, &[2, 1001]); // method, http_version
    world.put(at + 992, &[33, TEXT, 7, TEXT + 4, 12, TEXT + 12]); // request_line, uri, args
    world.put(at + 1040, &[0, 0, 20, TEXT + 4]); // exten, unparsed_uri
    world.put(at + 1072, &[3, TEXT, 8, TEXT + 25]); // method_name, http_protocol
    world.put(at + 1128, &[REQUEST]); // main
    world
}

#[test]
fn a_request_is_told_without_its_arguments() {
    let found = with(&with_request(0), |nginx| requests(nginx, NOW)).expect("requests");
    assert_eq!(found.len(), 1);
    let request = &found[0];
    assert_eq!(
        (request.method.as_str(), request.uri.as_str(), request.kind),
        ("GET", "/a/path", Kind::Client)
    );
    assert_eq!((request.age_ms, request.fd), (Some(1500), Some(9)));
}

#[test]
fn what_free_places_point_at_is_not_read() {
    let reads = |last_free: u64| {
        let mut world = with_request(0);
        world.put(CONNECTIONS + 3 * 240, &[last_free]);
        let found = with(&world, |nginx| requests(nginx, NOW)).expect("requests");
        assert_eq!(found.len(), 1);
        world.reads.get()
    };
    let next_free = CONNECTIONS + 240;
    assert_eq!(reads(next_free), reads(0));
    assert!(reads(next_free + 8) > reads(0), "no place: it might be a request");
}

#[test]
fn a_process_is_checked_again_only_when_it_has_another_cycle() {
    let mut world = World::whole();
    let name = |addr| format!("{addr:#x}");
    let checked = Nginx::attach(&world, &symbol, &name).expect("nginx").checked();
    world.reads.set(0);
    let again = Nginx::attach_again(&world, &symbol, &name, checked.clone()).expect("nginx");
    assert_eq!((again.modules().len(), world.reads.get()), (3, 8), "the place of the cycle alone");
    world.put(0x1000, &[CYCLE + 8]);
    let other = Nginx::attach_again(&world, &symbol, &name, checked).err();
    assert!(matches!(other, Some(Untrusted::Check { .. })), "{other:?}");
}

/// Kong and APISIX patch nginx: where members were added, nothing is shown, least of all arguments as a path.
#[test]
fn requests_of_a_patched_nginx_are_refused() {
    for moved in [8, 16, 24, 32, 48, 64, 128] {
        let refused = with(&with_request(moved), |nginx| requests(nginx, NOW));
        assert!(matches!(refused, Err(Untrusted::Check { .. })), "{moved}: {refused:?}");
    }
    // One that looks at itself as its main request all the same.
    for moved in [8_u64, 16, 24, 32, 48] {
        let mut world = with_request(moved);
        world.put(0x8_0000 + 1128, &[0x8_0000]);
        let found = with(&world, |nginx| requests(nginx, NOW));
        assert!(found.is_err() || found.as_ref().is_ok_and(Vec::is_empty), "{moved}: {found:?}");
    }
}

#[test]
fn places_of_the_connection_table_are_told_by_use() {
    let found = with(&World::whole(), |nginx| connections(nginx, 0)).expect("connections");
    assert_eq!((found.max, found.free, found.used.total()), (4, 2, 2));
    assert_eq!((found.used.client_waiting, found.used.without_socket), (1, 1));
    assert_eq!(found.stub_status, None, "a build without it");
    for (at, value) in [
        (CYCLE + 128, 3),                               // another length of the free list
        (CONNECTIONS + 3 * 240, CONNECTIONS + 8),       // a free connection that is none
        (CONNECTIONS + 3 * 240, CONNECTIONS + 2 * 240), // a circle
        (CONNECTIONS + 8, READ_EVENTS + 8),             // an event that is not its own
        (CYCLE + 488, 0),                               // no connections
        (CYCLE + 488, u64::MAX),                        // all of them
    ] {
        let mut world = World::whole();
        world.put(at, &[value]);
        let refused = with(&world, |nginx| connections(nginx, 0));
        assert!(matches!(refused, Err(Untrusted::Check { .. })), "{at:#x} = {value:#x}: {refused:?}");
    }
}

/// Debian 12 has patched a bit into `ngx_connection_t` of 1.22.1, before `idle` and `reusable`.
#[test]
fn bits_that_a_patch_has_moved_are_found_by_what_nginx_counts() {
    const OUTGOING: u64 = CONNECTIONS + 240;
    let uses = |moved: u64| {
        let mut world = World::whole();
        world.put(CONNECTIONS + 224, &[0b11 << (8 + 6 + moved)]);
        // A connection to a server behind, kept: idle, but nothing that nginx may close for want of places.
        world.put(OUTGOING + 24, &[12]);
        world.put(OUTGOING + 200, &[5]); // number
        world.put(OUTGOING + 224, &[1 << (8 + 6 + moved)]);
        with(&world, |nginx| connections(nginx, 0)).expect("connections").used
    };
    for moved in [0, 1] {
        let used = uses(moved);
        assert_eq!((used.client_waiting, used.outgoing_idle, used.outgoing_active), (1, 1, 0), "{moved}");
    }
}

#[test]
fn timers_are_counted_by_what_they_call() {
    let found = with(&World::whole(), |nginx| timers(nginx, 1000)).expect("timers");
    assert_eq!(found.lua, Some(LuaTimers { pending: 5, max_pending: 1024, running: 2, max_running: 256 }));
    assert_eq!((found.total, found.overdue, found.next_ms), (2, 1, Some(-100)));
    assert_eq!(found.handlers.len(), 1);
    assert_eq!((found.handlers[0].handler.as_str(), found.handlers[0].count), ("0xabc0", 2));
    for (at, value) in [(LUA_CONF + 48, CYCLE + 8), (LUA_CONF + 72, 4096), (LUA_CONF + 64, u64::MAX)] {
        let mut world = World::whole();
        world.put(at, &[value]);
        assert!(with(&world, |nginx| timers(nginx, 1000)).is_err(), "{at:#x} = {value:#x}");
    }
    let mut world = World::whole();
    world.put(TREE + 0x108, &[TREE]);
    assert!(with(&world, |nginx| timers(nginx, 1000)).expect("timers").torn, "a circle");
}

#[test]
fn a_pool_is_measured_block_by_block() {
    let found = with(&World::whole(), memory_pools).expect("pools").cycle;
    let unused = (1024 - 200) + (2048 + 1024 - 3000);
    let expected =
        PoolSize { blocks: 2, block_bytes: 2048, unused_bytes: unused, large: 1, large_bytes: Some(504) };
    assert_eq!(found, expected);
    let mut world = World::whole();
    world.put(POOL + 0x2008, &[7]);
    assert_eq!(with(&world, memory_pools).expect("pools").cycle.large_bytes, None, "no chunk of glibc's");
    world.put(POOL + 2048 + 8, &[POOL]);
    assert!(with(&world, memory_pools).is_err(), "a block of another size");
}

#[test]
fn the_loaded_configuration_comes_without_its_secrets() {
    let files = with(&World::whole(), loaded).expect("files");
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].path.as_str(), files[0].text.as_str()), ("/etc/n.cnf", "set $admin_key [hidden];"));
}

/// A build without --with-debug: what there is, is the name of the file.
#[test]
fn a_build_that_keeps_no_configuration_says_so_and_names_the_file() {
    let mut world = World::whole();
    world.put(CYCLE + 272, &[0x1_5000, 0, 24]); // config_dump
    world.put(CYCLE + 536, &[10, 0x1_5100]); // conf_file
    let kept = with(&world, loaded);
    assert_eq!(kept, Err(Untrusted::None("loaded configuration kept in this build")));
    assert_eq!(with(&world, path).as_deref(), Ok("/etc/n.cnf"));
}

#[test]
fn another_nginx_is_refused_before_anything_is_shown() {
    for (at, value) in [
        (CORE_MODULE + 40, 1_000_000), // older than all that is known
        (0x3000 + 16, 0),              // a signature that is none
        (0x1_1000, LUA_MODULE),        // the first module is not the core's
        (CYCLE + 144, 5000),           // too many modules
        (CYCLE + 192 + 16, 304),       // listening sockets of another size
        (CYCLE + 432 + 32, 96),        // zones of another size
        (0x1000, 0),                   // no cycle yet
    ] {
        let mut world = World::whole();
        world.put(at, &[value]);
        assert!(with(&world, |_| Ok(())).is_err(), "{at:#x} = {value:#x}");
    }
}

/// Whatever the memory holds: no panic, no endless loop, no reading without end.
#[test]
fn corrupted_memory_is_read_within_bounds() {
    let whole = World::whole();
    let mut places: Vec<u64> = whole.words.keys().copied().collect();
    places.sort_unstable();
    let mut seed = 1_u64;
    let mut random = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for round in 0..1000 {
        let mut world = whole.clone();
        for _ in 0..=random(6) {
            let at = places[random(places.len() as u64) as usize];
            let value = match random(5) {
                0 => 0,
                1 => u64::MAX - random(64),
                2 => 1 << random(64),
                3 => places[random(places.len() as u64) as usize],
                _ => whole.words[&at].wrapping_add(8),
            };
            world.put(at, &[value]);
        }
        world.reads.set(0);
        let _ = with(&world, |nginx| {
            let _ = connections(nginx, 0);
            let _ = requests(nginx, NOW);
            let _ = timers(nginx, 0);
            let _ = phases(nginx);
            let _ = filters(nginx);
            let _ = upstream_pools(nginx);
            let _ = memory_pools(nginx);
            let _ = loaded(nginx);
            let _ = path(nginx);
            for zone in zones(nginx)?.into_iter().flatten() {
                let _ = dict(nginx, &zone, &wanted());
            }
            Ok(())
        });
        assert!(world.reads.get() < 64 << 20, "round {round}: {} bytes were read", world.reads.get());
    }
}
