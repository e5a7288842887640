//! Bytes that were read at once.

use crate::Fixed;
use upprof_memory::{Memory, ReadError};

/// Bytes that were read at once, so that what is taken from them belongs together.
pub(crate) struct Block {
    bytes: Bytes,
    ref_size: u8,
}

/// Headers of objects are read by the million: they need no allocation.
enum Bytes {
    Few([u8; FEW], usize),
    Many(Vec<u8>),
}

const FEW: usize = 128;

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Self::Few(bytes, len) => &bytes[..*len],
            Self::Many(bytes) => bytes,
        }
    }
}

impl Block {
    pub(crate) fn read(mem: &dyn Memory, fixed: &Fixed, addr: u64, len: u64) -> Result<Self, ReadError> {
        const MAX: usize = 64 << 10;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = if len <= FEW {
            let mut few = [0; FEW];
            mem.read(addr, &mut few[..len])?;
            Bytes::Few(few, len)
        } else {
            Bytes::Many(mem.bytes(addr, len, MAX)?)
        };
        Ok(Self { bytes, ref_size: fixed.ref_size })
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.all().len() as u64
    }

    /// `N` bytes; zeros past the end, which only a wrong length of [`Block::read`] can reach.
    fn take<const N: usize>(&self, at: u64) -> [u8; N] {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let found = at.checked_add(N).and_then(|end| self.bytes.all().get(at..end));
        found.and_then(|b| b.try_into().ok()).unwrap_or([0; N])
    }

    pub(crate) fn u8(&self, at: u64) -> u8 {
        self.take::<1>(at)[0]
    }

    pub(crate) fn u16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.take(at))
    }

    pub(crate) fn u32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.take(at))
    }

    pub(crate) fn u64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.take(at))
    }

    /// A GC reference, or a size of the mode's width.
    pub(crate) fn word(&self, at: u64) -> u64 {
        if self.ref_size == 8 { self.u64(at) } else { self.u32(at).into() }
    }
}
