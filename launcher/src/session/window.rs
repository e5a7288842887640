//! The window: sampling from start to end.

use super::labels;
use super::processes::Processes;
use super::target::Target;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::ui::{Progress, Voice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use upprof_probes::{COUNTERS, Event, Finished, Probe, ProbeError, ProcessChange, online_cpus};
use upprof_profile::Severity;
use upprof_stacks::Recording;

/// How often new stacks are fetched: long enough to cost little (what is read of traces serves all stacks
/// of one fetch), short enough that the prototypes they point at still live.
const POLL: Duration = Duration::from_millis(200);
/// A target that starts and ends processes wakes us up more often than that; the bar's numbers take a
/// system call each.
const REDRAW: Duration = POLL;

/// Ctrl-C and SIGTERM: the first ends the window, the second ends the process with 130.
pub(crate) struct Signals(Arc<AtomicBool>);

impl Signals {
    pub(crate) fn install() -> Self {
        const SECOND_INTERRUPT: i32 = 130;
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // Order matters: the first delivery finds the flag unset, sets it, and goes on.
            let exit_later =
                signal_hook::flag::register_conditional_shutdown(signal, SECOND_INTERRUPT, Arc::clone(&seen));
            let set = signal_hook::flag::register(signal, Arc::clone(&seen));
            // Both fail for forbidden signals only, which these are not.
            debug_assert!(exit_later.is_ok() && set.is_ok());
        }
        Self(seen)
    }

    pub(crate) fn stop(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why the window ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Duration,
    Interrupted,
    TargetGone,
}

impl End {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Interrupted => "interrupted",
            Self::TargetGone => "target exited",
        }
    }
}

/// What a window gave.
pub(super) struct Taken {
    pub(super) recording: Recording,
    pub(super) finished: Finished,
    pub(super) started: SystemTime,
    pub(super) length: Duration,
    pub(super) end: End,
    /// From the start of the program to the start of sampling.
    pub(super) set_up: Duration,
    /// Our own CPU time during the window.
    pub(super) own_cpu: Duration,
    /// Ring buffer records that did not decode.
    pub(super) malformed: u64,
    pub(super) ended_at: Instant,
}

/// Samples the target until the window ends.
///
/// # Errors
/// Failures before the first sample. Later ones end the window and are told as problems.
pub(super) fn sample(
    plan: &Plan,
    target: &Target,
    processes: &mut Processes,
    signals: &Signals,
    voice: Voice,
    begun: Instant,
) -> Result<Taken, Failure> {
    let per_second = samples_per_second(u64::from(plan.frequency_hz));
    let mut probe = Probe::load(processes.capacity(distinct_stacks(plan.duration, per_second), per_second))?;
    probe.follow();
    processes.describe_all(&mut probe)?;
    follow_up(target, processes, &mut probe)?;
    processes.note_cpu_times(target);
    let started = SystemTime::now();
    let from = Instant::now();
    let cpu_from = own_cpu();
    probe.start(u64::from(plan.frequency_hz))?;
    let set_up = begun.elapsed();

    let mut window = Window { target, processes, probe, recording: labels::recording(), malformed: 0 };
    let progress = Progress::start(voice, plan.duration);
    let end = window.run(plan, signals, &progress, from);
    let length = from.elapsed();
    window.probe.stop();
    window.drain(Duration::ZERO)?;
    progress.finish();
    let own_cpu = own_cpu().saturating_sub(cpu_from);
    window.processes.last_look(target);
    let ended_at = Instant::now();
    let finished = window.probe.finish();
    Ok(Taken {
        recording: window.recording,
        malformed: window.malformed,
        finished,
        started,
        length,
        end: end?,
        set_up,
        own_cpu,
        ended_at,
    })
}

/// Processes that came between the first look and the moment forks were followed.
fn follow_up(target: &Target, processes: &mut Processes, probe: &mut Probe) -> Result<(), Failure> {
    for info in target.processes()? {
        let unknown =
            processes.known.get(&info.pid).is_none_or(|k| k.info.start_time_ticks != info.start_time_ticks);
        if unknown {
            processes.arrived(target, probe, info.pid)?;
        }
    }
    Ok(())
}

/// Samples of all CPUs at most.
pub(super) fn samples_per_second(frequency_hz: u64) -> u32 {
    u32::try_from(frequency_hz.saturating_mul(online_cpus().len() as u64)).unwrap_or(u32::MAX)
}

/// Room for one stack a sample, within reason; the kernel sends the rest one by one.
fn distinct_stacks(duration: Option<Duration>, samples_per_second: u32) -> u32 {
    const MIN: u32 = 4096;
    const MAX: u32 = 1 << 17;
    let seconds = duration.map_or(u64::from(MAX), |d| d.as_secs() + 1);
    let samples = seconds.saturating_mul(u64::from(samples_per_second));
    u32::try_from(samples).unwrap_or(MAX).clamp(MIN, MAX)
}

struct Window<'a> {
    target: &'a Target,
    processes: &'a mut Processes,
    probe: Probe,
    recording: Recording,
    malformed: u64,
}

impl Window<'_> {
    fn run(
        &mut self,
        plan: &Plan,
        signals: &Signals,
        progress: &Progress,
        from: Instant,
    ) -> Result<End, Failure> {
        let mut drawn = Duration::ZERO;
        loop {
            let elapsed = from.elapsed();
            let left = match plan.duration {
                Some(d) if elapsed >= d => return Ok(End::Duration),
                Some(d) => d - elapsed,
                None => POLL,
            };
            if signals.stop() {
                return Ok(End::Interrupted);
            }
            self.drain(left.min(POLL))?;
            if !self.processes.any_alive() {
                return Ok(End::TargetGone);
            }
            if progress.visible() && elapsed - drawn >= REDRAW {
                drawn = elapsed;
                let (samples, lost) = live_numbers(&self.probe);
                progress.update(elapsed, samples, lost);
            }
        }
    }

    /// Reads what has arrived.
    fn drain(&mut self, timeout: Duration) -> Result<(), ProbeError> {
        let events = self.probe.poll(timeout)?;
        self.processes.book.traces.begin_round();
        for event in events {
            match event {
                Event::Stack(mut stack) => {
                    let (processes, target) = (&mut *self.processes, self.target);
                    if !self.recording.knows(stack.key) {
                        processes.book.traces.place(stack.pid, &mut stack.frames);
                    }
                    self.recording.add(&stack, |pid, frame| processes.observe(target, pid, frame));
                }
                Event::Function(function) => self.processes.book.tell(function),
                Event::Label(label) => labels::tell(&mut self.recording, &label),
                Event::Process(ProcessChange::Forked { pid, .. } | ProcessChange::Execed(pid)) => {
                    self.processes.arrived(self.target, &mut self.probe, pid)?;
                }
                Event::Process(ProcessChange::Exited(pid)) => {
                    self.processes.ended(self.target, &mut self.probe, pid);
                }
                Event::Malformed => self.malformed += 1,
            }
        }
        Ok(())
    }
}

/// Samples and losses so far, for the bar.
fn live_numbers(probe: &Probe) -> (u64, u64) {
    let values = probe.counters();
    let mut samples = 0;
    let mut lost = 0;
    for (meaning, value) in COUNTERS.iter().zip(values) {
        if meaning.name == "samples" {
            samples = value;
        } else if meaning.severity == Severity::Loss {
            lost += value;
        }
    }
    (samples, lost)
}

/// User and system time of this process so far.
pub(super) fn own_cpu() -> Duration {
    let usage = own_usage();
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.try_into().unwrap_or(0))
            + Duration::from_micros(t.tv_usec.try_into().unwrap_or(0))
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Largest resident set of this process so far, bytes.
pub(super) fn own_max_rss_bytes() -> Option<u64> {
    u64::try_from(own_usage().ru_maxrss).ok().map(|kib| kib * 1024)
}

fn own_usage() -> libc::rusage {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is valid for writes of an rusage; all-zero bytes are a valid one, so it is
    // initialised whether or not the call fails (it cannot for RUSAGE_SELF).
    unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    }
}
