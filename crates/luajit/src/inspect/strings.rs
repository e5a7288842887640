//! The table of interned strings: how full it is, how long its chains are, how it hashes.

use super::NotTrusted;
use crate::Vm;
use crate::block::Block;
use crate::layout::gct;
use serde::Serialize;
use upprof_memory::{Cached, Memory};

/// Chains this long or longer share the last place of the histogram.
const LONGEST: usize = 32;
/// Chains of a sample, about.
const MAX_SAMPLED: u32 = 1 << 15;
/// Bytes of a copy. A table that is walked as a whole has some ten thousand strings.
const MAX_COPY: usize = 64 << 20;
/// LJ_MAX_STRTAB (lj_def.h).
const MAX_SLOTS: u64 = 1 << 26;

/// The string table (`StrInternState`, lj_obj.h).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Strings {
    /// Strings, as the table counts them.
    pub count: u32,
    /// Chains.
    pub slots: u32,
    /// Strings a chain: LuaJIT doubles the table above 1.
    pub load: f64,
    /// One chain in so many was walked: 1 for small tables. What follows is of those chains.
    pub sampled_every: u32,
    /// Memory of the strings that were walked, bytes.
    pub bytes: u64,
    /// The largest one, bytes.
    pub largest_bytes: u64,
    /// How many chains have 0, 1, 2, … strings; the last place counts 32 and more.
    pub chains: Vec<u64>,
    /// Strings in the longest chain.
    pub longest_chain: u64,
    /// How many strings have less than 1, 2, 4, 8, … bytes each (each counted once).
    pub lengths: Vec<u64>,
    /// Chains that LuaJIT has switched to its dense hash because of collisions; `None` in versions
    /// that have none.
    pub dense_chains: Option<u64>,
    /// Which hash the strings have.
    pub hash: HashKind,
    /// Why the numbers do not belong to one moment, if they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<String>,
}

/// Which function hashed the strings, by computing it again for some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKind {
    /// LuaJIT's own sparse hash (lj_str.c), which looks at a few places of a string.
    Sparse,
    /// Another one: OpenResty's luajit2 has one with CRC32 instructions.
    Other,
    /// No string was long enough to tell.
    Unknown,
}

/// What stands in `global_State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    table: u64,
    mask: u32,
    count: u32,
    seed: u32,
}

impl Header {
    fn read(mem: &dyn Memory, vm: &Vm) -> Result<Self, NotTrusted> {
        let b = Block::read(mem, vm.fixed, vm.g.wrapping_add(vm.era.str_tab.into()), 32)?;
        let header = Self { table: b.u64(0), mask: b.u32(8), count: b.u32(12), seed: b.u32(24) };
        let slots = u64::from(header.mask) + 1;
        if !slots.is_power_of_two() || slots > MAX_SLOTS {
            return Err(NotTrusted::Implausible { what: "str.mask", value: header.mask.into() });
        }
        // The table doubles when it is full, unless a sweep is under way: never far above that.
        if u64::from(header.count) > slots * 64 {
            return Err(NotTrusted::Implausible { what: "str.num", value: header.count.into() });
        }
        Ok(header)
    }
}

/// One interned string's header.
struct Str {
    next: u64,
    hash: u32,
    len: u32,
    dense: bool,
}

/// Offset of a string's text: GC64 aligns it to 8 (lj_obj.h).
fn data_at(vm: &Vm) -> u64 {
    if vm.fixed.ref_size == 8 { 24 } else { u64::from(vm.era.str_len) + 4 }
}

/// Since the redesign of 2020 strings say which hash they have.
fn has_dense(vm: &Vm) -> bool {
    vm.era.str_tab != 0
}

impl Str {
    fn read(mem: &dyn Memory, vm: &Vm, at: u64) -> Option<Self> {
        let f = vm.fixed;
        let b = Block::read(mem, f, at, data_at(vm)).ok()?;
        let len_at = u64::from(vm.era.str_len);
        (b.u8(f.gct) == gct::STR).then(|| Self {
            next: b.word(0),
            hash: b.u32(len_at - 4),
            len: b.u32(len_at),
            dense: has_dense(vm) && b.u8(f.gct + 2) != 0,
        })
    }

    /// `lj_str_size`, `sizestring`.
    fn bytes(&self, vm: &Vm) -> u64 {
        let len = u64::from(self.len);
        data_at(vm) + if has_dense(vm) { (len + 4) & !3 } else { len + 1 }
    }
}

impl Strings {
    /// Walks the chains, at most `max_strings` strings; of a large table evenly chosen ones when
    /// `sampled`. Each of those is a small read, as they are all over the heap; a table that is small enough
    /// to be walked as a whole is copied.
    ///
    /// # Errors
    /// [`NotTrusted`] when the table is none. What breaks later is told in [`Strings::torn`].
    pub fn read(mem: &dyn Memory, vm: &Vm, max_strings: u32, sampled: bool) -> Result<Self, NotTrusted> {
        let header = Header::read(mem, vm)?;
        let every = if sampled { (header.mask.saturating_add(1) / MAX_SAMPLED).max(1) } else { 1 };
        let copy = Cached::new(mem, MAX_COPY);
        let mut walk = Walk {
            mem: if sampled && every == 1 { &copy } else { mem },
            vm,
            seed: header.seed,
            left: max_strings,
            out: Self::empty(&header, every),
            probes: Probes::default(),
        };
        let torn = walk.all(&header).err();
        let mut out = walk.out;
        out.hash = walk.probes.kind();
        let walked: u64 = out.lengths.iter().sum();
        out.torn = torn.or_else(|| {
            (every == 1 && walked != header.count.into())
                .then(|| format!("{walked} strings are in the chains, {} in the count", header.count))
        });
        // A wrong layout has no first string either.
        if walked == 0 && header.count > header.mask {
            return Err(NotTrusted::Layout("the string table has no string"));
        }
        Ok(out)
    }

    fn empty(header: &Header, every: u32) -> Self {
        let slots = header.mask.saturating_add(1);
        Self {
            count: header.count,
            slots,
            load: f64::from(header.count) / f64::from(slots.max(1)),
            sampled_every: every,
            bytes: 0,
            largest_bytes: 0,
            chains: vec![0; LONGEST + 1],
            longest_chain: 0,
            lengths: Vec::new(),
            dense_chains: None,
            hash: HashKind::Unknown,
            torn: None,
        }
    }
}

struct Walk<'a> {
    mem: &'a dyn Memory,
    vm: &'a Vm,
    seed: u32,
    left: u32,
    out: Strings,
    probes: Probes,
}

impl Walk<'_> {
    fn all(&mut self, header: &Header) -> Result<(), String> {
        const AT_ONCE: u64 = 4096;
        let size = u64::from(self.vm.fixed.ref_size);
        let slots = u64::from(header.mask) + 1;
        let mut dense = 0;
        for first in (0..slots).step_by(AT_ONCE as usize) {
            let n = AT_ONCE.min(slots - first);
            let anchors =
                Block::read(self.mem, self.vm.fixed, header.table.wrapping_add(first * size), n * size)
                    .map_err(|e| e.to_string())?;
            // Neighbours are not alike: the hash has spread the strings.
            for i in (0..n).step_by(self.out.sampled_every as usize) {
                let anchor = anchors.word(i * size);
                let flag = if has_dense(self.vm) { 1 } else { 0 };
                dense += anchor & flag;
                self.chain(anchor & !flag)?;
            }
        }
        self.out.dense_chains = has_dense(self.vm).then_some(dense);
        Ok(())
    }

    fn chain(&mut self, first: u64) -> Result<(), String> {
        let mut length = 0;
        let mut at = first;
        while at != 0 {
            self.left = self.left.checked_sub(1).ok_or("more strings than the limit")?;
            let s = Str::read(self.mem, self.vm, at).ok_or("a chain leads to what is no string")?;
            let bytes = s.bytes(self.vm);
            self.out.bytes += bytes;
            self.out.largest_bytes = self.out.largest_bytes.max(bytes);
            let class = (u32::BITS - s.len.leading_zeros()) as usize;
            if self.out.lengths.len() <= class {
                self.out.lengths.resize(class + 1, 0);
            }
            self.out.lengths[class] += 1;
            self.probes.add(self.mem, self.vm, at, &s, self.seed);
            length += 1;
            at = s.next;
        }
        self.out.longest_chain = self.out.longest_chain.max(length);
        let place = usize::try_from(length).unwrap_or(LONGEST).min(LONGEST);
        self.out.chains[place] += 1;
        Ok(())
    }
}

/// Strings whose hash was computed again.
#[derive(Default)]
struct Probes {
    same: u32,
    other: u32,
}

impl Probes {
    fn add(&mut self, mem: &dyn Memory, vm: &Vm, at: u64, s: &Str, seed: u32) {
        const ENOUGH: u32 = 64;
        const LEN: std::ops::RangeInclusive<u32> = 4..=256;
        if s.dense || !LEN.contains(&s.len) || self.same + self.other >= ENOUGH {
            return;
        }
        let Ok(text) = mem.bytes(at.wrapping_add(data_at(vm)), s.len as usize, 256) else { return };
        let seed = if has_dense(vm) { seed } else { 0 };
        *(if sparse_hash(seed, &text) == s.hash { &mut self.same } else { &mut self.other }) += 1;
    }

    fn kind(&self) -> HashKind {
        match (self.same, self.other) {
            (0, 0) => HashKind::Unknown,
            // A string that was freed meanwhile may not fit; another hash fits none.
            (same, other) if same > other => HashKind::Sparse,
            _ => HashKind::Other,
        }
    }
}

/// LuaJIT's sparse hash (lj_str.c) of a text of 4 bytes or more.
fn sparse_hash(seed: u32, text: &[u8]) -> u32 {
    let len = text.len();
    let word = |at: usize| u32::from_le_bytes(text[at..at + 4].try_into().unwrap_or_default());
    let mut a = word(0);
    let mut h = len as u32 ^ seed ^ word(len - 4);
    let mut b = word((len >> 1) - 2);
    h = (h ^ b).wrapping_sub(b.rotate_left(14));
    b = b.wrapping_add(word((len >> 2) - 1));
    a = (a ^ h).wrapping_sub(h.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    (h ^ b).wrapping_sub(b.rotate_left(16))
}
