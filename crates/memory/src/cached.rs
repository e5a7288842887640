use crate::{Memory, ReadError};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Memory that is read in chunks, each once: for walks over many small objects, where a system call an
/// object would take seconds. What is read later is from the time of its chunk's first read.
///
/// A read larger than [`LARGE`] goes straight through: an array read in one piece is read once.
pub struct Cached<'a> {
    below: &'a dyn Memory,
    state: RefCell<State>,
    chunk: usize,
    max_chunks: usize,
}

const PAGE: usize = 4096;
/// Of a walk over a whole heap: nearly all of it is read in the end.
const CHUNK: usize = 16 * PAGE;
const LARGE: usize = CHUNK;

#[derive(Default)]
struct State {
    chunks: Vec<Chunk>,
    index: HashMap<u64, usize, BuildHasherDefault<Spread>>,
    /// Neighbours in a walk are often neighbours in memory.
    last: Option<(u64, usize)>,
}

/// Spreads the numbers of chunks, of which a few thousand are near each other: the standard hasher guards
/// against chosen keys, which here can only slow down a walk that is bounded anyway.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }

    fn write_u64(&mut self, n: u64) {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0 ^ n).wrapping_mul(GOLDEN);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

enum Chunk {
    Whole(Box<[u8]>),
    /// At the edge of a mapping: each page that is there.
    Pages(Vec<Option<Box<[u8]>>>),
}

impl<'a> Cached<'a> {
    /// A view of `below` that holds at most `max_bytes`; beyond that it forgets, and reads again.
    #[must_use]
    pub fn new(below: &'a dyn Memory, max_bytes: usize) -> Self {
        Self::with_chunks(below, max_bytes, CHUNK)
    }

    /// The same page by page, for what lies here and there; and for memory that is shared, where a page
    /// that nobody has touched yet would come into being by being read, and count as the target's.
    #[must_use]
    pub fn pages(below: &'a dyn Memory, max_bytes: usize) -> Self {
        Self::with_chunks(below, max_bytes, PAGE)
    }

    fn with_chunks(below: &'a dyn Memory, max_bytes: usize, chunk: usize) -> Self {
        Self { below, state: RefCell::default(), chunk, max_chunks: (max_bytes / chunk).max(1) }
    }

    /// The index of the chunk `key`, read if it is not there yet.
    fn chunk(&self, state: &mut State, key: u64) -> Result<usize, ReadError> {
        if let Some((last, i)) = state.last
            && last == key
        {
            return Ok(i);
        }
        let i = match state.index.get(&key) {
            Some(i) => *i,
            None => {
                let chunk = self.fetch(key)?;
                if state.chunks.len() >= self.max_chunks {
                    state.chunks.clear();
                    state.index.clear();
                }
                state.chunks.push(chunk);
                state.index.insert(key, state.chunks.len() - 1);
                state.chunks.len() - 1
            }
        };
        state.last = Some((key, i));
        Ok(i)
    }

    fn fetch(&self, key: u64) -> Result<Chunk, ReadError> {
        let at = key.wrapping_mul(self.chunk as u64);
        let mut bytes = vec![0; self.chunk];
        match self.below.read(at, &mut bytes) {
            Ok(()) => return Ok(Chunk::Whole(bytes.into())),
            Err(e @ (ReadError::Gone | ReadError::Denied)) => return Err(e),
            Err(_) => {}
        }
        let page = |i: usize| {
            let mut bytes = vec![0; PAGE];
            let there = self.below.read(at.wrapping_add((i * PAGE) as u64), &mut bytes).is_ok();
            there.then(|| bytes.into())
        };
        Ok(Chunk::Pages((0..self.chunk / PAGE).map(page).collect()))
    }
}

impl Memory for Cached<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if buf.len() > LARGE {
            return self.below.read(addr, buf);
        }
        if addr.checked_add(buf.len() as u64).is_none() {
            return Err(ReadError::Unmapped { addr, len: buf.len() });
        }
        let state = &mut *self.state.borrow_mut();
        let mut done = 0;
        while done < buf.len() {
            let at = addr + done as u64;
            let i = self.chunk(state, at / self.chunk as u64)?;
            let offset = (at % self.chunk as u64) as usize;
            let from = match &state.chunks[i] {
                Chunk::Whole(bytes) => &bytes[offset..],
                Chunk::Pages(pages) => match pages[offset / PAGE].as_deref() {
                    Some(page) => &page[offset % PAGE..],
                    // Not a whole page: a saved region may be smaller.
                    None => return self.below.read(addr, buf),
                },
            };
            let n = from.len().min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&from[..n]);
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

    struct Counting(Snapshot, Cell<u32>);

    impl Memory for Counting {
        fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            self.1.set(self.1.get() + 1);
            self.0.read(addr, buf)
        }
    }

    fn world() -> Counting {
        let mut s = Snapshot::default();
        let bytes: Vec<u8> = (0..3 * CHUNK).map(|i| (i % 251) as u8).collect();
        s.insert(CHUNK as u64, bytes);
        // A mapping that is smaller than a chunk.
        s.insert(8 * CHUNK as u64 + PAGE as u64, vec![7; PAGE]);
        Counting(s, Cell::new(0))
    }

    #[test]
    fn reads_are_the_same_and_fewer() {
        let below = world();
        let cached = Cached::new(&below, 16 << 20);
        let start = CHUNK as u64;
        for at in (start..start + 2 * CHUNK as u64).step_by(1000) {
            let mut a = [0; 1500];
            cached.read(at, &mut a).expect("mapped");
            let mut b = [0; 1500];
            below.0.read(at, &mut b).expect("mapped");
            assert_eq!(a, b, "{at:#x}");
        }
        assert!(below.1.get() <= 3, "{} reads", below.1.get());
    }

    #[test]
    fn what_is_not_there_is_an_error_and_its_neighbour_is_not() {
        let below = world();
        let cached = Cached::new(&below, 16 << 20);
        let page = 8 * CHUNK as u64 + PAGE as u64;
        assert_eq!(cached.u64(page), Ok(0x0707_0707_0707_0707));
        assert!(cached.u64(page - 4).is_err());
        assert!(cached.u64(page + PAGE as u64 - 4).is_err());
        assert!(cached.u64(0).is_err());
        assert!(cached.u64(u64::MAX - 3).is_err());
    }

    #[test]
    fn it_forgets_rather_than_grows() {
        let below = world();
        let cached = Cached::new(&below, CHUNK);
        for _ in 0..3 {
            for i in 1..4 {
                let at = i * CHUNK as u64;
                assert_eq!(cached.u64(at), below.0.u64(at));
                assert_eq!(cached.state.borrow().chunks.len(), 1);
            }
        }
    }

    #[test]
    fn by_page_only_what_was_asked_for_is_read() {
        let mut s = Snapshot::default();
        s.insert(0x1000, (0..8192_u32).map(|i| (i / 7) as u8).collect());
        s.insert(0x8010, vec![9; 16]);
        let below = Counting(s.clone(), Cell::new(0));
        let cached = Cached::pages(&below, 1 << 20);
        for at in [0x1000, 0x1ffc, 0x1000, 0x2ff8, 0x1801] {
            assert_eq!(cached.u64(at), s.u64(at), "{at:#x}");
        }
        assert_eq!(below.1.get(), 2, "two pages");
        assert_eq!(cached.u64(0x8018), s.u64(0x8018), "less than a page");
        for at in [0x2ffc, 0x8011, 0x9000, u64::MAX - 3] {
            assert!(cached.bytes(at, 16, 16).is_err(), "{at:#x}");
        }
    }
}
