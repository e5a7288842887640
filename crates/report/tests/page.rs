//! The page, read back strictly.

#[path = "../../profile/tests/common/mod.rs"]
mod common;

use roxmltree::{Document, Node, ParsingOptions};
use upprof_profile::Profile;
use upprof_report::manifest::{Artifact, OwnCost, Skipped};
use upprof_report::{Manifest, Page};

fn page(profile: &Profile, manifest: &Manifest) -> String {
    let mut out = Vec::new();
    Page { profile, manifest }.write(&mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("HTML is UTF-8")
}

fn parse(html: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(html, options).expect("well-formed")
}

fn words(node: Node<'_, '_>) -> String {
    let all: String = node.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect();
    all.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn tags<'a>(document: &'a Document<'_>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |n| n.tag_name().name() == name)
}

fn srcdoc<'a>(document: &'a Document<'_>) -> &'a str {
    tags(document, "iframe").next().and_then(|n| n.attribute("srcdoc")).expect("a frame")
}

fn policy<'a>(document: &'a Document<'_>) -> &'a str {
    let meta = tags(document, "meta").find(|n| n.attribute("http-equiv") == Some("Content-Security-Policy"));
    meta.and_then(|n| n.attribute("content")).expect("a policy")
}

/// Rows of the table that has this text in its heads.
fn rows(document: &Document<'_>, nth: usize) -> Vec<Vec<String>> {
    let table = tags(document, "tbody").nth(nth).expect("a table");
    let cells =
        |row: Node<'_, '_>| row.children().filter(|n| n.tag_name().name() == "td").map(words).collect();
    table.children().filter(|n| n.tag_name().name() == "tr").map(cells).collect()
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let profile = common::gateway();
    let html = page(&profile, &Manifest::of(&profile));
    let document = parse(&html);
    assert!(
        policy(&document).starts_with("default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-")
    );
    let frame = srcdoc(&document).to_owned();
    for document in [&document, &parse(&frame)] {
        for name in
            ["link", "img", "object", "embed", "base", "form", "video", "audio", "source", "use", "image"]
        {
            assert_eq!(tags(document, name).count(), 0, "{name}");
        }
        for attribute in document.descendants().flat_map(|n| n.attributes()) {
            let local = attribute.value().starts_with("./") || attribute.value().starts_with('#');
            assert!(!["src", "href", "data", "action"].contains(&attribute.name()) || local, "{attribute:?}");
        }
    }
    assert!(!html.contains("@import") && !html.contains("url(http"));
}

#[test]
fn the_only_script_is_the_flame_graphs_in_its_sandbox() {
    let profile = common::gateway();
    let html = page(&profile, &Manifest::of(&profile));
    let document = parse(&html);
    assert_eq!(tags(&document, "script").count(), 0);
    let frame = tags(&document, "iframe").next().expect("a frame");
    assert_eq!(frame.attribute("sandbox"), Some("allow-scripts"));
    let inner = parse(srcdoc(&document));
    let scripts: Vec<_> = tags(&inner, "script").collect();
    assert_eq!(scripts.len(), 1);
    let nonce = scripts[0].attribute("nonce").expect("a nonce");
    assert_eq!(nonce.len(), 32);
    assert!(policy(&document).contains(&format!("script-src 'nonce-{nonce}';")));
    let other = page(&profile, &Manifest::of(&profile));
    assert!(!other.contains(nonce), "a nonce is used once");
}

#[test]
fn hostile_text_stays_text() {
    let profile = common::hostile();
    let mut manifest = Manifest::of(&profile);
    let hostile = common::HOSTILE.concat();
    manifest.upprof_version.clone_from(&hostile);
    manifest.host.kernel_release.clone_from(&hostile);
    manifest.capture.ended_by.clone_from(&hostile);
    manifest.skipped.push(Skipped { what: hostile.clone(), why: hostile.clone() });
    manifest.artifacts.push(Artifact { path: hostile.clone(), what: hostile.clone(), size_bytes: None });
    manifest.artifacts.push(Artifact { path: "javascript:alert(1)".into(), ..Artifact::default() });
    let html = page(&profile, &manifest);
    assert!(!html.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    assert!(!html.contains('\u{202e}') && !html.contains('\u{200b}'));
    let document = parse(&html);
    let frame = srcdoc(&document).to_owned();
    let inner = parse(&frame);
    assert_eq!((tags(&document, "script").count(), tags(&inner, "script").count()), (0, 1));
    for document in [&document, &inner] {
        let handler =
            document.descendants().flat_map(|n| n.attributes()).find(|a| a.name().starts_with("on"));
        assert!(handler.is_none(), "{handler:?}");
    }
    assert!(
        tags(&document, "a")
            .filter_map(|n| n.attribute("href"))
            .all(|h| h.starts_with("./") || h.starts_with('#'))
    );
    let all = words(document.root_element());
    assert!(all.contains("<script>alert(1)</script>") && all.contains("\\u{202e}gnp.exe"), "shown, not run");
    assert!(
        words(inner.root_element()).contains("lua:<script>alert(1)</script>@<script>alert(1)</script>:3")
    );
}

#[test]
fn the_first_screen_has_the_numbers() {
    let profile = common::tiny();
    let html = page(&profile, &Manifest::of(&profile));
    let document = parse(&html);
    let header = words(tags(&document, "header").next().expect("a header"));
    assert!(header.starts_with("CPU profile of gateway"), "{header}");
    assert!(
        header.contains("2026-04-14 10:11:12 UTC · 10.0 s · 100 Hz on each CPU · 100 samples · 3 processes")
    );
    let main = words(tags(&document, "main").next().expect("a page"));
    // 99 samples of the two workers at 100 Hz in 10 s.
    assert!(
        main.starts_with("2 workers kept 0.10 cores busy; 98.0 % of all CPU time had Lua on the stack."),
        "{main}"
    );
    assert!(main.contains("Costliest on its own: hot, 50.0 %."), "{main}");
    for share in [
        "33.0 % interpreted Lua",
        "50.0 % compiled Lua",
        "9.0 % C called from Lua",
        "6.0 % garbage collection",
        "0.0 % JIT compiler",
        "2.0 % not in Lua",
    ] {
        assert!(main.contains(share), "{share}: {main}");
    }
}

#[test]
fn tables_agree_with_the_profile() {
    let profile = common::tiny();
    let html = page(&profile, &Manifest::of(&profile));
    let document = parse(&html);
    let own = rows(&document, 0);
    assert_eq!(own[0], ["hot/app/hot.lua:5", "50.0 %", "50.0 %", "100 %"]);
    assert_eq!(own[1], ["access/app/main.lua:10", "39.0 %", "98.0 %", "0 %"]);
    assert_eq!(own[2], ["string.gsubC", "9.0 %", "9.0 %", "–"]);
    let total = rows(&document, 1);
    assert_eq!(total[0][0], "access/app/main.lua:10");
    let native = rows(&document, 2);
    assert_eq!(native[0], ["lj_str_newlibluajit.so", "9.0 %", "9.0 %"]);
    let processes = rows(&document, 3);
    assert_eq!(processes[1], ["1002", "2", "worker", "95", "95.0 %", "0.10", "0.95", "1.23", "100.0 %"]);
    assert_eq!(processes[2][1], "–");
    assert_eq!(processes[2][7], "not known");
    assert_eq!(processes[2][8], "not read: layout not known, see \"doctor\"");
}

#[test]
fn losses_are_told_in_words() {
    let mut profile = common::tiny();
    let told = |profile: &Profile| words(parse(&page(profile, &Manifest::of(profile))).root_element());
    let text = told(&profile);
    // One sample of 100 ends in an address that nothing is known of.
    let uncertain = "1.0 % of samples uncertain (1 of 100), because code lies in no file (1).";
    assert!(text.contains(&format!("Nothing was lost. {uncertain}")), "{text}");
    assert!(
        text.contains("Stacks cut at the root. stack_too_deep")
            || text.contains("Stacks cut at the root.stack_too_deep")
    );
    profile.counters[0].count = 1_234;
    let text = told(&profile);
    assert!(
        text.contains(&format!("1,234 were lost, beside the 100 samples that are here. {uncertain}")),
        "{text}"
    );
    profile.counters.iter_mut().for_each(|c| c.count = 0);
    profile.samples.pop();
    let text = told(&profile);
    assert!(text.contains("Nothing was lost. No sample uncertain."), "{text}");
    profile.counters.clear();
    assert!(told(&profile).contains("nothing can be said about losses"));
}

#[test]
fn the_manifest_is_on_the_page() {
    let profile = common::tiny();
    let mut manifest = Manifest::of(&profile);
    manifest.own_cost = OwnCost {
        bpf_total_ns: Some(50_000_000),
        bpf_runs: Some(1_000),
        upprof_cpu_ns: Some(3_000_000_000),
        upprof_window_cpu_ns: Some(1_000_000_000),
        upprof_max_rss_bytes: Some(32 << 20),
        ..OwnCost::default()
    };
    manifest.skipped.push(Skipped { what: "offcpu/".into(), why: "not asked for".into() });
    manifest.artifacts.push(Artifact {
        path: "cpu/flame.svg".into(),
        what: "Flame graph".into(),
        size_bytes: Some(2_048),
    });
    let html = page(&profile, &manifest);
    let document = parse(&html);
    let text = words(document.root_element());
    for expected in [
        "50.0 ms = 0.50 % of one core, 1,000 runs, 50.0 µs each (kernel’s bpf_stats)",
        "1.00 s = 10.00 % of one core (getrusage, in the window)",
        "3.00 s of CPU time (getrusage, from start to this page)",
        "32.0 MiB at most",
        "cpu/flame.svg2.0 KiBFlame graph",
        "offcpu/not asked for",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(tags(&document, "a").any(|n| n.attribute("href") == Some("./cpu/flame.svg")));
    let bare = words(parse(&page(&profile, &Manifest::default())).root_element());
    assert!(
        bare.contains("Nothing was skipped.") && bare.contains("What the capture cost Not measured."),
        "{bare}"
    );
}

#[test]
fn no_samples_is_a_page_that_says_why() {
    for profile in [common::idle(), Profile::default()] {
        let html = page(&profile, &Manifest::of(&profile));
        let document = parse(&html);
        let reason = profile.no_samples_reason().expect("a reason");
        assert!(words(document.root_element()).contains(&format!("No samples: {reason}.")));
        assert_eq!(tags(&document, "iframe").count(), 0);
        let here: Vec<&str> = document.descendants().filter_map(|n| n.attribute("id")).collect();
        for link in tags(&document, "a").filter_map(|n| n.attribute("href")?.strip_prefix('#')) {
            assert!(here.contains(&link), "#{link} leads nowhere");
        }
    }
}

#[test]
fn a_function_without_a_symbol_names_its_module_once() {
    let mut m = common::Maker::default();
    let worker = m.process(1, upprof_profile::Role::Worker, None);
    m.sample(worker, upprof_profile::VmState::NotLua, 1, &["native libx.so+0x10 libx.so"]);
    let html = page(&m.profile, &Manifest::of(&m.profile));
    assert_eq!(rows(&parse(&html), 0)[0][0], "libx.so+0x10");
}
