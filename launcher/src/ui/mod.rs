//! What people see while a capture runs. Everything goes to stderr; bars only to a terminal.

mod progress;

pub(crate) use progress::Progress;

use crate::failure::Failure;
use std::io::Write;

/// One line to stderr. A reader that went away (`2>&1 | head`) must not cost the capture, so a failure
/// to write is ignored, unlike `eprintln!` does.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The three parts of a failure.
pub(crate) fn say_failure(failure: &Failure) {
    say(&format!("upprof: {}", failure.what));
    say(&format!("  likely: {}", failure.likely));
    say(&format!("  try:    {}", failure.attempt));
}

/// How much to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice {
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
}

impl Voice {
    /// Something to know.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            say(&format!("upprof: {text}"));
        }
    }

    /// Something that makes the result worse.
    pub(crate) fn warn(self, text: &str) {
        say(&format!("upprof: warning: {text}"));
    }

    /// Something for those who want to know how.
    pub(crate) fn detail(self, text: &str) {
        if self.verbose {
            say(&format!("upprof: {text}"));
        }
    }
}
