//! Who holds an object: breadth first from the roots, so that the shortest way is found.

use super::{Place, registry};
use crate::Vm;
use crate::block::Block;
use crate::detect::reference;
use crate::layout::gct;
use crate::proto::read_string;
use crate::value::{NODE, Table, Value};
use std::collections::{HashMap, VecDeque};
use upprof_memory::Memory;

/// Slots of one table or stack that are followed.
const MAX_SLOTS: u32 = 1 << 24;
/// Slots read at once.
const AT_ONCE: u64 = 2048;
/// Characters of a key.
const MAX_KEY: usize = 40;
/// Steps of a path that are spelled.
const MAX_STEPS: usize = 64;

/// How an object is reached from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Globals,
    Registry,
    MainStack,
    Array(u32),
    /// The node's number: its key is read when it is needed.
    Node(u32),
    Key,
    Metatable,
    Environment,
    Upvalue(u8),
    Constant,
    Stack,
    /// What an upvalue holds: no step that people see.
    Inside,
}

/// The paths of those `wanted` objects that the roots hold, looking at no more than `max_objects`.
pub(super) fn paths(mem: &dyn Memory, vm: &Vm, wanted: &[u64], max_objects: u32) -> HashMap<u64, String> {
    let mut search = Search { mem, vm, from: HashMap::new(), queue: VecDeque::new(), left: max_objects };
    let mut missing: Vec<u64> = wanted.to_vec();
    search.roots();
    while let Some((kind, at)) = search.queue.pop_front() {
        if let Some(i) = missing.iter().position(|w| *w == at) {
            missing.swap_remove(i);
            if missing.is_empty() {
                break;
            }
        }
        search.follow(kind, at);
    }
    let found = wanted.iter().filter_map(|at| Some((*at, search.spell(*at)?)));
    found.collect()
}

struct Search<'a> {
    mem: &'a dyn Memory,
    vm: &'a Vm,
    /// Where each object was reached from first; roots from 0.
    from: HashMap<u64, (u64, Edge)>,
    queue: VecDeque<(u8, u64)>,
    left: u32,
}

impl Search<'_> {
    fn roots(&mut self) {
        let f = self.vm.fixed;
        if let Ok(globals) = reference(self.mem, f, self.vm.main_thread.wrapping_add(f.l_env)) {
            self.reach(gct::TAB, globals, 0, Edge::Globals);
        }
        if let Ok(registry) = registry(self.mem, self.vm) {
            self.reach(gct::TAB, registry, 0, Edge::Registry);
        }
        self.reach(gct::THREAD, self.vm.main_thread, 0, Edge::MainStack);
    }

    fn reach(&mut self, kind: u8, at: u64, from: u64, edge: Edge) {
        if at == 0 || self.left == 0 || kind == gct::STR || kind == gct::CDATA {
            return;
        }
        if let std::collections::hash_map::Entry::Vacant(new) = self.from.entry(at) {
            new.insert((from, edge));
            self.left -= 1;
            self.queue.push_back((kind, at));
        }
    }

    fn value(&mut self, word: u64, from: u64, edge: Edge) {
        if let Value::Object(kind, at) = Value::decode(self.vm, word) {
            self.reach(kind, at, from, edge);
        }
    }

    fn follow(&mut self, kind: u8, at: u64) {
        // What is not what it should be leads nowhere; the walk over the heap says whether it is torn.
        let _ = match kind {
            gct::TAB => self.table(at),
            gct::FUNC => self.function(at),
            gct::UPVAL => self.upvalue(at),
            gct::PROTO => self.proto(at),
            gct::THREAD => self.thread(at),
            gct::UDATA => self.userdata(at),
            _ => None,
        };
    }

    fn header(&self, at: u64, kind: u8, len: u64) -> Option<Block> {
        let block = Block::read(self.mem, self.vm.fixed, at, len).ok()?;
        (block.u8(self.vm.fixed.gct) == kind).then_some(block)
    }

    fn table(&mut self, at: u64) -> Option<()> {
        let table = Table::read(self.mem, self.vm, at)?;
        self.reach(gct::TAB, table.metatable, at, Edge::Metatable);
        self.slots(table.array, table.asize.min(MAX_SLOTS), 8, |search, i, slot| {
            search.value(word(slot), at, Edge::Array(i));
        });
        let nodes = if table.hmask == 0 { 0 } else { table.hmask.saturating_add(1).min(MAX_SLOTS) };
        self.slots(table.node, nodes, NODE as u64, |search, i, node| {
            let (value, key) = (word(&node[..8]), word(&node[8..16]));
            if Value::decode(search.vm, value) != Value::Nil {
                search.value(value, at, Edge::Node(i));
                search.value(key, at, Edge::Key);
            }
        });
        Some(())
    }

    /// Calls `each` with number and bytes of every slot that can be read.
    fn slots(&mut self, start: u64, count: u32, stride: u64, each: impl Fn(&mut Self, u32, &[u8])) {
        let mut first = 0;
        while first < u64::from(count) && self.left > 0 {
            let n = AT_ONCE.min(u64::from(count) - first);
            let at = start.wrapping_add(first * stride);
            let Ok(bytes) = self.mem.bytes(at, (n * stride) as usize, (AT_ONCE * stride) as usize) else {
                return;
            };
            for (i, slot) in bytes.chunks_exact(stride as usize).enumerate() {
                each(self, first as u32 + i as u32, slot);
            }
            first += n;
        }
    }

    fn function(&mut self, at: u64) -> Option<()> {
        let f = self.vm.fixed;
        let head = self.header(at, gct::FUNC, f.fn_pc + u64::from(f.ref_size))?;
        self.reach(gct::TAB, head.word(f.fn_env), at, Edge::Environment);
        let n = u32::from(head.u8(f.fn_nupvalues));
        if head.u8(f.fn_ffid) != 0 {
            self.slots(at.wrapping_add(f.fn_upvalue), n, 8, |search, i, slot| {
                search.value(word(slot), at, Edge::Upvalue(i as u8));
            });
            return Some(());
        }
        let proto = head.word(f.fn_pc).wrapping_sub(f.pt_size);
        self.reach(gct::PROTO, proto, at, Edge::Inside);
        self.slots(at.wrapping_add(f.fn_uvptr), n, f.ref_size.into(), |search, i, slot| {
            search.reach(gct::UPVAL, word(slot), at, Edge::Upvalue(i as u8));
        });
        Some(())
    }

    fn upvalue(&mut self, at: u64) -> Option<()> {
        let f = self.vm.fixed;
        let head = self.header(at, gct::UPVAL, f.uv_tv + 8)?;
        // An open one lives on its thread's stack, which holds the value as well.
        if head.u8(f.uv_closed) != 0 {
            self.value(head.u64(f.uv_tv), at, Edge::Inside);
        }
        Some(())
    }

    /// Constants: references below `k` (lj_obj.h `proto_kgc`). Templates of tables are among them.
    fn proto(&mut self, at: u64) -> Option<()> {
        const MAX_CONSTANTS: u32 = 1 << 16;
        let f = self.vm.fixed;
        let head = self.header(at, gct::PROTO, f.pt_flags + 1)?;
        let n = head.u32(f.pt_sizekgc).min(MAX_CONSTANTS);
        let size = u64::from(f.ref_size);
        let first = head.word(f.pt_k).wrapping_sub(u64::from(n) * size);
        self.slots(first, n, size, |search, _, slot| {
            let object = word(slot);
            let kind = search.mem.u8(object.wrapping_add(search.vm.fixed.gct)).unwrap_or(0);
            search.reach(kind, object, at, Edge::Constant);
        });
        Some(())
    }

    fn thread(&mut self, at: u64) -> Option<()> {
        let f = self.vm.fixed;
        let head = self.header(at, gct::THREAD, f.l_stacksize + 4)?;
        self.reach(gct::TAB, head.word(f.l_env), at, Edge::Environment);
        let stack = head.word(f.l_stack);
        let used = head.u64(f.l_base + 8).checked_sub(stack)? / 8;
        let used = u32::try_from(used).ok()?.min(head.u32(f.l_stacksize));
        self.slots(stack, used, 8, |search, _, slot| search.value(word(slot), at, Edge::Stack));
        Some(())
    }

    fn userdata(&mut self, at: u64) -> Option<()> {
        let f = self.vm.fixed;
        let head = self.header(at, gct::UDATA, f.ud_metatable + u64::from(f.ref_size))?;
        self.reach(gct::TAB, head.word(f.ud_metatable), at, Edge::Metatable);
        self.reach(gct::TAB, head.word(f.ud_env), at, Edge::Environment);
        Some(())
    }

    /// The path of a reached object, from the root on.
    fn spell(&self, at: u64) -> Option<String> {
        let mut steps = Vec::new();
        let mut at = at;
        loop {
            let (from, edge) = *self.from.get(&at)?;
            match edge {
                Edge::Globals => steps.push("_G".to_owned()),
                Edge::Registry => steps.push("registry".to_owned()),
                Edge::MainStack => steps.push("main thread".to_owned()),
                _ => steps.push(self.step(from, edge)),
            }
            if from == 0 {
                break;
            }
            if steps.len() == MAX_STEPS {
                steps.push("…".to_owned());
                break;
            }
            at = from;
        }
        steps.reverse();
        let path: String = steps.concat();
        // Where lib_package.c keeps package.loaded.
        Some(match path.strip_prefix("registry._LOADED") {
            Some(rest) => format!("package.loaded{rest}"),
            None => path,
        })
    }

    fn step(&self, from: u64, edge: Edge) -> String {
        match edge {
            Edge::Array(i) => format!("[{i}]"),
            Edge::Node(i) => self.key(from, i),
            Edge::Key => "(key)".to_owned(),
            Edge::Metatable => "(metatable)".to_owned(),
            Edge::Environment => "(environment)".to_owned(),
            Edge::Upvalue(i) => match self.defined(from) {
                Some(place) => format!("(upvalue {i} of {place})"),
                None => format!("(upvalue {i})"),
            },
            Edge::Constant => match Place::of_definition(self.mem, self.vm, from) {
                Some(place) => format!("(constant of {place})"),
                None => "(constant)".to_owned(),
            },
            Edge::Stack => "(stack)".to_owned(),
            Edge::Globals | Edge::Registry | Edge::MainStack | Edge::Inside => String::new(),
        }
    }

    fn defined(&self, func: u64) -> Option<Place> {
        let f = self.vm.fixed;
        let code = reference(self.mem, f, func.wrapping_add(f.fn_pc)).ok()?;
        Place::of_definition(self.mem, self.vm, code.wrapping_sub(f.pt_size))
    }

    /// The key of a node, as one would write it.
    fn key(&self, table: u64, node: u32) -> String {
        let read = || {
            let table = Table::read(self.mem, self.vm, table)?;
            let at = table.node.wrapping_add(u64::from(node) * NODE as u64 + 8);
            Some(Value::decode(self.vm, self.mem.u64(at).ok()?))
        };
        match read() {
            Some(Value::Object(gct::STR, at)) => {
                let Ok((text, cut)) = read_string(self.mem, self.vm, at, MAX_KEY) else {
                    return "[?]".into();
                };
                let text = String::from_utf8_lossy(&text).into_owned();
                let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if !cut && text.chars().all(name) && !text.is_empty() {
                    format!(".{text}")
                } else {
                    format!("[{text:?}{}]", if cut { "…" } else { "" })
                }
            }
            Some(Value::Number(n)) => format!("[{n}]"),
            Some(Value::Boolean(b)) => format!("[{b}]"),
            Some(Value::Other) => "[light userdata]".into(),
            _ => "[?]".into(),
        }
    }
}

/// A reference or value of up to 8 bytes.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    u64::from_le_bytes(word)
}
