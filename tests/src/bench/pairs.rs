//! Worker CPU per request with and without a capture, in interleaved rounds.

use super::capture::Upprof;
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
    /// upprof, at so many Hz.
    Upprof(u32),
}

/// CPU per request of every phase, in nanoseconds; one line a round.
#[derive(Debug, Default)]
pub struct Pairs {
    rounds: Vec<[f64; 3]>,
    requests: u64,
}

/// One phase of each a round.
const PHASES: [Watching; 3] = [Watching::Nobody, Watching::Upprof(99), Watching::Upprof(999)];

impl Pairs {
    /// Runs the rounds. Within each the order changes, so that a drift of the machine (heat, neighbours)
    /// falls on all alike.
    ///
    /// # Errors
    /// When a load or a capture fails.
    pub fn run(upprof: &Upprof, target: &Target, rounds: usize, length: Duration) -> Result<Self> {
        let mut pairs = Self::default();
        for round in 0..rounds {
            let mut order = [0, 1, 2];
            order.rotate_left(round % 3);
            if round % 2 == 1 {
                order.reverse();
            }
            let mut costs = [0.0; 3];
            for which in order {
                let (ns, requests) = one(upprof, target, PHASES[which], length)?;
                ensure!(requests > 0, "no request was answered");
                costs[which] = ns as f64 / requests as f64;
                pairs.requests += requests;
            }
            pairs.rounds.push(costs);
        }
        Ok(pairs)
    }

    /// By how many per cent the CPU per request differs from that of the same round without a capture.
    #[must_use]
    pub fn difference_percent(&self, hz: u32) -> Option<Spread> {
        let phase = PHASES.iter().position(|p| *p == Watching::Upprof(hz))?;
        Spread::of(self.rounds.iter().map(|r| (r[phase] / r[0] - 1.0) * 100.0).collect())
    }

    /// By how many per cent the rounds without a capture differ from their own median: the noise.
    #[must_use]
    pub fn noise_percent(&self) -> Option<Spread> {
        let bare: Vec<f64> = self.rounds.iter().map(|r| r[0]).collect();
        let median = Spread::of(bare.clone())?.median();
        Spread::of(bare.into_iter().map(|ns| (ns / median - 1.0) * 100.0).collect())
    }

    /// The median CPU per request, milliseconds.
    #[must_use]
    pub fn median_ms(&self, watching: Watching) -> Option<f64> {
        let phase = PHASES.iter().position(|p| *p == watching)?;
        Some(Spread::of(self.rounds.iter().map(|r| r[phase]).collect())?.median() / 1e6)
    }

    /// Requests of a mean phase.
    #[must_use]
    pub fn requests_per_phase(&self) -> u64 {
        self.requests / (self.rounds.len() * PHASES.len()).max(1) as u64
    }
}

/// Nanoseconds of CPU and answered requests. A capture covers the whole load.
fn one(upprof: &Upprof, target: &Target, watching: Watching, length: Duration) -> Result<(u64, u64)> {
    let capture = match watching {
        Watching::Nobody => None,
        Watching::Upprof(hz) => Some(upprof.start_sampling(target.name(), hz)?),
    };
    let before = worker_cpu_ns(target)?;
    let requests = answer_load(target, length)?;
    let spent = worker_cpu_ns(target)?.saturating_sub(before);
    if let Some(capture) = capture {
        capture.stop()?;
    }
    Ok((spent, requests))
}
