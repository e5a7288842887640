//! Bytes at addresses, written one word at a time, then frozen.

use upprof_memory::{Memory, ReadError, Snapshot};

/// Memory under construction.
#[derive(Debug, Clone, Default)]
pub struct Image {
    regions: Vec<(u64, Vec<u8>)>,
}

impl Image {
    /// Adds zeroed memory.
    pub fn map(&mut self, addr: u64, size: u64) {
        self.regions.push((addr, vec![0; usize::try_from(size).expect("fits")]));
    }

    /// Writes bytes.
    ///
    /// # Panics
    /// When they do not lie in mapped memory: a mistake of the test.
    pub fn put(&mut self, addr: u64, bytes: &[u8]) {
        let place = self.regions.iter_mut().find_map(|(start, region)| {
            let from = usize::try_from(addr.checked_sub(*start)?).ok()?;
            region.get_mut(from..from.checked_add(bytes.len())?)
        });
        place.unwrap_or_else(|| panic!("{addr:#x} is not mapped")).copy_from_slice(bytes);
    }

    /// Writes a byte.
    pub fn put8(&mut self, addr: u64, v: u8) {
        self.put(addr, &[v]);
    }

    /// Writes four bytes.
    pub fn put32(&mut self, addr: u64, v: u32) {
        self.put(addr, &v.to_le_bytes());
    }

    /// Writes eight bytes.
    pub fn put64(&mut self, addr: u64, v: u64) {
        self.put(addr, &v.to_le_bytes());
    }

    /// Writes a reference of this size.
    ///
    /// # Panics
    /// When it does not fit.
    pub fn put_ref(&mut self, addr: u64, v: u64, size: u64) {
        if size == 8 {
            self.put64(addr, v);
        } else {
            self.put32(addr, u32::try_from(v).expect("a GC32 object lies below 4 GiB"));
        }
    }

    /// Reads eight bytes.
    ///
    /// # Panics
    /// When they are not mapped.
    #[must_use]
    pub fn get64(&self, addr: u64) -> u64 {
        self.u64(addr).expect("mapped")
    }

    /// What readers see, saved.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (addr, bytes) in &self.regions {
            snapshot.insert(*addr, bytes.clone());
        }
        snapshot
    }
}

impl Memory for Image {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let found = self.regions.iter().find_map(|(start, region)| {
            let from = usize::try_from(addr.checked_sub(*start)?).ok()?;
            region.get(from..from.checked_add(buf.len())?)
        });
        buf.copy_from_slice(found.ok_or(ReadError::Unmapped { addr, len: buf.len() })?);
        Ok(())
    }
}
