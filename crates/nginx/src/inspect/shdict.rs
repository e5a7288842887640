//! `lua_shared_dict`: what is in one, read without its lock.
//!
//! A `get` moves its entry to the front of the LRU queue, so under load the queue changes all the time;
//! the tree changes only when entries come and go. So the tree is walked, and each link of it must point
//! back. Shapes: ngx_http_lua_shdict.h, the same from ngx_lua 0.10.13 to 0.10.29.

use crate::inspect::shm::Slab;
use crate::inspect::view::word_at;
use crate::inspect::{Nginx, Untrusted, Zone};
use serde::Serialize;

/// `ngx_http_lua_shdict_shctx_t`: `ngx_rbtree_t` (root, sentinel, insert), its sentinel, the queue.
const SENTINEL: u64 = 24;
const LRU_QUEUE: u64 = 64;
/// `ngx_http_lua_shdict_node_t` lies over `ngx_rbtree_node_t` from its `color` on.
const NODE: u64 = 32;
/// Of the tree's node: the type, the lengths, the time, the queue, the data.
const VALUE_TYPE: u64 = NODE + 1;
const KEY_LEN: u64 = NODE + 2;
const VALUE_LEN: u64 = NODE + 4;
const EXPIRES: u64 = NODE + 8;
const QUEUE: u64 = NODE + 16;
const DATA: u64 = NODE + 36;

/// Longest path in a red-black tree of 2^32 entries.
const MAX_DEPTH: usize = 64;
/// Longest key that is shown, and longest value.
const MAX_SHOWN: usize = 256;
/// How many of the largest entries are told.
const LARGEST: usize = 10;
/// A tree that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// Also this entry.
    pub key: Option<&'a str>,
    /// Values, not only keys and sizes.
    pub values: bool,
    /// The host's clock, milliseconds since 1970: which entries have expired.
    pub now_unix_ms: u64,
    /// Entries to look at, at most.
    pub max_entries: usize,
}

/// What is in a dictionary.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Dict {
    /// Entries, expired ones included: those stay until their place is needed.
    pub entries: u64,
    /// Entries that have expired.
    pub expired: u64,
    /// Entries that never expire.
    pub without_ttl: u64,
    /// Live entries by the time they have left.
    pub ttl: Ttl,
    /// Bytes of keys and of values, without what the allocator adds.
    pub key_bytes: u64,
    /// As `key_bytes`. Elements of lists are not in it.
    pub value_bytes: u64,
    /// Entries by the type of their value.
    pub types: Types,
    /// The entries that take the most bytes.
    pub largest: Vec<Entry>,
    /// The entry that is evicted next (the end of the LRU queue). When it was used last is not stored.
    pub next_evicted: Option<Entry>,
    /// The entry used last.
    pub last_used: Option<Entry>,
    /// The entry that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Entry>,
    /// More entries than were looked at: the numbers above are of those that were.
    pub truncated: bool,
    /// The dictionary changed while it was read: some entries may be missing.
    pub torn: bool,
}

/// Live entries that expire, by the time they have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Ttl {
    /// Less than ten seconds.
    pub under_10s: u64,
    /// Ten minutes.
    pub under_10min: u64,
    /// A day.
    pub under_1day: u64,
    /// Longer.
    pub longer: u64,
}

/// Entries by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Types {
    /// Strings.
    pub string: u64,
    /// Numbers.
    pub number: u64,
    /// Booleans.
    pub boolean: u64,
    /// Lists (`lpush` and its like).
    pub list: u64,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its key, cut at 256 bytes.
    pub key: String,
    /// Its type.
    pub kind: &'static str,
    /// Bytes of the value; of a list, its elements.
    pub value_len: u64,
    /// Milliseconds left, negative when expired; `None` without a limit.
    pub ttl_ms: Option<i64>,
    /// The value, when values were asked for; strings cut at 256 bytes. Lists have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What is in the dictionary of a zone.
///
/// # Errors
/// [`Untrusted`] when it is no dictionary of a known layout.
pub fn dict(nginx: &Nginx<'_>, zone: &Zone, wanted: &Wanted<'_>) -> Result<Dict, Untrusted> {
    let mut found = Err(Untrusted::None("attempt"));
    for _ in 0..ATTEMPTS {
        // Pages are kept for one attempt only: the next is to see what is there then.
        let pages = upprof_memory::Cached::pages(nginx.mem, 64 << 20);
        let slab = Slab::read(nginx, zone.addr, zone.size_bytes)?;
        let walk = Walk { mem: &pages, slab, wanted };
        found = walk.dict();
        if found.as_ref().is_ok_and(|d| !d.torn) {
            break;
        }
    }
    found
}

struct Walk<'a> {
    mem: &'a dyn upprof_memory::Memory,
    slab: Slab,
    wanted: &'a Wanted<'a>,
}

/// `ngx_rbtree_node_t` with the dictionary's node in it.
struct Node {
    at: u64,
    left: u64,
    right: u64,
    parent: u64,
    kind: u8,
    key_len: u64,
    value_len: u64,
    expires: u64,
}

impl Walk<'_> {
    fn dict(&self) -> Result<Dict, Untrusted> {
        let sh = self.inside(self.slab.data, "ngx_slab_pool_t.data, outside of the zone,")?;
        let head = self.mem.bytes(sh, 80, 80)?;
        let (root, sentinel) = (word_at(&head, 0), word_at(&head, 8));
        if sentinel != sh + SENTINEL {
            return Err(Untrusted::Check { what: "the sentinel of the dictionary's tree", value: sentinel });
        }
        let mut dict = Dict::default();
        let mut open = Vec::new();
        if root != sentinel {
            open.push((root, None, 0));
        }
        while let Some((at, parent, depth)) = open.pop() {
            if dict.entries >= self.wanted.max_entries as u64 {
                dict.truncated = true;
                break;
            }
            let node = match self.node(at) {
                Ok(node) if depth < MAX_DEPTH && parent.is_none_or(|p| p == node.parent) => node,
                _ => {
                    dict.torn = true;
                    continue;
                }
            };
            for next in [node.left, node.right] {
                if next != sentinel {
                    open.push((next, Some(at), depth + 1));
                }
            }
            self.count(&mut dict, &node);
        }
        // Both ends of the queue; under load another entry may be there by now.
        let queue = sh + LRU_QUEUE;
        let end = |at: u64| (at != queue).then(|| self.node(at.wrapping_sub(QUEUE)).ok()).flatten();
        dict.next_evicted = end(word_at(&head, LRU_QUEUE)).map(|n| self.entry(&n));
        dict.last_used = end(word_at(&head, LRU_QUEUE + 8)).map(|n| self.entry(&n));
        Ok(dict)
    }

    fn count(&self, dict: &mut Dict, node: &Node) {
        dict.entries += 1;
        dict.key_bytes += node.key_len;
        match node.kind {
            KIND_LIST => dict.types.list += 1,
            KIND_STRING => dict.types.string += 1,
            KIND_NUMBER => dict.types.number += 1,
            _ => dict.types.boolean += 1,
        }
        if node.kind != KIND_LIST {
            dict.value_bytes += node.value_len;
        }
        match self.ttl(node) {
            None => dict.without_ttl += 1,
            Some(..0) => dict.expired += 1,
            Some(..10_000) => dict.ttl.under_10s += 1,
            Some(..600_000) => dict.ttl.under_10min += 1,
            Some(..86_400_000) => dict.ttl.under_1day += 1,
            Some(_) => dict.ttl.longer += 1,
        }
        if self.is_asked(node) {
            dict.asked = Some(self.entry(node));
        }
        let smallest = dict.largest.last().map_or(0, |e| e.value_len);
        if node.kind != KIND_LIST && (dict.largest.len() < LARGEST || node.value_len > smallest) {
            let place = dict.largest.partition_point(|e| e.value_len >= node.value_len);
            dict.largest.insert(place, self.entry(node));
            dict.largest.truncate(LARGEST);
        }
    }

    fn is_asked(&self, node: &Node) -> bool {
        let Some(key) = self.wanted.key.map(str::as_bytes) else { return false };
        node.key_len == key.len() as u64
            && self.mem.bytes(node.at + DATA, key.len(), key.len()).is_ok_and(|k| k == key)
    }

    fn ttl(&self, node: &Node) -> Option<i64> {
        (node.expires != 0).then(|| node.expires.wrapping_sub(self.wanted.now_unix_ms).cast_signed())
    }

    fn inside(&self, at: u64, what: &'static str) -> Result<u64, Untrusted> {
        let fits = (self.slab.start..self.slab.end).contains(&at) && self.slab.end - at >= DATA;
        if fits && at.is_multiple_of(8) { Ok(at) } else { Err(Untrusted::Check { what, value: at }) }
    }

    fn node(&self, at: u64) -> Result<Node, Untrusted> {
        let at = self.inside(at, "an entry, outside of the zone,")?;
        let bytes = self.mem.bytes(at, DATA as usize, DATA as usize)?;
        let get = |at| word_at(&bytes, at);
        let node = Node {
            at,
            left: get(8),
            right: get(16),
            parent: get(24),
            kind: bytes[VALUE_TYPE as usize],
            key_len: get(KEY_LEN) & 0xffff,
            value_len: get(VALUE_LEN) & 0xffff_ffff,
            expires: get(EXPIRES),
        };
        let stored = if node.kind == KIND_LIST { 0 } else { node.value_len };
        if kind(node.kind).is_none() || self.slab.end - at < DATA + node.key_len + stored {
            return Err(Untrusted::Check { what: "an entry's type", value: node.kind.into() });
        }
        Ok(node)
    }

    fn entry(&self, node: &Node) -> Entry {
        let unread = || String::from("(unreadable)");
        let text = |at, len: u64| {
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(MAX_SHOWN);
            let bytes = self.mem.bytes(at, len, MAX_SHOWN);
            bytes.map_or_else(|_| unread(), |b| String::from_utf8_lossy(&b).into_owned())
        };
        let data = node.at + DATA + node.key_len;
        let value = self.wanted.values.then(|| match node.kind {
            KIND_STRING => Some(text(data, node.value_len)),
            KIND_NUMBER => {
                Some(self.mem.u64(data).map_or_else(|_| unread(), |n| f64::from_bits(n).to_string()))
            }
            KIND_BOOLEAN => Some(self.mem.u8(data).map_or_else(|_| unread(), |b| (b != 0).to_string())),
            _ => None,
        });
        Entry {
            key: text(node.at + DATA, node.key_len),
            kind: kind(node.kind).unwrap_or("unknown"),
            value_len: node.value_len,
            ttl_ms: self.ttl(node),
            value: value.flatten(),
        }
    }
}

const KIND_BOOLEAN: u8 = 1;
const KIND_NUMBER: u8 = 3;
const KIND_STRING: u8 = 4;
const KIND_LIST: u8 = 5;

/// `SHDICT_T…` of ngx_http_lua_shdict.c.
fn kind(number: u8) -> Option<&'static str> {
    Some(match number {
        KIND_BOOLEAN => "boolean",
        KIND_NUMBER => "number",
        KIND_STRING => "string",
        KIND_LIST => "list",
        _ => return None,
    })
}
