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

fn summary(profile: &Profile) -> String {
    let count = |severity| -> u64 {
        profile.counters.iter().filter(|c| c.severity == severity).map(|c| c.count).sum()
    };
    let (lost, doubtful) = (count(Severity::Loss), count(Severity::Doubt));
    let total = thousands(profile.total());
    let counters = profile.counters.len();
    let (class, sentence) = match (counters, lost, doubtful) {
        (0, ..) => ("doubt", "No counters were recorded, so nothing can be said about losses.".to_owned()),
        (_, 0, 0) => (
            "good",
            format!(
                "<b>Nothing was lost</b> and nothing is uncertain: all {counters} counters of failures are at zero."
            ),
        ),
        (_, 0, n) => (
            "doubt",
            format!(
                "<b>Nothing was lost.</b> {} of {total} samples or stacks are less exact, as told below.",
                thousands(n)
            ),
        ),
        (_, l, n) => (
            "bad",
            format!(
                "<b>{} were lost</b>, beside the {total} samples that are here, and {} are less exact.",
                thousands(l),
                thousands(n)
            ),
        ),
    };
    format!("<p class=\"note {class}\">{sentence}</p>")
}
