//! What Lua functions are called: by their source, by what memory says of them, or not at all. Decided
//! when a function is first seen, while its process lives.

use super::lua::LuaBook;
use super::sources::{Reader, Sources};
use std::collections::HashMap;
use std::rc::Rc;
use upprof_luajit::source::Source;
use upprof_luajit::{Chunk, Proto, Reach, Vm};
use upprof_memory::Live;
use upprof_profile::Doubt;
use upprof_profile::raw::{PackedFrame, RawFrame};
use upprof_stacks::{LuaName, LuaNames};

/// How the parser of sources, and the reader of memory, tell of a function that has no name and lies in none.
const ANONYMOUS: &str = "(anonymous)";
/// Shown for a function that neither a source nor memory has a name for.
const UNKNOWN: &str = "?";
const MAIN_CHUNK: &str = "(main chunk)";
const NO_DEBUG_INFO: &str = "no debug info (bytecode module)";

/// One function in every process that loaded it: the same name, and the memory is asked once.
#[derive(PartialEq, Eq, Hash)]
struct Same {
    chunkname: Vec<u8>,
    lines: (u32, u32),
    check: u32,
    /// Where there are no lines.
    fingerprint: Option<u32>,
}

/// One walk over the objects of each of a process's VMs, and how many prototypes it was asked for in vain
/// since.
struct Walk {
    reaches: Vec<Reach>,
    missed: u32,
}

/// Names given so far.
#[derive(Default)]
pub(super) struct Names {
    pub(super) sources: Sources,
    given: HashMap<(u32, u64, u32), Rc<str>>,
    from_memory: HashMap<Same, Option<Rc<str>>>,
    /// Source texts that are their own chunk names, by a hash of them.
    texts: HashMap<Vec<u8>, Rc<Source>>,
    text_bytes: usize,
    walks: HashMap<u32, Walk>,
    walked: u32,
    /// Functions shown by file and line only.
    pub(super) unknown: u64,
    /// Functions without debug information.
    pub(super) stripped: u64,
    /// Functions named by what memory says of them.
    pub(super) by_memory: u64,
    /// Walks that ended at their bounds.
    pub(super) walks_cut: u64,
}

impl Names {
    /// Finds the name of a function that was just seen.
    pub(super) fn give(&mut self, reader: Reader<'_>, pid: u32, vms: &[Vm], proto: &Proto) {
        let key = (pid, proto.address, proto.check);
        if self.given.contains_key(&key) {
            return;
        }
        let name = self.find(reader, pid, vms, proto);
        self.given.insert(key, name);
    }

    fn find(&mut self, reader: Reader<'_>, pid: u32, vms: &[Vm], proto: &Proto) -> Rc<str> {
        // All VMs of a process are of the same LuaJIT.
        let Some(vm) = vms.first() else { return UNKNOWN.into() };
        if proto.stripped() {
            return self.without_debug_info(pid, vms, vm, proto);
        }
        if proto.firstline == 0 {
            return MAIN_CHUNK.into();
        }
        if let Some(name) = self.by_source(reader, pid, vm, proto) {
            return name.into();
        }
        let same = Same {
            chunkname: proto.chunkname.clone(),
            lines: (proto.firstline, proto.numline),
            check: proto.check,
            fingerprint: None,
        };
        if let Some(name) = self.by_memory(same, pid, vms, proto) {
            self.by_memory += 1;
            return name;
        }
        self.unknown += 1;
        UNKNOWN.into()
    }

    fn without_debug_info(&mut self, pid: u32, vms: &[Vm], vm: &Vm, proto: &Proto) -> Rc<str> {
        self.stripped += 1;
        let fingerprint = proto.fingerprint(&Live::new(pid), vm);
        let same =
            Same { chunkname: proto.chunkname.clone(), lines: (0, 0), check: proto.check, fingerprint };
        let chunk = Chunk::parse(&proto.chunkname);
        self.sources.not_used(chunk.display(), "no debug info (bytecode module): no lines and few names");
        match self.by_memory(same, pid, vms, proto) {
            Some(name) => format!("{name} - {NO_DEBUG_INFO}").into(),
            None => match fingerprint {
                Some(number) => format!("{NO_DEBUG_INFO} {number:08x}").into(),
                None => NO_DEBUG_INFO.into(),
            },
        }
    }

    /// The name at the definition.
    fn by_source(&mut self, reader: Reader<'_>, pid: u32, vm: &Vm, proto: &Proto) -> Option<String> {
        let memory = Live::new(pid);
        let chunk = Chunk::parse(&proto.chunkname);
        let source = match &chunk {
            Chunk::File(_) if proto.chunkname_cut => return None,
            Chunk::File(file) => self.sources.functions(reader, pid, file)?,
            Chunk::Text(_) => self.own_text(pid, vm, proto)?,
            Chunk::Named(_) => return None,
        };
        let shape = proto.shape(&memory, vm)?;
        let name = source.name(&shape);
        if name.is_none() && source.is_body_of(&shape) {
            return Some(MAIN_CHUNK.into());
        }
        if name.is_none() {
            let why = if source.whole {
                "a function that runs is not in it: it is not the source of what runs"
            } else {
                "it could not be read as Lua to its end"
            };
            self.sources.not_used(chunk.display(), why);
        }
        name
    }

    /// The source of a chunk that `load` was given as text: it is the chunk's name.
    fn own_text(&mut self, pid: u32, vm: &Vm, proto: &Proto) -> Option<Rc<Source>> {
        const MAX_TEXT: usize = 256 << 10;
        /// Of all texts together.
        const MAX_TEXTS: usize = 8 << 20;
        let text = proto.own_text(&Live::new(pid), vm, MAX_TEXT)?;
        if let Some(known) = self.texts.get(&text) {
            return Some(Rc::clone(known));
        }
        if self.text_bytes + text.len() > MAX_TEXTS {
            return None;
        }
        self.text_bytes += text.len();
        let source = Rc::new(Source::parse(&text));
        self.texts.insert(text, Rc::clone(&source));
        Some(source)
    }

    /// The name that a process's objects lead to. Another process's answer for the same function counts.
    fn by_memory(&mut self, same: Same, pid: u32, vms: &[Vm], proto: &Proto) -> Option<Rc<str>> {
        if let Some(known) = self.from_memory.get(&same) {
            return known.clone();
        }
        let name = self.look_around(pid, vms, proto).map(Rc::from);
        self.from_memory.insert(same, name.clone());
        name
    }

    fn look_around(&mut self, pid: u32, vms: &[Vm], proto: &Proto) -> Option<String> {
        /// Each takes some ten milliseconds at worst; the processes of a target are mostly alike.
        const MAX_WALKS: u32 = 8;
        /// What was loaded since the last walk is not in it.
        const WALK_AGAIN: u32 = 16;
        let memory = Live::new(pid);
        let stale = self.walks.get(&pid).is_none_or(|w| w.missed >= WALK_AGAIN);
        if stale && self.walked < MAX_WALKS {
            self.walked += 1;
            let reaches: Vec<Reach> = vms.iter().map(|vm| Reach::of(&memory, vm)).collect();
            self.walks_cut += u64::from(reaches.iter().any(|r| r.cut));
            self.walks.insert(pid, Walk { reaches, missed: 0 });
        }
        let walk = self.walks.get_mut(&pid)?;
        let mut found = walk.reaches.iter().zip(vms);
        let name = found.find_map(|(reach, vm)| reach.name(&memory, vm, proto.address));
        walk.missed += u32::from(name.is_none());
        name
    }

    /// Forgets what is known by addresses of a process: its pid is another's now.
    pub(super) fn forget(&mut self, pid: u32) {
        self.walks.remove(&pid);
    }

    fn get(&self, pid: u32, proto: &Proto) -> &str {
        self.given.get(&(pid, proto.address, proto.check)).map_or(UNKNOWN, |name| name)
    }
}

/// What was read of frames, with their names.
pub(super) struct Named<'a> {
    pub(super) book: &'a LuaBook,
    pub(super) names: &'a Names,
}

impl LuaNames for Named<'_> {
    fn lua(&self, pid: u32, frame: PackedFrame) -> Option<LuaName> {
        let read = self.book.get(pid, frame)?;
        let chunk = Chunk::parse(&read.proto.chunkname);
        let definition = read.proto.firstline;
        let name = self.names.get(pid, &read.proto);
        // ngx_lua before 0.10.15 puts inline code into `return function() … end` (ngx_http_lua_clfactory.c).
        let whole = definition == 0 || (definition == 1 && name == ANONYMOUS);
        let function = match chunk.directive() {
            // Code written inline in nginx's configuration is named by its directive and place.
            Some((directive, file, line)) if whole => LuaName {
                name: directive.to_owned(),
                file: Some(file.to_owned()),
                definition: line,
                line: read.line,
            },
            _ => LuaName {
                name: name.to_owned(),
                file: Some(chunk.display().to_owned()),
                definition,
                line: read.line,
            },
        };
        let RawFrame::Trace { number, doubt, .. } = frame.unpack() else { return Some(function) };
        // A trace is named by the function it starts in and the line it starts at; by its number where the
        // functions that it runs are not known.
        let place = function.file.as_deref().unwrap_or_default();
        let name = match (doubt, number) {
            (Some(_), Some(number)) => Doubt::trace_by_number(number, &format!("{place}:{}", read.line)),
            _ => format!("{}@{place}:{}", function.name, read.line),
        };
        Some(LuaName { name, ..function })
    }

    fn c_function(&self, pid: u32, function: u64, ffid: u8) -> Option<String> {
        self.book.c_function(pid, function, ffid)
    }
}
