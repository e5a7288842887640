//! JSON in ASCII: names keep every character they have, and none of them reaches a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Writes JSON on one line, with a newline at its end. What is not printable ASCII is a `\u` escape,
/// which readers undo: nothing is lost, reordered or hidden, whoever looks at the file.
///
/// # Errors
/// When `out` fails.
pub fn write_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *out, Ascii))?;
    out.write_all(b"\n")
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !matches!(c, ' '..='~')) {
            let (plain, tail) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            for unit in chars.next().into_iter().flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec()) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_printable_ascii_is_escaped_and_read_back() {
        let text = "a\"\\\n\0\x1b]0;\x7f\u{85}\u{202e}é\u{1f600}~";
        let mut out = Vec::new();
        write_json(&mut out, &text).expect("a Vec takes everything");
        let json = String::from_utf8(out).expect("ASCII");
        assert_eq!(json, "\"a\\\"\\\\\\n\\u0000\\u001b]0;\\u007f\\u0085\\u202e\\u00e9\\ud83d\\ude00~\"\n");
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
    }
}
