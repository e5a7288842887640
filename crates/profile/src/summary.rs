//! Sums over a profile, and the sentences every format says the same way.

use crate::model::{FrameKind, Process, Profile, Role, Sample, Severity, VmState};
use crate::number::{float, seconds};

impl Profile {
    /// Length of the window in seconds.
    #[must_use]
    pub fn duration_seconds(&self) -> f64 {
        seconds(self.duration_ns)
    }

    /// The CPU time that this many samples stand for, in seconds; 0 when the frequency is unknown.
    #[must_use]
    pub fn sampled_seconds(&self, samples: u64) -> f64 {
        if self.frequency_hz == 0 { 0.0 } else { float(samples) / f64::from(self.frequency_hz) }
    }

    /// The CPU time that one sample stands for, in nanoseconds; `None` when the frequency is unknown.
    #[must_use]
    pub fn sample_ns(&self) -> Option<u64> {
        1_000_000_000_u64.checked_div(self.frequency_hz.into())
    }

    /// How many cores were busy on average, going by this many samples.
    #[must_use]
    pub fn cores(&self, samples: u64) -> f64 {
        if self.duration_ns == 0 { 0.0 } else { self.sampled_seconds(samples) / self.duration_seconds() }
    }

    /// Samples of each process, in the order of [`Profile::processes`].
    #[must_use]
    pub fn samples_by_process(&self) -> Vec<u64> {
        let mut sums = vec![0; self.processes.len()];
        for sample in &self.samples {
            if let Some(sum) = sums.get_mut(sample.process) {
                *sum += sample.count;
            }
        }
        sums
    }

    /// Samples of each state, in the order of [`VmState::ALL`]; of one process, or of all.
    #[must_use]
    pub fn samples_by_vmstate(&self, process: Option<usize>) -> [(VmState, u64); VmState::ALL.len()] {
        let mut sums = VmState::ALL.map(|state| (state, 0));
        for sample in self.samples.iter().filter(|s| process.is_none_or(|p| p == s.process)) {
            if let Some((_, sum)) = sums.iter_mut().find(|(state, _)| *state == sample.vmstate) {
                *sum += sample.count;
            }
        }
        sums
    }

    /// Samples with a Lua, C-from-Lua or trace frame on the stack; of one process, or of all.
    #[must_use]
    pub fn samples_with_lua(&self, process: Option<usize>) -> u64 {
        self.samples
            .iter()
            .filter(|s| process.is_none_or(|p| p == s.process) && self.has_lua(s))
            .map(|s| s.count)
            .sum()
    }

    /// Whether this sample's stack shows Lua.
    #[must_use]
    pub fn has_lua(&self, sample: &Sample) -> bool {
        sample.stack.iter().any(|location| self.frame(location.frame).kind.is_lua())
    }

    /// Whether any process is a part of nginx. Without one, roles say nothing and are not shown.
    #[must_use]
    pub fn has_nginx_roles(&self) -> bool {
        self.processes.iter().any(|p| p.role != Role::Other)
    }

    /// `worker 1`, `worker 2`, `master 1`: the role and a number in the order of
    /// [`Profile::processes`]. It is not nginx's own `ngx.worker.id()`.
    #[must_use]
    pub fn process_label(&self, index: usize) -> Option<String> {
        let role = self.processes.get(index)?.role;
        let number = self.processes.iter().take(index + 1).filter(|p| p.role == role).count();
        Some(format!("{role} {number}"))
    }

    /// What was profiled, for titles: the container, or the pids. Hostile: as read from the engine.
    #[must_use]
    pub fn target(&self) -> String {
        if !self.container.is_empty() {
            return self.container.clone();
        }
        let pids: Vec<String> = self.processes.iter().take(4).map(|p| p.pid.to_string()).collect();
        match (pids.len(), self.processes.len()) {
            (0, _) => "no process".to_owned(),
            (1, _) => format!("process {}", pids.join("")),
            (shown, all) if shown < all => format!("{all} processes ({}, …)", pids.join(", ")),
            _ => format!("processes {}", pids.join(", ")),
        }
    }

    /// Why there is nothing to show. `None` when there are samples.
    #[must_use]
    pub fn no_samples_reason(&self) -> Option<String> {
        if self.total() > 0 {
            return None;
        }
        if let Some(focus) = self.focus.as_ref().filter(|f| f.of_samples > 0) {
            return Some(format!(
                "none of {} samples has a frame that matches {}",
                focus.of_samples, focus.pattern
            ));
        }
        let window = self.duration_seconds();
        let lost = self.counters.iter().filter(|c| c.severity == Severity::Loss && c.count > 0);
        if let Some(worst) = lost.max_by_key(|c| c.count) {
            return Some(format!("every sample of the {window:.1} s was lost: {}", worst.meaning));
        }
        if self.processes.is_empty() {
            return Some("no process was sampled".to_owned());
        }
        let spent: Option<u64> = self.processes.iter().map(|p: &Process| p.cpu_ns).sum();
        let who = match self.processes.len() {
            1 => "the one sampled process".to_owned(),
            count => format!("the {count} sampled processes"),
        };
        Some(match spent {
            Some(ns) => format!(
                "{who} used {:.2} s of CPU time in {window:.1} s: too little to be sampled",
                seconds(ns)
            ),
            None => format!("{who} could not be caught on a CPU in {window:.1} s"),
        })
    }
}

impl FrameKind {
    /// Lua, a C function that Lua called, or a trace.
    #[must_use]
    pub const fn is_lua(self) -> bool {
        matches!(self, Self::Lua | Self::LuaC | Self::Trace)
    }
}
