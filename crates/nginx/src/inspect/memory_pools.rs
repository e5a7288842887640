//! nginx's memory pools: of the cycle, of connections, of requests.

use crate::inspect::connections::Table;
use crate::inspect::requests::main_request;
use crate::inspect::view::word_at;
use crate::inspect::{Nginx, Untrusted};
use serde::Serialize;
use std::collections::HashSet;

const MAX_BLOCKS: u64 = 1 << 20;

/// What a pool has taken from the C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct PoolSize {
    /// Blocks that small allocations are cut from.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// Of those, not given out. Only the rest of each block is counted.
    pub unused_bytes: u64,
    /// Large allocations, each made by `malloc` and not freed yet.
    pub large: u64,
    /// Their bytes, as glibc's header before each says; `None` when one does not look like glibc's.
    pub large_bytes: Option<u64>,
}

impl PoolSize {
    fn add(&mut self, other: &Self) {
        self.blocks += other.blocks;
        self.block_bytes += other.block_bytes;
        self.unused_bytes += other.unused_bytes;
        self.large += other.large;
        self.large_bytes = self.large_bytes.zip(other.large_bytes).map(|(a, b)| a + b);
    }
}

/// The pools of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPools {
    /// The cycle's: the configuration.
    pub cycle: PoolSize,
    /// Of connections.
    pub connections: Pools,
    /// Of requests; timers of Lua have some too.
    pub requests: Pools,
}

/// Pools of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pools {
    /// How many.
    pub count: u64,
    /// All of them together.
    pub total: PoolSize,
    /// Bytes of the largest, large allocations included where they are known.
    pub largest_bytes: u64,
}

impl Default for Pools {
    fn default() -> Self {
        Self { count: 0, total: PoolSize { large_bytes: Some(0), ..PoolSize::default() }, largest_bytes: 0 }
    }
}

impl Pools {
    fn add(&mut self, size: &PoolSize) {
        self.count += 1;
        self.total.add(size);
        self.largest_bytes = self.largest_bytes.max(size.block_bytes + size.large_bytes.unwrap_or(0));
    }
}

/// All pools that can be reached from the cycle and the connection table. What is freed while it is
/// looked at is left out.
///
/// # Errors
/// [`Untrusted`] when the cycle's own pool does not check out.
pub fn memory_pools(nginx: &Nginx<'_>) -> Result<MemoryPools, Untrusted> {
    let cycle_pool = nginx.u64(nginx.cycle.wrapping_add(nginx.at.cycle.pool))?;
    let cycle = size(nginx, cycle_pool)?;
    let mut found = MemoryPools { cycle, connections: Pools::default(), requests: Pools::default() };
    let table = match Table::read(nginx) {
        Ok(table) => table,
        // The master has none.
        Err(Untrusted::None(_)) => return Ok(found),
        Err(e) => return Err(e),
    };
    let free = table.free_places().unwrap_or_default();
    // ngx_lua's watcher is a connection whose pool is the cycle's.
    let mut seen = HashSet::from([cycle_pool]);
    for place in table.used(&free) {
        let mut measure =
            |pool: u64| (pool != 0 && seen.insert(pool)).then(|| size(nginx, pool).ok()).flatten();
        if let Some(size) = measure(word_at(place.bytes, nginx.at.connection.pool)) {
            found.connections.add(&size);
        }
        let main = main_request(nginx, word_at(place.bytes, nginx.at.connection.data));
        let pool = main.and_then(|main| nginx.u64(main.wrapping_add(nginx.at.request.pool)).ok());
        if let Some(size) = pool.and_then(measure) {
            found.requests.add(&size);
        }
    }
    Ok(found)
}

/// The size of one pool (`ngx_pool_t`, ngx_palloc.h). Its blocks are as large as the first
/// (ngx_palloc.c, ngx_palloc_block).
///
/// # Errors
/// [`Untrusted`] when it is no pool.
pub(crate) fn size(nginx: &Nginx<'_>, pool: u64) -> Result<PoolSize, Untrusted> {
    const MAX_BLOCK: u64 = 64 << 20;
    let of = &nginx.at.pool;
    let head = nginx.mem.bytes(pool, 80, 80)?;
    let block = word_at(&head, of.end).wrapping_sub(pool);
    let current = word_at(&head, of.current);
    if !(64..=MAX_BLOCK).contains(&block) || word_at(&head, of.max) > block || current == 0 {
        return Err(Untrusted::Check { what: "ngx_pool_t.d.end", value: word_at(&head, of.end) });
    }
    let mut size = PoolSize { large_bytes: Some(0), ..PoolSize::default() };
    let mut at = pool;
    while at != 0 {
        let w = nginx.words(at, 3)?;
        let unused = w[1].wrapping_sub(w[0]);
        if w[1] != at.wrapping_add(block) || unused > block || size.blocks == MAX_BLOCKS {
            return Err(Untrusted::Check { what: "the end of a pool's block", value: w[1] });
        }
        size.blocks += 1;
        size.block_bytes += block;
        size.unused_bytes += unused;
        at = w[2];
    }
    let mut large = word_at(&head, of.large);
    for _ in 0..MAX_BLOCKS {
        if large == 0 {
            return Ok(size);
        }
        // ngx_pool_large_t: next, alloc; null when it was freed.
        let w = nginx.words(large, 2)?;
        if w[1] != 0 {
            size.large += 1;
            size.large_bytes = size.large_bytes.zip(usable(nginx, w[1])).map(|(a, b)| a + b);
        }
        large = w[0];
    }
    Err(Untrusted::Check { what: "the number of large allocations of a pool", value: MAX_BLOCKS })
}

/// What glibc gave for an allocation: its chunk's size is in the word before, with three flags.
fn usable(nginx: &Nginx<'_>, at: u64) -> Option<u64> {
    const MAX: u64 = 4 << 30;
    let word = nginx.u64(at.checked_sub(8)?).ok()?;
    let chunk = word & !7;
    (at.is_multiple_of(16) && chunk.is_multiple_of(16) && (32..MAX).contains(&chunk)).then(|| chunk - 8)
}
