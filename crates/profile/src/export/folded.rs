//! Folded stacks: one line a stack, root to leaf, `;` between frames, a space, the count.

use std::io::Write;

use crate::export::stacks::{Texts, folded_line};
use crate::export::{ExportError, Exporter, Style};
use crate::model::Profile;

/// `cpu/profile.folded`. Equal stacks of different workers are one line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Folded(pub Style);

impl Exporter for Folded {
    fn path(&self) -> &'static str {
        "cpu/profile.folded"
    }

    fn what(&self) -> &'static str {
        "Every stack as text, root to leaf, with its number of samples: for grep, diff, flamegraph.pl, \
         inferno and speedscope"
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        let texts = Texts::new(profile, self.0);
        let stacks = texts.all();
        let mut lines: Vec<(&[&str], u64)> = stacks.iter().map(|(s, count)| (s.as_slice(), *count)).collect();
        lines.sort_unstable_by(|(a, _), (b, _)| bytes(a).cmp(bytes(b)));
        for (stack, count) in lines {
            writeln!(out, "{}", folded_line(stack, count))?;
        }
        Ok(())
    }
}

/// A line's bytes up to the count, without making the line: all lines of a capture are many megabytes.
fn bytes<'s>(stack: &'s [&str]) -> impl Iterator<Item = u8> + 's {
    let frame =
        |(index, frame): (usize, &'s &str)| (index > 0).then_some(b';').into_iter().chain(frame.bytes());
    stack.iter().enumerate().flat_map(frame).chain([b' '])
}
