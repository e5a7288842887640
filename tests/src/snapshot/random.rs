//! Random but seeded: a failure names the seed and the round, and repeats.

use std::cell::Cell;
use std::ops::Range;
use upprof_memory::{Memory, ReadError};

/// Knuth's MMIX generator; the high bits are good enough for this.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 29
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.bits() >> 8) % n.max(1)
    }

    /// A word that is likely to hurt: a pointer into live memory, a number at an edge, or anything.
    pub fn word(&mut self, live: &[Range<u64>; 2]) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX - self.below(64),
            2 => self.below(256),
            3 => 1 << self.below(64),
            4 => self.bits(),
            n => {
                let range = &live[(n & 1) as usize];
                let at = range.start + self.below(range.end - range.start);
                if self.below(4) == 0 { at } else { at & !7 }
            }
        }
    }
}

/// Memory without a plan: every word depends on its address alone, and some cannot be read.
pub struct Noise {
    /// Another seed is another memory.
    pub seed: u64,
    /// Bytes read so far.
    pub read: Cell<u64>,
}

impl Memory for Noise {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.read.set(self.read.get() + buf.len() as u64);
        if Random(addr >> 12 ^ self.seed).below(16) == 0 {
            return Err(ReadError::Unmapped { addr, len: buf.len() });
        }
        for (i, byte) in buf.iter_mut().enumerate() {
            let at = addr.wrapping_add(i as u64);
            *byte = (Random(at >> 3 ^ self.seed).bits() >> (8 * (at & 7))) as u8;
        }
        Ok(())
    }
}

/// Counts what is read.
pub struct Counting<'a> {
    /// What is read.
    pub memory: &'a dyn Memory,
    /// Bytes read so far.
    pub read: Cell<u64>,
}

impl Memory for Counting<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.read.set(self.read.get() + buf.len() as u64);
        self.memory.read(addr, buf)
    }
}
