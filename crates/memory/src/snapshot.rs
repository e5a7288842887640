use crate::{Memory, ReadError};
use std::collections::BTreeMap;

/// Saved regions of a process: what tests and offline readers run on.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    regions: BTreeMap<u64, Vec<u8>>,
}

impl Snapshot {
    /// Adds the bytes at `addr`. A region that starts at the same address is replaced; regions are
    /// expected not to overlap.
    pub fn insert(&mut self, addr: u64, bytes: Vec<u8>) {
        self.regions.insert(addr, bytes);
    }

    /// The regions, in address order.
    pub fn regions(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.regions.iter().map(|(a, b)| (*a, b.as_slice()))
    }
}

impl Memory for Snapshot {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let miss = ReadError::Unmapped { addr, len: buf.len() };
        let (start, bytes) = self.regions.range(..=addr).next_back().ok_or(miss)?;
        let from = usize::try_from(addr - start).map_err(|_| miss)?;
        let to = from.checked_add(buf.len()).ok_or(miss)?;
        buf.copy_from_slice(bytes.get(from..to).ok_or(miss)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_stays_inside_one_region() {
        let mut s = Snapshot::default();
        s.insert(0x1000, vec![1, 2, 3, 4]);
        s.insert(0x2000, vec![9; 8]);
        assert_eq!(s.u32(0x1000), Ok(0x0403_0201));
        assert!(s.u32(0x1001).is_err(), "runs past the region");
        assert!(s.u8(0xfff).is_err());
        assert!(s.u64(u64::MAX - 3).is_err(), "no overflow at the top of the address space");
        assert_eq!(s.u64(0x2000), Ok(0x0909_0909_0909_0909));
    }
}
