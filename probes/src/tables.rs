//! The unwind tables of all files, laid out as the kernel searches them: one array of rows, and an
//! index with the rows of each page of text.

use crate::abi::{self, types};
use crate::{ProbeError, TableId};
use upprof_binary::{Row, UnwindTable};

const PAGE_SHIFT: u32 = abi::upprof_limits::UNWIND_PAGE_SHIFT as u32;

/// How many entries of the page index a file's table takes.
#[must_use]
pub fn index_entries(table: &UnwindTable) -> usize {
    match (table.rows().first(), table.rows().last()) {
        (Some(first), Some(last)) => ((last.pc >> PAGE_SHIFT) - (first.pc >> PAGE_SHIFT) + 1) as usize,
        _ => 0,
    }
}

/// One file's share of both arrays.
pub(crate) struct Packed {
    pub(crate) first_page: u32,
    pub(crate) rows: Vec<types::unwind_row>,
    pub(crate) pages: Vec<types::unwind_page>,
}

/// Lays a table out for rows that start at index `row_base`.
pub(crate) fn pack(table: &UnwindTable, row_base: u32) -> Packed {
    let source = table.rows();
    let (Some(first), Some(last)) = (source.first(), source.last()) else {
        return Packed { first_page: 0, rows: Vec::new(), pages: Vec::new() };
    };
    let first_page = first.pc >> PAGE_SHIFT;
    let n_pages = (last.pc >> PAGE_SHIFT) - first_page + 1;
    let mut rows = Vec::with_capacity(source.len() + 1);
    // A search may look one row before a page's first; on the first page that must be ours.
    rows.push(abi::row(&Row::gap(first_page << PAGE_SHIFT)));
    rows.extend(source.iter().map(abi::row));
    let mut pages = Vec::with_capacity(n_pages as usize);
    let mut at = 0;
    for page in first_page..first_page + n_pages {
        let from = at;
        while at < rows.len() && rows[at].pc >> PAGE_SHIFT <= page {
            at += 1;
        }
        pages.push(types::unwind_page { first: row_base + from as u32, end: row_base + at as u32 });
    }
    Packed { first_page, rows, pages }
}

/// An array map that user space reads and writes as memory.
pub(crate) struct MappedArray<T> {
    base: *mut T,
    capacity: usize,
    used: usize,
}

impl<T: Copy> MappedArray<T> {
    pub(crate) fn new(fd: std::os::fd::RawFd, capacity: usize) -> std::io::Result<Self> {
        let len = capacity * size_of::<T>();
        // SAFETY: a fresh mapping of `len` bytes chosen by the kernel; the map was created with
        // BPF_F_MMAPABLE and `capacity` elements of this size, so the length is within it.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Self { base: base.cast(), capacity, used: 0 })
    }

    fn append(&mut self, values: &[T], what: &'static str) -> Result<(), ProbeError> {
        if values.len() > self.capacity - self.used {
            return Err(ProbeError::Full { what, capacity: self.capacity });
        }
        // SAFETY: `used + values.len() <= capacity`, checked above, so the destination lies inside the
        // mapping made in `new`, which lives until `drop`. The kernel reads elements only through a
        // process's mappings, which are published after this write by a system call.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.base.add(self.used), values.len()) };
        self.used += values.len();
        Ok(())
    }

    /// Copies of all elements. Call when no program runs that writes them.
    pub(crate) fn elements(&self) -> impl Iterator<Item = T> {
        // SAFETY: `i < capacity`, so the element lies inside the mapping made in `new`, which lives as long
        // as `self`; T is plain data of the map's value type, for which any bytes are valid. Volatile,
        // because the kernel wrote them behind the compiler's back.
        (0..self.capacity).map(|i| unsafe { self.base.add(i).read_volatile() })
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; nothing else points into it.
        unsafe { libc::munmap(self.base.cast(), self.capacity * size_of::<T>()) };
    }
}

/// Both arrays in the kernel.
pub(crate) struct Tables {
    rows: MappedArray<types::unwind_row>,
    pages: MappedArray<types::unwind_page>,
}

impl Tables {
    pub(crate) fn new(
        rows: (std::os::fd::RawFd, usize),
        pages: (std::os::fd::RawFd, usize),
    ) -> std::io::Result<Self> {
        Ok(Self { rows: MappedArray::new(rows.0, rows.1)?, pages: MappedArray::new(pages.0, pages.1)? })
    }

    pub(crate) fn add(&mut self, table: &UnwindTable) -> Result<TableId, ProbeError> {
        let packed = pack(table, self.rows.used as u32);
        let index = self.pages.used as u32;
        // Both or none: a half-added table would misplace every later one.
        if packed.pages.len() > self.pages.capacity - self.pages.used {
            return Err(ProbeError::Full { what: "unwind pages", capacity: self.pages.capacity });
        }
        self.rows.append(&packed.rows, "unwind rows")?;
        self.pages.append(&packed.pages, "unwind pages")?;
        Ok(TableId { first_page: packed.first_page, n_pages: packed.pages.len() as u32, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upprof_binary::Elf;

    /// The index must find, for every address, what a plain search over all rows finds.
    #[test]
    fn page_index_agrees_with_a_plain_search() {
        let data = std::fs::read("/proc/self/exe").expect("own binary");
        let elf = Elf::parse(&data).expect("own binary is an ELF file");
        let table = UnwindTable::compile(&elf, upprof_binary::Limits::default()).expect("it has .eh_frame");
        assert!(table.rows().len() > 1000);
        let base = 77;
        let p = pack(&table, base);
        for row in table.rows().iter().step_by(7) {
            for pc in [row.pc, row.pc.saturating_add(1), row.pc.saturating_add(4095)] {
                let page = ((pc >> PAGE_SHIFT) - p.first_page) as usize;
                let Some(range) = p.pages.get(page) else { continue };
                let from = (range.first - base).saturating_sub(1) as usize;
                let found = p.rows[from..(range.end - base) as usize].iter().rfind(|r| r.pc <= pc);
                let i = table.rows().partition_point(|r| r.pc <= pc);
                let plain = abi::row(&table.rows()[i - 1]);
                let found = found.expect("a row");
                assert_eq!(
                    (found.pc, found.cfa_kind, found.cfa_off),
                    (plain.pc, plain.cfa_kind, plain.cfa_off)
                );
            }
        }
    }
}
