//! Shared memory zones: who owns them, how full they are, and who holds their lock.

use crate::inspect::view::{MAX_NAME, word_at};
use crate::inspect::{Nginx, Untrusted};
use serde::Serialize;

/// One zone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Zone {
    /// Its name in the configuration.
    pub name: String,
    /// The module it belongs to, by its tag (`ngx_shm_zone_t.tag`).
    pub owner: Option<String>,
    /// Its size in bytes, as configured.
    pub size_bytes: u64,
    /// Pages the allocator has for data.
    pub pages: u64,
    /// Pages that are free as a whole (`ngx_slab_pool_t.pfree`). Slots may have room while there are none.
    pub free_pages: u64,
    /// The pid that holds the lock, in the target's own pid namespace.
    pub lock_holder_ns_pid: Option<u32>,
    /// Processes that sleep until the lock is free.
    pub lock_waiters: u64,
    /// By size of allocation. Larger ones take whole pages, and nginx does not count those.
    pub slots: Vec<Slot>,
    /// Where its `ngx_slab_pool_t` is in the process.
    #[serde(skip)]
    pub addr: u64,
}

/// Allocations of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slot {
    /// Bytes of each allocation.
    pub size_bytes: u64,
    /// Places there are now.
    pub total: u64,
    /// Places in use.
    pub used: u64,
    /// Allocations asked for since the zone was made.
    pub requests: u64,
    /// Those that got nothing.
    pub failures: u64,
    /// Failures a second since the look before; only with two looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures_per_second: Option<f64>,
}

const MAX_ZONES: u64 = 4096;
const MAX_PARTS: usize = 1024;
/// nginx takes the machine's page size; on x86-64 it is always this.
pub(crate) const PAGE: u64 = 4096;
/// `ngx_slab_pool_t` up to its mutex, and some more.
const SLAB: usize = 256;

/// Every zone of the configuration that this process runs.
///
/// # Errors
/// [`Untrusted`] when the list itself does not check out.
pub fn zones(nginx: &Nginx<'_>) -> Result<Vec<Result<Zone, Untrusted>>, Untrusted> {
    let size = nginx.at.zone.size;
    let parts = nginx.list(nginx.cycle.wrapping_add(nginx.at.cycle.shared_memory), MAX_PARTS, MAX_ZONES)?;
    let mut zones = Vec::new();
    for (elts, len) in parts {
        for i in 0..len {
            if zones.len() as u64 == MAX_ZONES {
                return Err(Untrusted::Check { what: "the number of zones", value: MAX_ZONES });
            }
            zones.push(zone(nginx, elts.wrapping_add(i * size)));
        }
    }
    Ok(zones)
}

fn zone(nginx: &Nginx<'_>, at: u64) -> Result<Zone, Untrusted> {
    let of = &nginx.at.zone;
    let shm = at.wrapping_add(of.shm);
    let size_bytes = nginx.u64(shm.wrapping_add(nginx.at.shm.size))?;
    let addr = nginx.u64(shm.wrapping_add(nginx.at.shm.addr))?;
    let name = nginx.string(shm.wrapping_add(nginx.at.shm.name), MAX_NAME)?;
    let tag = nginx.u64(at.wrapping_add(of.tag))?;
    let owner = nginx.modules().iter().find(|m| m.at == tag).map(|m| m.name.clone());
    let slab = Slab::read(nginx, addr, size_bytes)?;
    Ok(Zone {
        name,
        owner,
        size_bytes,
        pages: (slab.end - slab.start) / PAGE,
        free_pages: slab.free_pages,
        lock_holder_ns_pid: slab.lock,
        lock_waiters: slab.waiters,
        slots: slab.slots,
        addr,
    })
}

/// `ngx_slab_pool_t` (ngx_slab.h), checked.
pub(crate) struct Slab {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) data: u64,
    free_pages: u64,
    lock: Option<u32>,
    waiters: u64,
    slots: Vec<Slot>,
}

impl Slab {
    /// The allocator of the zone at `addr`. It says itself where it is and where it ends
    /// (ngx_cycle.c, ngx_init_zone_pool): both must agree with the zone.
    pub(crate) fn read(nginx: &Nginx<'_>, addr: u64, size: u64) -> Result<Self, Untrusted> {
        let of = &nginx.at.slab;
        let bytes = nginx.mem.bytes(addr, SLAB, SLAB)?;
        let get = |at| word_at(&bytes, at);
        let refuse = |what, value| Err(Untrusted::Check { what, value });
        let (start, end, shift) = (get(of.start), get(of.end), get(of.min_shift));
        if get(of.addr) != addr {
            return refuse("ngx_slab_pool_t.addr, not its own address,", get(of.addr));
        }
        if Some(end) != addr.checked_add(size) {
            return refuse("ngx_slab_pool_t.end, not the zone's,", end);
        }
        if !(addr..end).contains(&start) {
            return refuse("ngx_slab_pool_t.start, outside of the zone,", start);
        }
        if !(3..12).contains(&shift) || get(of.min_size) != 1 << shift {
            return refuse("ngx_slab_pool_t.min_shift", shift);
        }
        let free_pages = get(of.pfree);
        if free_pages > (end - start) / PAGE {
            return refuse("ngx_slab_pool_t.pfree, more than there are,", free_pages);
        }
        // ngx_shmtx_sh_t is the first member: the owner's pid, then who waits.
        let lock = match u32::try_from(get(0)) {
            Ok(0) => None,
            Ok(pid) => Some(pid),
            Err(_) => return refuse("ngx_slab_pool_t.lock, not a pid,", get(0)),
        };
        let stats = get(of.stats);
        let slots = 12 - shift;
        if !(addr..end).contains(&stats) || end - stats < slots * 32 {
            return refuse("ngx_slab_pool_t.stats, outside of the zone,", stats);
        }
        let words = nginx.words(stats, slots * 4)?;
        let slots = words.chunks_exact(4).zip(shift..).map(|(w, shift)| Slot {
            size_bytes: 1 << shift,
            total: w[0],
            used: w[1],
            requests: w[2],
            failures: w[3],
            failures_per_second: None,
        });
        let slots = slots.collect();
        Ok(Self { start, end, data: get(of.data), free_pages, lock, waiters: get(8), slots })
    }
}
