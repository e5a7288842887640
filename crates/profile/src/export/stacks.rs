//! Stacks as canonical text, merged: what folded stacks and flame graphs are made of.

use std::collections::{BTreeMap, HashMap};

use crate::export::Style;
use crate::export::text::{frame_text, located_text, role_text};
use crate::model::{FrameId, FrameKind, Location, Profile, Role, Sample};
use crate::number::float;

/// The canonical text of every frame of a profile, made once.
pub(super) struct Texts<'p> {
    profile: &'p Profile,
    pub(super) style: Style,
    frames: Vec<String>,
    /// With lines: the text of each frame at each line.
    located: HashMap<(FrameId, u32), String>,
    /// By process; `None` for those that need no frame of their own at the root.
    roles: Vec<Option<String>>,
}

/// Root first (leaf first where inverted), with the number of samples. Sorted frame by frame, so that
/// equal beginnings are neighbours whatever characters the frames hold.
pub(super) type Stacks<'t> = BTreeMap<Vec<&'t str>, u64>;

impl<'p> Texts<'p> {
    /// What stands for a stack that could not be read at all: it is still a sample.
    pub(super) const NO_STACK: &'static str = "[unknown]";

    pub(super) fn new(profile: &'p Profile, style: Style) -> Self {
        let shown = profile.has_nginx_roles();
        let role = |role: Role| (shown && role != Role::Worker).then(|| role_text(role));
        let mut located = HashMap::new();
        if style.lines {
            for l in profile.samples.iter().flat_map(|s| &s.stack) {
                let text = || located_text(profile.frame(l.frame), l.line);
                located.entry((l.frame, l.line)).or_insert_with(text);
            }
        }
        Self {
            profile,
            style,
            frames: profile.frames.iter().map(frame_text).collect(),
            located,
            roles: profile.processes.iter().map(|p| role(p.role)).collect(),
        }
    }

    /// Texts of all frames with their kind, for the colours. Two frames may share a text only when
    /// they share the kind.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&str, FrameKind)> {
        let frames = self.frames.iter().zip(&self.profile.frames).map(|(t, f)| (t.as_str(), f.kind));
        let located = self.located.iter().map(|((id, _), t)| (t.as_str(), self.profile.frame(*id).kind));
        let roles = self.roles.iter().flatten().map(|t| (t.as_str(), FrameKind::Marker));
        frames.chain(located).chain(roles)
    }

    /// Every stack, whole.
    pub(super) fn all(&self) -> Stacks<'_> {
        let mut stacks = Stacks::new();
        for sample in &self.profile.samples {
            let frames = sample.stack.iter().map(|l| self.frame(l));
            self.add(&mut stacks, sample, frames.collect());
        }
        stacks
    }

    /// What Lua did: Lua, C-from-Lua and trace frames, and the markers above them. Stacks without
    /// Lua are left out.
    pub(super) fn lua(&self) -> Stacks<'_> {
        let mut stacks = Stacks::new();
        for sample in &self.profile.samples {
            let kind = |l: &Location| self.profile.frame(l.frame).kind;
            let from_lua = sample.stack.iter().skip_while(|l| !kind(l).is_lua());
            let frames: Vec<&str> = from_lua
                .filter(|l| kind(l).is_lua() || kind(l) == FrameKind::Marker)
                .map(|l| self.frame(l))
                .collect();
            if !frames.is_empty() {
                self.add(&mut stacks, sample, frames);
            }
        }
        stacks
    }

    /// The text of one frame of a stack.
    pub(super) fn frame(&self, location: &Location) -> &str {
        let located = self.located.get(&(location.frame, location.line));
        located.or_else(|| self.frames.get(location.frame.0 as usize)).map_or(Self::NO_STACK, String::as_str)
    }

    /// The frame at the root of a process's stacks, where it needs one.
    pub(super) fn role(&self, process: usize) -> Option<&str> {
        self.roles.get(process).and_then(Option::as_deref)
    }

    /// `frames` are root first.
    fn add<'t>(&'t self, stacks: &mut Stacks<'t>, sample: &Sample, frames: Vec<&'t str>) {
        let mut stack: Vec<&str> = self.role(sample.process).into_iter().chain(frames).collect();
        if stack.is_empty() {
            stack.push(Self::NO_STACK);
        }
        if self.style.inverted {
            stack.reverse();
        }
        if sample.count > 0 {
            *stacks.entry(stack).or_default() += sample.count;
        }
    }
}

/// The same stacks without the branches of fewer than `min` samples, whose samples end at the branch's
/// parent: the picture is the same where nothing thinner is drawn, and takes a fraction of the memory.
pub(super) fn pruned<'s, 't>(stacks: &'s Stacks<'t>, min: f64) -> Vec<(&'s [&'t str], u64)> {
    let all: Vec<(&[&str], u64)> = stacks.iter().map(|(stack, count)| (stack.as_slice(), *count)).collect();
    let mut kept = Vec::new();
    prune(&all, 0, min, &mut kept);
    kept
}

/// `stacks` are sorted and begin with the same `depth` frames.
fn prune<'s, 't>(
    stacks: &[(&'s [&'t str], u64)],
    depth: usize,
    min: f64,
    kept: &mut Vec<(&'s [&'t str], u64)>,
) {
    let Some((first, _)) = stacks.first() else { return };
    let mut ending_here = 0;
    for branch in stacks.chunk_by(|(a, _), (b, _)| a.get(depth) == b.get(depth)) {
        let sum: u64 = branch.iter().map(|(_, count)| count).sum();
        let goes_on = branch.first().is_some_and(|(stack, _)| stack.len() > depth);
        if goes_on && float(sum) >= min {
            prune(branch, depth + 1, min, kept);
        } else {
            ending_here += sum;
        }
    }
    if ending_here > 0 && depth > 0 {
        kept.push((&first[..depth], ending_here));
    }
}

/// One line of folded stacks, without the newline.
pub(super) fn folded_line(stack: &[&str], count: u64) -> String {
    format!("{} {count}", stack.join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks(list: &[(&[&'static str], u64)]) -> Stacks<'static> {
        list.iter().map(|(stack, count)| (stack.to_vec(), *count)).collect()
    }

    #[test]
    fn thin_branches_end_at_their_parent() {
        let all = stacks(&[
            (&["a"], 1),
            (&["a", "b"], 3),
            (&["a", "b", "c"], 1),
            (&["a", "d", "e"], 1),
            (&["a", "f"], 1),
            (&["z"], 9),
        ]);
        let kept = pruned(&all, 2.0);
        assert_eq!(kept, [(&["a", "b"][..], 4), (&["a"][..], 3), (&["z"][..], 9)]);
        let whole: u64 = kept.iter().map(|(_, count)| count).sum();
        assert_eq!(whole, 16, "no sample is lost");
    }

    #[test]
    fn nothing_is_thin_enough_for_no_limit() {
        let all = stacks(&[(&["a"], 1), (&["a", "b"], 1), (&["c", "d", "d"], 2)]);
        let mut kept = pruned(&all, 0.0);
        kept.sort_unstable();
        let same: Vec<(&[&str], u64)> = all.iter().map(|(stack, count)| (stack.as_slice(), *count)).collect();
        assert_eq!(kept, same);
    }
}
