//! The native side of a made-up process: an ELF file with a few functions, each with one unwind rule, as
//! a C compiler or LuaJIT's build would write it.

use upprof_binary::{Elf, Limits, UnwindTable};

/// A function of the made-up program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Its name in expectations.
    pub name: &'static str,
    /// Virtual address in the file.
    pub vaddr: u64,
    /// Bytes of code.
    pub size: u64,
    /// Bytes from its stack pointer to its caller's.
    pub frame: u64,
    /// Whether its rule counts from rbp instead of rsp.
    pub by_rbp: bool,
    /// DWARF number of each register it saves, and how far below the caller's stack pointer.
    pub saves: &'static [(u8, u64)],
}

/// DWARF register numbers (System V ABI).
pub mod reg {
    /// rbx
    pub const RBX: u8 = 3;
    /// rbp
    pub const RBP: u8 = 6;
    /// rsp
    pub const RSP: u8 = 7;
    /// r14
    pub const R14: u8 = 14;
    /// r15
    pub const R15: u8 = 15;
    /// The return address.
    pub const RA: u8 = 16;
}

const fn plain(name: &'static str, vaddr: u64, frame: u64) -> Function {
    Function { name, vaddr, size: 0x100, frame, by_rbp: false, saves: &[] }
}

/// The process's entry: its return address is undefined.
pub const START: Function = plain("start", 0x1000, 16);
/// Keeps all registers.
pub const MAIN: Function = plain("main", 0x1100, 48);
/// Saves all registers that matter, and uses them for itself.
pub const HANDLER: Function =
    Function { saves: &[(reg::RBP, 16), (reg::RBX, 24), (reg::R14, 32)], ..plain("handler", 0x1200, 64) };
/// A helper of the interpreter: keeps all registers.
pub const HELPER: Function = plain("helper", 0x1300, 24);
/// Saves rbp and uses it for itself.
pub const SAVER: Function = Function { saves: &[(reg::RBP, 16)], ..plain("saver", 0x1400, 32) };
/// Has a frame pointer.
pub const FRAMED: Function =
    Function { by_rbp: true, saves: &[(reg::RBP, 16)], ..plain("framed", 0x1500, 96) };
/// A C function that Lua calls.
pub const CFUNCTION: Function =
    Function { saves: &[(reg::RBP, 16), (reg::RBX, 24)], ..plain("cfunction", 0x1600, 48) };
/// A second one.
pub const RESUMER: Function =
    Function { saves: &[(reg::RBP, 16), (reg::RBX, 24), (reg::R14, 32)], ..plain("resumer", 0x1700, 80) };
/// All of LuaJIT's interpreter, as its build writes its only rule.
pub const VM: Function = Function {
    name: "vm",
    vaddr: 0x2000,
    size: 0x1000,
    frame: 80,
    by_rbp: false,
    saves: &[(reg::RBP, 16), (reg::RBX, 24), (reg::R15, 32), (reg::R14, 40)],
};

/// All functions.
pub const FUNCTIONS: [Function; 9] = [START, MAIN, HANDLER, HELPER, SAVER, FRAMED, CFUNCTION, RESUMER, VM];

/// Bytes of the mapping that holds them.
pub const MAPPED: u64 = 0x3000;

/// The file's unwind table, compiled by the product from its `.eh_frame`.
///
/// # Panics
/// When the product does not accept the file.
#[must_use]
pub fn table() -> UnwindTable {
    let file = elf();
    let elf = Elf::parse(&file).expect("a well-formed ELF file");
    let table = UnwindTable::compile(&elf, Limits::default()).expect("a well-formed .eh_frame");
    assert_eq!(table.functions().len(), FUNCTIONS.len());
    table
}

/// A whole ELF file whose only contents are unwind rules.
#[must_use]
pub fn elf() -> Vec<u8> {
    const EH_FRAME_AT: u64 = 64 + 56;
    let frames = eh_frame();
    let names = b"\0.eh_frame\0.shstrtab\0";
    let names_at = EH_FRAME_AT + frames.len() as u64;
    let sections_at = (names_at + names.len() as u64).next_multiple_of(8);

    let mut file = Vec::new();
    file.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([3u16, 62].map(u16::to_le_bytes).concat()); // ET_DYN, EM_X86_64
    file.extend(1u32.to_le_bytes());
    file.extend([START.vaddr, 64, sections_at].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 1, 64, 3, 2].map(u16::to_le_bytes).concat());
    // One loadable segment: all of the address range, readable and executable.
    file.extend([1u32, 5].map(u32::to_le_bytes).concat());
    file.extend([0, 0, 0, MAPPED, MAPPED, 0x1000].map(u64::to_le_bytes).concat());
    file.extend(&frames);
    file.extend(names);
    file.resize(usize::try_from(sections_at).expect("small"), 0);
    let mut section = |name: u32, kind: u32, at: u64, size: usize| {
        file.extend([name, kind].map(u32::to_le_bytes).concat());
        file.extend([0, at, at, size as u64].map(u64::to_le_bytes).concat());
        file.extend([0u32, 0].map(u32::to_le_bytes).concat());
        file.extend([1u64, 0].map(u64::to_le_bytes).concat());
    };
    section(0, 0, 0, 0);
    section(1, 1, EH_FRAME_AT, frames.len());
    section(11, 3, names_at, names.len());
    file
}

/// One CIE, one FDE a function, absolute addresses.
fn eh_frame() -> Vec<u8> {
    const DEF_CFA: u8 = 0x0c;
    const OFFSET: u8 = 0x80;
    const UNDEFINED: u8 = 0x07;
    let mut out = Vec::new();
    // version 1, no augmentation, code alignment 1, data alignment -8, return address register
    entry(&mut out, 0, &[1, 0, 1, 0x78, reg::RA, DEF_CFA, reg::RSP, 8, OFFSET | reg::RA, 1]);
    for f in FUNCTIONS {
        let mut body = [f.vaddr, f.size].map(u64::to_le_bytes).concat();
        if f == START {
            body.extend([UNDEFINED, reg::RA]);
        }
        let (register, offset) = if f.by_rbp { (reg::RBP, 16) } else { (reg::RSP, f.frame) };
        body.extend([DEF_CFA, register]);
        body.extend(uleb(offset));
        for (register, below) in f.saves {
            body.push(OFFSET | register);
            body.extend(uleb(below / 8));
        }
        // Back from the field itself to the CIE at 0.
        let to_cie = u32::try_from(out.len() + 4).expect("small");
        entry(&mut out, to_cie, &body);
    }
    out.extend(0u32.to_le_bytes());
    out
}

fn entry(out: &mut Vec<u8>, id: u32, body: &[u8]) {
    let padded = (body.len() + 4).next_multiple_of(8) + 4;
    out.extend(u32::try_from(padded).expect("small").to_le_bytes());
    out.extend(id.to_le_bytes());
    out.extend(body);
    out.resize(out.len() + padded - 4 - body.len(), 0);
}

fn uleb(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (n & 0x7f) as u8;
        n >>= 7;
        if n == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}
