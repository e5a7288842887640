use crate::Error;
use object::LittleEndian;
use object::elf::{EM_X86_64, FileHeader64, PF_X, PT_LOAD, STT_FUNC, STT_OBJECT};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use std::ops::Range;

type Header = FileHeader64<LittleEndian>;

/// A `PT_LOAD` segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts in the file, bytes.
    pub offset: u64,
    /// Its virtual address before relocation.
    pub vaddr: u64,
    /// Bytes it takes in the file.
    pub file_size: u64,
    /// Whether it is executable.
    pub exec: bool,
}

/// A parsed ELF file: headers only, the rest is read on request.
#[derive(Debug)]
pub struct Elf<'a> {
    data: &'a [u8],
    sections: SectionTable<'a, Header>,
    segments: Vec<Segment>,
}

impl<'a> Elf<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`Error::Elf`] or [`Error::Machine`].
    pub fn parse(data: &'a [u8]) -> Result<Self, Error> {
        let header = Header::parse(data)?;
        let e = header.endian()?;
        let machine = header.e_machine(e);
        if machine != EM_X86_64 {
            return Err(Error::Machine(machine.0));
        }
        let sections = header.sections(e, data)?;
        let segments = header
            .program_headers(e, data)?
            .iter()
            .filter(|p| p.p_type(e) == PT_LOAD)
            .map(|p| Segment {
                offset: p.p_offset(e),
                vaddr: p.p_vaddr(e),
                file_size: p.p_filesz(e),
                exec: p.p_flags(e).0 & PF_X.0 != 0,
            })
            .collect();
        Ok(Self { data, sections, segments })
    }

    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    /// The loadable segments, in file order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What must be added to a virtual address of this file to get the address in a process that
    /// maps the file's byte `offset` at `start` as code (a line of `/proc/PID/maps` with `x`). `None`
    /// when no executable segment holds that byte.
    ///
    /// Only executable segments count: linkers let the segment before share its last page, at another
    /// distance between file and memory.
    #[must_use]
    pub fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        const PAGE: u64 = 4096;
        let seg = self.segments.iter().filter(|s| s.exec).find(|s| {
            let from = s.offset & !(PAGE - 1);
            offset >= from && offset < s.offset.saturating_add(s.file_size)
        })?;
        let vaddr = offset.wrapping_sub(seg.offset).wrapping_add(seg.vaddr);
        Some(start.wrapping_sub(vaddr))
    }

    /// The GNU build id.
    #[must_use]
    pub fn build_id(&self) -> Option<Vec<u8>> {
        let e = self.endian();
        for s in self.sections.iter() {
            let Ok(Some(mut notes)) = s.notes(e, self.data) else { continue };
            while let Ok(Some(note)) = notes.next() {
                if note.name() == object::elf::ELF_NOTE_GNU && note.n_type(e) == object::elf::NT_GNU_BUILD_ID
                {
                    return Some(note.desc().to_vec());
                }
            }
        }
        None
    }

    /// Contents and address of a section by name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<(u64, &'a [u8])> {
        let e = self.endian();
        let (_, s) = self.sections.section_by_name(e, name.as_bytes())?;
        Some((s.sh_addr(e), s.data(e, self.data).ok()?))
    }

    /// The address range of a section by name, whether or not it has bytes in the file.
    #[must_use]
    pub fn section_range(&self, name: &str) -> Option<Range<u64>> {
        let e = self.endian();
        let (_, s) = self.sections.section_by_name(e, name.as_bytes())?;
        Some(s.sh_addr(e)..s.sh_addr(e).checked_add(s.sh_size(e))?)
    }

    /// The virtual address of a defined function or object in `.dynsym`, else in `.symtab`.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<u64> {
        let e = self.endian();
        for kind in [object::elf::SHT_DYNSYM, object::elf::SHT_SYMTAB] {
            let Ok(table) = self.sections.symbols(e, self.data, kind) else { continue };
            let found = table.iter().find(|s| {
                s.st_shndx(e) != object::elf::SHN_UNDEF
                    && matches!(s.st_type(), STT_FUNC | STT_OBJECT)
                    && table.symbol_name(e, s).is_ok_and(|n| n == name.as_bytes())
            });
            if let Some(s) = found {
                return Some(s.st_value(e));
            }
        }
        None
    }

    /// The name of the function that starts at this virtual address, by `.symtab`, else by `.dynsym`.
    #[must_use]
    pub fn function_named_at(&self, vaddr: u64) -> Option<String> {
        let e = self.endian();
        [object::elf::SHT_SYMTAB, object::elf::SHT_DYNSYM].into_iter().find_map(|kind| {
            let table = self.sections.symbols(e, self.data, kind).ok()?;
            let symbol = table.iter().find(|s| {
                s.st_value(e) == vaddr && s.st_type() == STT_FUNC && s.st_shndx(e) != object::elf::SHN_UNDEF
            })?;
            Some(String::from_utf8_lossy(table.symbol_name(e, symbol).ok()?).into_owned())
        })
    }

    /// The first constant string in `.rodata` that starts with `prefix`, whole, at most `max` bytes.
    #[must_use]
    pub fn text_starting(&self, prefix: &str, max: usize) -> Option<String> {
        let (_, data) = self.section(".rodata")?;
        let at = data.windows(prefix.len()).position(|w| w == prefix.as_bytes())?;
        let text = &data[at..data.len().min(at + max)];
        let end = text.iter().position(|b| !(b' '..=b'~').contains(b))?;
        Some(String::from_utf8_lossy(&text[..end]).into_owned())
    }
}
