//! Folded stacks, read as `docs/formats.md` says, and questions to them.

use std::collections::BTreeMap;

/// Marks and names that say "not exactly known": what they are in proves nothing about callers.
const DOUBTS: [&str; 5] =
    ["[Lua lost]", "[native lost]", "[truncated]", "[leaf function unsure]", "[unknown"];

/// One line of a folded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Root first.
    pub frames: Vec<String>,
    /// Samples.
    pub count: u64,
}

/// Whether a frame is of Lua: a Lua function, a C function that Lua called, a trace.
#[must_use]
pub fn is_lua(frame: &str) -> bool {
    ["lua:", "cfunc:", "[trace "].iter().any(|start| frame.starts_with(start))
}

impl Stack {
    /// Whether any frame is of Lua.
    #[must_use]
    pub fn has_lua(&self) -> bool {
        self.frames.iter().any(|f| is_lua(f))
    }

    /// Whether something about it is marked as not known.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.frames.iter().any(|f| DOUBTS.iter().any(|d| f.starts_with(d)))
    }

    /// Its Lua frames up to the last that is `callee`; `None` if it is in none.
    #[must_use]
    pub fn callers(&self, callee: &str) -> Option<Vec<&str>> {
        let end = self.frames.iter().rposition(|f| f == callee)?;
        Some(self.frames[..=end].iter().map(String::as_str).filter(|f| is_lua(f)).collect())
    }

    /// Its frames below the first one of Lua.
    #[must_use]
    pub fn below_lua(&self) -> &[String] {
        let end = self.frames.iter().position(|f| is_lua(f)).unwrap_or(self.frames.len());
        &self.frames[..end]
    }

    /// Its frames above the last that is `frame`.
    #[must_use]
    pub fn above(&self, frame: &str) -> &[String] {
        let start = self.frames.iter().rposition(|f| f == frame).map_or(self.frames.len(), |n| n + 1);
        &self.frames[start..]
    }
}

/// Whether `wanted` occur in `frames` in this order, others between them allowed.
#[must_use]
pub fn in_order<S: AsRef<str>>(frames: &[String], wanted: &[S]) -> bool {
    let mut rest = frames.iter();
    wanted.iter().all(|w| rest.any(|f| f == w.as_ref()))
}

/// A folded file.
#[derive(Debug)]
pub struct Stacks(pub Vec<Stack>);

impl Stacks {
    /// Strict: every line is frames and a count above zero, no frame is empty, no stack occurs twice, and
    /// lines are sorted.
    ///
    /// # Panics
    /// When the file is not like that.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
        let line = |line: &str| {
            let (stack, count) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no count: {line}"));
            let count = count.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
            let frames: Vec<String> = stack.split(';').map(str::to_owned).collect();
            assert!(count > 0 && frames.iter().all(|f| !f.is_empty()), "{line:?}");
            Stack { frames, count }
        };
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.is_sorted_by(|a, b| a < b), "not sorted, or a line twice");
        let control = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(control, None, "a control character");
        Self(lines.into_iter().map(line).collect())
    }

    /// Samples of the stacks for which `which` holds.
    pub fn samples(&self, which: impl Fn(&Stack) -> bool) -> u64 {
        self.0.iter().filter(|s| which(s)).map(|s| s.count).sum()
    }

    /// All samples.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.samples(|_| true)
    }

    /// Stacks with this frame and nothing in doubt.
    pub fn with<'a>(&'a self, frame: &'a str) -> impl Iterator<Item = &'a Stack> {
        self.0.iter().filter(move |s| !s.is_doubtful() && s.frames.iter().any(|f| f == frame))
    }

    /// By which Lua functions `callee` was called, with samples.
    #[must_use]
    pub fn callers<'a>(&'a self, callee: &'a str) -> BTreeMap<Vec<&'a str>, u64> {
        let mut chains = BTreeMap::new();
        for stack in self.with(callee) {
            *chains.entry(stack.callers(callee).unwrap_or_default()).or_default() += stack.count;
        }
        chains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_of_lua_only_and_end_at_the_last_call() {
        let stacks = Stacks::parse("main;lua:a@f:1;lj_x;cfunc:t.sort;qs;lua:b@f:2;x [kernel] 3\n");
        let chains = stacks.callers("lua:b@f:2");
        assert_eq!(
            chains.into_iter().collect::<Vec<_>>(),
            [(vec!["lua:a@f:1", "cfunc:t.sort", "lua:b@f:2"], 3)]
        );
        let stack = &stacks.0[0];
        assert_eq!(stack.below_lua(), ["main"]);
        assert_eq!(stack.above("cfunc:t.sort"), ["qs", "lua:b@f:2", "x [kernel]"]);
        assert!(in_order(&stack.frames, &["main", "qs"]) && !in_order(&stack.frames, &["qs", "main"]));
    }

    #[test]
    fn what_is_in_doubt_is_no_evidence() {
        let stacks = Stacks::parse("main;[Lua lost];lua:b@f:2 1\nmain;lua:b@f:2 2\n");
        assert_eq!(stacks.callers("lua:b@f:2").len(), 1);
        assert_eq!(stacks.total(), 3);
    }
}
