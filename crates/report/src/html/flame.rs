//! The flame graph in a frame of its own, and its legend.

use std::fmt::Write;

use upprof_profile::Profile;
use upprof_profile::export::{ExportError, FlameGraph, FlameView, legend};

use super::text::{markup, text};

const FRAME_STYLE: &str = include_str!("frame.css");
/// Height of the search bar above the picture and of the frame's borders, in pixels.
const BAR: u32 = 46;

pub(super) fn section(profile: &Profile, nonce: &str) -> Result<String, ExportError> {
    let mut html = String::from("<section><h2 id=\"flame\">Flame graph</h2>\n");
    let Some(flame) = FlameGraph::new(FlameView::All).embedded(profile)? else {
        let reason = profile.no_samples_reason().unwrap_or_default();
        // A String cannot fail, here and below.
        let _ = write!(html, "<p class=\"note doubt\">No samples: {}.</p></section>", text(&reason));
        return Ok(html);
    };
    let _ = write!(
        html,
        "<p class=\"source\">Every box is a function; its width is its share of all samples, with what it calls \
         below it. Left to right is no order in time. Boxes under 0.01 % are not drawn. Click to zoom. \
         As files: <a href=\"./cpu/flame.svg\">everything</a>, <a href=\"./cpu/lua.svg\">Lua only</a>.</p>\n{}\n",
        legend_list()
    );
    // A document in an attribute, not a data: URL: browsers cut those off at some megabytes. The
    // sandbox gives it an origin of its own, without any right but to run its script.
    let script = format!("<script nonce=\"{nonce}\" ");
    let document = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"/><title>Flame graph</title>\
         <style>{FRAME_STYLE}</style></head><body><div id=\"bar\"><input id=\"term\" type=\"search\" \
         placeholder=\"Search, e.g. ^lua: or gsub\" aria-label=\"Search functions, regular expression\"/>\
         <span>Click a box to zoom in, “all” to zoom out.</span></div>{}</body></html>",
        flame.svg.replacen("<script ", &script, 1)
    );
    let _ = write!(
        html,
        "<iframe title=\"Flame graph\" sandbox=\"allow-scripts\" height=\"{}\" srcdoc=\"{}\"></iframe></section>",
        flame.height + BAR,
        markup(&document)
    );
    Ok(html)
}

fn legend_list() -> String {
    let entries = legend().iter().map(|entry| {
        format!(
            "<li><i style=\"background:{}\"></i>{} <code>{}</code></li>",
            entry.css(),
            markup(entry.meaning),
            markup(entry.mark)
        )
    });
    format!("<ul class=\"keys\">{}</ul>", entries.collect::<String>())
}
