//! Names from memory that lies: prototypes, constants and variables that a target writes as it likes do
//! not panic the readers, do not make them read without end, and give no name that is not one.

use std::cell::Cell;
use upprof_luajit::{Proto, ProtoError, Reach, attach, builtins};
use upprof_tests::oracle::layout::{GC32, GC64, Layout};
use upprof_tests::snapshot::random::{Counting, Noise, Random};
use upprof_tests::snapshot::scenes::recognisable;
use upprof_tests::snapshot::{Code, Machine, Value};

const PARENT: u64 = 0x5000_0000;
const CHILD: u64 = PARENT + 0x400;
const FUNCTION: u64 = PARENT + 0x800;
const SIZE: u64 = 0x200;

/// Offsets in `GCproto`, from lj_obj.h by hand: k, sizekgc, sizept, flags, chunkname, lineinfo, uvinfo,
/// varinfo, size.
const fn offsets(layout: Layout) -> [u64; 9] {
    if layout.reference == 8 {
        [32, 48, 56, 61, 64, 80, 88, 96, 104]
    } else {
        [16, 24, 32, 37, 40, 52, 56, 60, 64]
    }
}

const FUNC: u8 = 8;
const PROTO: u8 = 7;

/// One instruction (lj_bc.h): opcode, A, C, B.
const fn ins(op: u8, a: u8, c: u8, b: u8) -> u32 {
    u32::from_le_bytes([op, a, c, b])
}

/// `local M = {}; function M.access() end`, compiled as LuaJIT does: the parent makes the child (FNEW 51),
/// and stores it (TSETS 61) in the table (TNEW 52) that becomes the local.
fn compiled(layout: Layout) -> Machine {
    let (mut m, _) = recognisable(layout);
    let [k, sizekgc, sizept, flags, chunkname, lineinfo, uvinfo, varinfo, size] = offsets(layout);
    let reference = layout.reference;
    let key = m.string(b"access");
    let chunk = m.string(b"@/app/made.lua");
    m.image.map(PARENT, 0x1000);
    for (at, code) in [
        (
            PARENT,
            &[ins(92, 3, 0, 0), ins(52, 0, 0, 0), ins(51, 1, 0, 0), ins(61, 1, 1, 0), ins(75, 0, 1, 0)][..],
        ),
        (CHILD, &[ins(89, 1, 0, 0), ins(75, 0, 1, 0)][..]),
    ] {
        m.image.put8(at + layout.gct, PROTO);
        m.image.put32(at + layout.proto.sizebc, u32::try_from(code.len()).expect("few"));
        for (i, word) in (0..).zip(code) {
            m.image.put32(at + size + i * 4, *word);
        }
        m.image.put_ref(at + k, at + 0x180, reference);
        m.image.put32(at + sizept, u32::try_from(SIZE).expect("small"));
        m.image.put_ref(at + chunkname, chunk, reference);
        m.image.put_ref(at + lineinfo, at + 0x1a0, reference);
        m.image.put_ref(at + uvinfo, at + 0x1c0, reference);
        m.image.put_ref(at + varinfo, at + 0x1d0, reference);
    }
    m.image.put32(CHILD + layout.proto.firstline, 2);
    m.image.put8(PARENT + flags, 1); // PROTO_CHILD
    m.image.put32(PARENT + sizekgc, 2);
    m.image.put_ref(PARENT + 0x180 - reference, CHILD, reference);
    m.image.put_ref(PARENT + 0x180 - 2 * reference, key, reference);
    m.image.put(PARENT + 0x1d0, b"M\0\x02\x03\0");
    m.image.put8(FUNCTION + layout.gct, FUNC);
    m.image.put_ref(FUNCTION + layout.func.pc, PARENT + size, reference);
    let f = upprof_tests::snapshot::CFunc { func: FUNCTION, f: 0, ffid: 0 };
    let globals = m.table(&[("made", Value::Function(f))]);
    m.set_globals(globals);
    m
}

#[test]
fn a_function_is_called_as_the_one_that_makes_it_stores_it() {
    for layout in [GC64, GC32] {
        let m = compiled(layout);
        let vm = attach(&m.image, &Code, m.main_thread(), None).expect("recognised");
        let reach = Reach::of(&m.image, &vm);
        assert_eq!(reach.name(&m.image, &vm, CHILD).as_deref(), Some("M.access"));
        assert_eq!(reach.name(&m.image, &vm, PARENT).as_deref(), Some("made"));
        assert_eq!(reach.name(&m.image, &vm, 0x1234), None);
        assert!(!reach.cut);
        // Another prototype lives there now: it makes nothing of this.
        let mut freed = m;
        freed.image.put8(PARENT + layout.gct, 4);
        assert_eq!(reach.name(&freed.image, &vm, CHILD), None);
    }
}

#[test]
fn prototypes_that_make_each_other_end() {
    for layout in [GC64, GC32] {
        let mut m = compiled(layout);
        let [k, sizekgc, _, flags, ..] = offsets(layout);
        let vm = attach(&m.image, &Code, m.main_thread(), None).expect("recognised");
        m.image.put8(CHILD + flags, 1);
        m.image.put32(CHILD + sizekgc, 1);
        for (of, constant) in [(CHILD, PARENT), (CHILD, CHILD)] {
            m.image.put_ref(of + 0x180 - layout.reference, constant, layout.reference);
            let reach = Reach::of(&m.image, &vm);
            for proto in [PARENT, CHILD] {
                assert!(reach.name(&m.image, &vm, proto).is_none_or(|name| name.len() < 200));
            }
        }
        // More constants than there is memory, and a list of them that is nowhere.
        for (at, word) in [(PARENT + sizekgc, u32::MAX), (PARENT + k, 0)] {
            m.image.put32(at, word);
            let counting = Counting { memory: &m.image, read: Cell::new(0) };
            let reach = Reach::of(&counting, &vm);
            let _ = reach.name(&counting, &vm, CHILD);
            assert!(counting.read.get() < 32 << 20, "{} bytes", counting.read.get());
        }
    }
}

#[test]
fn corrupted_prototypes_do_not_panic_the_reader_and_do_not_make_it_read_without_end() {
    const ROUNDS: u64 = 5000;
    for layout in [GC64, GC32] {
        let mut m = compiled(layout);
        let vm = attach(&m.image, &Code, m.main_thread(), None).expect("recognised");
        let live = [PARENT..PARENT + 0x1000, m.live()[0].clone()];
        let mut named = 0;
        for round in 0..ROUNDS {
            let random = &mut Random(round << 8 | layout.reference);
            let mut undo = Vec::new();
            for _ in 0..=random.below(6) {
                let at = PARENT + (random.below(0x900) & !3);
                undo.push((at, m.image.get64(at)));
                let word = random.word(&live);
                m.image.put64(at, word);
            }
            let counting = Counting { memory: &m.image, read: Cell::new(0) };
            let reach = Reach::of(&counting, &vm);
            for proto in [PARENT, CHILD, random.word(&live)] {
                if let Some(name) = reach.name(&counting, &vm, proto) {
                    named += 1;
                    assert!(name.len() < 1024, "round {round}: {name}");
                }
                let Ok(proto) = Proto::read_unsampled(&counting, &vm, proto) else { continue };
                let _ = proto.shape(&counting, &vm);
                let _ = proto.fingerprint(&counting, &vm);
                let _ = proto.own_text(&counting, &vm, 1 << 16);
            }
            // A size of up to 4 MB is believed each time a prototype is read.
            assert!(counting.read.get() < 128 << 20, "round {round}: {} bytes", counting.read.get());
            for (at, word) in undo.into_iter().rev() {
                m.image.put64(at, word);
            }
        }
        assert!(named > ROUNDS / 2, "{named}: the corruption leaves nothing");
    }
}

#[test]
fn noise_has_no_names() {
    let (m, _) = recognisable(GC64);
    let vm = attach(&m.image, &Code, m.main_thread(), None).expect("recognised");
    for seed in 0..500 {
        let noise = Noise { seed, read: Cell::new(0) };
        let reach = Reach::of(&noise, &vm);
        assert_eq!(reach.name(&noise, &vm, seed << 12), None);
        let _ = builtins(&noise, &vm);
        assert!(noise.read.get() < 16 << 20, "seed {seed}: {} bytes", noise.read.get());
    }
}

#[test]
fn a_chunk_name_of_ten_megabytes_is_cut_and_is_no_source() {
    const BYTES: u64 = 10 << 20;
    const TEXT: u64 = 0x6000_0000;
    for layout in [GC64, GC32] {
        let mut m = compiled(layout);
        let vm = attach(&m.image, &Code, m.main_thread(), None).expect("recognised");
        let (len, data) = if layout.reference == 8 { (20, 24) } else { (16, 20) };
        m.image.map(TEXT, BYTES + 64);
        m.image.put8(TEXT + layout.gct, 4);
        m.image.put32(TEXT + len, u32::try_from(BYTES).expect("fits"));
        m.image.put(TEXT + data, &vec![b'x'; usize::try_from(BYTES).expect("fits")]);
        m.image.put_ref(CHILD + offsets(layout)[4], TEXT, layout.reference);
        let counting = Counting { memory: &m.image, read: Cell::new(0) };
        let proto = Proto::read_unsampled(&counting, &vm, CHILD).expect("a prototype");
        assert!(proto.chunkname_cut && proto.chunkname.len() <= 512);
        assert_eq!(proto.own_text(&counting, &vm, 256 << 10), None);
        assert!(counting.read.get() < 1 << 20, "{} bytes were read", counting.read.get());
        // Freed meanwhile: another check, another object.
        assert_eq!(Proto::read(&m.image, &vm, CHILD, !proto.check), Err(ProtoError::Replaced));
    }
}
