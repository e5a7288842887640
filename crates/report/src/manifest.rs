//! `manifest.yaml`: who was profiled, how, at what cost, what is in the bundle and what is not.
//!
//! Plain data, filled by the launcher. Numbers carry their unit in the name. Unknown is `null` (a
//! field that is left out), never 0.

use serde::{Deserialize, Serialize};
use upprof_profile::{Doubt, Profile, Severity, Uncertainty};

use crate::utc::Utc;

/// Version of the manifest's layout; grows when a field changes its meaning or goes away.
pub const FORMAT: u32 = 1;

/// Why a manifest could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("manifest: {0}")]
pub struct ManifestError(#[from] serde_yaml::Error);

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of upprof that made the bundle.
    pub upprof_version: String,
    /// The machine.
    pub host: Host,
    /// The container; `None` for a capture by pid.
    pub container: Option<Container>,
    /// Who was sampled.
    pub processes: Vec<Process>,
    /// How.
    pub capture: Capture,
    /// Every Lua VM that was found, and why its memory layout is believed.
    pub lua_vms: Vec<LuaVm>,
    /// What the capture itself cost.
    pub own_cost: OwnCost,
    /// The files of the bundle.
    pub artifacts: Vec<Artifact>,
    /// What is not in the bundle, and why.
    pub skipped: Vec<Skipped>,
    /// How many samples are not known exactly, and why.
    pub uncertain: Uncertain,
    /// Losses and doubts, zeros included.
    pub counters: Vec<Counter>,
}

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -m`.
    pub machine: String,
    /// CPUs that are online.
    pub cpus_online: Option<u32>,
}

/// The container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// As the engine names it.
    pub name: String,
    /// The engine's id.
    pub id: String,
    /// The image, where known.
    pub image: Option<String>,
    /// `docker`, `podman`, `containerd`.
    pub runtime: Option<String>,
}

/// A sampled process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// On the host.
    pub pid: u32,
    /// In the container.
    pub ns_pid: Option<u32>,
    /// `worker`, `master`, …
    pub role: String,
    /// Samples of it in the profile.
    pub samples: u64,
    /// User and system CPU time in the window, from `/proc/PID/stat`.
    pub cpu_proc_ns: Option<u64>,
    /// Why its Lua stacks are not shown, when they are not.
    pub lua_unavailable: Option<String>,
}

/// How it was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capture {
    /// Start of the window, RFC 3339.
    pub started_utc: String,
    /// Length of the window as it was.
    pub duration_ns: u64,
    /// Length of the window as asked for; 0 is "until stopped".
    pub duration_asked_ns: Option<u64>,
    /// Samples a second on each CPU.
    pub frequency_hz: u32,
    /// What made the samples: `cpu-clock (software)`, `cycles (hardware)`.
    pub sampling_source: String,
    /// Why the window ended: `duration`, `interrupted`, `target exited`.
    pub ended_by: String,
    /// Samples in the profile.
    pub samples: u64,
    /// From the start of upprof to the start of sampling.
    pub set_up_ns: Option<u64>,
}

/// A Lua VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LuaVm {
    /// On the host.
    pub pid: u32,
    /// The file that LuaJIT is in: a library, or nginx itself.
    pub module: String,
    /// As LuaJIT or its symbols say.
    pub version: Option<String>,
    /// Which table of offsets is used: `x64 gc64 luajit2 2021-12`.
    pub layout: String,
    /// What was checked against the live memory before the layout was believed.
    pub trusted_because: String,
}

/// What the capture itself cost the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnCost {
    /// Time in our kernel programs, by the kernel's own count (`bpf_stats`).
    pub bpf_total_ns: Option<u64>,
    /// How often they ran.
    pub bpf_runs: Option<u64>,
    /// CPU time of upprof itself, user and system, from its start until this was written.
    pub upprof_cpu_ns: Option<u64>,
    /// The part of it that fell into the window.
    pub upprof_window_cpu_ns: Option<u64>,
    /// From the end of the window until this was written.
    pub finish_ns: Option<u64>,
    /// Largest resident set of upprof.
    pub upprof_max_rss_bytes: Option<u64>,
    /// Memory of maps and buffers in the kernel.
    pub kernel_memory_bytes: Option<u64>,
}

impl OwnCost {
    /// Mean time of one run of our kernel programs, nanoseconds.
    #[must_use]
    pub const fn bpf_mean_ns(&self) -> Option<u64> {
        match (self.bpf_total_ns, self.bpf_runs) {
            (Some(total), Some(runs)) => total.checked_div(runs),
            _ => None,
        }
    }
}

/// A file of the bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Artifact {
    /// In the bundle, `/` between folders.
    pub path: String,
    /// What it is, in a sentence.
    pub what: String,
    /// Its size, where known.
    pub size_bytes: Option<u64>,
}

/// Something that is not in the bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Skipped {
    /// What.
    pub what: String,
    /// Why, and where there is one, what would change it.
    pub why: String,
}

/// Samples whose stack is not known exactly: see `docs/formats.md`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Uncertain {
    /// Samples with at least one reason; each counts once.
    pub samples: u64,
    /// Of all samples in the profile.
    pub share_percent: f64,
    /// Share and reasons for people.
    pub sentence: String,
    /// Each reason that occurs; a sample with several counts for each.
    pub reasons: Vec<UncertainReason>,
}

/// One reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UncertainReason {
    /// Stable machine name.
    pub name: String,
    /// Samples with it.
    pub samples: u64,
}

impl From<&Uncertainty> for Uncertain {
    fn from(uncertainty: &Uncertainty) -> Self {
        let reason = |(doubt, samples): &(Doubt, u64)| UncertainReason {
            name: doubt.name().to_owned(),
            samples: *samples,
        };
        Self {
            samples: uncertainty.samples,
            share_percent: uncertainty.percent(),
            sentence: uncertainty.sentence(),
            reasons: uncertainty.reasons.iter().map(reason).collect(),
        }
    }
}

/// A loss or a doubt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counter {
    /// Stable machine name.
    pub name: String,
    /// How many.
    pub count: u64,
    /// `loss`, `doubt` or `info`.
    pub severity: String,
    /// What happened and what it means.
    pub meaning: String,
}

impl Manifest {
    /// All that a profile knows: processes, window, counters. The launcher adds the rest.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        let samples = profile.samples_by_process();
        let processes = profile.processes.iter().zip(samples).map(|(process, samples)| Process {
            pid: process.pid,
            ns_pid: process.ns_pid,
            role: process.role.to_string(),
            samples,
            cpu_proc_ns: process.cpu_ns,
            lua_unavailable: process.lua_unavailable.clone(),
        });
        let counters = profile.counters.iter().map(|counter| Counter {
            name: counter.name.clone(),
            count: counter.count,
            severity: severity(counter.severity).to_owned(),
            meaning: counter.meaning.clone(),
        });
        Self {
            format: FORMAT,
            container: (!profile.container.is_empty())
                .then(|| Container { name: profile.container.clone(), ..Container::default() }),
            processes: processes.collect(),
            capture: Capture {
                started_utc: Utc::from_unix_ns(profile.started_unix_ns).to_string(),
                duration_ns: profile.duration_ns,
                frequency_hz: profile.frequency_hz,
                samples: profile.total(),
                ..Capture::default()
            },
            uncertain: Uncertain::from(&profile.uncertainty()),
            counters: counters.collect(),
            ..Self::default()
        }
    }

    /// The file's text.
    ///
    /// # Errors
    /// When the data cannot be written as YAML; no data of this shape is known to do that.
    pub fn to_yaml(&self) -> Result<String, ManifestError> {
        Ok(serde_yaml::to_string(self)?)
    }

    /// A manifest that was read back. Fields it does not have are empty; those we do not know are
    /// ignored.
    ///
    /// # Errors
    /// When the text is not YAML or a field has another type.
    pub fn from_yaml(text: &str) -> Result<Self, ManifestError> {
        Ok(serde_yaml::from_str(text)?)
    }
}

/// The spelling of a severity in files.
pub(crate) const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Loss => "loss",
        Severity::Doubt => "doubt",
        Severity::Info => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let hostile = "a: b\n- [c]\u{202e} #\t\0 'd' \"e\" null";
        let manifest = Manifest {
            format: FORMAT,
            container: Some(Container { name: hostile.into(), ..Container::default() }),
            skipped: vec![Skipped { what: "no".into(), why: "yes: &x *y !!z".into() }],
            own_cost: OwnCost { bpf_total_ns: Some(u64::MAX), ..OwnCost::default() },
            ..Manifest::default()
        };
        let yaml = manifest.to_yaml().expect("plain data");
        assert_eq!(Manifest::from_yaml(&yaml).expect("our own YAML"), manifest);
        assert!(yaml.contains("bpf_total_ns: 18446744073709551615"), "{yaml}");
    }

    #[test]
    fn a_newer_or_shorter_manifest_can_be_read() {
        let manifest = Manifest::from_yaml("format: 2\nhost: {kernel_release: '6.1', colour: red}\n");
        let manifest = manifest.expect("unknown fields are ignored");
        assert_eq!((manifest.format, manifest.host.kernel_release.as_str()), (2, "6.1"));
        assert!(Manifest::from_yaml("processes: 7").is_err());
    }

    #[test]
    fn the_mean_of_no_runs_is_not_known() {
        let cost = |total, runs| OwnCost { bpf_total_ns: total, bpf_runs: runs, ..OwnCost::default() };
        assert_eq!(cost(Some(100), Some(40)).bpf_mean_ns(), Some(2));
        assert_eq!(cost(Some(100), Some(0)).bpf_mean_ns(), None);
        assert_eq!(cost(None, Some(4)).bpf_mean_ns(), None);
    }
}
