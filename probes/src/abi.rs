//! The kernel contract on this side: struct types from the object's BTF, numbers from `abi.h`.

#[allow(
    missing_docs,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unreachable_pub,
    unused_qualifications,
    clippy::unwrap_used
)]
pub(crate) mod skel {
    include!(concat!(env!("OUT_DIR"), "/upprof.skel.rs"));
}

include!(concat!(env!("OUT_DIR"), "/abi.rs"));

pub(crate) use skel::types;

use upprof_binary::{Cfa, Row, Saved};

/// A row as the kernel reads it.
pub(crate) fn row(r: &Row) -> types::unwind_row {
    use cfa_kind as k;
    let (kind, cfa_off, extra) = match r.cfa {
        Cfa::None => (k::CFA_NONE, 0, 0),
        Cfa::Rsp(n) => (k::CFA_RSP, n, 0),
        Cfa::Rbp(n) => (k::CFA_RBP, n, 0),
        Cfa::Rbx(n) => (k::CFA_RBX, n, 0),
        Cfa::DerefRsp(n, add) => (k::CFA_DEREF_RSP, n, add),
        Cfa::DerefRbp(n, add) => (k::CFA_DEREF_RBP, n, add),
        Cfa::Plt(from) => (k::CFA_PLT, 0, from),
        Cfa::Signal => (k::CFA_SIGNAL, 0, 0),
        Cfa::End => (k::CFA_END, 0, 0),
    };
    let saved = |s: Saved| match s {
        Saved::Same => saved_offset::SAVED_SAME as i16,
        // The two sentinels are no offsets that code uses: 32 KiB away from its own frame.
        Saved::At(n) if i64::from(n) == saved_offset::SAVED_SAME => saved_offset::SAVED_LOST as i16,
        Saved::At(n) => n,
        Saved::Lost => saved_offset::SAVED_LOST as i16,
    };
    types::unwind_row {
        pc: r.pc,
        cfa_kind: kind as u8,
        pad: 0,
        cfa_off,
        extra,
        rbp_off: saved(r.rbp),
        rbx_off: saved(r.rbx),
        r14_off: saved(r.r14),
    }
}

/// The bytes of a kernel contract struct.
pub(crate) fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: used for `types` structs only: plain integers, `repr(C)`, no padding (asserted in
    // abi.h), so every byte is initialised; the slice borrows `value`.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}
