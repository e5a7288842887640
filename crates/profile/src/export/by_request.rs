//! Whose work the CPU did: by route, by host, by phase.
//!
//! Every table's samples add up to the profile's: what is no request, or is not known, has its row.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use crate::export::csv::{Cell, row};
use crate::export::{ExportError, Exporter};
use crate::model::{Profile, Sample};
use crate::number::percent;
use crate::origin::Origin;

/// `cpu/by-route.csv`: one row a method and path.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByRoute;

/// `cpu/by-host.csv`: one row a host.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByHost;

/// `cpu/by-phase.csv`: one row a phase of ngx_lua.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByPhase;

impl Exporter for ByRoute {
    fn path(&self) -> &'static str {
        "cpu/by-route.csv"
    }

    fn what(&self) -> &'static str {
        "CPU by the request that Lua ran for: method and path, without the query string"
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        writeln!(out, "method,path,samples,share_percent,cpu_seconds_sampled")?;
        for ((method, path), samples) in profile.by_route() {
            let method = if method.is_empty() { Cell::Empty } else { Cell::text(method) };
            write(profile, out, [method, Cell::text(path)], samples)?;
        }
        Ok(())
    }
}

impl Exporter for ByHost {
    fn path(&self) -> &'static str {
        "cpu/by-host.csv"
    }

    fn what(&self) -> &'static str {
        "CPU by the host that the request which Lua ran for was sent to"
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        writeln!(out, "host,samples,share_percent,cpu_seconds_sampled")?;
        for (host, samples) in profile.by_host() {
            write(profile, out, [Cell::text(host)], samples)?;
        }
        Ok(())
    }
}

impl Exporter for ByPhase {
    fn path(&self) -> &'static str {
        "cpu/by-phase.csv"
    }

    fn what(&self) -> &'static str {
        "CPU by the phase that ngx_lua ran Lua in, as ngx.get_phase() names it"
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        writeln!(out, "phase,samples,share_percent,cpu_seconds_sampled")?;
        for (phase, samples) in profile.by_phase() {
            write(profile, out, [Cell::text(phase)], samples)?;
        }
        Ok(())
    }
}

/// One row: the key's cells, then the numbers.
fn write<const N: usize>(
    profile: &Profile,
    out: &mut dyn Write,
    key: [Cell<'_>; N],
    samples: u64,
) -> Result<(), ExportError> {
    let cells: Vec<Cell<'_>> = key.into_iter().chain(numbers(profile, samples)).collect();
    Ok(row(out, &cells)?)
}

/// Samples, their share, and the CPU time they stand for.
pub(super) fn numbers(profile: &Profile, samples: u64) -> [Cell<'static>; 3] {
    [
        Cell::Count(samples),
        Cell::Number(percent(samples, profile.total()), 2),
        Cell::Number(profile.sampled_seconds(samples), 2),
    ]
}

impl Profile {
    /// Samples by method and path, most first; what is no request has no method, and words in brackets
    /// in place of a path.
    #[must_use]
    pub fn by_route(&self) -> Vec<((&str, Cow<'_, str>), u64)> {
        self.by_origin(|origin| match origin {
            Origin::Request { method, path, .. } => (method.as_str(), path.into()),
            other => ("", other.stand_in().unwrap_or_default().into()),
        })
    }

    /// Samples by host, most first; words in brackets in place of a host for what has none.
    #[must_use]
    pub fn by_host(&self) -> Vec<(Cow<'_, str>, u64)> {
        self.by_origin(|origin| match origin {
            Origin::Request { host, .. } if host.is_empty() => "(no host)".into(),
            Origin::Request { host, .. } => host.into(),
            other => other.stand_in().unwrap_or_default().into(),
        })
    }

    /// Samples by phase, most first; words in brackets for what has none.
    #[must_use]
    pub fn by_phase(&self) -> Vec<(String, u64)> {
        let name = |sample: &Sample| match (sample.phase, self.origin(sample)) {
            (Some(phase), _) => phase.to_string(),
            (None, Origin::Outside) => "(no request)".to_owned(),
            (None, Origin::NotLua) => "(no Lua on the stack)".to_owned(),
            (None, _) => "(not known)".to_owned(),
        };
        self.summed(name)
    }

    fn by_origin<'p, K: Ord>(&'p self, key: impl Fn(&'p Origin) -> K) -> Vec<(K, u64)> {
        self.summed(|s| key(self.origin(s)))
    }

    /// Samples by a key, most first; equal numbers in the order of their keys.
    pub(super) fn summed<'p, K: Ord>(&'p self, key: impl Fn(&'p Sample) -> K) -> Vec<(K, u64)> {
        let mut sums = BTreeMap::new();
        for sample in &self.samples {
            *sums.entry(key(sample)).or_insert(0) += sample.count;
        }
        let mut rows: Vec<(K, u64)> = sums.into_iter().collect();
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        rows
    }
}
