//! A validated request to look.

use crate::plan::TargetPlan;
use crate::ui::Voice;
use std::time::Duration;

/// One `upprof inspect`.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: TargetPlan,
    /// Names of inspectors; empty: the default ones.
    pub(crate) what: Vec<String>,
    pub(crate) ask: Ask,
    pub(crate) json: bool,
    /// Look again after this time, until stopped.
    pub(crate) watch: Option<Duration>,
    pub(crate) voice: Voice,
}

/// What single inspectors are asked beside their name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ask {
    /// Most objects of a heap that are looked at.
    pub(crate) max_objects: u32,
    /// The dictionary that `shdict` is asked about; all without it.
    pub(crate) dict: Option<String>,
    /// The entry of it that is asked for.
    pub(crate) key: Option<String>,
    /// Show what a target stores, not only how much of it.
    pub(crate) show_values: bool,
}
