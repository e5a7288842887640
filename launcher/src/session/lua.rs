//! What is known of the target's Lua functions: read while they live, named at the end.

use super::traces::TraceBook;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use upprof_luajit::{Proto, ProtoError, Told, Vm, builtins};
use upprof_memory::{Cached, Live};
use upprof_nginx::Owner;
use upprof_profile::raw::{PackedFrame, RawFrame, RawFunction};
use upprof_stacks::{AddressSpace, ObjectId};

/// A Lua frame as it was read: which prototype, which line.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) proto: Rc<Proto>,
    /// Line being executed, 0 where unknown.
    pub(super) line: u32,
}

/// A C function or fast function: the file it is in, its address there, and its fast function id.
type CFunction = (ObjectId, u64, u8);

/// Everything read of Lua frames so far.
#[derive(Default)]
pub(super) struct LuaBook {
    vms: HashMap<u32, Vec<Vm>>,
    protos: HashMap<(u32, u64, u32), Option<Rc<Proto>>>,
    frames: HashMap<(u32, PackedFrame), Read>,
    /// Names of C functions, by where each is in which file: the same in every process and VM.
    builtins: HashMap<CFunction, String>,
    /// VMs and processes that were walked for them.
    walked_vms: HashSet<u64>,
    walked: HashSet<u32>,
    /// What compiled code was made of.
    pub(super) traces: TraceBook,
    c_functions: HashMap<(u32, u64, u8), Option<String>>,
    /// Prototypes that were freed or replaced before they were read.
    pub(super) replaced: u64,
    /// Prototypes whose memory could not be read.
    pub(super) unreadable: u64,
}

impl LuaBook {
    /// Remembers a process's VMs. A new process with a pid seen before replaces it.
    pub(super) fn add_process(&mut self, pid: u32, vms: &[(Owner, Vm)], space: &AddressSpace) {
        for (_, vm) in vms {
            // Workers of one master begin with the same VM, at the same address.
            if self.walked_vms.insert(vm.g) {
                self.learn_builtins(pid, vm, space);
            }
        }
        self.walked.remove(&pid);
        self.traces.add_process(pid, vms.iter().map(|(_, vm)| vm.clone()));
        self.vms.insert(pid, vms.iter().map(|(_, vm)| vm.clone()).collect());
    }

    /// Remembers a function that cannot be read any more when its frames come.
    pub(super) fn tell(&mut self, told: RawFunction) {
        let proto = Proto::from(Told {
            id: told.id,
            check: told.check,
            chunkname: told.chunkname.bytes,
            chunkname_cut: told.chunkname.cut,
            firstline: told.firstline,
            numline: told.numline,
            sizebc: told.sizebc,
            flags: told.flags,
            stripped: told.stripped,
        });
        self.protos.insert((told.pid, told.id, told.check), Some(Rc::new(proto)));
    }

    /// The VMs of a process.
    pub(super) fn vms(&self, pid: u32) -> &[Vm] {
        self.vms.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// Reads what a frame points at; called the first time it is seen.
    pub(super) fn observe(&mut self, pid: u32, frame: PackedFrame, space: Option<&AddressSpace>) {
        match frame.unpack() {
            RawFrame::Lua { proto, pc, check } => {
                if let Some(proto) = self.proto(pid, proto, check) {
                    let line = pc.and_then(|pc| proto.line(&Live::new(pid), pc.saturating_sub(1)));
                    self.frames.insert((pid, frame), Read { proto, line: line.unwrap_or(0) });
                }
            }
            RawFrame::Trace { number, ip, .. } => self.observe_trace(pid, frame, number, ip),
            RawFrame::LuaC { function, ffid } => self.observe_c_function(pid, function, ffid, space),
            _ => {}
        }
    }

    fn proto(&mut self, pid: u32, addr: u64, check: u32) -> Option<Rc<Proto>> {
        if let Some(known) = self.protos.get(&(pid, addr, check)) {
            return known.clone();
        }
        let memory = Live::new(pid);
        let mut found = None;
        let mut replaced = false;
        for vm in self.vms.get(&pid).into_iter().flatten() {
            match Proto::read(&memory, vm, addr, check) {
                Ok(proto) => found = Some(Rc::new(proto)),
                Err(ProtoError::Replaced) => replaced = true,
                Err(ProtoError::Memory(_)) => {}
            }
        }
        if found.is_none() {
            *(if replaced { &mut self.replaced } else { &mut self.unreadable }) += 1;
        }
        self.protos.insert((pid, addr, check), found.clone());
        found
    }

    /// A trace is shown as where its root starts.
    fn observe_trace(&mut self, pid: u32, frame: PackedFrame, number: Option<u32>, code: Option<u64>) {
        let memory = Live::new(pid);
        let named = number.and_then(|n| self.traces.start(pid, n, code)).and_then(|(vm, root)| {
            let proto = Proto::read_unsampled(&memory, &vm, root.start_proto).ok()?;
            let line = proto.line(&memory, root.start_pos).unwrap_or(0);
            Some(Read { proto: Rc::new(proto), line })
        });
        if let Some(read) = named {
            self.frames.insert((pid, frame), read);
        }
    }

    fn observe_c_function(&mut self, pid: u32, function: u64, ffid: u8, space: Option<&AddressSpace>) {
        /// Modules that a worker loaded by itself are not in the VM that its master made. Workers are
        /// mostly alike: what none of so many has a name for, the others have none for either.
        const MAX_WALKS: usize = 8;
        if self.c_functions.contains_key(&(pid, function, ffid)) {
            return;
        }
        let Some((space, id)) = space.and_then(|s| Some((s, c_function(s, function, ffid)?))) else { return };
        if !self.builtins.contains_key(&id) && self.walked.len() < MAX_WALKS && self.walked.insert(pid) {
            for vm in self.vms.get(&pid).cloned().unwrap_or_default() {
                self.learn_builtins(pid, &vm, space);
            }
        }
        self.c_functions.insert((pid, function, ffid), self.builtins.get(&id).cloned());
    }

    /// Walks a VM's tables for names of C functions. A name that is known stays.
    fn learn_builtins(&mut self, pid: u32, vm: &Vm, space: &AddressSpace) {
        /// Bytes: a walk meets the same pages again and again.
        const MAX_CACHED: usize = 4 << 20;
        let memory = Live::new(pid);
        for ((function, ffid), name) in builtins(&Cached::pages(&memory, MAX_CACHED), vm) {
            if let Some(id) = c_function(space, function, ffid) {
                self.builtins.entry(id).or_insert(name);
            }
        }
    }

    /// What was read of a Lua or trace frame.
    pub(super) fn get(&self, pid: u32, frame: PackedFrame) -> Option<&Read> {
        self.frames.get(&(pid, frame))
    }

    /// The name of a C or fast function.
    pub(super) fn c_function(&self, pid: u32, function: u64, ffid: u8) -> Option<String> {
        self.c_functions.get(&(pid, function, ffid)).cloned().flatten()
    }
}

fn c_function(space: &AddressSpace, function: u64, ffid: u8) -> Option<CFunction> {
    let mapped = space.find(function)?;
    Some((mapped.object, function.wrapping_sub(mapped.bias), ffid))
}
