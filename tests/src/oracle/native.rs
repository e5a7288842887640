//! Native frames by DWARF rules, evaluated in full for every register at every step: slow, complete, and
//! without any table of our own.

use super::maps::{Region, contents, regions};
use super::tracee::{Registers, reg};
use anyhow::Result;
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianRcSlice, Evaluation, EvaluationResult, LittleEndian,
    Location, ParsedEhFrameHdr, RegisterRule, UnwindContext, UnwindExpression, UnwindSection as _, Value,
};
use object::{Object as _, ObjectSection as _, ObjectSegment as _};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use upprof_memory::{Live, Memory as _};

type Bytes = EndianRcSlice<LittleEndian>;

/// An executable mapping with its file.
struct Module {
    start: u64,
    end: u64,
    bias: u64,
    file: Rc<File>,
}

/// The files of all processes looked at, each read once.
#[derive(Default)]
pub struct Files(HashMap<String, Rc<File>>);

/// The code of a process.
pub struct Code {
    memory: Live,
    modules: Vec<Module>,
    /// Executable memory without a file: machine code of traces, and of PCRE.
    anonymous: Vec<Range<u64>>,
}

/// What one step gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and the large one is the usual one")]
pub enum Step {
    /// The caller's registers.
    Caller(Registers),
    /// The entry of the process: it has no caller.
    Root,
    /// No rule, or one that could not be followed.
    Stuck(&'static str),
}

impl Code {
    /// Of a process, as it is mapped now.
    ///
    /// # Errors
    /// When maps or files cannot be read.
    pub fn of(pid: u32, files: &mut Files) -> Result<Self> {
        let mut code = Self { memory: Live::new(pid), modules: Vec::new(), anonymous: Vec::new() };
        for region in regions(pid)?.iter().filter(|r| r.exec) {
            if region.name.is_empty() {
                code.anonymous.push(region.start..region.end);
            } else if region.name != "[vsyscall]" {
                let file = files.of(pid, region)?;
                if let Some(bias) = file.bias(region) {
                    code.modules.push(Module { start: region.start, end: region.end, bias, file });
                }
            }
        }
        Ok(code)
    }

    fn module(&self, ip: u64) -> Option<&Module> {
        self.modules.iter().find(|m| (m.start..m.end).contains(&ip))
    }

    /// Whether this is code of a file.
    #[must_use]
    pub fn in_file(&self, ip: u64) -> bool {
        self.module(ip).is_some()
    }

    /// A code address as file and address in the file, for people.
    #[must_use]
    pub fn place(&self, ip: u64) -> String {
        match self.module(ip) {
            Some(m) => format!("{}+{:#x}", m.file.name, ip.wrapping_sub(m.bias)),
            None => format!("{ip:#x}"),
        }
    }

    /// Whether this is code that was made at run time.
    #[must_use]
    pub fn is_anonymous(&self, ip: u64) -> bool {
        self.anonymous.iter().any(|r| r.contains(&ip))
    }

    /// The interpreter of LuaJIT: a function of more than 10,000 bytes with one rule from its first byte on,
    /// that of a C frame: CFA is rsp + 80, rbx, r15 and r14 at CFA - 24, - 32, - 40 (vm_x64.dasc and
    /// vm_x86.dasc, `.eh_frame`). It is looked for in every file, since LuaJIT may be linked into any.
    #[must_use]
    pub fn interpreter(&self) -> Option<Range<u64>> {
        self.modules.iter().find_map(|module| {
            let of = module.file.sections.as_ref()?.interpreter()?;
            Some(of.start.wrapping_add(module.bias)..of.end.wrapping_add(module.bias))
        })
    }

    /// Where the function that holds `ip` begins.
    #[must_use]
    pub fn function_start(&self, ip: u64) -> Option<u64> {
        let module = self.module(ip)?;
        let all = module.file.sections.as_ref()?;
        let table = all.index.table()?;
        let fde = table.fde_for_address(
            &all.frames,
            &all.bases,
            ip.wrapping_sub(module.bias),
            EhFrame::cie_from_offset,
        );
        Some(fde.ok()?.initial_address().wrapping_add(module.bias))
    }

    /// From a frame to its caller. `leaf`: the instruction pointer is an interrupted instruction, not a
    /// return address.
    #[must_use]
    pub fn step(&self, regs: &Registers, leaf: bool) -> Step {
        let Some(ip) = regs[reg::RIP] else { return Step::Stuck("ip not known") };
        let at = if leaf { ip } else { ip.wrapping_sub(1) };
        let Some(module) = self.module(at) else { return Step::Stuck("no file") };
        let Some(all) = &module.file.sections else { return Step::Stuck("no .eh_frame") };
        let Some(table) = all.index.table() else { return Step::Stuck("no .eh_frame_hdr") };
        let vaddr = at.wrapping_sub(module.bias);
        let Ok(fde) = table.fde_for_address(&all.frames, &all.bases, vaddr, EhFrame::cie_from_offset) else {
            return Step::Stuck("no rule");
        };
        if !fde.contains(vaddr) {
            return Step::Stuck("no rule");
        }
        let mut context = UnwindContext::new();
        let Ok(row) = fde.unwind_info_for_address(&all.frames, &all.bases, &mut context, vaddr) else {
            return Step::Stuck("a rule that does not parse");
        };
        let encoding = fde.cie().encoding();
        let expression = |e: &UnwindExpression<usize>, initial: Option<u64>| {
            let e = e.get(&all.frames).ok()?;
            self.evaluate(e.evaluation(encoding), regs, initial)
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                let base = regs.get(usize::from(register.0)).copied().flatten();
                base.map(|b| b.wrapping_add_signed(*offset))
            }
            CfaRule::Expression(e) => expression(e, None),
        };
        let Some(cfa) = cfa else { return Step::Stuck("CFA not known") };
        let mut caller = *regs;
        caller[reg::RSP] = Some(cfa);
        for number in 0..17_u16 {
            let known = regs[usize::from(number)];
            caller[usize::from(number)] = match row.register(gimli::Register(number)) {
                None if usize::from(number) == reg::RSP => Some(cfa),
                None | Some(RegisterRule::SameValue) => known,
                Some(RegisterRule::Undefined) if usize::from(number) == reg::RIP => return Step::Root,
                Some(RegisterRule::Undefined) => None,
                Some(RegisterRule::Offset(n)) => self.memory.u64(cfa.wrapping_add_signed(n)).ok(),
                Some(RegisterRule::ValOffset(n)) => Some(cfa.wrapping_add_signed(n)),
                Some(RegisterRule::Register(r)) => regs.get(usize::from(r.0)).copied().flatten(),
                Some(RegisterRule::Expression(e)) => {
                    expression(&e, Some(cfa)).and_then(|addr| self.memory.u64(addr).ok())
                }
                Some(RegisterRule::ValExpression(e)) => expression(&e, Some(cfa)),
                Some(_) => None,
            };
        }
        if caller[reg::RIP].is_none() {
            return Step::Stuck("return address not known");
        }
        Step::Caller(caller)
    }

    /// Whether the caller of this frame was interrupted by a signal there.
    #[must_use]
    pub fn is_signal_frame(&self, ip: u64) -> bool {
        let find = || {
            let module = self.module(ip)?;
            let all = module.file.sections.as_ref()?;
            let table = all.index.table()?;
            let vaddr = ip.wrapping_sub(module.bias);
            table
                .fde_for_address(&all.frames, &all.bases, vaddr, EhFrame::cie_from_offset)
                .ok()
                .map(|fde| fde.is_signal_trampoline())
        };
        find().unwrap_or(false)
    }

    fn evaluate(
        &self,
        mut evaluation: Evaluation<Bytes>,
        regs: &Registers,
        initial: Option<u64>,
    ) -> Option<u64> {
        if let Some(value) = initial {
            evaluation.set_initial_value(value);
        }
        let mut state = evaluation.evaluate().ok()?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, .. } => {
                    let word = self.memory.u64(address).ok()?;
                    evaluation.resume_with_memory(Value::Generic(word)).ok()?
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = regs.get(usize::from(register.0)).copied().flatten()?;
                    evaluation.resume_with_register(Value::Generic(value)).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result().first()?.location {
            Location::Address { address } => Some(address),
            Location::Value { value: Value::Generic(value) } => Some(value),
            _ => None,
        }
    }
}

/// The parts of a file that unwinding needs.
struct Sections {
    frames: EhFrame<Bytes>,
    index: ParsedEhFrameHdr<Bytes>,
    bases: BaseAddresses,
}

/// What is known of one file.
struct File {
    name: String,
    /// Of its loaded segments: address, and range in the file.
    segments: Vec<(u64, Range<u64>)>,
    sections: Option<Sections>,
}

impl Files {
    fn of(&mut self, pid: u32, region: &Region) -> Result<Rc<File>> {
        if let Some(known) = self.0.get(&region.name) {
            return Ok(Rc::clone(known));
        }
        let file = Rc::new(File::parse(&region.name, &contents(pid, region)?)?);
        self.0.insert(region.name.clone(), Rc::clone(&file));
        Ok(file)
    }
}

impl File {
    fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let file = object::File::parse(bytes)?;
        let segment = |s: object::Segment<'_, '_>| {
            let (start, size) = s.file_range();
            (s.address(), start..start + size)
        };
        let name = name.rsplit('/').next().unwrap_or(name).to_owned();
        Ok(Self { name, segments: file.segments().map(segment).collect(), sections: Sections::of(&file) })
    }

    /// Address in the process minus virtual address in the file.
    fn bias(&self, region: &Region) -> Option<u64> {
        const PAGE: u64 = 4096;
        let offset = if region.name.starts_with('[') { 0 } else { region.offset };
        let holds = |of: &Range<u64>| (of.start & !(PAGE - 1)..of.end).contains(&offset);
        let (address, of) = self.segments.iter().find(|(_, of)| holds(of))?;
        Some(region.start.wrapping_sub(address.wrapping_add(offset).wrapping_sub(of.start)))
    }
}

impl Sections {
    fn of(file: &object::File<'_>) -> Option<Self> {
        let section = |name: &str| {
            let found = file.section_by_name(name)?;
            Some((found.address(), Bytes::new(Rc::from(found.data().unwrap_or_default()), LittleEndian)))
        };
        let (frames_at, frames) = section(".eh_frame")?;
        let (index_at, index) = section(".eh_frame_hdr")?;
        let mut bases = BaseAddresses::default().set_eh_frame(frames_at).set_eh_frame_hdr(index_at);
        if let Some((text, _)) = section(".text") {
            bases = bases.set_text(text);
        }
        if let Some((got, _)) = section(".got") {
            bases = bases.set_got(got);
        }
        let index = EhFrameHdr::from(index).parse(&bases, 8).ok()?;
        Some(Self { frames: EhFrame::from(frames), index, bases })
    }

    fn interpreter(&self) -> Option<Range<u64>> {
        const AT_LEAST: u64 = 10_000;
        let mut entries = self.frames.entries(&self.bases);
        while let Ok(Some(entry)) = entries.next() {
            let gimli::CieOrFde::Fde(partial) = entry else { continue };
            let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else { continue };
            let start = fde.initial_address();
            let is_c_frame = || {
                let mut context = UnwindContext::new();
                let row = fde.unwind_info_for_address(&self.frames, &self.bases, &mut context, start).ok()?;
                let saved = |r: usize| match row.register(gimli::Register(r as u16)) {
                    Some(RegisterRule::Offset(at)) => Some(at),
                    _ => None,
                };
                let register = gimli::Register(reg::RSP as u16);
                let rule = *row.cfa() == CfaRule::RegisterAndOffset { register, offset: 80 };
                (rule && [reg::RBX, reg::R15, reg::R14].map(saved) == [-24, -32, -40].map(Some)).then_some(())
            };
            if fde.len() > AT_LEAST && is_c_frame().is_some() {
                return Some(start..start + fde.len());
            }
        }
        None
    }
}
