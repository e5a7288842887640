//! A number of the globals, by name: what Lua code would see as `ngx.config.ngx_lua_version`.

use crate::Vm;
use crate::builtins::{NODE, untag};
use crate::detect::reference;
use crate::layout::gct;
use crate::proto::read_string;
use upprof_memory::Memory;

/// The number at `path` below the main thread's globals, `None` where there is none.
#[must_use]
pub fn global_number(mem: &dyn Memory, vm: &Vm, path: &[&str]) -> Option<f64> {
    let (last, tables) = path.split_last()?;
    let mut table = reference(mem, vm.fixed, vm.main_thread.wrapping_add(vm.fixed.l_env)).ok()?;
    for name in tables {
        match untag(vm, field(mem, vm, table, name)?) {
            (gct::TAB, address) => table = address,
            _ => return None,
        }
    }
    number(vm, field(mem, vm, table, last)?)
}

/// The tagged value under a string key.
fn field(mem: &dyn Memory, vm: &Vm, table: u64, name: &str) -> Option<u64> {
    /// `ngx` has 100 fields; a package with more than this is not what is asked for.
    const MAX_NODES: usize = 1 << 14;
    let f = vm.fixed;
    if mem.u8(table.wrapping_add(f.gct)).ok()? != gct::TAB {
        return None;
    }
    let node = reference(mem, f, table.wrapping_add(f.tab_node)).ok()?;
    let n = (mem.u32(table.wrapping_add(f.tab_hmask)).ok()? as usize).saturating_add(1);
    let bytes = mem.bytes(node, n.checked_mul(NODE)?, MAX_NODES * NODE).ok()?;
    let word = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap_or_default());
    bytes.chunks_exact(NODE).find_map(|node| {
        let (kind, key) = untag(vm, word(&node[8..16]));
        let same = kind == gct::STR
            && read_string(mem, vm, key, name.len()).is_ok_and(|(text, cut)| !cut && text == name.as_bytes());
        same.then(|| word(&node[..8]))
    })
}

/// A tagged number (lj_obj.h): an integer where its tag says so, else the bits of a double.
fn number(vm: &Vm, value: u64) -> Option<f64> {
    /// `~LJ_TNUMX`: integers, in builds with dual numbers.
    const INTEGER: u8 = 13;
    let is_double = if vm.fixed.ref_size == 8 {
        value >> 47 < 0x1fff2 // below every tag
    } else {
        value >> 32 < 0xffff_fff2
    };
    match untag(vm, value) {
        _ if is_double => Some(f64::from_bits(value)),
        (INTEGER, _) => Some(f64::from((value as u32).cast_signed())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fork;
    use crate::layout::{GC64, eras};
    use upprof_memory::Snapshot;

    fn vm() -> Vm {
        Vm {
            main_thread: 0x1000,
            g: 0x1060,
            fixed: &GC64,
            era: eras().into_iter().find(|e| e.gc64).expect("a GC64 era"),
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
        let mut head = vec![0; 56];
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
