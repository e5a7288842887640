//! The layout tables against LuaJIT itself: the headers of versions that Debian or crates.io has the sources of, compiled
//! for x86-64 in both modes and for arm64 (`images/luajit/build.sh`, which also makes `crates/luajit/offsets.c` check
//! what is taken for fixed), and what the compilers' debug information says of them.
//!
//! Needs root, and once Debian's package mirror and crates.io.

use object::elf::{EM_AARCH64, EM_X86_64};
use std::path::Path;
use std::process::Command;
use upprof_binary::{Elf, Error, struct_layouts};
use upprof_luajit::{Arch, CFrame, Era, Fork, GC32, GC64, STRUCTS, eras, from_debug_info};

/// What `images/luajit/build.sh` compiles.
const SOURCES: usize = 7;
/// How far from a candidate `jit_State.trace` is searched (`crates/luajit/src/trace`).
const SPREAD: u64 = 64;

fn compiled() -> tempfile::TempDir {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/luajit/build.sh");
    let made = Command::new(&script).output().expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tar = String::from_utf8(made.stdout).expect("a path");
    let folder = tempfile::tempdir().expect("a folder");
    let file = std::fs::File::open(tar.trim()).expect("what it says it has made");
    tar::Archive::new(file).unpack(folder.path()).expect("a tar file");
    folder
}

/// A file of arm64 as one of x86-64, the only ones that are read; debug information of structs is the same in both.
fn relabelled(mut bytes: Vec<u8>) -> Vec<u8> {
    const E_MACHINE: usize = 18;
    let refused = Elf::parse(&bytes);
    assert!(matches!(refused, Err(Error::Machine(m)) if m == EM_AARCH64.0), "{refused:?}");
    bytes[E_MACHINE..][..2].copy_from_slice(&EM_X86_64.0.to_le_bytes());
    bytes
}

/// What a compiled file says: its layout, and whose LuaJIT it is, by the size of `lua_State`.
fn described(name: &str, bytes: &[u8]) -> (Era, Fork) {
    let elf = Elf::parse(bytes).expect("an ELF file");
    let structs = struct_layouts(&elf, &STRUCTS).expect("debug information");
    let era = from_debug_info(&structs).unwrap_or_else(|e| panic!("{name}: {e}"));
    let era = era.unwrap_or_else(|| panic!("{name}: no LuaJIT in its debug information"));
    let upstream = if era.gc64 { GC64.l_size } else { GC32.l_size };
    let fork = if structs["lua_State"].size == upstream { Fork::Upstream } else { Fork::Luajit2 };
    (era, fork)
}

/// The C frame, from the structs of `offsets.c` that have its numbers as their sizes.
fn cframe(bytes: &[u8]) -> CFrame {
    let names = ["cframe_size", "cframe_prev", "cframe_pc", "cframe_l", "cframe_nres"];
    let elf = Elf::parse(bytes).expect("an ELF file");
    let structs = struct_layouts(&elf, &names).expect("debug information");
    let [size, prev, pc, l, nres] = names.map(|name| structs[name].size);
    CFrame { size, prev, pc, l, nres }
}

/// The row of the table that says what this file does, or all that it says.
fn check(name: &str, arch: Arch, found: &Era, fork: Fork) {
    let of_g = |e: &Era| (e.vmstate, e.mainthref, e.cur_l, e.jit_base, e.gc_total, e.str_tab, e.registry);
    let key = |e: &Era| (e.gc64, e.str_len, of_g(e));
    let rows: Vec<Era> = eras(arch).into_iter().filter(|row| key(row) == key(found)).collect();
    assert_eq!(rows.len(), 1, "{name}: rows that say {found:?}");
    let row = &rows[0];
    let (disp, trace) = (found.g2disp.of(fork)[0], found.g2trace.of(fork)[0]);
    assert!(row.g2disp.of(fork).contains(&disp), "{name}: {} lacks its g2disp: {found:?}", row.id);
    let near = row.g2trace.of(fork).iter().any(|at| at.abs_diff(trace) <= SPREAD);
    assert!(near, "{name}: {} has no g2trace near its: {found:?}", row.id);
    assert!(row.jit.contains(&found.jit[0]), "{name}: {} lacks its jit: {found:?}", row.id);
    assert!(
        found.cframes.iter().all(|f| row.cframes.contains(f)),
        "{name}: {} lacks its C frame: {found:?}",
        row.id
    );
}

#[test]
fn every_version_has_its_row() {
    let folder = compiled();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).expect("a folder").map(|e| e.expect("an entry")) {
        let name = entry.file_name().display().to_string();
        let bytes = std::fs::read(entry.path()).expect("a file");
        if name.ends_with(".arm64") {
            let bytes = relabelled(bytes);
            let (mut found, fork) = described(&name, &bytes);
            found.cframes = vec![cframe(&bytes)];
            check(&name, Arch::Arm64, &found, fork);
        } else {
            let (found, fork) = described(&name, &bytes);
            assert_eq!(found.gc64, name.ends_with(".gc64"), "{name}");
            check(&name, Arch::X86_64, &found, fork);
        }
        seen += 1;
    }
    assert_eq!(seen, SOURCES * 3, "sources for x86-64 in two modes and for arm64");
}
