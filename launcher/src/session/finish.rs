//! From what was sampled to a profile and its manifest, and to the bundle.

use super::names::Named;
use super::processes::Processes;
use super::target::Target;
use super::window::{Taken, own_cpu, own_max_rss_bytes};
use crate::failure::Failure;
use crate::plan::{Capture, Plan};
use crate::ui::Voice;
use std::time::{Duration, UNIX_EPOCH};
use upprof_probes::COUNTERS;
use upprof_profile::export::{self, ExportError};
use upprof_profile::raw::{Mark, RawFrame, TraceDoubt};
use upprof_profile::{Counter, FrameKind, Location, Process, Profile, Role, Severity};
use upprof_report::manifest::{self, Artifact, Manifest, Skipped};
use upprof_report::{BundleDir, BundleError, Page, Recording};
use upprof_target::shown_path;

/// Builds the profile, writes the bundle and says which file to open.
///
/// # Errors
/// [`crate::failure::Exit::Output`] when a file cannot be written; those written before are kept.
/// [`crate::failure::Exit::NoSamples`] when there is nothing to show; the bundle is written all the same.
pub(super) fn bundle(
    capture: &Capture,
    target: &Target,
    processes: &Processes,
    taken: &Taken,
    bundle: BundleDir,
) -> Result<(), Failure> {
    let voice = capture.plan.voice;
    let (profile, mut manifest) = describe(&capture.plan, target, processes, taken);
    let inspected = crate::inspect::bundle::write(target, &bundle).map_err(|e| Failure::output(&e))?;
    manifest.skipped.extend(inspected.skipped);
    let binaries = if capture.keep_binaries { kept_binaries(processes) } else { Vec::new() };
    let archive = write_files(&binaries, inspected.artifacts, &profile, &mut manifest, Some(taken), &bundle)
        .map_err(|e| Failure::output(&e))?;
    let dir = bundle.finish().map_err(|e| Failure::output(&e))?;
    tell(&profile, taken, voice);
    if let Some(reason) = profile.no_samples_reason() {
        return Err(Failure::no_samples(&reason, &shown_path(&dir)));
    }
    voice.note(&format!("archive: {}", shown_path(&archive)));
    crate::ui::say(&format!("open {}", shown_path(&dir.join(Page::PATH))));
    Ok(())
}

/// The profile, and the manifest but for what is written where.
pub(super) fn describe(
    plan: &Plan,
    target: &Target,
    processes: &Processes,
    taken: &Taken,
) -> (Profile, Manifest) {
    let mut profile = empty_profile(plan, target, processes, taken);
    let mut skipped = problems(processes, taken);
    let named = Named { book: &processes.book, names: &processes.names };
    let index = |pid: u32| profile_index(processes, pid);
    let no_kernel_names = upprof_stacks::build(
        &mut profile,
        &taken.recording,
        &taken.finished.counts,
        &processes.library.objects,
        &processes.spaces,
        &named,
        &index,
    );
    skipped.extend(no_kernel_names.map(|why| skip("names of kernel functions", why)));
    let unused = processes.names.sources.unused();
    skipped.extend(unused.map(|(file, why)| skip(format!("source {file}"), why)));
    profile.counters.push(not_shown(&profile));
    count_native_lost(&mut profile);

    let mut manifest = describe_capture(plan, target, processes, taken, &profile);
    manifest.skipped = skipped;
    (profile, manifest)
}

/// Sampled processes in the order of pids: their index in the profile.
fn profile_index(processes: &Processes, pid: u32) -> Option<usize> {
    processes.known.iter().filter(|(_, k)| k.sampled).position(|(p, _)| *p == pid)
}

fn nanoseconds(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// Everything of the profile but its samples.
fn empty_profile(plan: &Plan, target: &Target, processes: &Processes, taken: &Taken) -> Profile {
    let mut profile = Profile::default();
    profile.processes = sampled_processes(processes);
    profile.counters = counters(processes, taken);
    profile.container = target.container.as_ref().map(|c| c.name.clone()).unwrap_or_default();
    profile.frequency_hz = plan.frequency_hz;
    profile.started_unix_ns = taken.started.duration_since(UNIX_EPOCH).map(nanoseconds).unwrap_or(0);
    profile.duration_ns = nanoseconds(taken.length);
    profile
}

/// Those that a profile tells of, in the order of pids.
pub(super) fn sampled_processes(processes: &Processes) -> Vec<Process> {
    processes
        .known
        .values()
        .filter(|k| k.sampled)
        .map(|k| Process {
            pid: k.info.pid,
            ns_pid: k.info.ns_pid,
            role: role(k.info.role),
            cpu_ns: k.cpu_at_start.zip(k.cpu_at_end).map(|(a, b)| b.saturating_sub(a)),
            lua_unavailable: k.lua_unavailable.clone(),
        })
        .collect()
}

fn role(role: upprof_target::Role) -> Role {
    use upprof_target::Role as From;
    match role {
        From::Master => Role::Master,
        From::Worker => Role::Worker,
        From::DrainingWorker => Role::DrainingWorker,
        From::CacheManager => Role::CacheManager,
        From::CacheLoader => Role::CacheLoader,
        From::PrivilegedAgent => Role::PrivilegedAgent,
        From::Other => Role::Other,
    }
}

/// The kernel side's counters, and those of reading the target's memory.
fn counters(processes: &Processes, taken: &Taken) -> Vec<Counter> {
    let own = |name: &str, count, severity, meaning: &str| Counter {
        name: name.into(),
        count,
        meaning: meaning.into(),
        severity,
    };
    let book = &processes.book;
    COUNTERS
        .iter()
        .zip(&taken.finished.counters)
        .map(|(c, n)| own(c.name, *n, c.severity, c.meaning))
        .chain([
            own(
                "lua_functions_freed",
                book.replaced,
                Severity::Doubt,
                "Lua functions that were freed before their name was read",
            ),
            own(
                "lua_functions_unreadable",
                book.unreadable,
                Severity::Doubt,
                "Lua functions whose memory could not be read, mostly of processes that had ended",
            ),
            own(
                "lua_functions_unnamed",
                processes.names.unknown,
                Severity::Info,
                "Lua functions shown by file and line only: their source was no help, and neither was memory",
            ),
            own(
                "lua_functions_named_by_memory",
                processes.names.by_memory,
                Severity::Info,
                "Lua functions named by the function that made them or the table they are in, not by a source",
            ),
            own(
                "lua_functions_without_debug_info",
                processes.names.stripped,
                Severity::Info,
                "Lua functions of bytecode modules without debug information: they have no lines",
            ),
            own(
                "lua_name_walks_cut",
                processes.names.walks_cut,
                Severity::Info,
                "times that the search for names in memory ended at its bounds: some may be missing",
            ),
            own(
                "malformed_records",
                taken.malformed,
                Severity::Loss,
                "records from the kernel that could not be decoded: a bug of upprof",
            ),
        ])
        .chain(trace_doubts(taken))
        .collect()
}

/// Samples in compiled code whose functions are not shown, by reason.
fn trace_doubts(taken: &Taken) -> impl Iterator<Item = Counter> {
    let mut counts = TraceDoubt::ALL.map(|_| 0);
    for (key, stack) in taken.recording.stacks() {
        let samples = taken.finished.counts.get(&key).copied().unwrap_or(0) + stack.uncounted;
        let doubt = stack.frames.iter().find_map(|f| match taken.recording.frame(*f).1.unpack() {
            RawFrame::Trace { doubt, .. } => doubt,
            _ => None,
        });
        let place = doubt.and_then(|d| TraceDoubt::ALL.iter().position(|known| *known == d));
        if let Some(place) = place {
            counts[place] += samples;
        }
    }
    TraceDoubt::ALL.into_iter().zip(counts).map(|(doubt, count)| {
        let (name, meaning) = match doubt {
            TraceDoubt::NoAddress => (
                "trace_address_unknown",
                "samples in code that a trace called and that could not be followed back to it",
            ),
            TraceDoubt::NoOffsets => (
                "trace_offsets_missing",
                "samples in a trace of a LuaJIT from before 2021-03, which does not keep which part of its \
                 machine code is which function",
            ),
            TraceDoubt::Gone => (
                "trace_gone",
                "samples in machine code that was no trace's when it was read: an exit, or a trace flushed since",
            ),
            TraceDoubt::Unreadable => {
                ("trace_unreadable", "samples in a trace that could not be read, or did not check out")
            }
            TraceDoubt::Misfit => (
                "trace_misfit",
                "samples in a trace whose functions do not fit the Lua stack below it",
            ),
        };
        let meaning = format!("{meaning}: functions inlined there are not shown");
        Counter { name: name.into(), count, meaning, severity: Severity::Doubt }
    })
}

/// The kernel side takes code of no file that a trace called for the trace's own; the traces' addresses
/// tell. So the samples with C frames lost are counted by what their stacks say in the end.
fn count_native_lost(profile: &mut Profile) {
    let marked = |l: &Location| {
        let frame = profile.frame(l.frame);
        frame.kind == FrameKind::Marker && frame.name == Mark::NativeLost.text()
    };
    let count = profile.samples.iter().filter(|s| s.stack.iter().any(marked)).map(|s| s.count).sum();
    if let Some(counter) = profile.counters.iter_mut().find(|c| c.name == "native_frames_lost") {
        counter.count = count;
    }
}

/// Samples that were taken and are neither in the profile nor among the known losses: said, so that
/// the numbers always add up.
fn not_shown(profile: &Profile) -> Counter {
    let value = |name: &str| profile.counters.iter().find(|c| c.name == name).map_or(0, |c| c.count);
    Counter {
        name: "samples_not_shown".into(),
        count: value("samples").saturating_sub(value("lost_ring_full")).saturating_sub(profile.total()),
        meaning: "samples of processes that ended, or turned out not to be the target's, before they were \
                  described"
            .into(),
        severity: Severity::Loss,
    }
}

fn skip(what: impl Into<String>, why: impl Into<String>) -> Skipped {
    Skipped { what: what.into(), why: why.into() }
}

fn problems(processes: &Processes, taken: &Taken) -> Vec<Skipped> {
    let mut all: Vec<Skipped> = Vec::new();
    for known in processes.known.values().filter(|k| k.sampled) {
        if let Some(why) = &known.lua_unavailable {
            all.push(skip(format!("Lua stacks of process {}", known.info.pid), why));
        }
    }
    let unusable = processes.library.unusable.iter();
    all.extend(unusable.map(|(name, why)| skip(format!("symbols and unwind table of {name}"), why)));
    all.extend(processes.problems.iter().map(|(what, why)| skip(what, why)));
    if let Some(why) = &taken.finished.not_following {
        all.push(skip("processes started during the window", why));
    }
    all
}

fn describe_capture(
    plan: &Plan,
    target: &Target,
    processes: &Processes,
    taken: &Taken,
    profile: &Profile,
) -> Manifest {
    let mut m = Manifest::of(profile);
    m.upprof_version = env!("CARGO_PKG_VERSION").into();
    m.host = host();
    if let (Some(c), Some(to)) = (&target.container, &mut m.container) {
        to.id = c.id.clone();
        to.image = Some(c.image.clone());
        to.runtime = Some("docker".into());
    }
    m.capture.duration_asked_ns = Some(plan.duration.map_or(0, nanoseconds));
    m.capture.sampling_source = "cpu-clock (software)".into();
    m.capture.ended_by = taken.end.text().into();
    m.capture.set_up_ns = Some(nanoseconds(taken.set_up));
    for known in processes.known.values() {
        for (owner, vm) in &known.vms {
            let space = processes.spaces.get(&known.info.pid);
            let object = space.and_then(|s| s.find(vm.vm_text.start)).map(|mapped| mapped.object);
            m.lua_vms.push(manifest::LuaVm {
                pid: known.info.pid,
                module: object.map(|o| processes.library.objects.get(o).name.clone()).unwrap_or_default(),
                version: object.and_then(|o| processes.library.luajit_version(o)),
                layout: format!("{owner}: {}", vm.describe()),
                trusted_because: "main thread, mainthref, cur_L, jit_base, vmstate and the dispatch table \
                                  agree with the live memory"
                    .into(),
            });
        }
    }
    m.own_cost.bpf_total_ns = Some(taken.finished.sampling.ns);
    m.own_cost.bpf_runs = Some(taken.finished.sampling.runs);
    m.own_cost.upprof_cpu_ns = Some(nanoseconds(own_cpu()));
    m.own_cost.upprof_window_cpu_ns = Some(nanoseconds(taken.own_cpu));
    m.own_cost.upprof_max_rss_bytes = own_max_rss_bytes();
    m
}

fn host() -> manifest::Host {
    let read = |path: &str| std::fs::read_to_string(path).map(|s| s.trim().to_owned()).unwrap_or_default();
    manifest::Host {
        kernel_release: read("/proc/sys/kernel/osrelease"),
        machine: std::env::consts::ARCH.into(),
        cpus_online: u32::try_from(upprof_probes::online_cpus().len()).ok(),
    }
}

/// Every file of the bundle, the manifest and the page last: they list the others. Returns the archive.
pub(super) fn write_files(
    binaries: &[(String, &[u8])],
    inspected: Vec<Artifact>,
    profile: &Profile,
    manifest: &mut Manifest,
    taken: Option<&Taken>,
    bundle: &BundleDir,
) -> Result<std::path::PathBuf, BundleError> {
    let mut artifacts = Vec::new();
    for exporter in export::bundle().iter().filter(|e| e.applies(profile)) {
        let size = bundle.write(exporter.path(), |out| exporter.write(profile, out))?;
        artifacts.push(artifact(exporter.path(), exporter.what(), Some(size)));
    }
    artifacts.extend(inspected);
    for (path, bytes) in binaries {
        let size = bundle.write(path, |out| Ok(out.write_all(bytes)?))?;
        artifacts.push(artifact(path, "a binary of the target, as it was mapped", Some(size)));
    }
    let size = bundle.write(Recording::PATH, |out| Recording::write(profile, manifest, out))?;
    artifacts.push(artifact(Recording::PATH, Recording::WHAT, Some(size)));
    artifacts.push(artifact("manifest.yaml", "who, what, how, own cost, what is missing and why", None));
    artifacts.push(artifact(Page::PATH, Page::WHAT, None));
    manifest.artifacts = artifacts;
    // What the bundle itself took can only be told up to here.
    if let Some(taken) = taken {
        manifest.own_cost.finish_ns = Some(nanoseconds(taken.ended_at.elapsed()));
    }
    let yaml = manifest.to_yaml().map_err(|e| BundleError::Write {
        path: bundle.path().join("manifest.yaml"),
        source: ExportError::Io(std::io::Error::other(e)),
    })?;
    bundle.write("manifest.yaml", |out| Ok(out.write_all(yaml.as_bytes())?))?;
    let page = Page { profile, manifest };
    bundle.write(Page::PATH, |out| page.write(out))?;
    bundle.archive()
}

fn artifact(path: &str, what: &str, size_bytes: Option<u64>) -> Artifact {
    Artifact { path: path.into(), what: what.into(), size_bytes }
}

/// nginx's own binary and the file that holds LuaJIT, each once.
fn kept_binaries(processes: &Processes) -> Vec<(String, &[u8])> {
    let mut objects = Vec::new();
    for (pid, known) in &processes.known {
        let Some(space) = processes.spaces.get(pid) else { continue };
        for (_, vm) in &known.vms {
            objects.extend(space.find(vm.vm_text.start).map(|m| m.object));
        }
        // The program itself is the lowest mapping of a process that is not position independent, and
        // the one with nginx's symbols otherwise; both are found by name.
        let named = |name: &str| processes.library.objects.iter().find(|(_, o)| o.name == name);
        objects.extend(named(&known.info.comm).map(|(id, _)| id));
        objects.extend(named("nginx").map(|(id, _)| id));
    }
    objects.sort();
    objects.dedup();
    objects
        .into_iter()
        .filter_map(|id| {
            let name = file_name(&processes.library.objects.get(id).name);
            Some((format!("binaries/{name}"), processes.library.image(id)?.bytes()))
        })
        .collect()
}

/// A hostile file name as a plain one.
fn file_name(name: &str) -> String {
    const MAX: usize = 100;
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).take(MAX).collect();
    format!("_{name}").trim_start_matches("_.").trim_start_matches('_').to_owned()
}

/// The result in a few lines.
pub(super) fn tell(profile: &Profile, taken: &Taken, voice: Voice) {
    let lost: u64 = profile.counters.iter().filter(|c| c.severity == Severity::Loss).map(|c| c.count).sum();
    voice.note(&format!(
        "{} samples in {:.1} s ({} distinct stacks), {lost} lost",
        profile.total(),
        profile.duration_seconds(),
        taken.recording.len(),
    ));
    voice.note(&profile.uncertainty().sentence());
    if taken.end == super::window::End::TargetGone {
        voice.warn("the target exited before the window ended; what was collected until then is written");
    }
    voice.detail(&format!(
        "set-up {} ms, end of window to files {} ms",
        taken.set_up.as_millis(),
        taken.ended_at.elapsed().as_millis()
    ));
}
