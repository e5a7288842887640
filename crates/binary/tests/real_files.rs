//! Against real files of this machine, with binutils as the independent reader; and against damaged
//! ones.

use std::collections::BTreeSet;
use std::process::Command;
use upprof_binary::{Cfa, Elf, Limits, Saved, UnwindTable};

fn libc() -> (String, Vec<u8>) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
    let path = maps.lines().find_map(|l| l.split_whitespace().nth(5).filter(|p| p.contains("libc.so")));
    let path = path.expect("the test is linked to libc").to_owned();
    let data = std::fs::read(&path).expect("libc is readable");
    (path, data)
}

fn output(program: &str, arguments: &[&str]) -> String {
    // readelf's exit code also tells of missing separate debug files; the output is what counts.
    let run = Command::new(program).args(arguments).output().expect("binutils are installed");
    String::from_utf8_lossy(&run.stdout).into_owned()
}

#[test]
fn build_id_and_symbols_agree_with_readelf() {
    let (path, data) = libc();
    let elf = Elf::parse(&data).expect("an ELF file");
    let id: String = elf.build_id().expect("libc has one").iter().map(|b| format!("{b:02x}")).collect();
    assert!(output("readelf", &["-n", &path]).contains(&id));
    let symbols = output("readelf", &["--dyn-syms", "-W", &path]);
    for name in ["qsort_r", "getpid"] {
        let line = symbols.lines().find(|l| l.contains(&format!(" {name}@@"))).expect("exported");
        let value = line.split_whitespace().nth(1).expect("a value");
        assert_eq!(elf.symbol(name), u64::from_str_radix(value, 16).ok(), "{name}");
    }
    assert_eq!(elf.symbol("no_such_symbol_here"), None);
}

/// Functions are where readelf sees FDEs, and an address maps back to the one that holds it.
#[test]
fn functions_agree_with_readelf() {
    let (path, data) = libc();
    let elf = Elf::parse(&data).expect("an ELF file");
    let table = UnwindTable::compile(&elf, Limits::default()).expect("libc has .eh_frame");
    let listing = output("readelf", &["--debug-dump=frames", &path]);
    let seen: BTreeSet<(u64, u64)> = listing
        .lines()
        .filter_map(|l| l.split_once("pc=")?.1.split_once(".."))
        .map(|(a, b)| (a, b.trim()))
        .filter_map(|(a, b)| Some((u64::from_str_radix(a, 16).ok()?, u64::from_str_radix(b, 16).ok()?)))
        .filter(|(a, b)| a < b)
        .collect();
    let ours: BTreeSet<(u64, u64)> =
        table.functions().iter().map(|f| (u64::from(f.start), u64::from(f.end))).collect();
    assert!(seen.len() > 1000);
    assert_eq!(ours, seen);
    let some = table.functions()[table.functions().len() / 2].clone();
    assert_eq!(table.function_at(u64::from(some.start)), Some(some.clone()));
    assert_eq!(table.function_at(u64::from(some.end) - 1), Some(some));
    assert_eq!(table.function_at(u64::MAX), None);
}

/// The rule at a function's first instruction follows from the ABI: only the return address is pushed.
#[test]
fn first_rows_follow_the_abi_and_rows_are_sorted() {
    let (_, data) = libc();
    let elf = Elf::parse(&data).expect("an ELF file");
    let table = UnwindTable::compile(&elf, Limits::default()).expect("libc has .eh_frame");
    let rows = table.rows();
    assert!(rows.windows(2).all(|w| w[0].pc < w[1].pc), "sorted, no address twice");
    let at = elf.symbol("qsort_r").expect("exported");
    let i = rows.partition_point(|r| u64::from(r.pc) <= at);
    let row = rows[i - 1];
    assert_eq!((row.cfa, row.rbp, row.rbx), (Cfa::Rsp(8), Saved::Same, Saved::Same));
    assert!(rows.iter().any(|r| matches!(r.cfa, Cfa::Plt(_))), "the PLT's expression is understood");
    assert!(rows.iter().any(|r| r.cfa == Cfa::Signal), "the signal trampoline is");
    assert!(rows.iter().any(|r| r.cfa == Cfa::End), "the outermost frame is");
}

#[test]
fn a_limit_on_rows_is_kept() {
    let (_, data) = libc();
    let elf = Elf::parse(&data).expect("an ELF file");
    let refused = UnwindTable::compile(&elf, Limits { rows: 10 });
    assert!(matches!(refused, Err(upprof_binary::Error::TooManyRows(10))), "{refused:?}");
}

#[test]
fn bias_is_what_the_kernel_mapped() {
    let (path, data) = libc();
    let elf = Elf::parse(&data).expect("an ELF file");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
    let line = maps.lines().find(|l| l.contains(&path) && l.contains("r-xp")).expect("libc's code");
    let mut fields = line.split_whitespace();
    let start = fields.next().and_then(|r| r.split_once('-')).expect("a range").0;
    let offset = fields.nth(1).expect("an offset");
    let number = |s: &str| u64::from_str_radix(s, 16).expect("hexadecimal");
    let bias = elf.bias(number(start), number(offset)).expect("a segment holds it");
    let getpid = elf.symbol("getpid").expect("exported");
    assert_eq!(bias + getpid, libc::getpid as *const () as u64);
    assert_eq!(elf.bias(number(start), u64::MAX), None);
}

/// Cut anywhere, or with bytes changed anywhere, a file gives an error or a smaller table: no panic, no
/// endless loop.
#[test]
fn damaged_files_are_refused_or_read_in_part() {
    let (_, data) = libc();
    let read = |bytes: &[u8]| {
        if let Ok(elf) = Elf::parse(bytes) {
            let _ = elf.build_id();
            let _ = elf.symbol("qsort_r");
            let _ = elf.text_starting("GNU C Library", 64);
            let _ = upprof_binary::struct_layouts(&elf, &["x"]);
            let _ = UnwindTable::compile(&elf, Limits::default());
        }
    };
    for i in 0..64 {
        read(&data[..data.len() * i / 64]);
    }
    assert!(Elf::parse(&data[..32]).is_err());
    assert!(Elf::parse(b"#!/bin/sh\n").is_err());
    let (_, eh_frame) = Elf::parse(&data).expect("whole").section(".eh_frame").expect("there");
    let at = eh_frame.as_ptr() as usize - data.as_ptr() as usize;
    let mut seed: u64 = 0x5eed;
    for round in 0..24 {
        let mut damaged = data.clone();
        for _ in 0..200 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = if round % 2 == 0 {
                at + (seed >> 33) as usize % eh_frame.len()
            } else {
                (seed >> 33) as usize % 4096
            };
            damaged[place] = (seed >> 24) as u8;
        }
        read(&damaged);
    }
}
