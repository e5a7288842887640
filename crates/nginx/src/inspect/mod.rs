//! What `upprof inspect` shows of nginx: each file reads one kind of thing through a checked [`Nginx`].
//!
//! Only the target's memory is read, and every read is bounded. What does not check out is refused with
//! the check that failed ([`Untrusted`]); nothing is guessed.

mod config;
mod connections;
mod memory_pools;
mod phases;
mod pools;
mod redact;
mod requests;
mod shdict;
mod shm;
mod structs;
#[cfg(test)]
mod tests;
mod timers;
mod view;

pub use config::{ConfigFile, loaded, path};
pub use connections::{ConnectionTimers, Connections, Left, Listener, StubStatus, Used, connections};
pub use memory_pools::{MemoryPools, PoolSize, Pools, memory_pools};
pub use phases::{Filters, Phase, filters, phases};
pub use pools::{CosocketPool, UpstreamPool, cosocket_pools, upstream_pools};
pub use redact::redact;
pub use requests::{Kind, Request, Upstream, UpstreamState, requests};
pub use shdict::{Dict, Entry, Ttl, Types, Wanted, dict};
pub use shm::{Slot, Zone, zones};
pub use timers::{Handler, LuaTimers, Timers, timers};
pub use view::{Checked, Nginx, Untrusted};
