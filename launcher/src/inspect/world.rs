//! What can be looked at: the target's processes, the files they run, their Lua VMs.

use crate::failure::Failure;
use crate::session::objects::Library;
use crate::session::target::Target;
use crate::session::vms;
use crate::ui::Voice;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use upprof_luajit::Vm;
use upprof_luajit::inspect::{Heap, NotTrusted};
use upprof_memory::{Cached, Live, Memory};
use upprof_nginx::Owner;
use upprof_nginx::inspect::{Checked, Nginx, Untrusted};
use upprof_report::inspect::{Part, Subject};
use upprof_stacks::AddressSpace;
use upprof_target::{Mapping, ProcessInfo, Role};

/// The target, as it was at the last [`World::refresh`].
pub(crate) struct World<'t> {
    pub(crate) target: &'t Target,
    library: RefCell<Library>,
    processes: Vec<Process>,
    /// Walks over heaps since the last refresh, by process and VM.
    heaps: RefCell<HashMap<(u32, u64), WalkedHeap>>,
    /// Processes of nginx that were checked since the last refresh.
    checked: RefCell<HashMap<u32, Checked>>,
}

/// A walk over a heap, shared by those who ask for it.
pub(crate) type WalkedHeap = Rc<Result<Heap, NotTrusted>>;

/// A process of the target.
pub(crate) struct Process {
    pub(crate) info: ProcessInfo,
    /// All its mappings, in address order.
    #[expect(dead_code, reason = "for the inspectors of files")]
    pub(crate) maps: Vec<Mapping>,
    /// Its executable files.
    pub(crate) space: AddressSpace,
    /// Its Lua VMs, each with a verified layout.
    pub(crate) vms: Vec<(Owner, Vm)>,
    /// Why there is no VM.
    pub(crate) no_vm: Option<String>,
}

impl Process {
    /// Its memory, live.
    pub(crate) fn memory(&self) -> Live {
        self.info.memory()
    }

    /// Whether it serves requests, or still does.
    pub(crate) fn is_worker(&self) -> bool {
        matches!(self.info.role, Role::Worker | Role::DrainingWorker)
    }

    /// It as the subject of a part.
    pub(crate) fn subject(&self) -> Subject {
        Subject {
            pid: Some(self.info.pid),
            role: Some(self.info.role.to_string()),
            vm: None,
            started: self.info.start_time_ticks,
        }
    }
}

impl<'t> World<'t> {
    /// Looks at a target for the first time.
    ///
    /// # Errors
    /// When it is gone or may not be looked at.
    pub(crate) fn look_at(target: &'t Target) -> Result<Self, Failure> {
        let mut world = Self {
            target,
            library: RefCell::default(),
            processes: Vec::new(),
            heaps: RefCell::default(),
            checked: RefCell::default(),
        };
        world.refresh()?;
        Ok(world)
    }

    /// Looks which processes there are now. Known ones keep what was found of them.
    ///
    /// # Errors
    /// As [`World::look_at`].
    pub(crate) fn refresh(&mut self) -> Result<(), Failure> {
        self.heaps.get_mut().clear();
        self.checked.get_mut().clear();
        let mut before = std::mem::take(&mut self.processes);
        for info in self.target.processes()? {
            let same = |p: &Process| {
                p.info.pid == info.pid
                    && p.info.start_time_ticks == info.start_time_ticks
                    && !p.vms.is_empty()
            };
            let process = match before.iter().position(same) {
                Some(known) => Process { info, ..before.swap_remove(known) },
                // A process that ends meanwhile is left out.
                None => match self.read(info) {
                    Ok(process) => process,
                    Err(upprof_target::ProcError::Gone { .. }) => continue,
                    Err(e) => return Err(e.into()),
                },
            };
            self.processes.push(process);
        }
        Ok(())
    }

    fn read(&self, info: ProcessInfo) -> Result<Process, upprof_target::ProcError> {
        let maps = self.target.proc.maps(info.pid)?;
        let memory = info.memory();
        let mut library = self.library.borrow_mut();
        let space = library.address_space(&maps, &self.target.files(&info), &memory);
        let (vms, no_vm) = vms::find(&mut library, &space, &maps, &memory);
        Ok(Process { info, maps, space, vms, no_vm })
    }

    /// All processes, by pid.
    pub(crate) fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// How many of them serve requests, or still do.
    pub(crate) fn workers(&self) -> usize {
        self.processes.iter().filter(|p| p.is_worker()).count()
    }

    /// The address of an exported symbol in a process, whichever of its files exports it.
    pub(crate) fn symbol(&self, process: &Process, name: &'static str) -> Option<u64> {
        self.library.borrow_mut().symbol(&process.space, name)
    }

    /// The files that the processes run.
    pub(crate) fn library(&self) -> std::cell::Ref<'_, Library> {
        self.library.borrow()
    }

    /// One part for each of these processes.
    pub(crate) fn of_processes<T, E: std::fmt::Display>(
        &self,
        which: impl Fn(&Process) -> bool,
        mut look: impl FnMut(&Process) -> Result<T, E>,
    ) -> Vec<Part<T>> {
        let some = self.processes.iter().filter(|p| which(p));
        some.map(|p| Part { of: p.subject(), found: look(p).into() }).collect()
    }

    /// One part for each Lua VM, which is read by page: the small things of one artifact lie close together.
    /// Where no process has a VM, one part for the target that says why.
    pub(crate) fn of_vms<T, E: std::fmt::Display>(
        &self,
        mut look: impl FnMut(&Process, &Vm, &dyn Memory) -> Result<T, E>,
    ) -> Vec<Part<T>> {
        const MAX_COPY: usize = 64 << 20;
        let mut parts = Vec::new();
        for p in &self.processes {
            for (owner, vm) in &p.vms {
                let of = Subject { vm: Some(owner.to_string()), ..p.subject() };
                let live = p.memory();
                parts.push(Part { of, found: look(p, vm, &Cached::pages(&live, MAX_COPY)).into() });
            }
        }
        if parts.is_empty() {
            let why = self.processes.iter().find_map(|p| p.no_vm.clone());
            let why = format!("no Lua VM: {}", why.unwrap_or_else(|| "no process".into()));
            parts.push(Part { of: Subject::default(), found: Err(why).into() });
        }
        parts
    }

    /// A walk over a VM's objects, made once between two refreshes however many inspectors ask.
    pub(crate) fn heap(&self, process: &Process, vm: &Vm, max_objects: u32) -> WalkedHeap {
        let mut heaps = self.heaps.borrow_mut();
        let walk = || Rc::new(Heap::walk(&process.memory(), vm, max_objects));
        Rc::clone(heaps.entry((process.info.pid, vm.g)).or_insert_with(walk))
    }

    /// Reads from a process of nginx, which is checked once between two refreshes however many inspectors
    /// ask.
    pub(crate) fn read_nginx<T>(
        &self,
        process: &Process,
        read: impl FnOnce(&Nginx<'_>) -> Result<T, Untrusted>,
    ) -> Result<T, Untrusted> {
        let memory = process.memory();
        let symbol = |name| self.symbol(process, name);
        let name = |addr| self.library().name_at(&process.space, addr);
        let known = self.checked.borrow_mut().remove(&process.info.pid);
        let nginx = match known {
            Some(checked) => Nginx::attach_again(&memory, &symbol, &name, checked)?,
            None => Nginx::attach(&memory, &symbol, &name)?,
        };
        self.checked.borrow_mut().insert(process.info.pid, nginx.checked());
        read(&nginx)
    }

    /// Says what was found, for those who want to know how.
    pub(crate) fn tell(&self, voice: Voice) {
        for p in &self.processes {
            voice.detail(&format!("{} {} ({})", p.info.role, p.info.pid, p.info.title));
            for (owner, vm) in &p.vms {
                voice.detail(&format!("  {owner} VM: {}", vm.describe()));
            }
        }
    }
}
