//! Which file's code an address is.

use std::path::PathBuf;
use upprof_binary::UnwindTable;

/// A file whose code is mapped.
#[derive(Debug)]
pub struct Object {
    /// Its file name, for people. Hostile.
    pub name: String,
    /// A path that opens exactly these bytes for us (a sealed copy), for symbol look-up.
    pub bytes_at: PathBuf,
    /// Its unwind table, which also knows where functions start in a stripped file.
    pub table: UnwindTable,
}

/// Number of an [`Object`] in [`Objects`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(usize);

/// All files of a capture.
#[derive(Debug, Default)]
pub struct Objects(Vec<Object>);

impl Objects {
    /// Adds one.
    pub fn add(&mut self, object: Object) -> ObjectId {
        self.0.push(object);
        ObjectId(self.0.len() - 1)
    }

    /// Looks one up.
    #[must_use]
    pub fn get(&self, id: ObjectId) -> &Object {
        &self.0[id.0]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectId, &Object)> {
        self.0.iter().enumerate().map(|(i, o)| (ObjectId(i), o))
    }
}

/// An executable mapping of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Address minus file virtual address.
    pub bias: u64,
    /// The file.
    pub object: ObjectId,
}

/// A process's executable files.
#[derive(Debug, Clone, Default)]
pub struct AddressSpace {
    mapped: Vec<Mapped>,
}

impl AddressSpace {
    /// From mappings in any order.
    #[must_use]
    pub fn new(mut mapped: Vec<Mapped>) -> Self {
        mapped.sort_by_key(|m| m.start);
        Self { mapped }
    }

    /// Sorted by address.
    #[must_use]
    pub fn mapped(&self) -> &[Mapped] {
        &self.mapped
    }

    /// The mapping that holds `addr`.
    #[must_use]
    pub fn find(&self, addr: u64) -> Option<&Mapped> {
        let i = self.mapped.partition_point(|m| m.start <= addr);
        self.mapped[..i].last().filter(|m| addr < m.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_find_their_mapping() {
        let id = ObjectId(0);
        let m = |start, end| Mapped { start, end, bias: 0, object: id };
        let s = AddressSpace::new(vec![m(0x3000, 0x4000), m(0x1000, 0x2000)]);
        assert_eq!(s.find(0x1fff).map(|m| m.start), Some(0x1000));
        assert_eq!(s.find(0x3000).map(|m| m.start), Some(0x3000));
        for outside in [0, 0xfff, 0x2000, 0x4000, u64::MAX] {
            assert_eq!(s.find(outside), None, "{outside:#x}");
        }
    }
}
