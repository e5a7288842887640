//! Which samples are uncertain, and why: read off their stacks, where every gap is marked.

use std::fmt;

use crate::model::{Frame, FrameKind, Profile, Sample};
use crate::number::{percent, thousands};
use crate::raw::Mark;

/// Why a stack is not known exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doubt {
    /// Lua frames failed a check: they changed while they were read, or the VM went away.
    LuaFramesLost,
    /// C frames are missing above a Lua frame.
    NativeFramesLost,
    /// The innermost Lua function could not be proven.
    LeafUnsure,
    /// A Lua function was freed, or its process ended, before its name was read.
    FunctionGone,
    /// A trace was flushed, or its process ended, before it was named.
    TraceGone,
    /// Which functions a trace runs could not be told; the function that it was entered from is.
    InlinedUnknown,
    /// An address in no file.
    UnknownCode,
    /// The stack does not reach the process's entry.
    OuterFramesLost,
    /// Deeper than the limits.
    Truncated,
    /// No stack at all.
    NoStack,
}

impl Doubt {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::LuaFramesLost,
        Self::NativeFramesLost,
        Self::LeafUnsure,
        Self::FunctionGone,
        Self::TraceGone,
        Self::InlinedUnknown,
        Self::UnknownCode,
        Self::OuterFramesLost,
        Self::Truncated,
        Self::NoStack,
    ];

    /// Name of the frame ([`FrameKind::Unknown`]) for a Lua function whose name could not be read.
    pub const FUNCTION_GONE: &'static str = "Lua function, freed before it was read";
    /// Name of the [`FrameKind::Trace`] that could not be read.
    pub const TRACE_GONE: &'static str = "gone";
    /// Name of the [`FrameKind::Trace`] of which not even a number was known.
    pub const TRACE_UNKNOWN: &'static str = "not known";
    const NUMBERED: &'static str = " @ ";

    /// Name of a [`FrameKind::Trace`] whose functions are not known: its number, and where it starts.
    #[must_use]
    pub fn trace_by_number(number: u32, starts_at: &str) -> String {
        format!("{number}{}{starts_at}", Self::NUMBERED)
    }

    /// Marker at the root for outer frames that are missing.
    pub const OUTER_LOST: &'static str = "outer frames lost";
    /// Marker at the root for outer frames beyond the limits.
    pub const OUTER_CUT: &'static str = "outer frames cut";
    /// Marker for a sample of a process that was not described yet.
    pub const NEW_PROCESS: &'static str = "new process, no stack";
    /// Marker for a sample without user registers.
    pub const NO_REGISTERS: &'static str = "no user registers";

    /// What a frame says.
    #[must_use]
    pub fn of(frame: &Frame) -> Option<Self> {
        match frame.kind {
            FrameKind::Marker => Self::marked(&frame.name),
            FrameKind::Trace => Self::of_trace(&frame.name),
            FrameKind::Unknown if frame.name == Self::FUNCTION_GONE => Some(Self::FunctionGone),
            FrameKind::Unknown => Some(Self::UnknownCode),
            _ => None,
        }
    }

    fn of_trace(name: &str) -> Option<Self> {
        match name {
            Self::TRACE_GONE => return Some(Self::TraceGone),
            Self::TRACE_UNKNOWN => return Some(Self::InlinedUnknown),
            _ => {}
        }
        // A function's name has no space: a trace that is named by one never looks like this.
        let (number, _) = name.split_once(Self::NUMBERED)?;
        number.bytes().all(|b| b.is_ascii_digit()).then_some(Self::InlinedUnknown)
    }

    fn marked(text: &str) -> Option<Self> {
        const LUA: &str = Mark::LuaLost.text();
        const NATIVE: &str = Mark::NativeLost.text();
        const LEAF: &str = Mark::LeafUnsure.text();
        const CUT: &str = Mark::Truncated.text();
        match text {
            LUA => Some(Self::LuaFramesLost),
            NATIVE => Some(Self::NativeFramesLost),
            LEAF => Some(Self::LeafUnsure),
            CUT | Self::OUTER_CUT => Some(Self::Truncated),
            Self::OUTER_LOST => Some(Self::OuterFramesLost),
            Self::NEW_PROCESS | Self::NO_REGISTERS => Some(Self::NoStack),
            _ => None,
        }
    }

    /// Stable machine name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LuaFramesLost => "lua_frames_lost",
            Self::NativeFramesLost => "native_frames_lost",
            Self::LeafUnsure => "leaf_unsure",
            Self::FunctionGone => "function_gone",
            Self::TraceGone => "trace_gone",
            Self::InlinedUnknown => "inlined_unknown",
            Self::UnknownCode => "unknown_code",
            Self::OuterFramesLost => "outer_frames_lost",
            Self::Truncated => "truncated",
            Self::NoStack => "no_stack",
        }
    }
}

/// What happened, to follow "because".
impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LuaFramesLost => "Lua frames changed while they were read, or their VM went away",
            Self::NativeFramesLost => "C frames are missing above a Lua function",
            Self::LeafUnsure => "the innermost Lua function could not be proven",
            Self::FunctionGone => "a Lua function was freed before its name was read",
            Self::TraceGone => "a trace was flushed before it was named",
            Self::InlinedUnknown => "which functions a trace runs could not be told",
            Self::UnknownCode => "code lies in no file",
            Self::OuterFramesLost => "the outer frames could not be found",
            Self::Truncated => "the stack is deeper than the limits",
            Self::NoStack => "there is no stack",
        })
    }
}

/// How much of a profile is uncertain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uncertainty {
    /// Samples with at least one reason; each counts once.
    pub samples: u64,
    /// All samples.
    pub of: u64,
    /// Samples with each reason that occurs, most frequent first. A sample with several counts for each.
    pub reasons: Vec<(Doubt, u64)>,
}

impl Uncertainty {
    /// `samples` in percent of `of`.
    #[must_use]
    pub fn percent(&self) -> f64 {
        percent(self.samples, self.of)
    }

    /// `1.3 % of samples uncertain (8 of 618), because …`: all reasons, in one sentence without its stop.
    #[must_use]
    pub fn sentence(&self) -> String {
        if self.samples == 0 {
            return "no sample uncertain".to_owned();
        }
        let share = match self.percent() {
            share if share < 0.05 => "under 0.1 %".to_owned(),
            share => format!("{share:.1} %"),
        };
        let reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(doubt, samples)| format!("{doubt} ({})", thousands(*samples)))
            .collect();
        format!(
            "{share} of samples uncertain ({} of {}), because {}",
            thousands(self.samples),
            thousands(self.of),
            reasons.join("; ")
        )
    }
}

impl Profile {
    /// Counts the samples whose stack is not known exactly.
    #[must_use]
    pub fn uncertainty(&self) -> Uncertainty {
        let doubts: Vec<Option<Doubt>> = self.frames.iter().map(Doubt::of).collect();
        let mut sums = Doubt::ALL.map(|doubt| (doubt, 0));
        let mut samples = 0;
        for sample in &self.samples {
            let found = doubts_of(sample, &doubts);
            samples += if found.contains(&true) { sample.count } else { 0 };
            for ((_, sum), found) in sums.iter_mut().zip(found) {
                *sum += if found { sample.count } else { 0 };
            }
        }
        let mut reasons: Vec<(Doubt, u64)> = sums.into_iter().filter(|(_, sum)| *sum > 0).collect();
        reasons.sort_by_key(|(doubt, sum)| (std::cmp::Reverse(*sum), *doubt));
        Uncertainty { samples, of: self.total(), reasons }
    }
}

/// Which of [`Doubt::ALL`] a sample has; `by_frame` says what each frame means.
fn doubts_of(sample: &Sample, by_frame: &[Option<Doubt>]) -> [bool; Doubt::ALL.len()] {
    let found = |doubt| sample.stack.iter().any(|l| by_frame[l.frame.0 as usize] == Some(doubt));
    Doubt::ALL.map(|doubt| found(doubt) || (doubt == Doubt::NoStack && sample.stack.is_empty()))
}
