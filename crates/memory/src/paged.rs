use crate::{Memory, ReadError};
use std::cell::RefCell;
use std::collections::HashMap;

const PAGE: u64 = 4096;
/// Reads of more than this go straight through: an array read in one piece is read once.
const LARGE: usize = 16 * PAGE as usize;

/// Reads whole pages and keeps them: for walks over many small objects that lie close together. What was
/// read once is not read again, so one walk sees each page as it was at one moment.
///
/// Only pages that were asked for are read: a page of shared memory that nobody has touched yet would
/// come into being by being read, and count as the target's.
pub struct Paged<'a> {
    memory: &'a dyn Memory,
    pages: RefCell<HashMap<u64, Box<[u8]>>>,
    max_pages: usize,
}

impl<'a> Paged<'a> {
    /// Keeps at most `max_bytes`; when they are used up it forgets all and starts again.
    #[must_use]
    pub fn new(memory: &'a dyn Memory, max_bytes: usize) -> Self {
        Self { memory, pages: RefCell::default(), max_pages: (max_bytes / PAGE as usize).max(1) }
    }

    fn page(&self, page: u64, from: usize, to: &mut [u8]) -> Result<(), ReadError> {
        let mut pages = self.pages.borrow_mut();
        if !pages.contains_key(&page) {
            if pages.len() >= self.max_pages {
                pages.clear();
            }
            let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
            self.memory.read(page * PAGE, &mut bytes)?;
            pages.insert(page, bytes);
        }
        to.copy_from_slice(&pages[&page][from..from + to.len()]);
        Ok(())
    }
}

impl Memory for Paged<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if buf.len() > LARGE {
            return self.memory.read(addr, buf);
        }
        let (len, mut done) = (buf.len(), 0);
        while done < len {
            let Some(at) = addr.checked_add(done as u64) else {
                return Err(ReadError::Unmapped { addr, len });
            };
            let from = (at % PAGE) as usize;
            let n = (PAGE as usize - from).min(len - done);
            if self.page(at / PAGE, from, &mut buf[done..done + n]).is_err() {
                // Not a whole page: a saved region may be smaller.
                return self.memory.read(addr, buf);
            }
            done += n;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Snapshot;
    use std::cell::Cell;

    struct Counted(Snapshot, Cell<usize>);

    impl Memory for Counted {
        fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            self.1.set(self.1.get() + 1);
            self.0.read(addr, buf)
        }
    }

    #[test]
    fn a_page_is_read_once_and_says_the_same() {
        let mut s = Snapshot::default();
        s.insert(0x1000, (0..8192_u32).map(|i| (i / 7) as u8).collect());
        s.insert(0x8010, vec![9; 16]);
        let counted = Counted(s.clone(), Cell::new(0));
        let paged = Paged::new(&counted, 1 << 20);
        for at in [0x1000, 0x1ffc, 0x1000, 0x2ff8, 0x1801] {
            assert_eq!(paged.u64(at), s.u64(at), "{at:#x}");
        }
        assert_eq!(counted.1.get(), 2, "two pages");
        assert_eq!(paged.u64(0x8018), s.u64(0x8018), "less than a page");
        for at in [0x2ffc, 0x8011, 0x9000, u64::MAX - 3] {
            assert!(paged.bytes(at, 16, 16).is_err(), "{at:#x}");
        }
    }
}
