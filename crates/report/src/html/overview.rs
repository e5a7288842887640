//! The first screen: what the CPU time was, in one sentence, four numbers and a bar.

use std::fmt::Write;

use upprof_profile::export::{LegendEntry, legend};
use upprof_profile::number::{seconds, thousands};
use upprof_profile::{FrameKind, Profile, Role, Severity, TopView, VmState, top};

use super::text::{Share, markup, text};

/// That of a kind of frame, or one of its own where no kind is meant.
enum Colour {
    Of(FrameKind),
    Own(&'static str),
}

/// States that a reader thinks of as one, with the colour of the frames they look like.
struct Group {
    name: &'static str,
    tip: &'static str,
    colour: Colour,
    states: &'static [VmState],
}

impl Colour {
    fn css(&self) -> String {
        match self {
            Self::Of(kind) => {
                legend().iter().find(|e| e.kind == *kind).map_or_else(String::new, LegendEntry::css)
            }
            Self::Own(css) => (*css).to_owned(),
        }
    }
}

const GROUPS: [Group; 6] = [
    Group {
        name: "interpreted Lua",
        tip: "LuaJIT was interpreting bytecode",
        colour: Colour::Of(FrameKind::Lua),
        states: &[VmState::Interpreted],
    },
    Group {
        name: "compiled Lua",
        tip: "LuaJIT was running machine code it made (a trace), or a helper of it",
        colour: Colour::Of(FrameKind::Trace),
        states: &[VmState::Compiled],
    },
    Group {
        name: "C called from Lua",
        tip: "a C function that Lua called, with all that it calls",
        colour: Colour::Of(FrameKind::LuaC),
        states: &[VmState::C],
    },
    Group {
        name: "garbage collection",
        tip: "LuaJIT was collecting garbage, from interpreted or compiled code",
        colour: Colour::Own("#e38ab9"),
        states: &[VmState::Gc, VmState::GcCompiled],
    },
    Group {
        name: "JIT compiler",
        tip: "LuaJIT was recording, optimising or assembling a trace, or leaving one",
        colour: Colour::Own("#a8487f"),
        states: &[VmState::Exit, VmState::Record, VmState::Optimize, VmState::Assemble],
    },
    Group {
        name: "not in Lua",
        tip: "nginx, its modules, libraries and the kernel, without Lua on the stack",
        colour: Colour::Of(FrameKind::Native),
        states: &[VmState::NotLua],
    },
];

pub(super) fn section(profile: &Profile) -> String {
    if let Some(reason) = profile.no_samples_reason() {
        return format!("<section><p class=\"note bad\"><b>No samples:</b> {}.</p></section>", text(&reason));
    }
    let workers = Workers::of(profile);
    format!(
        "<section>\n<p class=\"verdict\">{}</p>\n<div class=\"tiles\">{}{}{}{}</div>\n{}</section>",
        verdict(profile, &workers),
        cores_tile(profile, &workers),
        lua_tile(profile),
        busiest_tile(profile, &workers),
        loss_tile(profile),
        states(profile)
    )
}

/// The processes whose load is the server's: nginx workers, or everyone where there is no nginx.
struct Workers {
    indices: Vec<usize>,
    samples: Vec<u64>,
    noun: &'static str,
}

impl Workers {
    fn of(profile: &Profile) -> Self {
        let is_worker = |role| matches!(role, Role::Worker | Role::DrainingWorker);
        let all = || 0..profile.processes.len();
        let workers: Vec<usize> = all().filter(|i| is_worker(profile.processes[*i].role)).collect();
        let (indices, noun) =
            if workers.is_empty() { (all().collect(), "process") } else { (workers, "worker") };
        Self { indices, samples: profile.samples_by_process(), noun }
    }

    fn total(&self) -> u64 {
        self.indices.iter().map(|i| self.samples[*i]).sum()
    }

    fn count(&self) -> String {
        match (self.indices.len(), self.noun) {
            (1, noun) => format!("1 {noun}"),
            (count, "process") => format!("{count} processes"),
            (count, noun) => format!("{count} {noun}s"),
        }
    }
}

fn verdict(profile: &Profile, workers: &Workers) -> String {
    let total = profile.total();
    let mut text = format!(
        "{} kept <b>{:.2} cores</b> busy; <b>{}</b> of all CPU time had Lua on the stack.",
        workers.count(),
        profile.cores(workers.total()),
        Share(profile.samples_with_lua(None), total)
    );
    if let Some(row) = top(profile, TopView::Lua).into_iter().find(|r| r.self_samples > 0) {
        let frame = profile.frame(row.frame);
        // A String cannot fail.
        let _ = write!(
            text,
            " Costliest on its own: <code>{}</code>, {}.",
            self::text(&frame.name),
            Share(row.self_samples, total)
        );
    }
    text
}

fn tile(value: &str, what: &str, source: &str, class: &str) -> String {
    format!(
        "<div class=\"tile\"><b class=\"{class}\">{value}</b><span>{what}</span><small>{source}</small></div>"
    )
}

fn cores_tile(profile: &Profile, workers: &Workers) -> String {
    let spent: Option<u64> = workers.indices.iter().map(|i| profile.processes[*i].cpu_ns).sum();
    let check = match spent {
        Some(ns) if profile.duration_ns > 0 => {
            format!("/proc counts {:.2} for the same time.", seconds(ns) / profile.duration_seconds())
        }
        _ => "No second source: /proc could not be read at both ends.".to_owned(),
    };
    tile(
        &format!("{:.2} cores", profile.cores(workers.total())),
        &format!("kept busy by {}, on average", workers.count()),
        &format!("Samples ÷ Hz ÷ seconds. {check}"),
        "",
    )
}

fn lua_tile(profile: &Profile) -> String {
    let (lua, total) = (profile.samples_with_lua(None), profile.total());
    tile(
        &Share(lua, total).to_string(),
        "of CPU time with Lua on the stack",
        &format!("{} of {} samples.", thousands(lua), thousands(total)),
        "",
    )
}

fn busiest_tile(profile: &Profile, workers: &Workers) -> String {
    let busiest = workers.indices.iter().max_by_key(|i| workers.samples[**i]);
    let Some(index) = busiest.copied() else { return String::new() };
    let least = workers.indices.iter().map(|i| workers.samples[*i]).min().unwrap_or_default();
    tile(
        &format!("{:.2} of a core", profile.cores(workers.samples[index])),
        &format!("busiest {}, pid {}", workers.noun, profile.processes[index].pid),
        &format!(
            "The idlest used {:.2}. By samples; 1.00 is one core without a pause.",
            profile.cores(least)
        ),
        "",
    )
}

fn loss_tile(profile: &Profile) -> String {
    let lost: u64 = profile.counters.iter().filter(|c| c.severity == Severity::Loss).map(|c| c.count).sum();
    let uncertainty = profile.uncertainty();
    let class = match (lost, uncertainty.samples) {
        (0, 0) => "good",
        (0, _) => "",
        _ => "bad",
    };
    tile(
        &format!("{} lost", thousands(lost)),
        &format!("{} of samples uncertain", Share(uncertainty.samples, uncertainty.of)),
        "By marks in the stacks and counters of each failure: <a href=\"#lost\">what and why</a>.",
        class,
    )
}

fn states(profile: &Profile) -> String {
    let states = profile.samples_by_vmstate(None);
    let total = profile.total();
    let (mut bar, mut keys) = (String::new(), String::new());
    for group in GROUPS {
        let samples: u64 = states.iter().filter(|(s, _)| group.states.contains(s)).map(|(_, n)| n).sum();
        let share = Share(samples, total);
        let colour = group.colour.css();
        let tip = markup(group.tip);
        if samples > 0 {
            // A String cannot fail, here and below.
            let _ = write!(
                bar,
                "<i style=\"width:{:.3}%;background:{colour}\" title=\"{} {share}: {tip}\"></i>",
                share.percent(),
                group.name
            );
        }
        let _ = write!(
            keys,
            "<li title=\"{tip}\"><i style=\"background:{colour}\"></i><b>{share}</b> {}</li>",
            group.name
        );
    }
    format!(
        "<div class=\"split\">{bar}</div>\n<ul class=\"keys\">{keys}</ul>\n<p class=\"source\">Share of all samples, \
         by LuaJIT’s own state (<code>vmstate</code>) at each sample. \
         Finer: <a href=\"./cpu/by-vmstate.csv\">by-vmstate.csv</a>.</p>"
    )
}
