//! Looking at a made-up process: through the walkers, and as text.

use super::host;
use super::machine::{BIAS, MCODE, Machine};
use upprof_memory::Memory;
use upprof_probes::hostsim::{Described, HostSim, Walked};
use upprof_probes::{LuaLayout, LuaVm, MappedTable, ProcessSpec, RequestLayout};
use upprof_profile::raw::{PackedFrame, RawFrame};

impl Machine {
    /// Offsets of the made-up `global_State`: those of 2020-09 (GC64) and 2021-06 (GC32).
    fn kernel_layout(&self) -> LuaLayout {
        let l = self.layout();
        let small = |n: u64| u16::try_from(n).expect("an offset");
        let (vmstate, cur_l) = if l.reference == 8 { (184, 368) } else { (136, 288) };
        LuaLayout {
            gc64: l.reference == 8,
            g_vmstate: vmstate,
            g_cur_l: cur_l,
            g_jit_base: cur_l + small(l.reference),
            tr_startpc: small(l.trace.startpc),
            tr_startins: small(l.trace.startins),
            tr_spadjust: small(l.trace.spadjust),
            l_exdata2: small(l.thread.size_luajit2 - 8),
            str_data: if l.reference == 8 { 24 } else { 20 },
        }
    }

    /// Writes what `global_State` says now.
    pub fn freeze(&mut self) {
        let (layout, g, size) = (self.kernel_layout(), self.heap.g, self.layout().reference);
        self.image.put32(g + u64::from(layout.g_vmstate), self.vmstate as u32);
        self.image.put_ref(g + u64::from(layout.g_cur_l), self.l, size);
        self.image.put_ref(g + u64::from(layout.g_jit_base), self.jit_base, size);
    }

    /// The unwind tables, and what the walkers are told of this process.
    #[must_use]
    pub fn described(&self) -> (HostSim, ProcessSpec) {
        let mut sim = HostSim::default();
        let table = sim.add_table(&host::table());
        let vm_text = BIAS + host::VM.vaddr;
        let spec = ProcessSpec {
            stack_span: 8 << 20,
            vms: vec![LuaVm {
                g: self.heap.g,
                dispatch: self.dispatch(),
                vm_text: (vm_text, vm_text + host::VM.size),
                layout: self.kernel_layout(),
                request: RequestLayout::default(),
            }],
            mappings: vec![MappedTable { start: BIAS, end: BIAS + host::MAPPED, bias: BIAS, table }],
        };
        (sim, spec)
    }

    /// Walks its stack.
    pub fn walk(&mut self) -> Walked {
        let (sim, spec) = self.described();
        self.freeze();
        sim.walk(|addr, to| self.image.read(addr, to).is_ok(), &Described::from(&spec), &self.regs)
    }

    /// Frames as text, leaf first: `@name` the native leaf, `name` a native call, `lua name:PC` with the
    /// index of the bytecode being executed, `c name`, `trace N`, `[mark]`.
    #[must_use]
    pub fn shown(&self, frames: &[PackedFrame]) -> Vec<String> {
        let name = |addr: u64| self.names.get(&addr).cloned().unwrap_or_else(|| format!("?{addr:x}"));
        let native = |addr: u64| {
            let f = host::FUNCTIONS.iter().find(|f| addr.wrapping_sub(BIAS + f.vaddr) < f.size);
            f.map_or_else(|| format!("?{addr:x}"), |f| f.name.into())
        };
        let one = |frame: &PackedFrame| match frame.unpack() {
            RawFrame::Native { addr, leaf: true } => format!("@{}", native(addr)),
            RawFrame::Native { addr, leaf: false } => native(addr),
            RawFrame::Lua { proto, pc: Some(pc), .. } => format!("lua {}:{}", name(proto), i64::from(pc) - 1),
            RawFrame::Lua { proto, pc: None, .. } => format!("lua {}:?", name(proto)),
            RawFrame::LuaC { function, .. } => format!("c {}", name(function)),
            RawFrame::Trace { ip, number, .. } => {
                let at = if ip == Some(MCODE + 0x30) { "in" } else { "not in" };
                format!("trace {} {at} its code", number.map_or(-1, i64::from))
            }
            RawFrame::Mark(mark) => format!("[{}]", mark.text()),
            RawFrame::Unknown(f) => format!("unknown {f:?}"),
        };
        frames.iter().map(one).collect()
    }
}
