//! Cutting a profile down to what is asked about.

use crate::export::frame_text;
use crate::model::{Focus, Profile};

impl Profile {
    /// The profile with only those samples that have a frame whose text ([`frame_text`]) matches. Their
    /// stacks stay whole; counters and processes stay as they are: they tell of the window. `pattern` is
    /// what people read of the match.
    #[must_use]
    pub fn focused(&self, pattern: &str, matches: impl Fn(&str) -> bool) -> Self {
        let wanted: Vec<bool> = self.frames.iter().map(|f| matches(&frame_text(f))).collect();
        let mut focused = self.clone();
        focused.samples.retain(|s| s.stack.iter().any(|l| wanted[l.frame.0 as usize]));
        focused.focus = Some(Focus { pattern: pattern.to_owned(), of_samples: self.total() });
        focused
    }
}
