//! Flame graphs, read back as strict XML.

mod common;

use roxmltree::{Document, Node, ParsingOptions};
use upprof_profile::export::{Exporter, FlameGraph, FlameView, Style, frame_text, legend};
use upprof_profile::{Frame, FrameKind, OriginId, Profile, Role, Sample, VmState};

fn svg(view: FlameView, profile: &Profile) -> String {
    let mut out = Vec::new();
    FlameGraph::new(view).write(profile, &mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("SVG is UTF-8")
}

fn parse(svg: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(svg, options).expect("strict XML")
}

fn by_id<'a>(document: &'a Document<'_>, id: &str) -> Node<'a, 'a> {
    document.descendants().find(|n| n.attribute("id") == Some(id)).expect(id)
}

fn words(node: Node<'_, '_>) -> String {
    node.descendants().filter_map(|n| n.text().filter(|_| n.is_text())).collect()
}

/// Text of each box without the numbers, and its colour.
fn boxes<'a>(document: &'a Document<'_>) -> Vec<(String, &'a str)> {
    let groups =
        by_id(document, "frames").children().filter(|n| n.has_tag_name("g") || n.tag_name().name() == "g");
    groups
        .map(|group| {
            let child = |name| group.children().find(|n| n.tag_name().name() == name).expect(name);
            let title = words(child("title"));
            let (text, _) = title.rsplit_once(" (").expect("numbers");
            (text.to_owned(), child("rect").attribute("fill").expect("a colour"))
        })
        .collect()
}

fn scripts(document: &Document<'_>) -> usize {
    document.descendants().filter(|n| n.tag_name().name() == "script").count()
}

fn rgb(fill: &str) -> [i32; 3] {
    let numbers = fill.trim_start_matches("rgb(").trim_end_matches(')').split(',');
    let parsed: Vec<i32> = numbers.map(|n| n.parse().expect("a number")).collect();
    parsed.try_into().expect("three channels")
}

/// The kind whose legend colour is nearest.
fn nearest(fill: &str) -> FrameKind {
    let distance =
        |a: [u8; 3]| -> i32 { a.iter().zip(rgb(fill)).map(|(x, y)| (i32::from(*x) - y).pow(2)).sum() };
    legend().iter().min_by_key(|e| distance(e.rgb)).expect("a legend").kind
}

#[test]
fn a_picture_of_a_part_says_so() {
    let focused = common::tiny().focused("ho<t>", |text| text.contains("hot"));
    let style = Style { lines: true, inverted: true };
    let mut out = Vec::new();
    FlameGraph::styled(FlameView::All, style).write(&focused, &mut out).expect("a Vec takes everything");
    let svg = String::from_utf8(out).expect("SVG is UTF-8");
    let document = parse(&svg);
    let subtitle = words(by_id(&document, "subtitle"));
    assert!(subtitle.starts_with("only stacks with ho<t>: 50 of 100 samples"), "{subtitle}");
    assert!(subtitle.contains("inverted"), "{subtitle}");
    let boxes = boxes(&document);
    let hot = boxes.iter().find(|(text, _)| text == "lua:hot@/app/hot.lua:5#7").expect("hot with its line");
    assert_eq!(nearest(hot.1), FrameKind::Lua);
}

#[test]
fn every_frame_is_drawn_once_in_the_colour_of_its_kind() {
    let profile = common::tiny();
    let svg = svg(FlameView::All, &profile);
    let document = parse(&svg);
    let drawn = boxes(&document);
    for frame in &profile.frames {
        let text = frame_text(frame);
        let fills: Vec<_> = drawn.iter().filter(|(t, _)| *t == text).map(|(_, f)| nearest(f)).collect();
        assert!(!fills.is_empty() && fills.iter().all(|k| *k == frame.kind), "{text}: {fills:?}");
    }
    assert!(drawn.iter().any(|(text, fill)| text == "[master]" && nearest(fill) == FrameKind::Marker));
    assert_eq!(drawn.iter().filter(|(text, _)| text == "all").count(), 1);
}

#[test]
fn siblings_with_a_common_beginning_are_not_split() {
    let mut m = common::Maker::default();
    let worker = m.process(1, Role::Worker, None);
    for leaf in ["native x m", "native y m"] {
        m.sample(worker, VmState::NotLua, 1, &["lua f a.lua 1", leaf]);
        m.sample(worker, VmState::NotLua, 1, &["lua f a.lua 12", leaf]);
        m.sample(worker, VmState::NotLua, 1, &["kernel read", leaf]);
        m.sample(worker, VmState::NotLua, 1, &["native read libc", leaf]);
    }
    m.sample(worker, VmState::NotLua, 1, &["lua f a.lua 1"]);
    let svg = svg(FlameView::All, &m.profile);
    let document = parse(&svg);
    let drawn = boxes(&document);
    for text in ["lua:f@a.lua:1", "lua:f@a.lua:12", "read [kernel]", "read"] {
        assert_eq!(drawn.iter().filter(|(t, _)| t == text).count(), 1, "{text}");
    }
}

#[test]
fn lua_view_has_lua_only_and_says_of_how_many_samples() {
    let svg = svg(FlameView::Lua, &common::tiny());
    let document = parse(&svg);
    let drawn: Vec<String> = boxes(&document).into_iter().map(|(text, _)| text).collect();
    for text in ["lua:access@/app/main.lua:10", "[trace loop@/app/hot.lua:7]", "cfunc:string.gsub", "[GC]"] {
        assert!(drawn.iter().any(|t| t == text), "{text} is missing");
    }
    for text in ["main", "lj_str_new", "gc_sweep", "[unknown]", "do_syscall_64 [kernel]", "[master]"] {
        assert!(!drawn.iter().any(|t| t == text), "{text} is no Lua");
    }
    let subtitle = words(by_id(&document, "subtitle"));
    assert!(subtitle.starts_with("98 of 100 samples (98.0 %) have Lua on the stack"), "{subtitle}");
    let frames = by_id(&document, "frames");
    assert_eq!(frames.attribute("total_samples"), Some("98"));
    let shown = words(by_id(&document, "legend"));
    assert!(shown.contains("compiled Lua") && !shown.contains("kernel"), "{shown}");
}

#[test]
fn title_subtitle_and_legend_say_what_the_picture_means() {
    let svg = svg(FlameView::All, &common::tiny());
    let document = parse(&svg);
    assert_eq!(words(by_id(&document, "title")), "CPU time of gateway, 10.0 s at 100 Hz, 100 samples");
    let subtitle = words(by_id(&document, "subtitle"));
    assert!(subtitle.starts_with("1 sample = 10.0 ms of one core's time"), "{subtitle}");
    assert!(subtitle.contains("0.10 cores busy on average"), "{subtitle}");
    let row = by_id(&document, "legend");
    let shown = words(row);
    for entry in legend() {
        assert!(shown.contains(entry.mark) && shown.contains(entry.meaning), "{entry:?}");
        assert!(row.children().any(|n| n.attribute("fill") == Some(&entry.css())), "{entry:?}");
    }
}

#[test]
fn the_legend_has_room_of_its_own() {
    let svg = svg(FlameView::All, &common::gateway());
    let document = parse(&svg);
    let number =
        |node: Node<'_, '_>, name: &str| node.attribute(name).expect(name).parse::<f64>().expect(name);
    let legend = by_id(&document, "legend");
    let swatch = legend.children().find(|n| n.tag_name().name() == "rect").expect("a swatch");
    let bottom = number(swatch, "y") + number(swatch, "height");
    assert!(bottom < number(by_id(&document, "details"), "y") - 10.0, "details are below the legend");
    let frames = by_id(&document, "frames");
    let first = frames.descendants().find(|n| n.tag_name().name() == "rect").expect("a box");
    assert!(number(frames, "y") + number(first, "y") > number(by_id(&document, "details"), "y"));
    let lowest = frames
        .descendants()
        .filter(|n| n.tag_name().name() == "rect")
        .map(|n| number(n, "y") + number(n, "height"));
    let lowest = lowest.fold(0.0, f64::max) + number(frames, "y");
    assert!(lowest <= number(document.root_element(), "height"), "the picture ends at {lowest}");
}

#[test]
fn hostile_names_stay_text() {
    let profile = common::hostile();
    for view in [FlameView::All, FlameView::Lua] {
        let svg = svg(view, &profile);
        let document = parse(&svg);
        assert_eq!(scripts(&document), 1, "inferno's own script and no other");
        let handlers =
            document.descendants().flat_map(|n| n.attributes()).filter(|a| a.name().starts_with("on"));
        assert_eq!(handlers.map(|a| a.value()).collect::<Vec<_>>(), ["init(evt)"]);
        assert!(words(by_id(&document, "title")).contains("<script>alert(1)</script>"));
        let drawn: Vec<String> = boxes(&document).into_iter().map(|(text, _)| text).collect();
        for frame in profile.frames.iter().filter(|f| view == FlameView::All || f.kind.is_lua()) {
            let text = frame_text(frame);
            assert!(drawn.contains(&text), "{text} is not intact");
        }
        assert!(!svg.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "no control characters");
    }
    let page = FlameGraph::new(FlameView::All).embedded(&profile).expect("drawn").expect("samples");
    let document = parse(&page.svg);
    assert_eq!(scripts(&document), 1);
    assert!(!document.descendants().flat_map(|n| n.attributes()).any(|a| a.name().starts_with("on")));
}

#[test]
fn nothing_sampled_is_a_picture_that_says_so() {
    for view in [FlameView::All, FlameView::Lua] {
        let svg = svg(view, &common::idle());
        let document = parse(&svg);
        assert_eq!(words(by_id(&document, "empty")), "No samples");
        assert!(words(by_id(&document, "reason")).contains("0.02 s of CPU time"), "{svg}");
        assert_eq!(scripts(&document), 0);
    }
    let svg = svg(FlameView::All, &Profile::default());
    assert!(words(by_id(&parse(&svg), "reason")).contains("no process was sampled"));
}

#[test]
fn no_lua_is_a_picture_that_says_why() {
    let mut profile = common::idle();
    let frame = profile.intern(Frame { kind: FrameKind::Native, name: "main".into(), file: None, line: 0 });
    let stack = vec![upprof_profile::Location { frame, line: 0, address: 1 }];
    profile.samples.push(Sample {
        stack,
        count: 5,
        process: 0,
        vmstate: VmState::NotLua,
        origin: OriginId(0),
        phase: None,
    });
    profile.processes[0].lua_unavailable = Some("no LuaJIT <here>".into());
    let svg = svg(FlameView::Lua, &profile);
    let reason = words(by_id(&parse(&svg), "reason"));
    assert_eq!(reason, "none of 5 samples has Lua on the stack (no LuaJIT <here>): see cpu/flame.svg");
    assert!(FlameGraph::new(FlameView::Lua).embedded(&profile).expect("drawn").is_none());
}

#[test]
fn three_hundred_frames_deep() {
    let mut m = common::Maker::default();
    let worker = m.process(1, Role::Worker, None);
    let frames: Vec<String> = (0..300).map(|n| format!("lua f{n} /app/deep.lua {n}")).collect();
    let stack: Vec<&str> = frames.iter().map(String::as_str).collect();
    m.sample(worker, VmState::Interpreted, 7, &stack);
    let svg = svg(FlameView::All, &m.profile);
    let document = parse(&svg);
    assert_eq!(boxes(&document).len(), 301);
    let height: f64 =
        document.root_element().attribute("height").and_then(|h| h.parse().ok()).expect("a height");
    assert!((4_800.0..5_000.0).contains(&height), "{height}");
}

#[test]
fn a_picture_is_the_same_each_time() {
    let profile = common::gateway();
    assert_eq!(svg(FlameView::All, &profile), svg(FlameView::All, &profile));
}
