//! Struct layouts from DWARF: name to size and member offsets, nothing more.

use crate::{Elf, Error};
use gimli::{AttributeValue, DwarfSections, EndianSlice, LittleEndian, SectionId};
use std::collections::HashMap;

/// A struct as the compiler laid it out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StructLayout {
    /// Bytes.
    pub size: u64,
    /// Offset of each member of constant place, bytes.
    pub members: HashMap<String, u64>,
}

/// Debug information larger than this is not searched: it would delay the start of a capture.
const MAX_DEBUG_INFO: usize = 32 << 20;

/// The layouts of the structs named, from the first definition of each. Those not found are left out;
/// a file without debug information has none.
///
/// # Errors
/// [`Error::Cfi`] when the debug information does not parse.
pub fn struct_layouts(elf: &Elf<'_>, names: &[&str]) -> Result<HashMap<String, StructLayout>, Error> {
    let mut found = HashMap::new();
    let size = elf.section(".debug_info").map_or(0, |(_, data)| data.len());
    if size == 0 || size > MAX_DEBUG_INFO {
        return Ok(found);
    }
    // Compressed sections are not opened: `section` gives them as they are, and they do not parse.
    let load = |id: SectionId| -> Result<EndianSlice<'_, LittleEndian>, gimli::Error> {
        let data = elf.section(id.name()).map_or(&[][..], |(_, data)| data);
        Ok(EndianSlice::new(data, LittleEndian))
    };
    let sections = DwarfSections::load(load)?;
    let dwarf = sections.borrow(|s| *s);
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            if entry.tag() != gimli::DW_TAG_structure_type {
                continue;
            }
            let Some(size) = entry.attr_value(gimli::DW_AT_byte_size).and_then(|v| v.udata_value()) else {
                continue; // a declaration
            };
            let Some(name) = name_of(&dwarf, &unit, entry.attr_value(gimli::DW_AT_name)) else { continue };
            if !names.contains(&name.as_str()) || found.contains_key(&name) {
                continue;
            }
            let members = members(&dwarf, &unit, entry.offset())?;
            found.insert(name, StructLayout { size, members });
            if found.len() == names.len() {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

fn members(
    dwarf: &gimli::Dwarf<Slice<'_>>,
    unit: &gimli::Unit<Slice<'_>>,
    at: gimli::UnitOffset,
) -> Result<HashMap<String, u64>, gimli::Error> {
    let mut found = HashMap::new();
    let mut tree = unit.entries_tree(Some(at))?;
    let mut children = tree.root()?.children();
    while let Some(child) = children.next()? {
        let entry = child.entry();
        if entry.tag() != gimli::DW_TAG_member {
            continue;
        }
        let offset = entry.attr_value(gimli::DW_AT_data_member_location).and_then(|v| v.udata_value());
        let name = name_of(dwarf, unit, entry.attr_value(gimli::DW_AT_name));
        if let (Some(name), Some(offset)) = (name, offset) {
            found.insert(name, offset);
        }
    }
    Ok(found)
}

fn name_of(
    dwarf: &gimli::Dwarf<Slice<'_>>,
    unit: &gimli::Unit<Slice<'_>>,
    value: Option<AttributeValue<Slice<'_>>>,
) -> Option<String> {
    let text = dwarf.attr_string(unit, value?).ok()?;
    Some(text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What a real compiler writes is read: gcc builds a file with known structs.
    #[test]
    fn members_of_a_compiled_struct() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let source = dir.path().join("a.c");
        let object = dir.path().join("a.so");
        let text = "struct first { char a; long b; struct { int c; } d; int e[3]; };\n\
                    typedef struct second { int x; } second;\n\
                    struct first f; second s; struct declared *d;\n";
        std::fs::write(&source, text).expect("written");
        let built =
            Command::new("cc").args(["-g", "-shared", "-fPIC", "-o"]).arg(&object).arg(&source).status();
        assert!(built.expect("cc runs").success());
        let data = std::fs::read(&object).expect("built");
        let elf = Elf::parse(&data).expect("an ELF file");
        let found = struct_layouts(&elf, &["first", "second", "declared"]).expect("DWARF parses");
        let first = &found["first"];
        assert_eq!((first.size, first.members["b"], first.members["d"], first.members["e"]), (32, 8, 16, 20));
        assert_eq!(found["second"].size, 4);
        assert!(!found.contains_key("declared"));
    }
}
