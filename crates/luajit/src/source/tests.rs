use super::*;

/// The functions of a text in the order of their lines: first line, last line, name.
fn functions(text: &str) -> Vec<(u32, u32, String)> {
    let source = Source::parse(text.as_bytes());
    assert!(source.whole, "not read to its end: {text}");
    source.definitions.into_iter().map(|d| (d.first_line, d.last_line, d.name)).collect()
}

fn names(text: &str) -> Vec<String> {
    functions(text).into_iter().map(|(_, _, name)| name).collect()
}

#[test]
fn every_way_to_name_a_function() {
    for (text, name) in [
        ("local function parse_uri(s) end", "parse_uri"),
        ("function _M.access(conf, ctx) end", "_M.access"),
        ("  function Account:deposit (v) end", "Account:deposit"),
        ("function a.b.c:d() end", "a.b.c:d"),
        ("local rewrite = function(ctx) end", "rewrite"),
        ("_M.log = function () end -- function two() end", "_M.log"),
        ("_M.log --[[ function ]] = --\n function () end", "_M.log"),
        ("t['key'] = function() end", "t.key"),
        ("t['a key'] = function() end", "t['a key']"),
        ("t[1] = function() end", "t[1]"),
        ("t[name .. 'x'].f = function() end", "t[name..'x'].f"),
        ("get():field().x = function() end", "get():field().x"),
        ("local a, b = 1, function() end", "b"),
        ("a, b.c = x, function() end", "b.c"),
        ("f = f or function() end", "f"),
        ("local M = { header_filter = function(c) return 'function' end }", "M.header_filter"),
        ("local M = { ['x'] = function() end }", "M.x"),
        ("local M = { a = { b = { c = function() end } } }", "M.a.b.c"),
        ("local handlers = { 1, function() end }", "handlers[2]"),
        ("return { access = function() end }", "access"),
        ("return { phases = { access = function() end } }", "phases.access"),
        ("return { ['access'] = function() end }", "access"),
        ("return setmetatable({ go = function() end }, mt)", "go"),
        ("local goto_ = function() end", "goto_"),
        ("x = [==[ function() ]] end ]==] y = function() end", "y"),
        ("x = 'function() \\' end' y = function() end", "y"),
        ("x = 0x1p-3 + 1e-5 - .5 y = function(...) end", "y"),
        ("#!/usr/bin/lua function\ny = function() end", "y"),
        ("goto out; ::out:: y = function() end", "y"),
        ("repeat until f 'x' { 1; 2, } y = function() end", "y"),
        ("for i = 1, 2 do end for k, v in pairs(t) do end y = function() end", "y"),
        ("if a then elseif b then else end while x do break end y = function() end", "y"),
        ("(f or g)(1)\n;(h)() y = function() end", "y"),
        ("local x; local y = function() end", "y"),
        ("return function() end", "(anonymous)"),
        ("table.sort(t, function(a, b) return a < b end)", "(anonymous for table.sort)"),
        ("obj:each(1, function() end)", "(anonymous for obj:each)"),
        ("local x = (function() return 1 end)()", "(anonymous)"),
        ("local x = pcall(function() end)", "(anonymous for pcall)"),
        ("f({ function() end })", "(anonymous)"),
        ("ngx.timer.at(0, function() end)", "(anonymous for ngx.timer.at)"),
    ] {
        assert_eq!(names(text), [name], "{text}");
    }
}

#[test]
fn a_function_without_a_name_is_told_by_the_one_around_it() {
    let text = "function M.run()\n return function()\n  each(function() end)\n end\nend\n\
                local function two() local x = function() return function() end end end";
    assert_eq!(
        functions(text),
        [
            (1, 5, "M.run".to_owned()),
            (2, 4, "(anonymous in M.run)".to_owned()),
            (3, 3, "(anonymous in M.run for each)".to_owned()),
            (6, 6, "(anonymous in x)".to_owned()),
            (6, 6, "x".to_owned()),
            (6, 6, "two".to_owned()),
        ]
    );
}

#[test]
fn lines_are_those_that_luajit_keeps() {
    // lj_parse.c: a statement's line is the keyword's, any other function's that of its parenthesis.
    assert_eq!(functions("function\nf\n(\n)\nend"), [(1, 5, "f".to_owned())]);
    assert_eq!(functions("local function\nf\n()\nend"), [(3, 4, "f".to_owned())]);
    assert_eq!(functions("f = function\n\n()\nend"), [(3, 4, "f".to_owned())]);
    assert_eq!(functions("--[[\r\n\n\r]] x = 'a\\\nb\\z \n c'\rfunction f() end"), [(6, 6, "f".to_owned())]);
    assert_eq!(functions("\u{feff}\nfunction f() end"), [(2, 2, "f".to_owned())]);
}

fn shape(first_line: u32, last_line: u32, names: &[&str], vararg: bool) -> Shape {
    Shape {
        first_line,
        last_line,
        parameters: u8::try_from(names.len()).expect("few"),
        vararg,
        names: Some(names.iter().map(|n| (*n).to_owned()).collect()),
    }
}

#[test]
fn a_prototype_is_found_by_all_that_it_tells() {
    let source = Source::parse(
        b"local function a(x) end local function b(y) end local function c(...)\nend\n\
          function T:m(v) end f(function(x) end) f(function(x) end)\n",
    );
    assert_eq!(source.name(&shape(1, 1, &["x"], false)).as_deref(), Some("a"));
    assert_eq!(source.name(&shape(1, 1, &["y"], false)).as_deref(), Some("b"));
    assert_eq!(source.name(&shape(1, 2, &[], true)).as_deref(), Some("c"));
    assert_eq!(source.name(&shape(3, 3, &["self", "v"], false)).as_deref(), Some("T:m"));
    assert_eq!(source.name(&shape(3, 3, &["x"], false)).as_deref(), Some("(anonymous for f)"));
    // Without names of parameters the first two are alike.
    let stripped = Shape { names: None, ..shape(1, 1, &["x"], false) };
    assert_eq!(source.name(&stripped).as_deref(), Some("a|b"));
    // Another source's.
    assert_eq!(source.name(&shape(1, 1, &[], false)), None);
    assert_eq!(source.name(&shape(2, 2, &["x"], false)), None);
    assert_eq!(source.name(&shape(0, 0, &[], true)), None);
}

#[test]
fn a_file_that_was_wrapped_into_a_function_is_its_body() {
    let source = Source::parse(b"local function a() end\nlocal x = 1\nfunction M.b(x)\nend\n");
    assert!(source.is_body_of(&shape(1, 5, &[], false)));
    // A function of its own, one that ends too early, and one that is not made by ngx_lua.
    for other in
        [shape(1, 1, &[], false), shape(1, 3, &[], false), shape(2, 5, &[], false), shape(1, 5, &[], true)]
    {
        assert!(!source.is_body_of(&other), "{other:?}");
    }
    assert!(!Source::parse(b"function a( end").is_body_of(&shape(1, 5, &[], false)));
}

#[test]
fn what_is_not_lua_ends_the_reading_and_keeps_what_was_read() {
    for text in [
        "function f() end ) function g() end",
        "function f() end function ( end",
        "function f() end local x = = 1",
        "function f() end \x1b\x00LJ",
        "function f() end x = 'no end",
        "function f() end x = [[no end",
        "function f() end --[[no end\nfunction g() end",
    ] {
        let source = Source::parse(text.as_bytes());
        let names: Vec<&str> = source.definitions().iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["f"], "{text}");
    }
    assert!(!Source::parse(b"\x1bLJ\x02").whole);
}

#[test]
fn nesting_and_length_are_bounded() {
    // Deeper than LuaJIT allows, in every way to nest.
    for (open, close) in [
        ("f(function() ", "end)"),
        ("do ", " end"),
        ("x = {", "}"),
        ("x = (", ")"),
        ("x = a[", "]"),
        ("if a then ", " end"),
        ("f{", "}"),
    ] {
        for n in [10, 100_000] {
            let inner = if open.starts_with('x') || open.ends_with('{') { "1" } else { "" };
            let (open_rest, close) = (open.trim_start_matches("x = "), close.repeat(n));
            let text = format!("{open}{}{inner}{close}", open_rest.repeat(n - 1));
            assert_eq!(Source::parse(text.as_bytes()).whole, n == 10, "{open} {n}");
        }
    }
    let long = format!("{} = function() end", "a.".repeat(1 << 20) + "b");
    assert!(names(&long)[0].len() < 200);
    let signs = "- ".repeat(1 << 20);
    assert!(!Source::parse(format!("x = {signs}").as_bytes()).whole);
}

#[test]
fn any_bytes_end_and_stay_within_bounds() {
    // Words of Lua in any order, and bytes in any order: no panic, no loop.
    let words = [
        "function ",
        "end ",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "local ",
        "x",
        ".",
        ":",
        "=",
        ",",
        "'a'",
        "1",
        "return ",
        "if ",
        "then ",
        "do ",
        "for ",
        "in ",
        "...",
        "..",
        "\n",
        "[[",
        "]]",
        "--",
        "repeat ",
        "until ",
        "or ",
        "\\",
        "\"",
        "\u{e9}",
        "::",
        "goto ",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let text: String = (0..random(60)).map(|_| words[random(words.len())]).collect();
        let source = Source::parse(text.as_bytes());
        assert!(source.definitions().iter().all(|d| d.first_line <= d.last_line), "{text}");
        let bytes: Vec<u8> = (0..random(40)).map(|_| random(256) as u8).collect();
        let _ = Source::parse(&bytes);
    }
}
