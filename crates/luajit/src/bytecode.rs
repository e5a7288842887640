//! A prototype's bytecode, constants and variables: what a function is called by the one that made it.

use crate::Vm;
use crate::layout::gct;
use crate::proto::read_string;
use upprof_memory::Memory;

/// Bytes of a prototype with all that belongs to it: far above what people write, and what generators do.
const MAX_BYTES: u32 = 4 << 20;
/// Longest name of a variable or field that is used.
const MAX_NAME: usize = 64;

/// Opcodes that are looked at; none of their numbers has changed since 2017 (lj_bc.h, `offsets.c`).
mod op {
    pub(super) const ISTC: u8 = 12;
    pub(super) const ISFC: u8 = 13;
    pub(super) const MOV: u8 = 18;
    pub(super) const KNIL: u8 = 44;
    pub(super) const UGET: u8 = 45;
    pub(super) const USETV: u8 = 46;
    pub(super) const FNEW: u8 = 51;
    pub(super) const TNEW: u8 = 52;
    pub(super) const TDUP: u8 = 53;
    pub(super) const GGET: u8 = 54;
    pub(super) const GSET: u8 = 55;
    pub(super) const TGETV: u8 = 56;
    pub(super) const TGETS: u8 = 57;
    pub(super) const TGETR: u8 = 59;
    pub(super) const TSETS: u8 = 61;
    pub(super) const TSETB: u8 = 62;
    pub(super) const CALLM: u8 = 65;
    pub(super) const ITERC: u8 = 69;
    pub(super) const ITERN: u8 = 70;
    pub(super) const VARG: u8 = 71;
    pub(super) const ISNEXT: u8 = 72;
    pub(super) const FORI: u8 = 77;
    pub(super) const JMP: u8 = 88;
}

/// One instruction: opcode, A, and B and C, which are D together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction(u32);

impl Instruction {
    fn op(self) -> u8 {
        self.0 as u8
    }
    fn a(self) -> u8 {
        (self.0 >> 8) as u8
    }
    fn c(self) -> u8 {
        (self.0 >> 16) as u8
    }
    fn b(self) -> u8 {
        (self.0 >> 24) as u8
    }
    fn d(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Whether it may write to a slot.
    fn writes(self, slot: u8) -> bool {
        match self.op() {
            op::ISTC | op::ISFC => self.a() == slot,
            op::KNIL => (u16::from(self.a())..=self.d()).contains(&slot.into()),
            op::MOV..=op::UGET | op::FNEW..=op::GGET | op::TGETV..=op::TGETR => self.a() == slot,
            op::CALLM..=op::ISNEXT => self.a() <= slot,
            _ => false,
        }
    }

    /// Whether the next instruction may not be what runs next.
    fn jumps(self) -> bool {
        self.op() < op::MOV || self.op() > op::VARG
    }
}

/// A local variable: its name and the instructions it lives in. Variables are kept in the order of their
/// slots where they overlap (lj_debug.c debug_varname).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    /// `None` for those that the compiler made, of loops.
    name: Option<String>,
    from: u32,
    to: u32,
}

/// What the function that made another does with it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Stored in a variable, or in a field of a table with a name: `M.access`.
    As(String),
    /// Stored in a field of a table that has no name here: `access`.
    In(String),
    /// Given to somebody, returned, or stored in a way that is not understood.
    Nowhere,
}

/// A prototype with everything behind it, copied at once.
pub(crate) struct Body<'a> {
    mem: &'a dyn Memory,
    vm: &'a Vm,
    bytes: Vec<u8>,
    at: u64,
}

impl<'a> Body<'a> {
    /// Copies the prototype at an address. `None` when there is none, or one of an impossible size.
    pub(crate) fn read(mem: &'a dyn Memory, vm: &'a Vm, at: u64) -> Option<Self> {
        let size = mem.u32(at.wrapping_add(vm.fixed.pt_sizept)).ok()?;
        if size > MAX_BYTES || u64::from(size) < vm.fixed.pt_size {
            return None;
        }
        let bytes = mem.bytes(at, size as usize, MAX_BYTES as usize).ok()?;
        let kind = bytes[usize::try_from(vm.fixed.gct).ok()?];
        (kind == gct::PROTO).then_some(Self { mem, vm, bytes, at })
    }

    /// Bytes that were copied.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn u32(&self, at: u64) -> Option<u32> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn reference(&self, at: u64) -> Option<u64> {
        let low = u64::from(self.u32(at)?);
        if self.vm.fixed.ref_size == 4 {
            return Some(low);
        }
        Some(low | u64::from(self.u32(at.checked_add(4)?)?) << 32)
    }

    /// How many instructions there are: no more than the copied bytes hold.
    fn instructions(&self) -> u32 {
        let fit = u32::try_from(self.bytes.len() / 4).unwrap_or(u32::MAX);
        self.u32(self.vm.fixed.pt_sizebc).unwrap_or(0).min(fit)
    }

    fn instruction(&self, pc: u32) -> Option<Instruction> {
        if pc >= self.instructions() {
            return None;
        }
        self.u32(self.vm.fixed.pt_size + u64::from(pc) * 4).map(Instruction)
    }

    /// The collectable constant that an operand D means (lj_obj.h proto_kgc).
    fn constant(&self, d: u32) -> Option<u64> {
        if d >= self.u32(self.vm.fixed.pt_sizekgc)? {
            return None;
        }
        let k = self.reference(self.vm.fixed.pt_k)?.checked_sub(self.at)?;
        self.reference(k.checked_sub((u64::from(d) + 1) * u64::from(self.vm.fixed.ref_size))?)
    }

    /// All collectable constants: strings, prototypes, tables.
    pub(crate) fn constants(&self) -> impl Iterator<Item = u64> + '_ {
        let count = self.u32(self.vm.fixed.pt_sizekgc).unwrap_or(0).min(MAX_BYTES / 4);
        (0..count).map_while(|d| self.constant(d))
    }

    fn text(&self, d: u32) -> Option<String> {
        let (text, cut) = read_string(self.mem, self.vm, self.constant(d)?, MAX_NAME).ok()?;
        (!cut && !text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }

    /// The bytes that a reference in the header leads to, up to the end.
    fn behind(&self, reference: u64) -> Option<&[u8]> {
        let from = usize::try_from(self.reference(reference)?.checked_sub(self.at)?).ok()?;
        self.bytes.get(from..)
    }

    /// The name of an upvalue; they follow each other, each with a zero at its end.
    pub(crate) fn upvalue(&self, index: usize) -> Option<String> {
        let info = self.behind(self.vm.fixed.pt_uvinfo)?;
        let name = info.split(|b| *b == 0).nth(index)?;
        plain_name(name)
    }

    fn variables(&self) -> Vec<Variable> {
        self.behind(self.vm.fixed.pt_varinfo).map(variables).unwrap_or_default()
    }

    /// The names of the parameters, when there is debug information.
    pub(crate) fn parameters(&self) -> Option<Vec<String>> {
        let count = usize::from(*self.bytes.get(usize::try_from(self.vm.fixed.gct).ok()? + 1)?);
        let names: Vec<String> = self.variables().into_iter().map_while(|v| v.name).take(count).collect();
        (names.len() == count).then_some(names)
    }

    /// What happens to the function made from `child`, one of this prototype's constants.
    pub(crate) fn stores(&self, child: u64) -> Stored {
        self.find_store(child).unwrap_or(Stored::Nowhere)
    }

    fn find_store(&self, child: u64) -> Option<Stored> {
        let d = (0..).zip(self.constants()).find(|(_, c)| *c == child)?.0;
        let made = |pc: &u32| {
            let i = self.instruction(*pc);
            i.is_some_and(|i| i.op() == op::FNEW && u32::from(i.d()) == d)
        };
        let pc = (0..self.instructions()).find(made)?;
        let variables = self.variables();
        let slot = self.instruction(pc)?.a();
        let next = self.instruction(pc + 1)?;
        match next.op() {
            op::GSET if next.a() == slot => self.text(next.d().into()).map(Stored::As),
            op::USETV if next.d() == u16::from(slot) => self.upvalue(next.a().into()).map(Stored::As),
            op::TSETS if next.a() == slot => {
                let key = self.text(next.c().into())?;
                Some(match self.table(&variables, next.b(), pc + 1, 0) {
                    Some(table) => Stored::As(format!("{table}.{key}")),
                    None => Stored::In(key),
                })
            }
            op::TSETB if next.a() == slot => {
                let table = self.table(&variables, next.b(), pc + 1, 0)?;
                Some(Stored::As(format!("{table}[{}]", next.c())))
            }
            _ => self.becomes(&variables, slot, pc + 1).map(Stored::As),
        }
    }

    /// The variable that a slot's value becomes: the first that begins in it after `pc` while nothing
    /// else was written there.
    fn becomes(&self, variables: &[Variable], slot: u8, pc: u32) -> Option<String> {
        /// A long table constructor.
        const FAR: u32 = 1024;
        for at in pc..pc.saturating_add(FAR) {
            if let Some((name, from)) = variable(variables, slot, at)
                && from == at
            {
                return name;
            }
            let i = self.instruction(at)?;
            if i.writes(slot) || i.jumps() {
                return None;
            }
        }
        None
    }

    /// What the table in a slot is called at `pc`.
    fn table(&self, variables: &[Variable], slot: u8, pc: u32, depth: u32) -> Option<String> {
        /// `a.b.c.d`, and no deeper.
        const MAX_DEPTH: u32 = 6;
        if depth == MAX_DEPTH {
            return None;
        }
        if let Some((name, _)) = variable(variables, slot, pc) {
            return name;
        }
        let written = (0..pc).rev().find(|at| self.instruction(*at).is_some_and(|i| i.writes(slot)))?;
        let i = self.instruction(written)?;
        match i.op() {
            op::UGET => self.upvalue(i.d().into()),
            op::GGET => self.text(i.d().into()),
            op::MOV => self.table(variables, u8::try_from(i.d()).ok()?, written, depth + 1),
            op::TGETS => {
                let outer = self.table(variables, i.b(), written, depth + 1)?;
                Some(format!("{outer}.{}", self.text(i.c().into())?))
            }
            // Under construction: called as what it is stored in once it is whole.
            op::TNEW | op::TDUP => self.constructed(variables, slot, pc, depth),
            _ => None,
        }
    }

    fn constructed(&self, variables: &[Variable], slot: u8, pc: u32, depth: u32) -> Option<String> {
        const FAR: u32 = 1024;
        if let Some(name) = self.becomes(variables, slot, pc + 1) {
            return Some(name);
        }
        for at in pc + 1..pc.saturating_add(FAR) {
            let i = self.instruction(at)?;
            match i.op() {
                op::TSETS if i.a() == slot => {
                    let key = self.text(i.c().into())?;
                    let outer = self.table(variables, i.b(), at, depth + 1)?;
                    return Some(format!("{outer}.{key}"));
                }
                op::GSET if i.a() == slot => return self.text(i.d().into()),
                op::USETV if i.d() == u16::from(slot) => return self.upvalue(i.a().into()),
                _ if i.writes(slot) || i.jumps() => return None,
                _ => {}
            }
        }
        None
    }

    /// Whether `child` is one of its constants, and made by one of its instructions.
    pub(crate) fn made(&self, child: u64) -> bool {
        self.constants().any(|c| c == child)
    }

    /// A number for what the function does: its instructions, but for those that the JIT compiler
    /// patches, its numbers, which upvalues it takes, and its strings. The same in every process that loaded the same module.
    pub(crate) fn fingerprint(&self) -> u32 {
        let mut hash = Fnv::default();
        let count = self.instructions();
        // The first is the function's header, which is patched too.
        for i in (1..count).map_while(|pc| self.instruction(pc)) {
            let patched = matches!(i.op(), op::ITERC | op::ITERN | op::ISNEXT | op::FORI..=op::JMP);
            hash.add(&if patched { [0, i.a(), 0, 0] } else { i.0.to_le_bytes() });
        }
        // `sizekn` follows `sizekgc`, and `sizeuv` `sizept`; what they count lies behind the constants.
        let numbers = self.u32(self.vm.fixed.pt_sizekgc + 4).unwrap_or(0) as usize;
        let upvalues = self.u32(self.vm.fixed.pt_sizept + 4).unwrap_or(0) as u8;
        let behind = self.behind(self.vm.fixed.pt_k).unwrap_or_default();
        let length = numbers.saturating_mul(8).saturating_add(usize::from(upvalues) * 2);
        hash.add(&behind[..length.min(behind.len())]);
        for constant in self.constants() {
            if let Ok((text, _)) = read_string(self.mem, self.vm, constant, MAX_NAME) {
                hash.add(&text);
            }
        }
        hash.0
    }
}

/// The variable that has a slot at an instruction, and where it begins.
fn variable(variables: &[Variable], slot: u8, pc: u32) -> Option<(Option<String>, u32)> {
    let mut alive = variables.iter().filter(|v| v.from <= pc && pc < v.to);
    alive.nth(slot.into()).map(|v| (v.name.clone(), v.from))
}

/// `GCproto.varinfo`: a name with a zero at its end, or a small number for names that the compiler
/// gives; then two numbers, from the last variable's begin to this one's, and from there to its end.
fn variables(info: &[u8]) -> Vec<Variable> {
    /// lj_debug.c VARNAME__MAX
    const NAMES_OF_COMPILER: u8 = 7;
    /// LuaJIT allows 200 at a time; a file of any length has them one after the other.
    const MAX: usize = 1 << 13;
    let mut out = Vec::new();
    let mut rest = info;
    let mut from = 0_u32;
    while let Some(first) = rest.first().copied()
        && first != 0
        && out.len() < MAX
    {
        let name = if first < NAMES_OF_COMPILER {
            rest = &rest[1..];
            None
        } else {
            let Some(end) = rest.iter().position(|b| *b == 0) else { break };
            let name = plain_name(&rest[..end]);
            rest = &rest[end + 1..];
            name
        };
        let (Some(begin), Some(length)) = (uleb(&mut rest), uleb(&mut rest)) else { break };
        from = from.saturating_add(begin);
        out.push(Variable { name, from, to: from.saturating_add(length) });
    }
    out
}

fn uleb(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..32).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A name as Lua allows it; anything else is not a name, but memory of somebody else.
fn plain_name(bytes: &[u8]) -> Option<String> {
    let ident = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80;
    let name = !bytes.is_empty() && bytes.len() <= MAX_NAME && bytes.iter().all(ident);
    name.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// FNV-1a, 32 bits.
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u32::from(*b)).wrapping_mul(0x0100_0193);
        }
    }
}
