//! What is known of each process of the target, and what the kernel side is told of it.

use super::labels::Layouts;
use super::lua::LuaBook;
use super::names::Names;
use super::objects::Library;
use super::sources::Reader;
use super::target::Target;
use super::vms;
use crate::failure::Failure;
use crate::ui::Voice;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use upprof_luajit::Vm;
use upprof_nginx::Owner;
use upprof_probes::{
    Capacity, LuaLayout, LuaVm, MappedTable, Probe, ProbeError, ProcessSpec, RequestLayout, TableId,
};
use upprof_profile::raw::{PackedFrame, RawStack};
use upprof_stacks::{AddressSpace, Mapped, ObjectId};
use upprof_target::{ProcessInfo, Role};

/// One process of the target.
pub(super) struct Known {
    pub(super) info: ProcessInfo,
    pub(super) vms: Vec<(Owner, Vm)>,
    pub(super) lua_unavailable: Option<String>,
    /// CPU time at the start of the window; 0 for a process that was started in it.
    pub(super) cpu_at_start: Option<u64>,
    pub(super) cpu_at_end: Option<u64>,
    pub(super) sampled: bool,
    pub(super) alive: bool,
    /// Its mount namespace: processes with the same one see the same files.
    pub(super) mount_namespace: Option<u64>,
    spec: ProcessSpec,
}

/// All processes of the target, those that have ended included.
pub(super) struct Processes {
    pub(super) known: BTreeMap<u32, Known>,
    pub(super) spaces: HashMap<u32, AddressSpace>,
    pub(super) library: Library,
    pub(super) book: LuaBook,
    pub(super) names: Names,
    /// Things that went wrong without ending the capture.
    pub(super) problems: Vec<(String, String)>,
    request_layouts: Layouts,
    tables: HashMap<ObjectId, TableId>,
    policy: Policy,
}

/// Which processes are sampled: decided once, at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// Those with a LuaJIT VM.
    WithLua,
    /// nginx's workers: none has a VM.
    Workers,
    /// All: nothing here is nginx.
    All,
}

impl Processes {
    /// Looks at every process that is there now.
    pub(super) fn look_at(target: &Target, voice: Voice) -> Result<Self, Failure> {
        let mut all = Self {
            known: BTreeMap::new(),
            spaces: HashMap::new(),
            library: Library::default(),
            book: LuaBook::default(),
            names: Names::default(),
            problems: Vec::new(),
            request_layouts: Layouts::default(),
            tables: HashMap::new(),
            policy: Policy::All,
        };
        for info in target.processes()? {
            all.add(target, info);
        }
        all.policy = all.choose_policy();
        for known in all.known.values_mut() {
            known.sampled = all.policy.samples(known);
        }
        all.tell(voice);
        Ok(all)
    }

    fn choose_policy(&self) -> Policy {
        if self.known.values().any(|k| !k.vms.is_empty()) {
            Policy::WithLua
        } else if self.known.values().any(|k| k.info.role != Role::Other) {
            Policy::Workers
        } else {
            Policy::All
        }
    }

    fn tell(&self, voice: Voice) {
        let sampled: Vec<&Known> = self.known.values().filter(|k| k.sampled).collect();
        let workers = sampled.iter().filter(|k| k.info.role == Role::Worker).count();
        voice.note(&match (self.policy, sampled.len()) {
            (Policy::WithLua, n) => format!("profiling {n} processes with LuaJIT, {workers} of them workers"),
            (Policy::Workers, n) => {
                format!(
                    "no LuaJIT found: profiling {n} nginx workers, native code only ({})",
                    self.why_no_lua()
                )
            }
            (Policy::All, n) => {
                format!("no nginx and no LuaJIT found: profiling {n} processes, native code only")
            }
        });
        for known in self.known.values() {
            voice.detail(&format!("{} {} ({})", known.info.role, known.info.pid, known.info.title));
            for (owner, vm) in &known.vms {
                voice.detail(&format!("  {owner} VM: {}", vm.describe()));
            }
        }
    }

    fn why_no_lua(&self) -> String {
        let first = self.known.values().find_map(|k| k.lua_unavailable.clone());
        first.unwrap_or_else(|| "no VM".into())
    }

    /// Reads one process. A process that goes away meanwhile is left out.
    fn add(&mut self, target: &Target, info: ProcessInfo) -> bool {
        let pid = info.pid;
        let Ok(maps) = target.proc.maps(pid) else { return false };
        let memory = info.memory();
        let space = self.library.address_space(&maps, &target.files(&info), &memory);
        let (vms, lua_unavailable) = vms::find(&mut self.library, &space, &maps, &memory);
        let spec = ProcessSpec {
            stack_span: stack_span(target.proc.stack_limit_bytes(pid).ok().flatten()),
            vms: vms
                .iter()
                .map(|(owner, vm)| kernel_vm(vm, self.requests(&space, &memory, *owner, vm)))
                .collect(),
            mappings: Vec::new(),
        };
        for (owner, _) in vms.iter().filter(|(_, vm)| vm.exdata2().is_none()) {
            let why = "this LuaJIT has no lua_State.exdata2, where ngx_lua keeps it";
            self.tell_once(format!("who resumed coroutines and spawned light threads ({owner})"), why.into());
        }
        self.book.add_process(pid, &vms, &space);
        self.names.forget(pid);
        self.spaces.insert(pid, space);
        self.known.insert(
            pid,
            Known {
                info,
                vms,
                lua_unavailable,
                cpu_at_start: None,
                cpu_at_end: None,
                sampled: false,
                alive: true,
                mount_namespace: mount_namespace(pid),
                spec,
            },
        );
        true
    }

    /// How to read the requests that a VM runs for; where that cannot be done, the reason is told once.
    fn requests(
        &mut self,
        space: &AddressSpace,
        memory: &upprof_memory::Live,
        owner: Owner,
        vm: &Vm,
    ) -> RequestLayout {
        let library = std::cell::RefCell::new(&mut self.library);
        let symbol = |name: &str| {
            let known = upprof_nginx::SYMBOLS.iter().find(|s| **s == name)?;
            library.borrow_mut().symbol(space, known)
        };
        let (layout, problem) = match self.request_layouts.find(memory, &symbol, owner, vm) {
            Ok(found) => (found.layout, found.no_phase.map(|why| ("phases of requests", why))),
            Err(why) => (RequestLayout::default(), Some(("whose request Lua runs for", why.to_string()))),
        };
        if let Some((what, why)) = problem {
            self.tell_once(format!("{what} ({owner})"), why);
        }
        layout
    }

    /// A problem that processes have in common.
    fn tell_once(&mut self, what: String, why: String) {
        let told = (what, why);
        if !self.problems.contains(&told) {
            self.problems.push(told);
        }
    }

    /// Room in the kernel for what is known now, and for what may come during the window: reloads
    /// double the workers, an upgrade brings new files.
    pub(super) fn capacity(&self, stacks: u32, samples_per_second: u32) -> Capacity {
        const SPARE_ROWS: usize = 256 << 10;
        const SPARE_PAGES: usize = 256 << 10;
        const MIN_PROCESSES: usize = 64;
        let tables = || self.library.objects.iter().map(|(_, o)| &o.table);
        let rows: usize = tables().map(|t| t.rows().len() + 1).sum();
        let pages: usize = tables().map(upprof_probes::index_entries).sum();
        let fit = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Capacity {
            processes: fit((self.known.len() * 4).max(MIN_PROCESSES)),
            rows: fit(rows + rows / 4 + SPARE_ROWS),
            pages: fit(pages + pages / 4 + SPARE_PAGES),
            stacks,
            samples_per_second,
        }
    }

    /// Tells the kernel side of every process.
    pub(super) fn describe_all(&mut self, probe: &mut Probe) -> Result<(), ProbeError> {
        let pids: Vec<u32> = self.known.keys().copied().collect();
        for pid in pids {
            self.describe(probe, pid)?;
        }
        Ok(())
    }

    fn describe(&mut self, probe: &mut Probe, pid: u32) -> Result<(), ProbeError> {
        let Some(known) = self.known.get_mut(&pid) else { return Ok(()) };
        if !known.sampled {
            return probe.watch(pid);
        }
        let Some(space) = self.spaces.get(&pid) else { return Ok(()) };
        let mut mappings = Vec::new();
        for m in space.mapped() {
            let table = match self.tables.get(&m.object) {
                Some(table) => *table,
                None => {
                    let added = probe.add_table(&self.library.objects.get(m.object).table);
                    let Ok(table) = added else {
                        let name = self.library.objects.get(m.object).name.clone();
                        self.problems.push((name, "no room for its unwind table".into()));
                        continue;
                    };
                    *self.tables.entry(m.object).or_insert(table)
                }
            };
            mappings.push(MappedTable { start: m.start, end: m.end, bias: m.bias, table });
        }
        known.spec.mappings = mappings;
        if known.spec.dropped_mappings() + known.spec.dropped_vms() > 0 {
            let what = format!(
                "process {pid}: {} mappings and {} VMs",
                known.spec.dropped_mappings(),
                known.spec.dropped_vms()
            );
            self.problems.push((what, "more than the kernel side takes".into()));
        }
        probe.sample(pid, &known.spec)
    }

    /// What a walker is told of a process, with its files' tables as `table` names them.
    pub(super) fn spec(&self, pid: u32, table: impl Fn(ObjectId) -> Option<TableId>) -> Option<ProcessSpec> {
        let mapped = |m: &Mapped| {
            Some(MappedTable { start: m.start, end: m.end, bias: m.bias, table: table(m.object)? })
        };
        let mappings = self.spaces.get(&pid)?.mapped().iter().filter_map(mapped).collect();
        Some(ProcessSpec { mappings, ..self.known.get(&pid)?.spec.clone() })
    }

    /// Takes the CPU times at the start of the window.
    pub(super) fn note_cpu_times(&mut self, target: &Target) {
        for (pid, known) in &mut self.known {
            known.cpu_at_start = target.proc.cpu_time_ns(*pid).ok();
        }
    }

    /// A process that was forked, or runs another program now.
    pub(super) fn arrived(&mut self, target: &Target, probe: &mut Probe, pid: u32) -> Result<(), ProbeError> {
        let before = self.known.remove(&pid);
        let added = target.proc.info(pid).is_ok_and(|info| self.add(target, info));
        if !added {
            // Gone already, or not readable: what was known of it stays.
            self.known.extend(before.map(|k| (pid, k)));
            return Ok(());
        }
        if let Some(known) = self.known.get_mut(&pid) {
            // Its title may not be set yet: what it inherited from the master decides.
            known.sampled = self.policy.samples(known);
            if let Some(before) = before {
                known.cpu_at_start = before.cpu_at_start;
                known.sampled |= before.sampled && self.policy != Policy::WithLua;
            } else {
                known.cpu_at_start = Some(0);
            }
        }
        match self.describe(probe, pid) {
            Err(ProbeError::Full { what, capacity }) => {
                self.problems
                    .push((format!("process {pid}"), format!("{what}: all {capacity} places are taken")));
                Ok(())
            }
            other => other,
        }
    }

    /// Puts what runs in compiled code into a stack, and reads everything that it points at: for a stack that
    /// was not fetched with others, so nothing read for an earlier one serves it.
    pub(super) fn place(&mut self, stack: &mut RawStack) {
        self.book.traces.begin_round();
        self.book.traces.place(stack.pid, &mut stack.frames);
        let space = self.spaces.get(&stack.pid);
        stack.frames.iter().for_each(|frame| self.book.observe(stack.pid, *frame, space));
    }

    /// Reads what a frame points at and what it is called; called the first time it is seen.
    pub(super) fn observe(&mut self, target: &Target, pid: u32, frame: PackedFrame) {
        self.book.observe(pid, frame, self.spaces.get(&pid));
        if let Some(read) = self.book.get(pid, frame) {
            let reader = Reader { target, known: &self.known };
            self.names.give(reader, pid, self.book.vms(pid), &read.proto);
        }
    }

    /// A process that has ended.
    pub(super) fn ended(&mut self, target: &Target, probe: &mut Probe, pid: u32) {
        probe.forget(pid);
        if let Some(known) = self.known.get_mut(&pid) {
            known.alive = false;
            // It is a zombie until its parent has waited for it.
            known.cpu_at_end = target.proc.cpu_time_ns(pid).ok().or(known.cpu_at_end);
        }
    }

    /// Whether any process is left.
    pub(super) fn any_alive(&self) -> bool {
        self.known.values().any(|k| k.alive && k.sampled)
    }

    /// Takes what `/proc` still says at the end of the window: CPU times, and titles that were not set
    /// when the process was first seen.
    pub(super) fn last_look(&mut self, target: &Target) {
        for (pid, known) in &mut self.known {
            if !known.alive {
                continue;
            }
            match target.proc.info(*pid) {
                Ok(now) if now.start_time_ticks == known.info.start_time_ticks => {
                    known.info.role = now.role;
                    known.info.title = now.title;
                    known.cpu_at_end = target.proc.cpu_time_ns(*pid).ok();
                }
                _ => known.alive = false,
            }
        }
    }
}

impl Policy {
    fn samples(self, known: &Known) -> bool {
        match self {
            Self::WithLua => !known.vms.is_empty(),
            Self::Workers => known.info.role != Role::Master,
            Self::All => true,
        }
    }
}

fn mount_namespace(pid: u32) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/mnt")).ok().map(|m| m.ino())
}

/// How far apart stack pointer and C frame may lie. Without a limit, as far as Linux lets a stack of
/// one thread grow by default; a second thread's stack is further away than that.
fn stack_span(limit: Option<u64>) -> u64 {
    const DEFAULT: u64 = 8 << 20;
    const MAX: u64 = 64 << 20;
    limit.unwrap_or(DEFAULT).clamp(64 << 10, MAX)
}

fn kernel_vm(vm: &Vm, request: RequestLayout) -> LuaVm {
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
        request,
    }
}
