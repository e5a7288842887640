//! The bundle's files, how it was measured, what that cost, and what was left out: the manifest.

use std::fmt::Write;

use upprof_profile::number::{float, thousands};

use super::text::{bytes, duration, href, text};
use crate::manifest::{LuaVm, Manifest};

pub(super) fn section(manifest: &Manifest) -> String {
    format!(
        "<section>{}</section>\n<section>{}</section>\n<section>{}</section>\n<section>{}</section>",
        files(manifest),
        skipped(manifest),
        measured(manifest),
        cost(manifest)
    )
}

fn files(manifest: &Manifest) -> String {
    let mut body = String::new();
    for file in &manifest.artifacts {
        let size = file.size_bytes.map_or_else(String::new, bytes);
        // A String cannot fail, here and below.
        let _ = writeln!(
            body,
            "<tr><td><a href=\"{}\">{}</a></td><td class=\"n\">{size}</td><td>{}</td></tr>",
            href(&file.path),
            text(&file.path),
            text(&file.what)
        );
    }
    format!(
        "<h2 id=\"files\">Files</h2>\n<div class=\"scroll\"><table class=\"stack\"><thead><tr><th>File</th><th class=\"n\">Size</th>\
         <th>What it is</th></tr></thead>\n<tbody>{body}</tbody></table></div>"
    )
}

fn skipped(manifest: &Manifest) -> String {
    let mut html = String::from("<h2 id=\"skipped\">Left out</h2>\n");
    if manifest.skipped.is_empty() {
        html.push_str("<p class=\"note good\">Nothing was skipped.</p>");
        return html;
    }
    html.push_str("<dl>");
    for skipped in &manifest.skipped {
        let _ = write!(html, "<dt>{}</dt><dd>{}</dd>", text(&skipped.what), text(&skipped.why));
    }
    html.push_str("</dl>");
    html
}

fn measured(manifest: &Manifest) -> String {
    let mut list = List::default();
    if let Some(container) = &manifest.container {
        let runtime = container.runtime.as_ref().map(|r| format!(" ({})", text(r))).unwrap_or_default();
        list.add("Container", &format!("{}{runtime}", text(&container.name)));
        list.text("Container id", &container.id);
        list.text("Image", container.image.as_deref().unwrap_or_default());
    }
    let host = &manifest.host;
    list.text("Kernel", &format!("{} {}", host.kernel_release, host.machine));
    if let Some(cpus) = host.cpus_online {
        list.add("CPUs online", &cpus.to_string());
    }
    let capture = &manifest.capture;
    list.text("Window", &capture.started_utc);
    let asked = capture.duration_asked_ns.map(|ns| match ns {
        0 => ", asked for: until stopped".to_owned(),
        ns => format!(", asked for: {}", duration(ns)),
    });
    list.add("Length", &format!("{}{}", duration(capture.duration_ns), asked.unwrap_or_default()));
    list.text("Ended by", &capture.ended_by);
    if let Some(ns) = capture.set_up_ns {
        list.add("Set-up", &format!("{} before the first sample", duration(ns)));
    }
    list.text("Samples by", &capture.sampling_source);
    list.add(
        "Frequency",
        &format!("{} Hz on each CPU, while a sampled process runs on it", capture.frequency_hz),
    );
    for vm in &manifest.lua_vms {
        list.add(&format!("Lua VM of pid {}", vm.pid), &lua_vm(vm));
    }
    format!("<h2 id=\"how\">How it was measured</h2>\n{}", list.html())
}

fn lua_vm(vm: &LuaVm) -> String {
    let version = vm.version.as_ref().map(|v| format!(", {}", text(v))).unwrap_or_default();
    format!(
        "{}{version}; layout <code>{}</code><br/><small>Believed because {}</small>",
        text(&vm.module),
        text(&vm.layout),
        text(&vm.trusted_because)
    )
}

fn cost(manifest: &Manifest) -> String {
    let cost = &manifest.own_cost;
    let window = float(manifest.capture.duration_ns);
    let of_core = |ns: u64| match window > 0.0 {
        true => format!(" = {:.2} % of one core", float(ns) * 100.0 / window),
        false => String::new(),
    };
    let mut list = List::default();
    if let Some(ns) = cost.bpf_total_ns {
        let runs = cost.bpf_runs.map(|runs| format!(", {} runs", thousands(runs))).unwrap_or_default();
        let mean = cost.bpf_mean_ns().map(|ns| format!(", {} each", duration(ns))).unwrap_or_default();
        list.add(
            "In the kernel",
            &format!("{}{}{runs}{mean} <small>(kernel’s bpf_stats)</small>", duration(ns), of_core(ns)),
        );
    }
    if let Some(ns) = cost.upprof_window_cpu_ns {
        let value = format!("{}{} <small>(getrusage, in the window)</small>", duration(ns), of_core(ns));
        list.add("upprof, sampling", &value);
    }
    if let Some(ns) = cost.upprof_cpu_ns {
        let value =
            format!("{} of CPU time <small>(getrusage, from start to this page)</small>", duration(ns));
        list.add("upprof, all in all", &value);
    }
    if let Some(ns) = cost.finish_ns {
        list.add("After the window", &format!("{} to name frames and write files", duration(ns)));
    }
    if let Some(rss) = cost.upprof_max_rss_bytes {
        list.add("Memory, upprof", &format!("{} at most <small>(getrusage)</small>", bytes(rss)));
    }
    if let Some(kernel) = cost.kernel_memory_bytes {
        list.add("Memory, kernel", &format!("{} of maps and buffers", bytes(kernel)));
    }
    let body =
        if list.0.is_empty() { "<p class=\"note doubt\">Not measured.</p>".to_owned() } else { list.html() };
    format!("<h2 id=\"cost\">What the capture cost</h2>\n{body}")
}

/// Terms and what is known of them; what is not known is left out.
#[derive(Default)]
struct List(String);

impl List {
    /// `value` is markup.
    fn add(&mut self, term: &str, value: &str) {
        let _ = writeln!(self.0, "<dt>{term}</dt><dd>{value}</dd>");
    }

    /// `value` is text.
    fn text(&mut self, term: &str, value: &str) {
        if !value.trim().is_empty() {
            self.add(term, &text(value.trim()));
        }
    }

    fn html(self) -> String {
        format!("<dl>{}</dl>", self.0)
    }
}
