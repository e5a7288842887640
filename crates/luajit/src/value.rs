//! Tagged values and tables (lj_obj.h `TValue`, `GCtab`), read with bounds.

use crate::Vm;
use crate::layout::gct;
use crate::proto::read_string;
use upprof_memory::{Memory, ReadError};

/// Bytes of a hash node: value, key, next (lj_obj.h `Node`), the same in both modes.
pub(crate) const NODE: usize = 24;

/// A value, as far as inspectors tell them apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    Nil,
    Boolean(bool),
    Number(f64),
    /// A collected object: its type number and address.
    Object(u8, u64),
    /// Light userdata and what is not known.
    Other,
}

impl Value {
    /// Decodes the 8 bytes of a value. GC64 has the type in the top 17 bits, GC32 in the top 32; both as
    /// the complement of the type number, and anything lower is a double. In GC32 light userdata takes
    /// what is between.
    pub(crate) fn decode(vm: &Vm, word: u64) -> Self {
        /// `~LJ_TNUMX`: integers, in builds with dual numbers.
        const INTEGER: u64 = 13;
        let (tag, payload, number) = if vm.fixed.ref_size == 8 {
            (!(word.cast_signed() >> 47).cast_unsigned(), word & ((1 << 47) - 1), 13)
        } else {
            (u64::from(!((word >> 32) as u32)), word & 0xffff_ffff, 0xffff)
        };
        match tag {
            0 => Self::Nil,
            1 => Self::Boolean(false),
            2 => Self::Boolean(true),
            4..=12 => Self::Object(tag as u8, payload),
            INTEGER => Self::Number(f64::from((word as u32).cast_signed())),
            n if n > number => Self::Number(f64::from_bits(word)),
            _ => Self::Other,
        }
    }

    /// The address, if it is an object of this type.
    pub(crate) fn object(self, kind: u8) -> Option<u64> {
        match self {
            Self::Object(k, at) if k == kind => Some(at),
            _ => None,
        }
    }
}

/// A table's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) array: u64,
    pub(crate) asize: u32,
    pub(crate) node: u64,
    pub(crate) hmask: u32,
    pub(crate) metatable: u64,
}

impl Table {
    /// Reads the header at once; `None` when there is no table.
    pub(crate) fn read(mem: &dyn Memory, vm: &Vm, at: u64) -> Option<Self> {
        let f = vm.fixed;
        let b = crate::block::Block::read(mem, f, at, f.tab_size).ok()?;
        (b.u8(f.gct) == gct::TAB).then(|| Self {
            array: b.word(f.tab_array),
            asize: b.u32(f.tab_asize),
            node: b.word(f.tab_node),
            hmask: b.u32(f.tab_hmask),
            metatable: b.word(f.tab_metatable),
        })
    }

    /// The hash part's nodes, as value and key; an error when they are more than `max` or not there.
    pub(crate) fn nodes(
        &self,
        mem: &dyn Memory,
        vm: &Vm,
        max: usize,
    ) -> Result<Vec<(Value, Value)>, ReadError> {
        let n = (self.hmask as usize).saturating_add(1);
        let bytes = mem.bytes(self.node, n.saturating_mul(NODE), max.saturating_mul(NODE))?;
        let value = |b: &[u8]| Value::decode(vm, u64::from_le_bytes(b.try_into().unwrap_or_default()));
        Ok(bytes.chunks_exact(NODE).map(|n| (value(&n[..8]), value(&n[8..16]))).collect())
    }

    /// The value under a string key.
    pub(crate) fn get(&self, mem: &dyn Memory, vm: &Vm, key: &str, max: usize) -> Option<Value> {
        let nodes = self.nodes(mem, vm, max).ok()?;
        nodes.into_iter().find_map(|(value, k)| {
            let at = k.object(gct::STR)?;
            let (text, cut) = read_string(mem, vm, at, key.len()).ok()?;
            (!cut && text == key.as_bytes()).then_some(value)
        })
    }
}
