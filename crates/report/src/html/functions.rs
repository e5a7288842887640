//! Tables of the costliest functions.

use std::fmt::Write;

use upprof_profile::export::legend;
use upprof_profile::number::thousands;
use upprof_profile::{Frame, FrameKind, Profile, TopRow, TopView, by_total, top};

use super::text::{Share, path, text};

const LUA_ROWS: usize = 15;
const NATIVE_ROWS: usize = 10;

pub(super) fn section(profile: &Profile) -> String {
    if profile.total() == 0 {
        return String::new();
    }
    let lua = top(profile, TopView::Lua);
    let mut html = String::from("<section><h2 id=\"functions\">Functions</h2>\n");
    if lua.is_empty() {
        html.push_str("<p class=\"note doubt\">No sample has Lua on the stack. The table of ");
        html.push_str(
            "<a href=\"#processes\">processes</a> says where Lua could not be read, and why.</p>\n",
        );
    } else {
        html.push_str(
            "<p class=\"source\">Share of all samples. <b>Self</b>: in the function itself, with the native code, \
             kernel and compiled code that run for it, but without the Lua and C functions it calls. <b>Total</b>: \
             with them; recursion counts once.</p>\n<div class=\"two\">",
        );
        let own: Vec<TopRow> = lua.iter().filter(|r| r.self_samples > 0).copied().collect();
        html.push_str(&lua_table(profile, "Top Lua functions by self", &own));
        html.push_str(&lua_table(profile, "Top Lua functions by total", &by_total(lua)));
        html.push_str("</div>\n");
    }
    html.push_str(&native_table(profile));
    html.push_str("</section>");
    html
}

fn lua_table(profile: &Profile, title: &str, rows: &[TopRow]) -> String {
    let mut body = String::new();
    for row in rows.iter().take(LUA_ROWS) {
        let compiled = match row.self_samples {
            0 => "–".to_owned(),
            own if profile.frame(row.frame).kind == FrameKind::Lua => {
                format!("{:.0} %", Share(row.self_compiled, own).percent())
            }
            _ => "–".to_owned(),
        };
        // A String cannot fail, here and below.
        let _ = writeln!(
            body,
            "<tr><td>{}</td>{}{}<td class=\"n wide\">{compiled}</td></tr>",
            name(profile.frame(row.frame)),
            share_cell(row.self_samples, profile.total()),
            share_cell(row.total_samples, profile.total()),
        );
    }
    format!(
        "<div><h3>{title}</h3><div class=\"scroll\"><table class=\"functions\"><thead><tr><th>Function</th><th class=\"n share\">Self</th>\
         <th class=\"n share\">Total</th><th class=\"n wide\" title=\"Share of the self time that ran in compiled \
         traces\">Self<br/>compiled</th></tr></thead>\n<tbody>{body}</tbody></table></div></div>"
    )
}

fn native_table(profile: &Profile) -> String {
    let native = |row: &&TopRow| {
        let kind = profile.frame(row.frame).kind;
        row.self_samples > 0 && !kind.is_lua() && kind != FrameKind::Marker
    };
    let rows = top(profile, TopView::All);
    let mut body = String::new();
    for row in rows.iter().filter(native).take(NATIVE_ROWS) {
        let _ = writeln!(
            body,
            "<tr><td>{}</td>{}{}</tr>",
            name(profile.frame(row.frame)),
            share_cell(row.self_samples, profile.total()),
            share_cell(row.total_samples, profile.total()),
        );
    }
    if body.is_empty() {
        return String::new();
    }
    format!(
        "<h3>Top native and kernel functions by self</h3><p class=\"source\">Share of all samples in which the function \
         is the leaf, whoever called it.</p><div class=\"scroll narrow\"><table class=\"functions\"><thead><tr><th>Function</th>\
         <th class=\"n share\">Self</th><th class=\"n share\">Total</th></tr></thead>\n<tbody>{body}</tbody></table></div>"
    )
}

fn name(frame: &Frame) -> String {
    let shown = match frame.name.as_str() {
        "" if frame.kind == FrameKind::Unknown => "unknown address".to_owned(),
        "" => "?".to_owned(),
        name => text(name),
    };
    let place = match (&frame.file, frame.line) {
        // A function without a symbol is named by its module already.
        (Some(file), 0) if frame.name.strip_prefix(file).is_some_and(|rest| rest.starts_with('+')) => {
            String::new()
        }
        (Some(file), 0) => format!("<span class=\"where\">{}</span>", path(file)),
        (Some(file), line) => format!("<span class=\"where\">{}:{line}</span>", path(file)),
        (None, _) => String::new(),
    };
    format!("<code>{shown}</code>{}{place}", tag(frame.kind))
}

/// What the function is, where that is not what the table's title says.
fn tag(kind: FrameKind) -> String {
    let word = match kind {
        FrameKind::LuaC => "C",
        FrameKind::Kernel => "kernel",
        FrameKind::Unknown => "unknown",
        _ => return String::new(),
    };
    let colour = legend().iter().find(|e| e.kind == kind).map_or_else(String::new, |e| e.css());
    format!("<span class=\"tag\" style=\"background:{colour}\">{word}</span>")
}

/// A share with a bar behind it and the number of samples as a tooltip.
pub(super) fn share_cell(samples: u64, total: u64) -> String {
    let share = Share(samples, total);
    format!(
        "<td class=\"n share\" style=\"--w:{:.1}%\" title=\"{} of {} samples\">{share}</td>",
        share.percent(),
        thousands(samples),
        thousands(total)
    )
}
