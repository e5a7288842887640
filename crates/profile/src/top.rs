//! Which functions cost most, on their own and with what they call.

use std::collections::HashMap;

use crate::model::{FrameId, FrameKind, Profile, Sample, VmState};

/// Which functions a table lists, and so to whom a sample belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopView {
    /// Lua functions and the C functions that Lua calls. A sample belongs to the topmost of them:
    /// native code, kernel and traces above it are its own cost.
    Lua,
    /// Every function. A sample belongs to the leaf.
    All,
}

/// One function's cost, in samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopRow {
    /// The function.
    pub frame: FrameId,
    /// Samples that belong to the function itself.
    pub self_samples: u64,
    /// Of [`TopRow::self_samples`], those in compiled code (a trace).
    pub self_compiled: u64,
    /// Samples with the function anywhere on the stack; a recursive function counts once a sample.
    pub total_samples: u64,
}

/// Every function of the view with its cost; largest self first, then largest total, then in the
/// order of first sight.
#[must_use]
pub fn top(profile: &Profile, view: TopView) -> Vec<TopRow> {
    let mut rows: HashMap<FrameId, TopRow> = HashMap::new();
    let mut seen = Vec::new();
    for sample in &profile.samples {
        seen.clear();
        for frame in sample.stack.iter().map(|l| l.frame).filter(|id| listed(profile, *id, view)) {
            seen.push(frame);
        }
        let Some(owner) = seen.last().copied() else { continue };
        let compiled = is_compiled(profile, sample, owner);
        seen.sort_unstable();
        seen.dedup();
        for frame in &seen {
            row(&mut rows, *frame).total_samples += sample.count;
        }
        let owner = row(&mut rows, owner);
        owner.self_samples += sample.count;
        owner.self_compiled += if compiled { sample.count } else { 0 };
    }
    let mut rows: Vec<TopRow> = rows.into_values().collect();
    rows.sort_unstable_by(|a, b| {
        (b.self_samples, b.total_samples, a.frame).cmp(&(a.self_samples, a.total_samples, b.frame))
    });
    rows
}

/// The same rows, largest total first.
#[must_use]
pub fn by_total(mut rows: Vec<TopRow>) -> Vec<TopRow> {
    rows.sort_by(|a, b| {
        (b.total_samples, b.self_samples, a.frame).cmp(&(a.total_samples, a.self_samples, b.frame))
    });
    rows
}

fn row(rows: &mut HashMap<FrameId, TopRow>, frame: FrameId) -> &mut TopRow {
    rows.entry(frame).or_insert(TopRow { frame, self_samples: 0, self_compiled: 0, total_samples: 0 })
}

fn listed(profile: &Profile, frame: FrameId, view: TopView) -> bool {
    match view {
        TopView::All => true,
        TopView::Lua => matches!(profile.frame(frame).kind, FrameKind::Lua | FrameKind::LuaC),
    }
}

/// Whether the owner's time was spent in machine code that LuaJIT made of it.
fn is_compiled(profile: &Profile, sample: &Sample, owner: FrameId) -> bool {
    let kind = |id: FrameId| profile.frame(id).kind;
    match kind(owner) {
        FrameKind::Trace => true,
        FrameKind::Lua => {
            matches!(sample.vmstate, VmState::Compiled | VmState::GcCompiled)
                || sample
                    .stack
                    .iter()
                    .rev()
                    .take_while(|l| l.frame != owner)
                    .any(|l| kind(l.frame) == FrameKind::Trace)
        }
        _ => false,
    }
}
