//! `.eh_frame` to rows.

use crate::{Cfa, Elf, Error, Row, Saved};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, LittleEndian, Operation, Register, RegisterRule,
    UnwindContext, UnwindExpression, UnwindSection as _, X86_64,
};
use std::ops::Range;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Bounds on what one file may make us do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows of the finished table.
    pub rows: usize,
}

impl Default for Limits {
    /// Two million rows: some twenty times libcrypto's.
    fn default() -> Self {
        Self { rows: 2_000_000 }
    }
}

/// All rules of one file, sorted by address; every gap between functions is a row of its own.
#[derive(Debug, Clone, Default)]
pub struct UnwindTable {
    rows: Vec<Row>,
    functions: Vec<Range<u32>>,
    unsupported: usize,
}

impl UnwindTable {
    /// Compiles a file's `.eh_frame`. A file without one gives an empty table.
    ///
    /// # Errors
    /// [`Error::Cfi`] when the section as a whole is unreadable, [`Error::TooManyRows`]. A single
    /// function whose rules are damaged is a gap, not an error.
    pub fn compile(elf: &Elf<'_>, limits: Limits) -> Result<Self, Error> {
        let Some((addr, data)) = elf.section(".eh_frame") else { return Ok(Self::default()) };
        let mut bases = BaseAddresses::default().set_eh_frame(addr);
        if let Some(text) = elf.section_range(".text") {
            bases = bases.set_text(text.start);
        }
        if let Some(got) = elf.section_range(".got") {
            bases = bases.set_got(got.start);
        }
        let mut builder = Builder { limits, ..Builder::default() };
        builder.section(&EhFrame::new(data, LittleEndian), &bases)?;
        Ok(builder.finish())
    }

    /// The rows, sorted by `pc`, no two alike in a run.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Address ranges of the functions that have rules, sorted: what a stripped file still says of
    /// where its functions start.
    #[must_use]
    pub fn functions(&self) -> &[Range<u32>] {
        &self.functions
    }

    /// The function that holds this virtual address.
    #[must_use]
    pub fn function_at(&self, vaddr: u64) -> Option<Range<u32>> {
        let pc = u32::try_from(vaddr).ok()?;
        let i = self.functions.partition_point(|f| f.start <= pc);
        self.functions[..i].last().filter(|f| f.contains(&pc)).cloned()
    }

    /// Rules that a [`Row`] cannot express (they became gaps).
    #[must_use]
    pub fn unsupported(&self) -> usize {
        self.unsupported
    }
}

#[derive(Default)]
struct Builder {
    rows: Vec<Row>,
    functions: Vec<Range<u32>>,
    unsupported: usize,
    limits: Limits,
}

impl Builder {
    fn section<'a>(&mut self, section: &EhFrame<Slice<'a>>, bases: &BaseAddresses) -> Result<(), Error> {
        let mut ctx = UnwindContext::new();
        let mut entries = section.entries(bases);
        while let Some(entry) = entries.next()? {
            let CieOrFde::Fde(partial) = entry else { continue };
            let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else { continue };
            self.function(section, bases, &fde, &mut ctx)?;
        }
        Ok(())
    }

    fn function<'a>(
        &mut self,
        section: &EhFrame<Slice<'a>>,
        bases: &BaseAddresses,
        fde: &gimli::FrameDescriptionEntry<Slice<'a>>,
        ctx: &mut UnwindContext<usize>,
    ) -> Result<(), Error> {
        let end = fde.initial_address().wrapping_add(fde.len());
        let (Ok(start), Ok(end)) = (u32::try_from(fde.initial_address()), u32::try_from(end)) else {
            return Ok(());
        };
        if end <= start {
            return Ok(());
        }
        self.functions.push(start..end);
        let signal = fde.cie().is_signal_trampoline();
        let ra = fde.cie().return_address_register();
        // The row after the last one: whatever comes next is not covered, unless another function
        // starts right here; sorting puts a real row at the same address behind the gap.
        self.push(Row::gap(end))?;
        let Ok(mut table) = fde.rows(section, bases, ctx) else {
            self.unsupported += 1;
            return Ok(());
        };
        while let Ok(Some(r)) = table.next_row() {
            let Ok(pc) = u32::try_from(r.start_address()) else { continue };
            let mut row = Row {
                pc,
                cfa: cfa(section, r.cfa(), fde.cie().encoding()),
                rbp: saved(r.register(X86_64::RBP)),
                rbx: saved(r.register(X86_64::RBX)),
                r14: saved(r.register(X86_64::R14)),
            };
            if signal {
                row.cfa = Cfa::Signal;
            } else if r.register(ra) == Some(RegisterRule::Undefined) {
                row.cfa = Cfa::End;
            }
            if row.cfa == Cfa::None {
                self.unsupported += 1;
            }
            self.push(row)?;
        }
        Ok(())
    }

    fn push(&mut self, row: Row) -> Result<(), Error> {
        if self.rows.len() >= self.limits.rows {
            return Err(Error::TooManyRows(self.limits.rows));
        }
        self.rows.push(row);
        Ok(())
    }

    fn finish(mut self) -> UnwindTable {
        // Gaps before real rows of the same address, so that the real one, coming last, wins.
        self.rows.sort_by_key(|r| (r.pc, r.cfa != Cfa::None));
        let mut rows: Vec<Row> = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            if rows.last().is_some_and(|last| last.pc == row.pc) {
                rows.pop();
            }
            if !rows.last().is_some_and(|last| last.same_rule(&row)) {
                rows.push(row);
            }
        }
        self.functions.sort_by_key(|f| (f.start, f.end));
        self.functions.dedup();
        UnwindTable { rows, functions: self.functions, unsupported: self.unsupported }
    }
}

fn saved(rule: Option<RegisterRule<usize>>) -> Saved {
    match rule {
        // No rule at all means unchanged for a callee-saved register (System V ABI).
        None | Some(RegisterRule::SameValue) => Saved::Same,
        Some(RegisterRule::Offset(n)) => i16::try_from(n).map_or(Saved::Lost, Saved::At),
        _ => Saved::Lost,
    }
}

fn cfa(section: &EhFrame<Slice<'_>>, rule: &CfaRule<usize>, encoding: gimli::Encoding) -> Cfa {
    match rule {
        CfaRule::RegisterAndOffset { register, offset } => {
            let Ok(n) = i16::try_from(*offset) else { return Cfa::None };
            match *register {
                X86_64::RSP => Cfa::Rsp(n),
                X86_64::RBP => Cfa::Rbp(n),
                X86_64::RBX => Cfa::Rbx(n),
                _ => Cfa::None,
            }
        }
        CfaRule::Expression(e) => expression(section, e, encoding).unwrap_or(Cfa::None),
    }
}

/// The few shapes of CFA expressions that compilers, linkers and libcrypto's authors write.
fn expression(
    section: &EhFrame<Slice<'_>>,
    e: &UnwindExpression<usize>,
    encoding: gimli::Encoding,
) -> Option<Cfa> {
    let mut bytes = e.get(section).ok()?.0;
    // Longer ones exist only in hand-made files; eight operations hold every known shape.
    let mut ops = Vec::with_capacity(8);
    while !bytes.is_empty() && ops.len() < 10 {
        ops.push(Operation::parse(&mut bytes, encoding).ok()?);
    }
    if !bytes.is_empty() {
        return None;
    }
    let reg = |r: Register, off: i64| (r, i16::try_from(off).ok());
    match ops.as_slice() {
        [Operation::RegisterOffset { register, offset, .. }, Operation::Deref { .. }] => {
            deref(reg(*register, *offset), 0)
        }
        [
            Operation::RegisterOffset { register, offset, .. },
            Operation::Deref { .. },
            Operation::PlusConstant { value },
        ] => deref(reg(*register, *offset), i16::try_from(*value).ok()?),
        // ld's .plt: rsp + 8 + ((rip & 15) >= N) * 8
        [
            Operation::RegisterOffset { register: X86_64::RSP, offset: 8, .. },
            Operation::RegisterOffset { register: X86_64::RA, offset: 0, .. },
            Operation::UnsignedConstant { value: 15 },
            Operation::And,
            Operation::UnsignedConstant { value },
            Operation::Ge,
            Operation::UnsignedConstant { value: 3 },
            Operation::Shl,
            Operation::Plus,
        ] => Some(Cfa::Plt(i16::try_from(*value).ok()?)),
        _ => None,
    }
}

fn deref((register, offset): (Register, Option<i16>), addend: i16) -> Option<Cfa> {
    match register {
        X86_64::RSP => Some(Cfa::DerefRsp(offset?, addend)),
        X86_64::RBP => Some(Cfa::DerefRbp(offset?, addend)),
        _ => None,
    }
}
