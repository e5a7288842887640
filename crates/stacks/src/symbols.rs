//! Names of native and kernel addresses, by blazesym. Asked in one batch a file, so that each symbol
//! table is read once.

use crate::{ObjectId, Objects};
use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Elf, Kernel, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use std::collections::{BTreeSet, HashMap};

/// Names found, by file virtual address and by kernel address.
#[derive(Debug, Default)]
pub struct Symbols {
    native: HashMap<(ObjectId, u64), String>,
    kernel: HashMap<u64, String>,
    /// Why kernel addresses have no names, when none has.
    pub kernel_unavailable: Option<String>,
}

impl Symbols {
    /// Looks up all addresses. A file whose symbols do not parse gives no names.
    #[must_use]
    pub fn look_up(
        objects: &Objects,
        native: &HashMap<ObjectId, BTreeSet<u64>>,
        kernel: &BTreeSet<u64>,
    ) -> Self {
        let symbolizer: Symbolizer =
            Symbolizer::builder().enable_code_info(false).enable_auto_reload(false).build();
        let mut found = Self::default();
        for (id, addresses) in native {
            let path = &objects.get(*id).bytes_at;
            let mut elf = Elf::new(path);
            // Names come from symbol tables; DWARF would cost seconds on large files.
            elf.debug_syms = false;
            let addresses: Vec<u64> = addresses.iter().copied().collect();
            let Ok(symbols) = symbolizer.symbolize(&Source::Elf(elf), Input::VirtOffset(&addresses)) else {
                continue;
            };
            for (address, symbol) in addresses.iter().zip(symbols) {
                if let Symbolized::Sym(s) = symbol {
                    found.native.insert((*id, *address), s.name.into_owned());
                }
            }
        }
        if !kernel.is_empty() {
            found.look_up_kernel(&symbolizer, kernel);
        }
        found
    }

    fn look_up_kernel(&mut self, symbolizer: &Symbolizer, addresses: &BTreeSet<u64>) {
        let source = Kernel { vmlinux: MaybeDefault::None, debug_syms: false, ..Kernel::default() };
        let addresses: Vec<u64> = addresses.iter().copied().collect();
        match symbolizer.symbolize(&Source::Kernel(source), Input::AbsAddr(&addresses)) {
            Ok(symbols) => {
                for (address, symbol) in addresses.iter().zip(symbols) {
                    if let Symbolized::Sym(s) = symbol {
                        self.kernel.insert(*address, s.name.into_owned());
                    }
                }
                if self.kernel.is_empty() {
                    self.kernel_unavailable =
                        Some("/proc/kallsyms shows no addresses (kernel.kptr_restrict, CAP_SYSLOG)".into());
                }
            }
            Err(e) => self.kernel_unavailable = Some(format!("/proc/kallsyms: {e}")),
        }
    }

    /// The symbol at a file's virtual address.
    #[must_use]
    pub fn native(&self, object: ObjectId, vaddr: u64) -> Option<&str> {
        self.native.get(&(object, vaddr)).map(String::as_str)
    }

    /// The symbol at a kernel address.
    #[must_use]
    pub fn kernel(&self, address: u64) -> Option<&str> {
        self.kernel.get(&address).map(String::as_str)
    }
}
