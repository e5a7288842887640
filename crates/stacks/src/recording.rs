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
    /// Of each process, the stack that came last.
    last: HashMap<u32, StackKey>,
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
        let frames = self.refer(raw, &mut new_frame);
        self.last.insert(raw.pid, raw.key);
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

    /// The frames' numbers; a new frame gets the next one. Stacks of a process mostly begin alike: what is as
    /// in the stack before it, from the root, has its numbers.
    fn refer(&mut self, raw: &RawStack, new_frame: &mut impl FnMut(u32, PackedFrame)) -> Box<[FrameRef]> {
        let before = self.last.get(&raw.pid).and_then(|key| self.stacks.get(key));
        let before = before.map_or(&[][..], |stack| &stack.frames);
        let pairs = raw.frames.iter().rev().zip(before.iter().rev());
        let alike = pairs.take_while(|(raw, known)| self.frames[known.0 as usize].1 == **raw).count();
        let shared = &before[before.len() - alike..];
        let mut frames = Vec::with_capacity(raw.frames.len());
        for frame in &raw.frames[..raw.frames.len() - alike] {
            let next = FrameRef(u32::try_from(self.frames.len()).unwrap_or(u32::MAX));
            frames.push(*self.index.entry((raw.pid, *frame)).or_insert_with(|| {
                self.frames.push((raw.pid, *frame));
                new_frame(raw.pid, *frame);
                next
            }));
        }
        frames.extend_from_slice(shared);
        frames.into()
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

    fn f(n: u64) -> PackedFrame {
        PackedFrame { word: 1 << 56 | n, pc: 0, check: 0 }
    }

    fn stack(key: u64, pid: u32, frames: &[u64], uncounted: bool) -> RawStack {
        RawStack {
            key: StackKey(key, 0),
            pid,
            frames: frames.iter().map(|n| f(*n)).collect(),
            kernel: vec![],
            outcome: Outcome::Complete,
            vmstate: VmState::NotLua,
            label: 0,
            phase: None,
            uncounted,
        }
    }

    #[test]
    fn frames_are_reported_once_a_process_and_repeats_add_up() {
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

    #[test]
    fn stacks_that_begin_alike_keep_their_frames() {
        let all = [
            stack(1, 7, &[1, 2, 3], false),
            stack(2, 7, &[9, 2, 3], false),
            stack(3, 8, &[9, 2, 3], false),
            stack(4, 7, &[3], false),
            stack(5, 7, &[1, 3, 2, 3], false),
            stack(6, 7, &[], false),
            stack(7, 7, &[2, 4], false),
        ];
        let mut r = Recording::default();
        let mut seen = Vec::new();
        for s in &all {
            r.add(s, |pid, frame| seen.push((pid, frame)));
        }
        let new = |pid, frames: &[u64]| -> Vec<_> { frames.iter().map(|n| (pid, f(*n))).collect() };
        assert_eq!(seen, [new(7, &[1, 2, 3, 9]), new(8, &[9, 2, 3]), new(7, &[4])].concat());
        for s in &all {
            let kept = r.stacks().find(|(key, _)| *key == s.key).expect("each stack").1;
            let frames: Vec<_> = kept.frames.iter().map(|frame| r.frame(*frame)).collect();
            let wanted: Vec<_> = s.frames.iter().map(|frame| (s.pid, *frame)).collect();
            assert_eq!(frames, wanted, "{:?}", s.key);
        }
    }
}
