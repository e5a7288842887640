//! What people see while a capture runs. Everything goes to stderr; bars only to a terminal.

mod progress;

pub(crate) use progress::Progress;

use crate::failure::Failure;

/// The three parts of a failure.
pub(crate) fn say_failure(failure: &Failure) {
    eprintln!("upprof: {}", failure.what);
    eprintln!("  likely: {}", failure.likely);
    eprintln!("  try:    {}", failure.attempt);
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
            eprintln!("upprof: {text}");
        }
    }

    /// Something that makes the result worse.
    pub(crate) fn warn(self, text: &str) {
        eprintln!("upprof: warning: {text}");
    }

    /// Something for those who want to know how.
    pub(crate) fn detail(self, text: &str) {
        if self.verbose {
            eprintln!("upprof: {text}");
        }
    }
}
