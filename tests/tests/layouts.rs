//! The layout table against LuaJIT itself: the headers of versions that Debian has the sources of, compiled in both
//! modes (`images/luajit/build.sh`, which also makes `crates/luajit/offsets.c` check what is taken for fixed),
//! and what the compiler's debug information says of them.
//!
//! Needs root, and once Debian's package mirror.

use std::path::Path;
use std::process::Command;
use upprof_binary::{Elf, struct_layouts};
use upprof_luajit::{Arch, Era, Fork, GC32, GC64, STRUCTS, eras, from_debug_info};

/// What `images/luajit/build.sh` compiles.
const SOURCES: usize = 3;
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

#[test]
fn every_version_of_debian_has_its_row() {
    let folder = compiled();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).expect("a folder").map(|e| e.expect("an entry")) {
        let name = entry.file_name().display().to_string();
        let (found, fork) = described(&name, &std::fs::read(entry.path()).expect("a file"));
        assert_eq!(found.gc64, name.ends_with(".gc64"), "{name}");
        let of_g = |e: &Era| (e.vmstate, e.mainthref, e.cur_l, e.jit_base, e.gc_total, e.str_tab, e.registry);
        let key = |e: &Era| (e.gc64, e.str_len, of_g(e));
        let rows: Vec<Era> = eras(Arch::X86_64).into_iter().filter(|row| key(row) == key(&found)).collect();
        assert_eq!(rows.len(), 1, "{name}: rows that say {found:?}");
        let (disp, trace) = (found.g2disp.of(fork)[0], found.g2trace.of(fork)[0]);
        let row = &rows[0];
        assert!(row.g2disp.of(fork).contains(&disp), "{name}: {} lacks g2disp {disp}", row.id);
        let near = row.g2trace.of(fork).iter().any(|at| at.abs_diff(trace) <= SPREAD);
        assert!(near, "{name}: {} has no g2trace near {trace}", row.id);
        seen += 1;
    }
    assert_eq!(seen, SOURCES * 2, "sources in two modes");
}
