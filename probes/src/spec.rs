//! What user space tells the kernel of a process.

use crate::abi::{self, types};

/// A table that was added with [`crate::Probe::add_table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableId {
    pub(crate) first_page: u32,
    pub(crate) n_pages: u32,
    pub(crate) index: u32,
}

/// An executable mapping of a file whose table is known.
#[derive(Debug, Clone, Copy)]
pub struct MappedTable {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Address in the process minus file virtual address.
    pub bias: u64,
    /// Its table.
    pub table: TableId,
}

/// Offsets that differ between LuaJIT builds: `struct lua_layout` of `abi.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LuaLayout {
    /// GC64 (and FR2) or GC32.
    pub gc64: bool,
    /// `global_State.vmstate`
    pub g_vmstate: u16,
    /// `global_State.cur_L`
    pub g_cur_l: u16,
    /// `global_State.jit_base`
    pub g_jit_base: u16,
    /// `GCtrace.startpc`
    pub tr_startpc: u16,
    /// `GCtrace.startins`
    pub tr_startins: u16,
    /// `GCtrace.spadjust`
    pub tr_spadjust: u16,
    /// `lua_State.exdata2`; 0 where there is none.
    pub l_exdata2: u16,
    /// Text of a `GCstr`.
    pub str_data: u16,
}

/// Where a request says whose it is: `struct request_layout` of `abi.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestLayout {
    /// `ngx_http_request_t.method`; 0 where requests are not read.
    pub method: u16,
    /// `ngx_http_request_t.headers_in.server`
    pub server: u16,
    /// Byte offset of ngx_lua's pointer in `ngx_http_request_t.ctx[]`.
    pub lua_ctx: u16,
    /// `ngx_http_lua_ctx_t.context`; 0 where the phase is not read.
    pub context: u16,
}

/// A LuaJIT VM of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LuaVm {
    /// Address of its `global_State`.
    pub g: u64,
    /// What r14 holds while interpreting (`g + GG_G2DISP`).
    pub dispatch: u64,
    /// The interpreter's code: first address, one past the last.
    pub vm_text: (u64, u64),
    /// Its offsets.
    pub layout: LuaLayout,
    /// How to read the request that it runs for.
    pub request: RequestLayout,
}

/// A process to sample.
#[derive(Debug, Clone, Default)]
pub struct ProcessSpec {
    /// How far a thread's stack may reach, bytes.
    pub stack_span: u64,
    /// Its VMs; those beyond the limit of the contract are left out (see [`ProcessSpec::dropped_vms`]).
    pub vms: Vec<LuaVm>,
    /// Its executable files; likewise.
    pub mappings: Vec<MappedTable>,
}

const MAX_VMS: usize = abi::upprof_limits::MAX_VMS as usize;
const MAX_MAPPINGS: usize = abi::upprof_limits::MAX_MAPPINGS as usize;

impl ProcessSpec {
    /// How many VMs do not fit into the contract.
    #[must_use]
    pub fn dropped_vms(&self) -> usize {
        self.vms.len().saturating_sub(MAX_VMS)
    }

    /// How many mappings do not fit into the contract.
    #[must_use]
    pub fn dropped_mappings(&self) -> usize {
        self.mappings.len().saturating_sub(MAX_MAPPINGS)
    }

    /// As the kernel reads it; `id` must never have been used before.
    pub(crate) fn to_abi(&self, id: u64) -> Box<types::process_info> {
        let mut info = Box::<types::process_info>::default();
        info.id = id;
        info.stack_span = self.stack_span;
        for (to, vm) in info.vms.iter_mut().zip(&self.vms) {
            *to = types::lua_vm {
                g: vm.g,
                dispatch: vm.dispatch,
                vm_text_start: vm.vm_text.0,
                vm_text_end: vm.vm_text.1,
                layout: types::lua_layout {
                    gc64: vm.layout.gc64.into(),
                    g_vmstate: vm.layout.g_vmstate,
                    g_cur_l: vm.layout.g_cur_l,
                    g_jit_base: vm.layout.g_jit_base,
                    tr_startpc: vm.layout.tr_startpc,
                    tr_startins: vm.layout.tr_startins,
                    tr_spadjust: vm.layout.tr_spadjust,
                    l_exdata2: vm.layout.l_exdata2,
                    str_data: vm.layout.str_data,
                    pad: [0; 3],
                },
                request: types::request_layout {
                    method: vm.request.method,
                    server: vm.request.server,
                    lua_ctx: vm.request.lua_ctx,
                    context: vm.request.context,
                },
            };
            info.n_vms += 1;
        }
        let mut mappings = self.mappings.clone();
        mappings.truncate(MAX_MAPPINGS);
        mappings.sort_by_key(|m| m.start);
        for (to, m) in info.mappings.iter_mut().zip(&mappings) {
            *to = types::mapping {
                start: m.start,
                end: m.end,
                bias: m.bias,
                first_page: m.table.first_page,
                n_pages: m.table.n_pages,
                index: m.table.index,
                object: 0,
            };
            info.n_mappings += 1;
        }
        info
    }
}
