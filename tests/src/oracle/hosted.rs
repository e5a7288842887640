//! The product's walkers on a real process: its own tables, its own detection of the VM, and the C code of
//! the kernel side compiled for the host.

use super::tracee::{Registers, reg};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use upprof_binary::{Elf, Limits, UnwindTable};
use upprof_luajit::{CodeMap, Vm, attach, main_threads};
use upprof_memory::{Live, Memory};
use upprof_nginx::{Owner, lua_state};
use upprof_probes::hostsim::{self, Described, HostSim, Walked};
use upprof_probes::{LuaLayout, LuaVm, MappedTable, ProcessSpec, RequestLayout, TableId};
use upprof_target::{FileImage, Files, MapPath, Mapping, Proc};

/// Tables of the files of all processes looked at.
#[derive(Default)]
pub struct Library {
    sim: HostSim,
    files: HashMap<String, (FileImage, UnwindTable, TableId)>,
}

/// A process as the product describes it to the kernel.
pub struct Hosted {
    memory: Live,
    described: Described,
}

struct Mapped {
    range: Range<u64>,
    bias: u64,
    file: String,
}

struct Code<'a> {
    mapped: &'a [Mapped],
    files: &'a HashMap<String, (FileImage, UnwindTable, TableId)>,
}

impl CodeMap for Code<'_> {
    fn code_mapping(&self, addr: u64) -> Option<Range<u64>> {
        Some(self.mapped.iter().find(|m| m.range.contains(&addr))?.range.clone())
    }

    fn function(&self, addr: u64) -> Option<Range<u64>> {
        let m = self.mapped.iter().find(|m| m.range.contains(&addr))?;
        let f = self.files[&m.file].1.function_at(addr.wrapping_sub(m.bias))?;
        let at = |v: u32| u64::from(v).wrapping_add(m.bias);
        Some(at(f.start)..at(f.end))
    }
}

impl Library {
    /// Describes a process as the launcher does (`launcher/src/session/processes.rs`).
    ///
    /// # Errors
    /// When it cannot be read, or no VM is found in it.
    pub fn describe(&mut self, pid: u32) -> Result<Hosted> {
        let proc = Proc::default();
        let info = proc.info(pid)?;
        let memory = info.memory();
        let files = Files::of(&proc, &info);
        let mut mapped = Vec::new();
        let maps = proc.maps(pid)?;
        for mapping in maps.iter().filter(|m| m.exec) {
            let file = match &mapping.path {
                MapPath::File { path, .. } => path.display().to_string(),
                MapPath::Special(name) if name == "[vdso]" => name.clone(),
                _ => continue,
            };
            let known = self.file(&file, mapping, &files, &memory)?;
            let elf = Elf::parse(known.0.bytes())?;
            let offset = if file == "[vdso]" { 0 } else { mapping.offset };
            let Some(bias) = elf.bias(mapping.start, offset) else { continue };
            mapped.push(Mapped { range: mapping.start..mapping.end, bias, file });
        }
        let vms = self.vms(&mapped, &maps, &memory)?;
        let table = |m: &Mapped| MappedTable {
            start: m.range.start,
            end: m.range.end,
            bias: m.bias,
            table: self.files[&m.file].2,
        };
        let spec = ProcessSpec {
            stack_span: 8 << 20,
            vms: vms.iter().map(kernel_vm).collect(),
            mappings: mapped.iter().map(table).collect(),
        };
        Ok(Hosted { memory, described: Described::from(&spec) })
    }

    fn file(
        &mut self,
        name: &str,
        mapping: &Mapping,
        files: &Files<'_>,
        memory: &Live,
    ) -> Result<&(FileImage, UnwindTable, TableId)> {
        if !self.files.contains_key(name) {
            let image = if name.starts_with('[') {
                let len = usize::try_from(mapping.end - mapping.start)?;
                FileImage::of_memory(&memory.bytes(mapping.start, len, 1 << 20)?, Path::new(name))?
            } else {
                files.image(mapping)?
            };
            let table = UnwindTable::compile(&Elf::parse(image.bytes())?, Limits::default())?;
            let id = self.sim.add_table(&table);
            self.files.insert(name.to_owned(), (image, table, id));
        }
        Ok(&self.files[name])
    }

    fn vms(&self, mapped: &[Mapped], maps: &[Mapping], memory: &Live) -> Result<Vec<Vm>> {
        let symbol = |name: &str| {
            mapped.iter().find_map(|m| {
                let elf = Elf::parse(self.files[&m.file].0.bytes()).ok()?;
                Some(elf.symbol(name)?.wrapping_add(m.bias))
            })
        };
        let code = Code { mapped, files: &self.files };
        if symbol("ngx_cycle").is_some() {
            let mut vms = Vec::new();
            for owner in [Owner::Http, Owner::Stream] {
                let Ok(state) = lua_state(memory, &symbol, owner) else { continue };
                let vm = attach(memory, &code, state, None);
                vms.push(vm.with_context(|| format!("the product does not know the VM of {owner}"))?);
            }
            ensure!(!vms.is_empty(), "nginx has no VM");
            return Ok(vms);
        }
        let data = |m: &&Mapping| m.write && !m.exec && !matches!(m.path, MapPath::File { .. });
        let ranges: Vec<Range<u64>> = maps.iter().filter(data).map(|m| m.start..m.end).collect();
        let threads = main_threads(memory, &ranges);
        let vms: Vec<Vm> = threads.iter().filter_map(|l| attach(memory, &code, *l, None).ok()).collect();
        ensure!(!vms.is_empty(), "the product finds no VM");
        Ok(vms)
    }

    /// Walks the stack of a stopped process.
    #[must_use]
    pub fn walk(&self, hosted: &Hosted, registers: &Registers) -> Walked {
        let word = |i: usize| registers[i].unwrap_or_default();
        let regs = hostsim::Registers {
            ip: word(reg::RIP),
            sp: word(reg::RSP),
            bp: word(reg::RBP),
            bx: word(reg::RBX),
            r14: word(reg::R14),
            dx: word(reg::RDX),
            tls: word(reg::FS_BASE),
        };
        self.sim.walk(|at, to| hosted.memory.read(at, to).is_ok(), &hosted.described, &regs)
    }
}

fn kernel_vm(vm: &Vm) -> LuaVm {
    let small = |v: u64| u16::try_from(v).unwrap_or(0);
    LuaVm {
        g: vm.g,
        dispatch: vm.dispatch,
        vm_text: (vm.vm_text.start, vm.vm_text.end),
        layout: LuaLayout {
            gc64: vm.fixed.ref_size == 8,
            g_vmstate: vm.era.vmstate,
            g_cur_l: vm.era.cur_l,
            g_jit_base: vm.era.jit_base,
            tr_startpc: small(vm.fixed.tr_startpc),
            tr_startins: small(vm.fixed.tr_startins),
            tr_spadjust: small(vm.fixed.tr_spadjust),
            l_exdata2: vm.exdata2().map_or(0, small),
            str_data: small(vm.string_data()),
        },
        request: RequestLayout::default(),
    }
}
