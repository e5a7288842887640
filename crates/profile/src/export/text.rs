//! A frame as text: the one spelling that every format shares. `docs/formats.md` has the rules.
//!
//! Names come out of the target's memory. They may hold anything, so the text is made such that the
//! kind can be read off it, no name can pass for another kind, and nothing in it means something to
//! a terminal, a folded-stack reader or an XML parser.

use std::fmt::{self, Write};

use crate::model::{Frame, FrameKind, Role};

/// No frame's text is longer than this many characters.
pub const MAX_FRAME_CHARS: usize = 200;

/// Room for a single name: what `MAX_FRAME_CHARS` leaves after the longest wrapping
/// (`[unknown …]`, ` [kernel]`) and the escapes that [`guard`] may add.
const MAX_NAME: usize = MAX_FRAME_CHARS - 18;
/// `lua:NAME@FILE:LINE` with a ten-digit line leaves 184 for both.
const MAX_LUA_NAME: usize = 76;
const MAX_LUA_FILE: usize = 100;

/// The canonical text of a frame.
#[must_use]
pub fn frame_text(frame: &Frame) -> String {
    let name = cut(&frame.name, &[], MAX_NAME, Keep::Head);
    guard(match frame.kind {
        FrameKind::Lua => {
            // `@` ends the name, so a name has none; the last `:` ends the file.
            let name = cut(&frame.name, &['@'], MAX_LUA_NAME, Keep::Head);
            let file = cut(frame.file.as_deref().unwrap_or_default(), &[], MAX_LUA_FILE, Keep::Tail);
            format!("lua:{name}@{file}:{}", frame.line)
        }
        FrameKind::LuaC => format!("cfunc:{name}"),
        FrameKind::Trace => format!("[trace {name}]"),
        FrameKind::Native => plain(name),
        FrameKind::Kernel => format!("{} [kernel]", plain(name)),
        FrameKind::Marker => {
            if name == "unknown" || name.starts_with("unknown ") || name.starts_with("trace ") {
                format!("[{}]", escape_first(&name))
            } else {
                format!("[{name}]")
            }
        }
        FrameKind::Unknown if frame.name.is_empty() => "[unknown]".to_owned(),
        FrameKind::Unknown => format!("[unknown {name}]"),
    })
}

/// [`frame_text`] with the line being executed behind a Lua frame: `lua:NAME@FILE:DEFINITION#LINE`, `#?`
/// where it is not known. Other kinds have no line of their own. Up to 11 characters longer.
#[must_use]
pub fn located_text(frame: &Frame, line: u32) -> String {
    let text = frame_text(frame);
    match (frame.kind, line) {
        (FrameKind::Lua, 0) => format!("{text}#?"),
        (FrameKind::Lua, line) => format!("{text}#{line}"),
        _ => text,
    }
}

/// The frame at the root of a process that is not a worker: `[master]`.
#[must_use]
pub fn role_text(role: Role) -> String {
    match role {
        Role::Other => "[other process]".to_owned(),
        role => format!("[{role}]"),
    }
}

/// Any other hostile text (a container's name, a file's) with the same escapes, at most
/// [`MAX_FRAME_CHARS`] long.
#[must_use]
pub fn escape(text: &str) -> String {
    escape_up_to(text, MAX_FRAME_CHARS)
}

/// [`escape`] with another limit: for sentences.
#[must_use]
pub fn escape_up_to(text: &str, max: usize) -> String {
    cut_or_empty(text, &[], max, Keep::Head)
}

/// A native or kernel name that must not read as one of the marked kinds.
fn plain(name: String) -> String {
    let name = if ["lua:", "cfunc:", "["].iter().any(|mark| name.starts_with(mark)) {
        escape_first(&name)
    } else {
        name
    };
    match name.strip_suffix(" [kernel]") {
        Some(stem) => format!("{stem}\\x20[kernel]"),
        None => name,
    }
}

/// What folded-stack readers would take for their own: a count, a colour mark, an omitted frame.
fn guard(text: String) -> String {
    let mut text = text;
    if text == "-" || text == "--" {
        text = escape_first(&text);
    }
    let mark = text.strip_suffix(']').and_then(|t| t.strip_suffix(['k', 'w', 'i', 'j']));
    if let Some(stem) = mark.and_then(|t| t.strip_suffix("_[")) {
        let kind = &text[stem.len() + 2..];
        text = format!("{stem}_\\x5b{kind}");
    }
    if let Some((stem, tail)) = text.rsplit_once(' ')
        && tail.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        // Also a trailing space, whose tail is empty.
        text = format!("{stem}\\x20{tail}");
    }
    if text.starts_with(' ') {
        text = escape_first(&text);
    }
    text
}

fn escape_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => format!("\\x{:02x}{}", u32::from(first), chars.as_str()),
        None => String::new(),
    }
}

/// Which end of a long text says more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Head,
    Tail,
}

/// Escaped, and with `…` in the place of what is over `max` characters; `?` for no text.
fn cut(text: &str, also: &[char], max: usize, keep: Keep) -> String {
    if text.is_empty() { "?".to_owned() } else { cut_or_empty(text, also, max, keep) }
}

fn cut_or_empty(text: &str, also: &[char], max: usize, keep: Keep) -> String {
    let units = || text.chars().map(|c| Unit::new(c, also));
    let mut out = String::with_capacity(text.len().min(max));
    if units().take(max + 1).map(Unit::len).sum::<usize>() <= max {
        units().for_each(|unit| unit.push(&mut out));
        return out;
    }
    let third = max / 3;
    let (head, tail) = match keep {
        Keep::Head => (max - 1 - third, third),
        Keep::Tail => (third, max - 1 - third),
    };
    fitting(units(), head).for_each(|unit| unit.push(&mut out));
    out.push('…');
    let mut end: Vec<Unit> = fitting(units().rev(), tail).collect();
    end.reverse();
    end.into_iter().for_each(|unit| unit.push(&mut out));
    out
}

/// The first units that fit into `room` characters: an escape is never cut in two.
fn fitting(units: impl Iterator<Item = Unit>, room: usize) -> impl Iterator<Item = Unit> {
    let mut used = 0;
    units.take_while(move |unit| {
        used += unit.len();
        used <= room
    })
}

/// One character of the source, as it is written.
#[derive(Clone, Copy)]
enum Unit {
    Plain(char),
    Escaped(char),
}

impl Unit {
    fn new(c: char, also: &[char]) -> Self {
        if is_unsafe(c) || also.contains(&c) { Self::Escaped(c) } else { Self::Plain(c) }
    }

    fn len(self) -> usize {
        let mut counter = Counter(0);
        // A counter cannot fail.
        let _ = write!(counter, "{self}");
        counter.0
    }

    fn push(self, out: &mut String) {
        // A String cannot fail.
        let _ = write!(out, "{self}");
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Plain(c) => f.write_char(c),
            Self::Escaped(c) if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c)),
            Self::Escaped(c) => write!(f, "\\u{{{:x}}}", u32::from(c)),
        }
    }
}

struct Counter(usize);

impl Write for Counter {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0 += s.chars().count();
        Ok(())
    }
}

/// Characters that end a frame, steer a terminal, reorder or hide text, or are not allowed in XML.
/// The backslash is one of them, so that a name that spells out an escape is not taken for one.
fn is_unsafe(c: char) -> bool {
    match c {
        ';' | '\\' => true,
        ' '..='~' => false,
        _ => c.is_control() || c.is_whitespace() || is_invisible(c) || is_noncharacter(c),
    }
}

/// Bidirectional controls, zero-width characters, variation selectors and tags.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

const fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || (c as u32) & 0xfffe == 0xfffe
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
