//! Reading the memory of another process.
//!
//! Owns the [`Memory`] trait, which every reader of LuaJIT's and nginx's structures is written
//! against, and its implementations: [`Live`] (a running process), [`Snapshot`] (saved regions, for
//! tests and offline work), and [`Cached`] over any of them (for many small reads). It never writes to a
//! process, never stops one, and knows nothing of what the bytes mean.

mod cached;
mod live;
mod snapshot;

pub use cached::Cached;
pub use live::Live;
pub use snapshot::Snapshot;

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Part of the range is not mapped, or not present.
    #[error("{len} bytes at {addr:#x} are not readable")]
    Unmapped {
        /// First byte asked for.
        addr: u64,
        /// How many bytes were asked for.
        len: usize,
    },
    /// The process is gone.
    #[error("the process has exited")]
    Gone,
    /// The kernel refuses the read.
    #[error("reading this process's memory is not permitted")]
    Denied,
    /// The caller asked for more than it said it would accept.
    #[error("{len} bytes at {addr:#x} are more than the limit of {max}")]
    TooLong {
        /// First byte asked for.
        addr: u64,
        /// How many bytes were asked for.
        len: usize,
        /// The caller's limit.
        max: usize,
    },
}

/// Bytes of a process, by virtual address. All or nothing: a short read is an error.
pub trait Memory {
    /// Fills `buf` from `addr`.
    ///
    /// # Errors
    /// Any part of the range that cannot be read makes the whole read fail.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError>;

    /// One byte.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn u8(&self, addr: u64) -> Result<u8, ReadError> {
        let mut b = [0; 1];
        self.read(addr, &mut b)?;
        Ok(b[0])
    }

    /// A little-endian 16-bit word.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn u16(&self, addr: u64) -> Result<u16, ReadError> {
        let mut b = [0; 2];
        self.read(addr, &mut b)?;
        Ok(u16::from_le_bytes(b))
    }

    /// A little-endian 32-bit word.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn u32(&self, addr: u64) -> Result<u32, ReadError> {
        let mut b = [0; 4];
        self.read(addr, &mut b)?;
        Ok(u32::from_le_bytes(b))
    }

    /// A little-endian 64-bit word.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn u64(&self, addr: u64) -> Result<u64, ReadError> {
        let mut b = [0; 8];
        self.read(addr, &mut b)?;
        Ok(u64::from_le_bytes(b))
    }

    /// `len` bytes, refused when `len` is above `max`: lengths come from the target and are hostile.
    ///
    /// # Errors
    /// [`ReadError::TooLong`], or as [`Memory::read`].
    fn bytes(&self, addr: u64, len: usize, max: usize) -> Result<Vec<u8>, ReadError> {
        if len > max {
            return Err(ReadError::TooLong { addr, len, max });
        }
        let mut buf = vec![0; len];
        self.read(addr, &mut buf)?;
        Ok(buf)
    }
}
