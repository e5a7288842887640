//! The files whose code the target runs: read once, compiled to unwind tables, kept for symbols.

use std::cell::RefCell;
use std::collections::HashMap;
use upprof_binary::{Elf, Limits, UnwindTable};
use upprof_luajit::Era;
use upprof_memory::Memory;
use upprof_stacks::{AddressSpace, Mapped, Object, ObjectId, Objects};
use upprof_target::{FileImage, Files, MapPath, Mapping, shown_path};

/// What identifies a mapped file: device, inode and path as `/proc/PID/maps` shows them.
type FileKey = (u32, u32, u64, std::path::PathBuf);

/// All files seen so far, shared by the processes that map them.
#[derive(Default)]
pub(crate) struct Library {
    pub(crate) objects: Objects,
    images: HashMap<ObjectId, FileImage>,
    by_file: HashMap<FileKey, Option<ObjectId>>,
    vdso: Option<ObjectId>,
    symbols: HashMap<(ObjectId, &'static str), Option<u64>>,
    described: HashMap<ObjectId, Result<Option<Era>, String>>,
    /// Versions of LuaJIT: looked for in the whole file, and by some again and again.
    luajit: RefCell<HashMap<ObjectId, Option<String>>>,
    /// Files that could not be used, and why.
    pub(crate) unusable: Vec<(String, String)>,
}

impl Library {
    /// The executable files of a process, reading those that are new.
    pub(crate) fn address_space(
        &mut self,
        maps: &[Mapping],
        files: &Files<'_>,
        memory: &dyn Memory,
    ) -> AddressSpace {
        let mut mapped = Vec::new();
        for mapping in maps.iter().filter(|m| m.exec) {
            let object = match &mapping.path {
                MapPath::File { path, .. } => {
                    let key = (mapping.dev.0, mapping.dev.1, mapping.inode, path.clone());
                    match self.by_file.get(&key) {
                        Some(known) => *known,
                        None => {
                            let object = self.read(mapping, files);
                            self.by_file.insert(key, object);
                            object
                        }
                    }
                }
                MapPath::Special(name) if name == "[vdso]" => self.vdso(mapping, memory),
                MapPath::Special(_) | MapPath::Anonymous => continue,
            };
            let Some(object) = object else { continue };
            if let Some(bias) = self.bias(object, mapping) {
                mapped.push(Mapped { start: mapping.start, end: mapping.end, bias, object });
            }
        }
        AddressSpace::new(mapped)
    }

    fn read(&mut self, mapping: &Mapping, files: &Files<'_>) -> Option<ObjectId> {
        let MapPath::File { path, .. } = &mapping.path else { return None };
        let name = path.file_name().map_or_else(|| shown_path(path), |n| n.to_string_lossy().into_owned());
        let image = match files.image(mapping) {
            Ok(image) => image,
            Err(e) => {
                self.unusable.push((name, e.to_string()));
                return None;
            }
        };
        self.add(name, image)
    }

    fn add(&mut self, name: String, image: FileImage) -> Option<ObjectId> {
        let table = Elf::parse(image.bytes()).and_then(|elf| UnwindTable::compile(&elf, Limits::default()));
        match table {
            Ok(table) => {
                let id = self.objects.add(Object { name, bytes_at: image.fd_path(), table });
                self.images.insert(id, image);
                Some(id)
            }
            Err(e) => {
                self.unusable.push((name, e.to_string()));
                None
            }
        }
    }

    /// The kernel's own library, the same in every process; there is no file, so it is read from
    /// memory.
    fn vdso(&mut self, mapping: &Mapping, memory: &dyn Memory) -> Option<ObjectId> {
        const MAX_VDSO: usize = 64 << 10;
        if self.vdso.is_none() {
            let len = usize::try_from(mapping.end - mapping.start).ok()?;
            let bytes = memory.bytes(mapping.start, len, MAX_VDSO).ok()?;
            let image = FileImage::of_memory(&bytes, std::path::Path::new("[vdso]")).ok()?;
            self.vdso = self.add("[vdso]".into(), image);
        }
        self.vdso
    }

    fn bias(&self, object: ObjectId, mapping: &Mapping) -> Option<u64> {
        let elf = Elf::parse(self.images.get(&object)?.bytes()).ok()?;
        let offset = if Some(object) == self.vdso { 0 } else { mapping.offset };
        elf.bias(mapping.start, offset)
    }

    /// The bytes of a file, for the bundle.
    pub(crate) fn image(&self, object: ObjectId) -> Option<&FileImage> {
        self.images.get(&object)
    }

    /// The address of an exported symbol in a process, whichever of its files exports it.
    pub(crate) fn symbol(&mut self, space: &AddressSpace, name: &'static str) -> Option<u64> {
        space.mapped().iter().find_map(|m| {
            let images = &self.images;
            let vaddr = self.symbols.entry((m.object, name)).or_insert_with(|| {
                let elf = Elf::parse(images.get(&m.object)?.bytes()).ok()?;
                elf.symbol(name)
            });
            vaddr.map(|v| v.wrapping_add(m.bias))
        })
    }

    /// Its GNU build id, hexadecimal.
    pub(crate) fn build_id(&self, object: ObjectId) -> Option<String> {
        let id = Elf::parse(self.images.get(&object)?.bytes()).ok()?.build_id()?;
        Some(id.iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Whether it has a section of this name.
    pub(crate) fn has_section(&self, object: ObjectId, name: &str) -> bool {
        let image = self.images.get(&object);
        image.is_some_and(|i| Elf::parse(i.bytes()).is_ok_and(|elf| elf.section_range(name).is_some()))
    }

    /// What the code at an address is called: the function that starts there, else file and offset.
    pub(crate) fn name_at(&self, space: &AddressSpace, addr: u64) -> String {
        let Some(m) = space.find(addr) else { return format!("{addr:#x}") };
        let vaddr = addr.wrapping_sub(m.bias);
        let elf = self.images.get(&m.object).and_then(|image| Elf::parse(image.bytes()).ok());
        let name = elf.and_then(|elf| elf.function_named_at(vaddr));
        name.unwrap_or_else(|| format!("{}+{vaddr:#x}", self.objects.get(m.object).name))
    }

    /// The text that starts like this in the file that an exported symbol of it leads to.
    pub(crate) fn text_of(&self, space: &AddressSpace, symbol: &'static str, prefix: &str) -> Option<String> {
        let here = |m: &&Mapped| self.symbols.get(&(m.object, symbol)).is_some_and(Option::is_some);
        let object = space.mapped().iter().find(here)?.object;
        Elf::parse(self.images.get(&object)?.bytes()).ok()?.text_starting(prefix, 4096)
    }

    /// The layout of LuaJIT that a file's debug information describes, if it has some.
    ///
    /// # Errors
    /// What makes a described build unreadable.
    pub(crate) fn described_luajit(&mut self, object: ObjectId) -> Result<Option<Era>, String> {
        let images = &self.images;
        let read = || {
            let elf = Elf::parse(images.get(&object)?.bytes()).ok()?;
            upprof_binary::struct_layouts(&elf, &upprof_luajit::STRUCTS).ok()
        };
        let described = self
            .described
            .entry(object)
            .or_insert_with(|| read().map_or(Ok(None), |found| upprof_luajit::from_debug_info(&found)));
        described.clone()
    }

    /// The version that the file which holds LuaJIT carries as text (`LUAJIT_VERSION`, luajit.h).
    pub(crate) fn luajit_version(&self, object: ObjectId) -> Option<String> {
        let read = || Elf::parse(self.images.get(&object)?.bytes()).ok()?.text_starting("LuaJIT 2.", 64);
        self.luajit.borrow_mut().entry(object).or_insert_with(read).clone()
    }
}
