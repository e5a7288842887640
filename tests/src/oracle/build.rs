//! One build of LuaJIT: a mode, and where it keeps what moved between versions. Written by hand from
//! `lj_obj.h` of each version, and shared with nothing of the product.

use super::layout::{GC32, GC64, Layout};
use upprof_memory::{Live, Memory as _, ReadError};

/// Offsets in bytes from `global_State`, for one version and mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// What depends on the mode only.
    pub layout: &'static Layout,
    /// `sizeof(lua_State)`: `global_State` lies right behind the main thread (lj_dispatch.h, `GG_State`).
    pub thread_size: u64,
    /// `gc.root`: the list of all objects.
    pub gc_root: u64,
    /// `mainthref`
    pub mainthref: u64,
    /// `jit_base`
    pub jit_base: u64,
}

impl Build {
    /// Debian 11: 2.1.0-beta3 of 2017, GC32.
    pub const BETA3_GC32: Self =
        Self { layout: &GC32, thread_size: 64, gc_root: 48, mainthref: 132, jit_base: 252 };
    /// Debian 12, 13 and 14: OpenResty's luajit2 from 2020-10 to 2025-10, GC64.
    pub const LUAJIT2_GC64: Self =
        Self { layout: &GC64, thread_size: 112, gc_root: 40, mainthref: 192, jit_base: 376 };
    /// The same from 2021-06 on, GC32.
    pub const LUAJIT2_GC32: Self =
        Self { layout: &GC32, thread_size: 80, gc_root: 32, mainthref: 140, jit_base: 292 };
    /// luajit.org's since 2025-11, GC64: what the crate luajit-src has.
    pub const UPSTREAM_GC64: Self =
        Self { layout: &GC64, thread_size: 96, gc_root: 40, mainthref: 192, jit_base: 384 };
}

/// A process's memory, as one build of LuaJIT lays it out.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Its memory.
    pub memory: Live,
    /// Its LuaJIT.
    pub build: Build,
}

/// 47 bits: what GC64 leaves of a tagged value for the address.
const ADDRESS: u64 = (1 << 47) - 1;

impl View {
    /// The layout of its mode.
    #[must_use]
    pub fn layout(&self) -> &'static Layout {
        self.build.layout
    }

    /// A reference to a collected object: 8 or 4 bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn reference(&self, at: u64) -> Result<u64, ReadError> {
        match self.layout().reference {
            8 => self.memory.u64(at),
            _ => self.memory.u32(at).map(u64::from),
        }
    }

    /// A register that holds an address: in GC32 its upper half is anything.
    #[must_use]
    pub fn register(&self, word: u64) -> u64 {
        if self.layout().reference == 8 { word } else { word & 0xffff_ffff }
    }

    /// Bytes of a frame below its base: the slot with its function and its link (lj_frame.h).
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        if self.layout().two_slots { 16 } else { 8 }
    }

    /// The object that is the function of the frame with this base.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn frame_object(&self, base: u64) -> Result<u64, ReadError> {
        match self.layout().two_slots {
            true => self.memory.u64(base.wrapping_sub(16)).map(|slot| slot & ADDRESS),
            false => self.memory.u32(base.wrapping_sub(8)).map(u64::from),
        }
    }

    /// The link of the frame with this base: a bytecode address, or a size with a type.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn frame_link(&self, base: u64) -> Result<u64, ReadError> {
        match self.layout().two_slots {
            true => self.memory.u64(base.wrapping_sub(8)),
            false => self.memory.u32(base.wrapping_sub(4)).map(u64::from),
        }
    }

    /// `{continuation, PC}` below a frame that was entered as a metamethod or by a callback.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn continuation(&self, base: u64) -> Result<(u64, u64), ReadError> {
        match self.layout().two_slots {
            true => Ok((self.memory.u64(base.wrapping_sub(32))?, self.memory.u64(base.wrapping_sub(24))?)),
            false => {
                let read = |below: u64| self.memory.u32(base.wrapping_sub(below)).map(u64::from);
                Ok((read(16)?, read(12)?))
            }
        }
    }

    /// Base of the caller in Lua of a frame with this base, by the CALL before `pc` (lj_frame.h,
    /// `frame_prevl`): the second byte is its A operand.
    ///
    /// # Errors
    /// When the instruction cannot be read.
    pub fn caller_base(&self, base: u64, pc: u64) -> Result<u64, ReadError> {
        let call = self.memory.u32(pc.wrapping_sub(4))?;
        Ok(base.wrapping_sub(u64::from(call >> 8 & 0xff) * 8 + self.frame_bytes()))
    }
}
