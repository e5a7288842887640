use super::*;

fn frame(kind: FrameKind, name: &str) -> Frame {
    Frame { kind, name: name.into(), file: Some("/app/hot.lua".into()), line: 14 }
}

fn text(kind: FrameKind, name: &str) -> String {
    frame_text(&frame(kind, name))
}

const KINDS: [FrameKind; 7] = [
    FrameKind::Lua,
    FrameKind::LuaC,
    FrameKind::Trace,
    FrameKind::Native,
    FrameKind::Kernel,
    FrameKind::Marker,
    FrameKind::Unknown,
];

/// The reader's rules, as `docs/formats.md` gives them.
fn read_kind(text: &str) -> FrameKind {
    match text {
        t if t.starts_with("lua:") => FrameKind::Lua,
        t if t.starts_with("cfunc:") => FrameKind::LuaC,
        t if t.starts_with("[trace ") => FrameKind::Trace,
        t if t == "[unknown]" || t.starts_with("[unknown ") => FrameKind::Unknown,
        t if t.starts_with('[') => FrameKind::Marker,
        t if t.ends_with(" [kernel]") => FrameKind::Kernel,
        _ => FrameKind::Native,
    }
}

#[test]
fn each_kind_has_its_spelling() {
    assert_eq!(text(FrameKind::Lua, "hot"), "lua:hot@/app/hot.lua:14");
    assert_eq!(text(FrameKind::LuaC, "string.gsub"), "cfunc:string.gsub");
    assert_eq!(text(FrameKind::Trace, "loop@/app/hot.lua:14"), "[trace loop@/app/hot.lua:14]");
    assert_eq!(text(FrameKind::Native, "ngx_http_handler"), "ngx_http_handler");
    assert_eq!(text(FrameKind::Native, "nginx+0x1f"), "nginx+0x1f");
    assert_eq!(text(FrameKind::Kernel, "tcp_sendmsg"), "tcp_sendmsg [kernel]");
    assert_eq!(text(FrameKind::Marker, "GC"), "[GC]");
    assert_eq!(text(FrameKind::Unknown, ""), "[unknown]");
    assert_eq!(text(FrameKind::Unknown, "0x7f00"), "[unknown 0x7f00]");
}

#[test]
fn ordinary_names_are_left_alone() {
    for name in [
        "operator[](unsigned long)",
        "foo[abi:cxx11](int, char const*)",
        "std::map<int, std::string>::find",
        "ngx_http_lua_ffi_shdict_incr.isra.0",
        "处理请求",
        "größe",
    ] {
        assert_eq!(text(FrameKind::Native, name), name);
    }
    let chunk =
        Frame { kind: FrameKind::Lua, name: "main chunk".into(), file: Some("=(load)".into()), line: 0 };
    assert_eq!(frame_text(&chunk), "lua:main chunk@=(load):0");
}

#[test]
fn nothing_known_is_a_question_mark() {
    let frame = Frame { kind: FrameKind::Lua, name: String::new(), file: None, line: 0 };
    assert_eq!(frame_text(&frame), "lua:?@?:0");
    assert_eq!(text(FrameKind::Native, ""), "?");
    assert_eq!(text(FrameKind::Kernel, ""), "? [kernel]");
}

#[test]
fn what_could_break_a_reader_is_escaped() {
    for (raw, shown) in [
        ("a;b", "a\\x3bb"),
        ("a\nb\r\0", "a\\x0ab\\x0d\\x00"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u{7f}", "\\x7f"),
        ("\u{9b}", "\\u{9b}"),
        ("\u{202e}abc", "\\u{202e}abc"),
        ("a\u{200b}b", "a\\u{200b}b"),
        ("\u{ffff}", "\\u{ffff}"),
        ("a\u{a0}b", "a\\u{a0}b"),
        ("\u{2028}", "\\u{2028}"),
        ("\\x3b", "\\x5cx3b"),
        ("\u{fffd}", "\u{fffd}"),
    ] {
        assert_eq!(text(FrameKind::Native, raw), shown, "{raw:?}");
    }
}

#[test]
fn what_folded_readers_take_for_their_own_is_escaped() {
    for (raw, shown) in [
        ("foo 12", "foo\\x2012"),
        ("foo 1.5", "foo\\x201.5"),
        ("foo ", "foo\\x20"),
        (" foo", "\\x20foo"),
        ("foo_[k]", "foo_\\x5bk]"),
        ("-", "\\x2d"),
        ("--", "\\x2d-"),
    ] {
        assert_eq!(text(FrameKind::Native, raw), shown, "{raw:?}");
    }
}

#[test]
fn no_name_passes_for_another_kind() {
    let names = [
        "lua:f@x:1",
        "cfunc:f",
        "[trace x]",
        "[unknown]",
        "[GC]",
        "read [kernel]",
        "unknown",
        "unknown x",
        "trace x",
        "x] [kernel]",
        "f@/etc/passwd:1",
        "",
        " ",
        "-",
        "x [kernel] [kernel]",
        "_[k]",
    ];
    for kind in KINDS {
        for name in names {
            let text = text(kind, name);
            assert_eq!(read_kind(&text), kind, "{kind:?} {name:?} reads {text:?}");
        }
    }
}

#[test]
fn name_file_and_line_of_lua_can_be_told_apart() {
    let text = text(FrameKind::Lua, "f@/fake.lua:9");
    assert_eq!(text, "lua:f\\x40/fake.lua:9@/app/hot.lua:14");
    let (name, rest) = text.split_once('@').expect("an @");
    let (file, line) = rest.rsplit_once(':').expect("a :");
    assert_eq!((name, file, line), ("lua:f\\x40/fake.lua:9", "/app/hot.lua", "14"));
}

#[test]
fn long_texts_are_cut_in_the_middle_and_keep_their_ends() {
    let long = "abcdefghij".repeat(50);
    for kind in KINDS {
        let frame = Frame { kind, name: long.clone(), file: Some(long.clone()), line: u32::MAX };
        let text = frame_text(&frame);
        assert!(text.chars().count() <= MAX_FRAME_CHARS, "{kind:?}: {}", text.chars().count());
        assert!(text.contains('…') && text.contains("abcdef"), "{text}");
        assert_eq!(read_kind(&text), kind);
    }
    let lua =
        Frame { kind: FrameKind::Lua, name: "f".into(), file: Some(format!("{long}/hot.lua")), line: 7 };
    assert!(frame_text(&lua).ends_with("/hot.lua:7"), "{}", frame_text(&lua));
}

#[test]
fn the_cap_holds_for_escapes_and_cuts_none_in_two() {
    for raw in ["\u{202e}".repeat(300), "\n".repeat(300), format!("{} 1", "é\\".repeat(300))] {
        for kind in KINDS {
            let text = text(kind, &raw);
            assert!(text.chars().count() <= MAX_FRAME_CHARS, "{kind:?}: {text}");
            let (head, tail) = text.split_once('…').expect("a cut");
            let whole = |part: &str| {
                let rest = part.replace("\\u{202e}", "").replace("\\x0a", "").replace("\\x5c", "");
                !rest.replace("\\x20", "").contains(['\\', '{', '}'])
            };
            assert!(whole(head) && whole(tail), "{text}");
        }
    }
}

#[test]
fn escaping_is_reversible() {
    let names = ["a;b", "a\\x3bb", "\n", "\\x0a", "\u{202e}", "\\u{202e}"];
    let mut texts: Vec<String> = names.iter().map(|n| text(FrameKind::Native, n)).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), names.len());
}

#[test]
fn roles_look_like_markers() {
    assert_eq!(role_text(Role::PrivilegedAgent), "[privileged agent]");
    assert_eq!(role_text(Role::Other), "[other process]");
}
