use std::path::Path;

/// `text` as it may be printed on a terminal: control characters, escape sequences and characters that
/// reorder or hide text are written as escapes, and what is longer than `max` characters is cut.
#[must_use]
pub fn shown(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    let mut chars = text.chars();
    for c in chars.by_ref().take(max) {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || reshapes(c) => out.push_str(&c.escape_unicode().to_string()),
            c => out.push(c),
        }
    }
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// A path as it may be printed, cut at 256 characters.
#[must_use]
pub fn shown_path(path: &Path) -> String {
    shown(&path.to_string_lossy(), 256)
}

/// Characters that are not controls but change how their neighbours look: bidirectional marks,
/// zero-width characters, line separators, tags.
fn reshapes(c: char) -> bool {
    matches!(u32::from(c),
        0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb
        | 0xe0000..=0xe007f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_survives() {
        assert_eq!(shown("a\x1b[31mb", 99), "a\\x1b[31mb");
        assert_eq!(shown("a\nb\r\tc\u{9b}d\x7f", 99), "a\\nb\\r\\tc\\u{9b}d\\x7f");
        assert_eq!(shown("x\u{202e}y", 99), "x\\u{202e}y");
        assert_eq!(shown("\\n", 99), "\\\\n", "an escape and the text of one do not look alike");
        assert_eq!(shown("größe-1.2_3", 99), "größe-1.2_3");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(shown(&"a".repeat(10_000), 5), "aaaaa…");
        assert_eq!(shown("aaaaa", 5), "aaaaa");
        assert!(shown(&"\x1b".repeat(10_000), 64).len() <= 64 * 4 + 3);
    }
}
