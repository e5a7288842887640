//! What was lost or is uncertain, in plain words.

use std::fmt::Write;

use upprof_profile::number::thousands;
use upprof_profile::{Counter, Profile, Severity};

use super::text::text;

pub(super) fn section(profile: &Profile) -> String {
    let mut counters: Vec<&Counter> = profile.counters.iter().collect();
    // What happened comes first, the worst of it on top; the rest says what was looked for.
    counters.sort_by_key(|c| (c.count == 0, c.severity as u8, std::cmp::Reverse(c.count)));
    let mut body = String::new();
    for counter in counters {
        let (class, word) = match counter.severity {
            _ if counter.count == 0 => ("", "–"),
            Severity::Loss => ("bad", "lost"),
            Severity::Doubt => ("doubt", "less exact"),
            Severity::Info => ("", "for information"),
        };
        // A String cannot fail, here and below.
        let _ = writeln!(
            body,
            "<tr><td class=\"n {class}\">{}</td><td class=\"{class}\">{word}</td><td>{}<span class=\"where\">{}</span></td></tr>",
            thousands(counter.count),
            text(&counter.meaning),
            text(&counter.name)
        );
    }
    let mut html = format!("<section><h2 id=\"lost\">Lost or uncertain</h2>\n{}\n", summary(profile));
    if !body.is_empty() {
        let _ = write!(
            html,
            "<div class=\"scroll\"><table class=\"counters\"><thead><tr><th class=\"n\">Count</th><th></th><th>What it means</th></tr></thead>\n\
             <tbody>{body}</tbody></table></div>"
        );
    }
    html.push_str("</section>");
    html
}

/// Two sentences: what is missing, and what is there but not known exactly.
fn summary(profile: &Profile) -> String {
    let lost: u64 = profile.counters.iter().filter(|c| c.severity == Severity::Loss).map(|c| c.count).sum();
    let uncertainty = profile.uncertainty();
    let class = match (profile.counters.is_empty(), lost, uncertainty.samples) {
        (true, ..) => "doubt",
        (_, 0, 0) => "good",
        (_, 0, _) => "doubt",
        _ => "bad",
    };
    let loss = match (profile.counters.is_empty(), lost) {
        (true, _) => "No counters were recorded, so nothing can be said about losses.".to_owned(),
        (_, 0) => "<b>Nothing was lost.</b>".to_owned(),
        (_, lost) => format!(
            "<b>{} were lost</b>, beside the {} samples that are here.",
            thousands(lost),
            thousands(profile.total())
        ),
    };
    let sentence = uncertainty.sentence();
    let (first, rest) = sentence.split_at(1);
    format!("<p class=\"note {class}\">{loss} {}{}.</p>", first.to_uppercase(), text(rest))
}
