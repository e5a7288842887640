//! Whose work the CPU did: small tables by route, host, phase and plugin.

use std::fmt::Write;

use upprof_profile::{Origin, Profile};

use super::functions::share_cell;
use super::text::text;

const ROWS: usize = 10;

pub(super) fn section(profile: &Profile) -> String {
    if !told(profile) {
        return String::new();
    }
    let routes = profile.by_route().into_iter().map(|((method, path), samples)| {
        let route = if method.is_empty() { path.into_owned() } else { format!("{method} {path}") };
        (route, samples)
    });
    let hosts = profile.by_host().into_iter().map(|(host, samples)| (host.into_owned(), samples));
    let mut html = String::from(
        "<section><h2 id=\"requests\">Requests</h2>\n<p class=\"source\">Share of all samples by the request that Lua \
         ran for, read from nginx’s memory in each sample with Lua on the stack; without query strings.</p>\
         <div class=\"two\">",
    );
    html.push_str(&table("Routes", "by-route", "Method and path", routes.collect()));
    html.push_str(&table("Phases", "by-phase", "Phase", profile.by_phase()));
    html.push_str(&table("Hosts", "by-host", "Host", hosts.collect()));
    let plugins: Vec<(String, u64)> = profile
        .by_plugin()
        .into_iter()
        .map(|(plugin, samples)| (plugin.map_or("(no plugin)".to_owned(), |p| p.name.to_owned()), samples))
        .collect();
    if plugins.len() > 1 {
        html.push_str(&table("Plugins", "by-plugin", "Plugin", plugins));
    }
    html.push_str("</div></section>");
    html
}

/// Whether any sample says whose it is.
pub(super) fn told(profile: &Profile) -> bool {
    profile.samples.iter().any(|s| !matches!(profile.origin(s), Origin::NotLua | Origin::Unknown))
}

fn table(title: &str, file: &str, head: &str, rows: Vec<(String, u64)>) -> String {
    // Every table's rows add up to all samples.
    let total = rows.iter().map(|(_, samples)| samples).sum();
    let mut body = String::new();
    for (name, samples) in rows.iter().take(ROWS) {
        // A String cannot fail.
        let _ =
            writeln!(body, "<tr><td><code>{}</code></td>{}</tr>", text(name), share_cell(*samples, total));
    }
    let more = match rows.len().saturating_sub(ROWS) {
        0 => String::new(),
        more => format!(" {more} more there."),
    };
    format!(
        "<div><h3>{title}</h3><p class=\"source\">Also as <a href=\"./cpu/{file}.csv\">{file}.csv</a>.{more}</p>\
         <div class=\"scroll\"><table class=\"functions\"><thead><tr><th>{head}</th><th class=\"n share\">Share</th></tr></thead>\n\
         <tbody>{body}</tbody></table></div></div>"
    )
}
