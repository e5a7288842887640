//! Inspectors of LuaJIT on made-up VMs: whole ones are read right, and torn, cyclic or foreign ones are
//! refused or marked, without a panic and without end.

use std::cell::Cell;
use upprof_luajit::inspect::{Coroutines, Gc, Heap, Jit, Modules, NotTrusted, Objects, Strings};
use upprof_luajit::{Vm, attach};
use upprof_memory::{Cached, Memory};
use upprof_tests::oracle::layout::{GC32, GC64, Layout};
use upprof_tests::snapshot::random::{Counting, Noise, Random};
use upprof_tests::snapshot::scenes::recognisable;
use upprof_tests::snapshot::{Code, Machine, Value};

const MAX: u32 = 10_000;

/// A VM with three tables, two functions, a coroutine and four strings.
fn whole(layout: Layout) -> (Machine, Vm) {
    let (mut m, f) = recognisable(layout);
    let (other, co) = (m.lua("other"), m.coroutine());
    let strings: Vec<u64> =
        ["a", "some", "words", "to find"].iter().map(|s| m.string(s.as_bytes())).collect();
    let big: Vec<(String, Value)> = (0..100).map(|i| (format!("key{i}"), Value::Table(0))).collect();
    let empty = m.table(&[]);
    let entries: Vec<(&str, Value)> = big.iter().map(|(k, _)| (k.as_str(), Value::Table(empty))).collect();
    let big = m.table(&entries);
    let loaded = m.table(&[("app", Value::Table(big)), ("resty.core", Value::Table(empty))]);
    let objects = [co, f.func, f.proto, other.func, other.proto, loaded, big, empty, m.main_thread()];
    m.make_inspectable(&objects, &strings, loaded);
    let vm = attach(&m.image, &Code, m.main_thread(), None).expect("recognised");
    (m, vm)
}

fn both(test: impl Fn(Machine, Vm)) {
    for layout in [GC64, GC32] {
        let (m, vm) = whole(layout);
        test(m, vm);
    }
}

/// All of them.
fn all(mem: &dyn Memory, vm: &Vm) -> Result<(), NotTrusted> {
    let cached = Cached::new(mem, 16 << 20);
    let results = [
        Gc::read(mem, vm).map(drop),
        Strings::read(&cached, vm, MAX, true).map(drop),
        Modules::read(mem, vm).map(drop),
        Objects::read(mem, vm, MAX).map(drop),
        Heap::walk(mem, vm, MAX).and_then(|heap| {
            let _ = Coroutines::read(mem, vm, &heap);
            Jit::read(mem, vm, &heap).map(drop)
        }),
    ];
    results.into_iter().collect()
}

#[test]
fn a_whole_vm_is_read() {
    both(|m, vm| {
        let mem = &m.image;
        let gc = Gc::read(mem, &vm).expect("trusted");
        assert_eq!((gc.total_bytes, gc.threshold_bytes), (300_000, Some(600_000)));
        let objects = Objects::read(mem, &vm, MAX).expect("trusted");
        let count = |name: &str| objects.types.iter().find(|t| t.name == name).expect("a type").count;
        let counts = ["string", "table", "function", "proto", "thread", "trace"].map(count);
        assert_eq!(counts, [4, 3, 2, 2, 2, 0]);
        assert_eq!(objects.torn, None);
        let largest = &objects.largest_tables[0];
        assert_eq!((largest.path.as_deref(), largest.hash_slots), (Some("package.loaded.app"), 128));
        let modules = Modules::read(mem, &vm).expect("trusted");
        let names: Vec<&str> = modules.modules.iter().map(|m| m.name.as_str()).collect();
        assert_eq!((names, modules.resty_core), (vec!["app", "resty.core"], true));
        let heap = Heap::walk(mem, &vm, MAX).expect("trusted");
        let jit = Jit::read(mem, &vm, &heap).expect("trusted");
        assert_eq!((jit.on, jit.traces.len(), jit.functions.all), (true, 0, 2));
        assert_eq!((jit.parameters["hotloop"], jit.parameters["maxmcode"]), (56, 40_960));
        assert_eq!(jit.mcode.known().map(|m| m.areas), Some(0));
        assert_eq!(Coroutines::read(mem, &vm, &heap).all, 1, "the main thread is none");
        let strings = Strings::read(mem, &vm, MAX, false).expect("trusted");
        assert_eq!((strings.count, strings.slots, strings.longest_chain), (4, 4, 1));
    });
}

#[test]
fn lists_that_lead_back_or_away_are_marked_and_end() {
    both(|mut m, vm| {
        let root = m.gc_root();
        let tables: Vec<u64> = (0..3).map(|_| m.table(&[])).collect();
        let size = m.layout().reference;
        m.link(root, &tables);
        m.image.put_ref(tables[2], tables[0], size);
        let heap = Heap::walk(&m.image, &vm, MAX).expect("it begins well");
        let torn = heap.torn.expect("it is cyclic");
        assert!(torn.contains("more than 10000 objects"), "{torn}");

        for (to, what) in [(0x10, "not mapped"), (vm.g, "no object")] {
            m.link(root, &tables);
            m.image.put_ref(tables[2], to, size);
            let torn = Heap::walk(&m.image, &vm, MAX).expect("it begins well").torn.expect("torn");
            assert!(torn.contains("after 3 objects") && torn.contains(what), "{torn}");
        }
        m.image.put_ref(root, 0x10, size);
        assert!(matches!(
            Heap::walk(&m.image, &vm, MAX),
            Err(NotTrusted::Implausible { what: "gc.root", .. })
        ));
    });
}

#[test]
fn another_layout_is_refused_and_by_name() {
    both(|m, vm| {
        let moved = |change: &dyn Fn(&mut Vm)| {
            let mut vm = vm.clone();
            change(&mut vm);
            vm
        };
        // The size of a function reference, where the total should be: far too small.
        let e = Gc::read(&m.image, &moved(&|vm| vm.era.gc_total += 64));
        assert!(matches!(e, Err(NotTrusted::Implausible { what: "gc.total", .. })), "{e:?}");
        let e = Strings::read(&m.image, &moved(&|vm| vm.era.str_tab += 4), MAX, false);
        assert!(e.is_err(), "{e:?}");
        let e = Modules::read(&m.image, &moved(&|vm| vm.era.registry += 8));
        assert!(matches!(e, Err(NotTrusted::Implausible { what: "registrytv", .. })), "{e:?}");
        let heap = Heap::walk(&m.image, &vm, MAX).expect("trusted");
        let e = Jit::read(&m.image, &moved(&|vm| vm.era.jit.iter_mut().for_each(|j| j.param += 8)), &heap);
        assert!(matches!(e, Err(NotTrusted::Layout(_))), "{e:?}");
        let e = Jit::read(&m.image, &moved(&|vm| vm.era.jit.clear()), &heap);
        assert!(matches!(e, Err(NotTrusted::Layout(_))), "{e:?}");
    });
}

#[test]
fn corrupted_vms_are_read_without_a_panic_and_without_end() {
    const ROUNDS: u64 = 2000;
    both(|mut m, vm| {
        let (mut refused, live) = (0, m.live());
        for round in 0..ROUNDS {
            let random = &mut Random(round << 8 | m.layout().reference);
            let mut undo = Vec::new();
            let heap = live[0].clone();
            for i in 0..=random.below(60) {
                // Half of it into global_State, where everything begins.
                let range = if i % 2 == 0 { heap.clone() } else { vm.g..vm.g + 4096 };
                let at = (range.start + random.below(range.end - range.start - 8)) & !3;
                undo.push((at, m.image.get64(at)));
                let word = random.word(&live);
                m.image.put64(at, word);
            }
            let counting = Counting { memory: &m.image, read: Cell::new(0) };
            refused += u64::from(all(&counting, &vm).is_err());
            assert!(counting.read.get() < 256 << 20, "round {round}: {} bytes", counting.read.get());
            for (at, word) in undo.into_iter().rev() {
                m.image.put64(at, word);
            }
        }
        assert!(refused > ROUNDS / 10, "only {refused} of {ROUNDS} were refused");
    });
}

#[test]
fn noise_is_refused() {
    both(|_, vm| {
        for seed in 0..40 {
            let noise = Noise { seed, read: Cell::new(0) };
            assert!(all(&noise, &vm).is_err());
            assert!(noise.read.get() < 64 << 20, "seed {seed}: {} bytes read", noise.read.get());
        }
    });
}
