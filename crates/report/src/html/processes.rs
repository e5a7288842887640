//! One row a process: who did the work, and where Lua could not be read.

use std::fmt::Write;

use upprof_profile::Profile;
use upprof_profile::number::{seconds, thousands};

use super::functions::share_cell;
use super::text::{Share, text};

pub(super) fn section(profile: &Profile) -> String {
    let mut body = String::new();
    for (index, samples) in profile.samples_by_process().into_iter().enumerate() {
        let process = &profile.processes[index];
        let ns_pid = process.ns_pid.map_or_else(|| "–".to_owned(), |pid| pid.to_string());
        let spent = process.cpu_ns.map_or_else(|| "not known".to_owned(), |ns| format!("{:.2}", seconds(ns)));
        let lua = match &process.lua_unavailable {
            Some(why) => format!("<td><span class=\"doubt\">not read:</span> {}</td>", text(why)),
            None if samples == 0 => "<td>–</td>".to_owned(),
            None => format!("<td>{}</td>", Share(profile.samples_with_lua(Some(index)), samples)),
        };
        // A String cannot fail.
        let _ = writeln!(
            body,
            "<tr><td class=\"n\">{}</td><td class=\"n\">{ns_pid}</td><td>{}</td><td class=\"n\">{}</td>{}\
             <td class=\"n\">{:.2}</td><td class=\"n\">{:.2}</td><td class=\"n\">{spent}</td>{lua}</tr>",
            process.pid,
            process.role,
            thousands(samples),
            share_cell(samples, profile.total()),
            profile.cores(samples),
            profile.sampled_seconds(samples),
        );
    }
    format!(
        "<section><h2 id=\"processes\">Workers and other processes</h2>\n<p class=\"source\">CPU by sampling is samples ÷ Hz; \
         CPU by <code>/proc/PID/stat</code> is the kernel’s own count, in steps of 10 ms. They should agree to a few \
         percent. Also as <a href=\"./cpu/by-worker.csv\">by-worker.csv</a>.</p>\n<div class=\"scroll\"><table class=\"processes\"><thead><tr>\
         <th class=\"n\">Pid</th><th class=\"n\">Pid in container</th><th>Role</th><th class=\"n\">Samples</th>\
         <th class=\"n share\">Share</th><th class=\"n\">Cores busy</th><th class=\"n\">CPU s<br/>by sampling</th>\
         <th class=\"n\">CPU s<br/>by /proc</th><th>Lua on the stack</th></tr></thead>\n<tbody>{body}</tbody></table></div>\
         </section>"
    )
}
