//! Worker CPU per request with and without somebody who looks on, in interleaved rounds.

use super::capture::Upprof;
use super::inspect::Watch;
use super::stats::Spread;
use super::target::{answer_load, worker_cpu_ns};
use crate::harness::target::Target;
use anyhow::{Result, ensure};
use std::time::Duration;

/// Who looks on during a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watching {
    /// Nobody.
    Nobody,
    /// A capture, at so many Hz.
    Upprof(u32),
    /// `upprof inspect --watch 1s`, from its start on: its first look is at everything.
    Inspect,
}

/// CPU per request of every phase, in nanoseconds; one line a round.
#[derive(Debug)]
pub struct Pairs {
    phases: &'static [Watching],
    rounds: Vec<Vec<f64>>,
    requests: u64,
}

impl Pairs {
    /// Runs the rounds under a load of these paths, each with one of these phases, the first of which is the one that others are
    /// compared with. Within each round the order changes, so that a drift of the machine (heat,
    /// neighbours) falls on all alike.
    ///
    /// # Errors
    /// When a load or who looks on fails.
    pub fn run(
        upprof: &Upprof,
        target: &Target,
        phases: &'static [Watching],
        paths: &[&str],
        rounds: usize,
        length: Duration,
    ) -> Result<Self> {
        let mut pairs = Self { phases, rounds: Vec::new(), requests: 0 };
        for round in 0..rounds {
            let mut order: Vec<usize> = (0..phases.len()).collect();
            order.rotate_left(round % phases.len());
            // Two phases have two orders: turning and reversing would always give the same.
            if phases.len() > 2 && round % 2 == 1 {
                order.reverse();
            }
            let mut costs = vec![0.0; phases.len()];
            for which in order {
                let (ns, requests) = one(upprof, target, phases[which], paths, length)?;
                ensure!(requests > 0, "no request was answered");
                costs[which] = ns as f64 / requests as f64;
                pairs.requests += requests;
            }
            pairs.rounds.push(costs);
        }
        Ok(pairs)
    }

    /// By how many per cent the CPU per request differs from that of the same round's first kind of phase.
    #[must_use]
    pub fn difference_percent(&self, watching: Watching) -> Option<Spread> {
        let phase = self.phases.iter().position(|p| *p == watching)?;
        Spread::of(self.rounds.iter().map(|r| (r[phase] / r[0] - 1.0) * 100.0).collect())
    }

    /// By how many per cent the phases that others are compared with differ from their own median: the noise.
    #[must_use]
    pub fn noise_percent(&self) -> Option<Spread> {
        let bare: Vec<f64> = self.rounds.iter().map(|r| r[0]).collect();
        let median = Spread::of(bare.clone())?.median();
        Spread::of(bare.into_iter().map(|ns| (ns / median - 1.0) * 100.0).collect())
    }

    /// The median CPU per request, milliseconds.
    #[must_use]
    pub fn median_ms(&self, watching: Watching) -> Option<f64> {
        let phase = self.phases.iter().position(|p| *p == watching)?;
        Some(Spread::of(self.rounds.iter().map(|r| r[phase]).collect())?.median() / 1e6)
    }

    /// Requests of a mean phase.
    #[must_use]
    pub fn requests_per_phase(&self) -> u64 {
        self.requests / (self.rounds.len() * self.phases.len()).max(1) as u64
    }
}

/// Nanoseconds of CPU and answered requests. Who looks on does so for the whole load.
fn one(
    upprof: &Upprof,
    target: &Target,
    watching: Watching,
    paths: &[&str],
    length: Duration,
) -> Result<(u64, u64)> {
    let capture = match watching {
        Watching::Upprof(hz) => Some(upprof.start_sampling(target.name(), hz)?),
        Watching::Nobody | Watching::Inspect => None,
    };
    let before = worker_cpu_ns(target)?;
    let _watch = match watching {
        Watching::Inspect => Some(Watch::start(upprof, target.name())?),
        Watching::Nobody | Watching::Upprof(_) => None,
    };
    let requests = answer_load(target, paths, length)?;
    let spent = worker_cpu_ns(target)?.saturating_sub(before);
    if let Some(capture) = capture {
        capture.stop()?;
    }
    Ok((spent, requests))
}
