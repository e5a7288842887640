//! VMs that lie: whatever a target's memory holds, the readers of LuaJIT's and nginx's structures do not
//! panic, do not read without end, and refuse what does not check out.

use std::cell::Cell;
use upprof_luajit::{Jit, Proto, Sites, attach, builtins};
use upprof_nginx::{Owner, lua_state};
use upprof_tests::oracle::layout::{GC32, GC64};
use upprof_tests::snapshot::random::{Counting, Noise, Random};
use upprof_tests::snapshot::scenes::recognisable;
use upprof_tests::snapshot::{Code, Value};

#[test]
fn a_whole_vm_is_recognised_with_its_names() {
    for layout in [GC64, GC32] {
        let (m, f) = recognisable(layout);
        let vm = attach(&m.image, &Code, m.main_thread(), None).expect("recognised");
        assert_eq!(vm.dispatch, m.dispatch());
        let names: Vec<String> = builtins(&m.image, &vm).into_values().collect();
        assert!(names.contains(&"string.gsub".to_owned()), "{names:?}");
        let proto = Proto::read_unsampled(&m.image, &vm, f.proto).expect("a prototype");
        assert_eq!(proto.chunkname, b"@/app/named.lua");
        assert_eq!(proto.line(&m.image, 3), Some(proto.firstline + 1));
        assert_eq!(proto.line(&m.image, 41), None, "past the end");
    }
}

#[test]
fn readers_of_corrupted_vms_do_not_panic_and_do_not_read_without_end() {
    const ROUNDS: u64 = 3000;
    for layout in [GC64, GC32] {
        let (mut m, f) = recognisable(layout);
        let whole = attach(&m.image, &Code, m.main_thread(), None).expect("recognised");
        let (mut refused, live) = (0, m.live());
        for round in 0..ROUNDS {
            let random = &mut Random(round << 8 | layout.reference);
            let mut undo = Vec::new();
            for _ in 0..=random.below(40) {
                let heap = &live[0];
                let at = (heap.start + random.below(heap.end - heap.start - 8)) & !3;
                undo.push((at, m.image.get64(at)));
                let word = random.word(&live);
                m.image.put64(at, word);
            }
            // The objects themselves, not only what lies around them.
            for object in [f.proto, m.main_thread(), whole.g] {
                let at = object + random.below(16) * 8;
                undo.push((at, m.image.get64(at)));
                let word = random.word(&live);
                m.image.put64(at, word);
            }
            let vm = attach(&m.image, &Code, m.main_thread(), None);
            refused += u64::from(vm.is_err());
            for vm in [vm.ok(), Some(whole.clone())].into_iter().flatten() {
                let names = builtins(&m.image, &vm);
                assert!(names.values().all(|n| n.len() < 1024), "round {round}");
                for addr in [f.proto, random.word(&live), random.word(&live)] {
                    let Ok(proto) = Proto::read_unsampled(&m.image, &vm, addr) else { continue };
                    assert!(proto.chunkname.len() <= 512, "round {round}");
                    for pos in [0, 1, proto.sizebc, proto.sizebc.wrapping_add(1), u32::MAX] {
                        let line = proto.line(&m.image, pos);
                        let last = proto.firstline.saturating_add(proto.numline);
                        assert!(line.is_none_or(|l| (proto.firstline..=last).contains(&l)), "round {round}");
                    }
                }
                let jit = Jit::find(&m.image, &vm);
                for number in [0, 1, 7, u32::MAX, random.bits() as u32] {
                    let trace = jit.and_then(|jit| jit.trace(&m.image, &vm, number));
                    let _ = trace.map(|trace| Sites::read(&m.image, &vm, &trace, &[]));
                }
            }
            for (at, word) in undo.into_iter().rev() {
                m.image.put64(at, word);
            }
        }
        assert!(refused > ROUNDS / 10, "only {refused} of {ROUNDS} corrupted VMs were refused");
    }
}

/// Globals that hold thousands of tables, all with one huge array of empty nodes: cheap to make for a
/// target, and not to cost seconds when its names are read.
#[test]
fn names_are_not_looked_for_without_end() {
    const TABLES: u64 = 4096;
    const NODES: u64 = 1 << 16;
    const GLOBALS: u64 = 0x4000_0000;
    const HEADERS: u64 = 0x4100_0000;
    const EMPTY: u64 = 0x4200_0000;
    for layout in [GC64, GC32] {
        let (mut m, _) = recognisable(layout);
        let vm = attach(&m.image, &Code, m.main_thread(), None).expect("recognised");
        let key = m.string(b"key");
        m.image.map(GLOBALS, (TABLES + 1) * 64);
        m.image.map(HEADERS, TABLES * 64);
        m.image.map(EMPTY, NODES * 24);
        m.table_at(GLOBALS, GLOBALS + 64, TABLES as u32);
        for i in 0..TABLES {
            m.table_at(HEADERS + i * 64, EMPTY, NODES as u32);
            m.put_entry(GLOBALS + 64 + i * 24, key, Value::Table(HEADERS + i * 64));
        }
        m.set_globals(GLOBALS);
        let counting = Counting { memory: &m.image, read: Cell::new(0) };
        let _ = builtins(&counting, &vm);
        assert!(counting.read.get() < 64 << 20, "{} bytes were read", counting.read.get());
    }
}

#[test]
fn noise_is_no_vm() {
    let (m, _) = recognisable(GC64);
    let whole = attach(&m.image, &Code, m.main_thread(), None).expect("recognised");
    for seed in 0..2000 {
        let noise = Noise { seed, read: Cell::new(0) };
        assert!(attach(&noise, &Code, seed << 12, None).is_err());
        for owner in [Owner::Http, Owner::Stream] {
            let _ = lua_state(&noise, &|name| Some(seed << 8 | name.len() as u64), owner);
        }
        let _ = builtins(&noise, &whole);
        for addr in [0, 8, u64::MAX - 8, u64::MAX] {
            assert!(Proto::read(&noise, &whole, addr, 7).is_err());
        }
        assert!(noise.read.get() < 16 << 20, "seed {seed}: {} bytes read", noise.read.get());
    }
}
