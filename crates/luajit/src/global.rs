//! A number of the globals, by name: what Lua code would see as `ngx.config.ngx_lua_version`.

use crate::Vm;
use crate::detect::reference;
use crate::layout::gct;
use crate::value::{Table, Value};
use upprof_memory::Memory;

/// `ngx` has 100 fields; a package with more than this is not what is asked for.
const MAX_NODES: usize = 1 << 14;

/// The number at `path` below the main thread's globals, `None` where there is none.
#[must_use]
pub fn global_number(mem: &dyn Memory, vm: &Vm, path: &[&str]) -> Option<f64> {
    let (last, tables) = path.split_last()?;
    let globals = reference(mem, vm.fixed, vm.main_thread.wrapping_add(vm.fixed.l_env)).ok()?;
    let mut table = Table::read(mem, vm, globals)?;
    for name in tables {
        table = Table::read(mem, vm, table.get(mem, vm, name, MAX_NODES)?.object(gct::TAB)?)?;
    }
    match table.get(mem, vm, last, MAX_NODES)? {
        Value::Number(n) => Some(n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fork;
    use crate::layout::{Arch, GC64, eras};
    use upprof_memory::Snapshot;

    fn vm() -> Vm {
        Vm {
            main_thread: 0x1000,
            g: 0x1060,
            fixed: &GC64,
            era: eras(Arch::X86_64).into_iter().find(|e| e.gc64).expect("a GC64 era"),
            fork: Fork::Luajit2,
            dispatch: 0,
            vm_text: 0..0,
        }
    }

    /// lj_obj.h: the tag is the complement of the type, in the top 17 bits.
    fn tagged(kind: u8, addr: u64) -> u64 {
        (!u64::from(kind)) << 47 | addr
    }

    fn table(s: &mut Snapshot, at: u64, key: u64, value: u64) {
        let mut head = vec![0; 64];
        head[9] = gct::TAB;
        head[40..48].copy_from_slice(&(at + 0x100).to_le_bytes());
        s.insert(at, head);
        s.insert(at + 0x100, [value, key, 0].iter().flat_map(|w| w.to_le_bytes()).collect());
    }

    fn string(s: &mut Snapshot, vm: &Vm, at: u64, text: &str) -> u64 {
        let mut bytes = vec![0; usize::from(vm.era.str_len) + 4];
        let len = u32::try_from(text.len()).expect("short");
        bytes[usize::from(vm.era.str_len)..].copy_from_slice(&len.to_le_bytes());
        bytes[9] = gct::STR;
        // The data begins at 24 in GC64, behind the length of either era.
        bytes.resize(24, 0);
        bytes.extend(text.as_bytes());
        bytes.push(0);
        s.insert(at, bytes);
        tagged(gct::STR, at)
    }

    #[test]
    fn a_number_is_found_by_its_path() {
        let vm = vm();
        for (value, expected) in [
            (10023_f64.to_bits(), Some(10023.0)),
            ((-2.5_f64).to_bits(), Some(-2.5)),
            (tagged(13, 10023), Some(10023.0)),
            (tagged(1, 0), None),
            (tagged(gct::TAB, 0x3000), None),
        ] {
            let mut s = Snapshot::default();
            let mut thread = vec![0; 96];
            thread[72..80].copy_from_slice(&0x2000_u64.to_le_bytes());
            s.insert(0x1000, thread);
            let (ngx, version) = (string(&mut s, &vm, 0x5000, "ngx"), string(&mut s, &vm, 0x6000, "version"));
            table(&mut s, 0x2000, ngx, tagged(gct::TAB, 0x3000));
            table(&mut s, 0x3000, version, value);
            assert_eq!(global_number(&s, &vm, &["ngx", "version"]), expected, "{value:#x}");
            assert_eq!(global_number(&s, &vm, &["ngx", "versio"]), None);
            assert_eq!(global_number(&s, &vm, &["version"]), None);
            assert_eq!(global_number(&s, &vm, &[]), None);
        }
    }
}
