//! Who is looked at: the plan's name made concrete.

use crate::failure::Failure;
use crate::plan::{TargetPlan, Who};
use upprof_target::{Container, Discovery, Engine, Files, Proc, ProcessInfo};

/// Who is looked at.
pub(crate) struct Target {
    pub(crate) proc: Proc,
    pub(super) container: Option<Container>,
    engine: Option<Box<dyn Engine>>,
    pids: Vec<u32>,
}

/// Refuses at once, by name, what the kernel would refuse later without one.
pub(super) fn check_privileges() -> Result<(), Failure> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match upprof_probes::missing_privileges(&status).first() {
        Some(missing) => Err(Failure::privilege(*missing)),
        None => Ok(()),
    }
}

impl Target {
    pub(crate) fn find(plan: &TargetPlan) -> Result<Self, Failure> {
        let proc = Proc::default();
        if !proc.in_init_pid_namespace().unwrap_or(false) {
            return Err(Failure::not_host_pids());
        }
        match &plan.who {
            Who::Pids(pids) => Ok(Self { proc, container: None, engine: None, pids: pids.clone() }),
            Who::Container(name) => {
                let engine = Discovery::new(&plan.host_root).connect()?;
                let container = engine.resolve(name)?;
                Ok(Self { proc, pids: vec![container.pid], container: Some(container), engine: Some(engine) })
            }
        }
    }

    /// The name of the bundle's folder.
    pub(crate) fn label(&self) -> String {
        match &self.container {
            Some(c) => c.name.clone(),
            None => format!("pid-{}", self.pids.first().copied().unwrap_or_default()),
        }
    }

    /// All processes that belong to the target now.
    pub(crate) fn processes(&self) -> Result<Vec<ProcessInfo>, Failure> {
        let mut found = Vec::new();
        for pid in &self.pids {
            let some = match self.container {
                Some(_) => self.proc.processes_of(*pid)?,
                None => self.proc.processes_of_pid(*pid)?,
            };
            found.extend(some);
        }
        found.sort_by_key(|p| p.pid);
        found.dedup_by_key(|p| p.pid);
        Ok(found)
    }

    /// The files that a process of the target sees.
    pub(crate) fn files(&self, process: &ProcessInfo) -> Files<'_> {
        let files = Files::of(&self.proc, process);
        match (&self.engine, &self.container) {
            (Some(engine), Some(container)) => files.with_engine(engine.as_ref(), &container.id),
            _ => files,
        }
    }
}
