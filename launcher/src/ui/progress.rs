use super::Voice;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// The bar of a capture: time, samples, losses. Hides itself when stderr is no terminal.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn start(voice: Voice, duration: Option<Duration>) -> Self {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let bar = match duration {
            Some(d) => ProgressBar::new(millis(d)),
            None => ProgressBar::no_length(),
        };
        if voice.quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let template = if duration.is_some() {
            "sampling {bar:30} {elapsed} · {msg}  (Ctrl-C ends early and keeps everything)"
        } else {
            "sampling {spinner} {elapsed} · {msg}  (Ctrl-C ends it)"
        };
        // A template that does not parse would be a programming error; the default is good enough.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self(bar)
    }

    /// Whether anybody sees it: numbers for it need not be fetched otherwise.
    pub(crate) fn visible(&self) -> bool {
        !self.0.is_hidden()
    }

    pub(crate) fn update(&self, elapsed: Duration, samples: u64, lost: u64) {
        self.0.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        self.0.set_message(format!("{samples} samples, {lost} lost"));
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
