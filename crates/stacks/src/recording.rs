//! Distinct stacks, their frames interned: a stack is a list of small numbers.

use std::collections::HashMap;
use upprof_profile::raw::{Outcome, PackedFrame, RawStack, StackKey};
use upprof_profile::{Origin, Phase, VmState};

/// Number of a frame in its [`Recording`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameRef(u32);

/// One distinct stack.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Process it was seen in.
    pub pid: u32,
    /// Leaf first.
    pub frames: Box<[FrameRef]>,
    /// Kernel frames, leaf first, above `frames`.
    pub kernel: Box<[u64]>,
    /// How the walk ended.
    pub outcome: Outcome,
    /// What LuaJIT was doing.
    pub vmstate: VmState,
    /// Whose work it was.
    pub label: u64,
    /// The phase that ngx_lua ran it in, where known.
    pub phase: Option<Phase>,
    /// Samples that the kernel sent one by one instead of counting them.
    pub uncounted: u64,
}

/// All stacks of a capture, as the kernel reported them.
#[derive(Debug, Default)]
pub struct Recording {
    frames: Vec<(u32, PackedFrame)>,
    index: HashMap<(u32, PackedFrame), FrameRef>,
    stacks: HashMap<StackKey, Stack>,
    origins: HashMap<u64, Origin>,
}

impl Recording {
    /// Whether this stack was added before: then its frames are not looked at again.
    #[must_use]
    pub fn knows(&self, key: StackKey) -> bool {
        self.stacks.contains_key(&key)
    }

    /// Adds a stack; calls `new_frame` for each frame of this process that was never seen before,
    /// while what it points at is most likely still there.
    pub fn add(&mut self, raw: &RawStack, mut new_frame: impl FnMut(u32, PackedFrame)) {
        let uncounted = u64::from(raw.uncounted);
        if let Some(known) = self.stacks.get_mut(&raw.key) {
            known.uncounted += uncounted;
            return;
        }
        let frames = raw
            .frames
            .iter()
            .map(|f| {
                let next = FrameRef(u32::try_from(self.frames.len()).unwrap_or(u32::MAX));
                *self.index.entry((raw.pid, *f)).or_insert_with(|| {
                    self.frames.push((raw.pid, *f));
                    new_frame(raw.pid, *f);
                    next
                })
            })
            .collect();
        self.stacks.insert(
            raw.key,
            Stack {
                pid: raw.pid,
                frames,
                kernel: raw.kernel.as_slice().into(),
                outcome: raw.outcome,
                vmstate: raw.vmstate,
                label: raw.label,
                phase: raw.phase,
                uncounted,
            },
        );
    }

    /// Remembers what a label of stacks stands for.
    pub fn add_origin(&mut self, label: u64, origin: Origin) {
        self.origins.insert(label, origin);
    }

    /// Whose work a stack was. The kernel side gives the label 0 where it does not look.
    #[must_use]
    pub fn origin(&self, stack: &Stack) -> &Origin {
        match self.origins.get(&stack.label) {
            Some(origin) => origin,
            None if stack.label == 0 && stack.vmstate == VmState::NotLua => &Origin::NotLua,
            None => &Origin::Unknown,
        }
    }

    /// Every distinct stack.
    pub fn stacks(&self) -> impl Iterator<Item = (StackKey, &Stack)> {
        self.stacks.iter().map(|(k, s)| (*k, s))
    }

    /// How many distinct stacks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// A frame and the process it belongs to.
    #[must_use]
    pub fn frame(&self, frame: FrameRef) -> (u32, PackedFrame) {
        self.frames[frame.0 as usize]
    }

    /// All frames with their processes.
    pub fn frames(&self) -> impl Iterator<Item = (u32, PackedFrame)> {
        self.frames.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_reported_once_a_process_and_repeats_add_up() {
        let f = |n| PackedFrame { word: 1 << 56 | n, pc: 0, check: 0 };
        let stack = |key, pid, frames: &[u64], uncounted| RawStack {
            key: StackKey(key, 0),
            pid,
            frames: frames.iter().map(|n| f(*n)).collect(),
            kernel: vec![],
            outcome: Outcome::Complete,
            vmstate: VmState::NotLua,
            label: 0,
            phase: None,
            uncounted,
        };
        let mut r = Recording::default();
        let mut seen = Vec::new();
        for s in [
            stack(1, 7, &[10, 20, 10], false),
            stack(2, 7, &[20], true),
            stack(3, 8, &[20], false),
            stack(2, 7, &[20], true),
        ] {
            r.add(&s, |pid, frame| seen.push((pid, frame)));
        }
        assert_eq!(seen, [(7, f(10)), (7, f(20)), (8, f(20))]);
        assert_eq!(r.len(), 3);
        let repeated = r.stacks().find(|(k, _)| *k == StackKey(2, 0)).expect("the second stack").1;
        assert_eq!(repeated.uncounted, 2);
        assert_eq!(r.frame(repeated.frames[0]), (7, f(20)));
    }
}
