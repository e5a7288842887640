//! One nginx process, checked once and then read by every inspector of this folder.

use crate::inspect::structs::Structs;
use crate::layout::NoLayout;
use std::rc::Rc;
use upprof_memory::{Cached, Memory, ReadError};

/// Why something of nginx is not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// A symbol that the way goes through is not exported: not nginx, or one linked without `-Wl,-E`.
    #[error("the symbol {0} is not exported")]
    Symbol(&'static str),
    /// No table has the layout of this build.
    #[error("layout not trusted: {0}")]
    Layout(#[from] NoLayout),
    /// There is none: a block that the configuration does not have, a process without connections.
    #[error("there is no {0}")]
    None(&'static str),
    /// A value that cannot be what the layout says it is: a patched struct, torn or foreign memory.
    #[error("layout not trusted: {what} is {value:#x}")]
    Check {
        /// The member, and what it should be.
        what: &'static str,
        /// What was read.
        value: u64,
    },
    /// Memory is not there.
    #[error(transparent)]
    Memory(#[from] ReadError),
}

/// `ngx_array_t` (ngx_array.h; the same in every version).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Array {
    pub(crate) elts: u64,
    pub(crate) len: u64,
    pub(crate) size: u64,
}

/// An nginx process with a layout that memory agrees with.
pub struct Nginx<'a> {
    pub(crate) mem: &'a dyn Memory,
    pub(crate) symbol: &'a dyn Fn(&'static str) -> Option<u64>,
    pub(crate) name: &'a dyn Fn(u64) -> String,
    pub(crate) at: Structs,
    pub(crate) cycle: u64,
    modules: Rc<[Module]>,
}

/// What [`Nginx::attach`] has checked of a process.
#[derive(Debug, Clone)]
pub struct Checked {
    at: Structs,
    cycle: u64,
    modules: Rc<[Module]>,
}

/// A module of the cycle.
#[derive(Debug, Clone)]
pub(crate) struct Module {
    pub(crate) at: u64,
    pub(crate) name: String,
    pub(crate) kind: u64,
}

/// `NGX_HTTP_MODULE` (ngx_http_config.h): "HTTP" as a little-endian word.
pub(crate) const HTTP_MODULE: u64 = 0x5054_5448;
/// auto/modules makes about 60, Debian with every package about 100.
const MAX_MODULES: u64 = 1024;
/// Copies of pages with modules and their names.
const MAX_PAGES: usize = 4 << 20;
/// Names of modules, zones, addresses.
pub(crate) const MAX_NAME: usize = 256;

impl<'a> Nginx<'a> {
    /// Checks the layout against live memory: `ngx_cycle->modules` must start with the core module and
    /// hold modules only, and the arrays and lists of the cycle must have elements of the sizes the
    /// layout says.
    ///
    /// `symbol` gives the address of an exported symbol in this process, `name` what the code at an
    /// address is called.
    ///
    /// # Errors
    /// [`Untrusted`] names the first check that failed.
    pub fn attach(
        mem: &'a dyn Memory,
        symbol: &'a dyn Fn(&'static str) -> Option<u64>,
        name: &'a dyn Fn(u64) -> String,
    ) -> Result<Self, Untrusted> {
        let core = symbol("ngx_core_module").ok_or(Untrusted::Symbol("ngx_core_module"))?;
        let at = Structs::choose(mem, core)?;
        let cycle = cycle(mem, symbol)?;
        // Many small things that lie close together, and that nobody reads again after this.
        let pages = Cached::pages(mem, MAX_PAGES);
        let checked = Nginx { mem: &pages, symbol, name, at, cycle, modules: Rc::default() };
        let modules = checked.read_modules(core)?;
        checked.check_containers()?;
        Ok(Self { mem, symbol, name, at: checked.at, cycle, modules })
    }

    /// The same for a process that was checked a moment ago: only where it has another cycle since then
    /// it is checked again.
    ///
    /// # Errors
    /// As [`Nginx::attach`].
    pub fn attach_again(
        mem: &'a dyn Memory,
        symbol: &'a dyn Fn(&'static str) -> Option<u64>,
        name: &'a dyn Fn(u64) -> String,
        checked: Checked,
    ) -> Result<Self, Untrusted> {
        if cycle(mem, symbol)? != checked.cycle {
            return Self::attach(mem, symbol, name);
        }
        let Checked { at, cycle, modules } = checked;
        Ok(Self { mem, symbol, name, at, cycle, modules })
    }

    /// What was checked, for [`Nginx::attach_again`].
    #[must_use]
    pub fn checked(&self) -> Checked {
        Checked { at: self.at, cycle: self.cycle, modules: Rc::clone(&self.modules) }
    }

    fn read_modules(&self, core: u64) -> Result<Rc<[Module]>, Untrusted> {
        let at = self.at.cycle;
        let len = self.u64(self.cycle.wrapping_add(at.modules_n))?;
        if !(1..MAX_MODULES).contains(&len) {
            return Err(Untrusted::Check { what: "ngx_cycle->modules_n", value: len });
        }
        let list = self.words(self.u64(self.cycle.wrapping_add(at.modules))?, len)?;
        if list[0] != core {
            return Err(Untrusted::Check {
                what: "ngx_cycle->modules[0], not the core module,",
                value: list[0],
            });
        }
        list.into_iter()
            .map(|module| {
                let name = self.u64(module.wrapping_add(self.at.module.name))?;
                let kind = self.u64(module.wrapping_add(self.at.module.kind))?;
                Ok(Module { at: module, name: self.c_string(name, MAX_NAME)?, kind })
            })
            .collect()
    }

    fn check_containers(&self) -> Result<(), Untrusted> {
        let cycle = &self.at.cycle;
        let listening = self.array(self.cycle.wrapping_add(cycle.listening))?;
        if listening.size != self.at.listening.size {
            return Err(Untrusted::Check { what: "the size of ngx_listening_t", value: listening.size });
        }
        // ngx_list_t: last, part { elts, nelts, next }, size.
        let zone = self.u64(self.cycle.wrapping_add(cycle.shared_memory + 32))?;
        if zone != self.at.zone.size {
            return Err(Untrusted::Check { what: "the size of ngx_shm_zone_t", value: zone });
        }
        Ok(())
    }

    /// Its version as a number: 1022001 is 1.22.1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.at.version
    }

    /// All modules in the order of the cycle.
    pub(crate) fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The configuration of an http module: `conf_ctx[http]->main_conf[module]`.
    pub(crate) fn http_main_conf(&self, module: &'static str) -> Result<u64, Untrusted> {
        let index = self.ctx_index(module)?;
        let block = (self.symbol)("ngx_http_module").ok_or(Untrusted::Symbol("ngx_http_module"))?;
        let slot = self.small(block.wrapping_add(8), "the index of ngx_http_module")?;
        let conf_ctx = self.u64(self.cycle)?;
        let ctx = self.u64(conf_ctx.wrapping_add(slot * 8))?;
        if ctx == 0 {
            return Err(Untrusted::None("http block in the configuration"));
        }
        let main = self.u64(ctx)?;
        match self.u64(main.wrapping_add(index * 8))? {
            0 => Err(Untrusted::None("configuration of that module")),
            conf => Ok(conf),
        }
    }

    /// `ngx_module_t.ctx_index`.
    pub(crate) fn ctx_index(&self, module: &'static str) -> Result<u64, Untrusted> {
        let at = (self.symbol)(module).ok_or(Untrusted::Symbol(module))?;
        self.small(at, "a module's ctx_index")
    }

    fn small(&self, at: u64, what: &'static str) -> Result<u64, Untrusted> {
        match self.u64(at)? {
            n if n < MAX_MODULES => Ok(n),
            value => Err(Untrusted::Check { what, value }),
        }
    }

    pub(crate) fn u64(&self, at: u64) -> Result<u64, Untrusted> {
        Ok(self.mem.u64(at)?)
    }

    pub(crate) fn u32(&self, at: u64) -> Result<u32, Untrusted> {
        Ok(self.mem.u32(at)?)
    }

    /// `len` words in one read; the caller has bounded `len`.
    pub(crate) fn words(&self, at: u64, len: u64) -> Result<Vec<u64>, Untrusted> {
        const MAX: usize = 8 << 20;
        let bytes = self.mem.bytes(at, usize::try_from(len * 8).unwrap_or(usize::MAX), MAX)?;
        Ok(bytes.chunks_exact(8).map(word).collect())
    }

    pub(crate) fn array(&self, at: u64) -> Result<Array, Untrusted> {
        let w = self.words(at, 3)?;
        Ok(Array { elts: w[0], len: w[1], size: w[2] })
    }

    /// An `ngx_str_t`, cut at `max` bytes.
    pub(crate) fn string(&self, at: u64, max: usize) -> Result<String, Untrusted> {
        let w = self.words(at, 2)?;
        self.text(w[1], w[0], max)
    }

    /// `len` bytes of text, cut at `max`. A length no string of nginx has is refused.
    pub(crate) fn text(&self, data: u64, len: u64, max: usize) -> Result<String, Untrusted> {
        const LONGEST: u64 = 64 << 20;
        if len > LONGEST {
            return Err(Untrusted::Check { what: "the length of a string", value: len });
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(max);
        let bytes = self.mem.bytes(data, len, max)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A string that ends with a zero, cut at `max` bytes.
    pub(crate) fn c_string(&self, at: u64, max: usize) -> Result<String, Untrusted> {
        const STEP: u64 = 64;
        let mut out = Vec::new();
        while out.len() < max {
            let from = at.wrapping_add(out.len() as u64);
            // Not over an edge of 64 bytes: what is behind it may not be mapped.
            let step = (STEP - from % STEP) as usize;
            let bytes = self.mem.bytes(from, step, STEP as usize)?;
            match bytes.iter().position(|b| *b == 0) {
                Some(end) => {
                    out.extend_from_slice(&bytes[..end]);
                    break;
                }
                None => out.extend(bytes),
            }
        }
        out.truncate(max);
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// The parts of an `ngx_list_t` as (first element, number of elements).
    pub(crate) fn list(&self, at: u64, max_parts: usize, max_len: u64) -> Result<Vec<(u64, u64)>, Untrusted> {
        let mut parts = Vec::new();
        let mut part = at.wrapping_add(8);
        while part != 0 {
            if parts.len() == max_parts {
                return Err(Untrusted::Check {
                    what: "the number of parts of a list",
                    value: max_parts as u64,
                });
            }
            let w = self.words(part, 3)?;
            if w[1] > max_len {
                return Err(Untrusted::Check { what: "the number of elements of a list", value: w[1] });
            }
            parts.push((w[0], w[1]));
            part = w[2];
        }
        Ok(parts)
    }

    /// The elements of an `ngx_queue_t`, by the addresses of their links, `max` at most. Each link must
    /// point back: a queue that changes meanwhile, or is none, is refused.
    pub(crate) fn queue(&self, head: u64, max: usize) -> Result<Vec<u64>, Untrusted> {
        let mut out = Vec::new();
        let mut before = head;
        let mut at = self.u64(head.wrapping_add(8))?;
        while at != head {
            let w = self.words(at, 2)?;
            if w[0] != before {
                return Err(Untrusted::Check {
                    what: "a link of a queue that does not point back:",
                    value: at,
                });
            }
            if out.len() == max {
                return Err(Untrusted::Check {
                    what: "the number of elements of a queue",
                    value: max as u64,
                });
            }
            out.push(at);
            (before, at) = (at, w[1]);
        }
        Ok(out)
    }
}

/// Where the cycle is.
fn cycle(mem: &dyn Memory, symbol: &dyn Fn(&'static str) -> Option<u64>) -> Result<u64, Untrusted> {
    let place = symbol("ngx_cycle").ok_or(Untrusted::Symbol("ngx_cycle"))?;
    match mem.u64(place)? {
        0 => Err(Untrusted::None("cycle: nginx has not read its configuration yet")),
        cycle => Ok(cycle),
    }
}

pub(crate) fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap_or_default())
}

/// A word of a struct that was read in one piece; 0 past its end.
pub(crate) fn word_at(bytes: &[u8], at: u64) -> u64 {
    let from = usize::try_from(at).unwrap_or(usize::MAX);
    bytes.get(from..from.saturating_add(8)).map_or(0, word)
}

/// A bit by its number from the start of a struct.
pub(crate) fn bit(bytes: &[u8], number: u64) -> bool {
    bytes.get((number / 8) as usize).is_some_and(|b| b >> (number % 8) & 1 == 1)
}
