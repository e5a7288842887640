//! Comma-separated values (RFC 4180, but lines end in a bare newline), safe to open in a spreadsheet.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::export::text::escape_up_to;

/// Longest text of a cell, in characters.
const MAX_CELL: usize = 1_000;

/// One cell.
pub(super) enum Cell<'a> {
    /// Text: escaped, quoted where needed, and never a formula.
    Text(Cow<'a, str>),
    /// A count.
    Count(u64),
    /// A share or a time, with this many decimals.
    Number(f64, usize),
    /// Not known.
    Empty,
}

impl<'a> Cell<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }
}

/// Writes one row.
pub(super) fn row(out: &mut dyn Write, cells: &[Cell<'_>]) -> io::Result<()> {
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        match cell {
            Cell::Text(text) => out.write_all(quote(text).as_bytes())?,
            Cell::Count(count) => write!(out, "{count}")?,
            Cell::Number(number, decimals) => write!(out, "{number:.decimals$}")?,
            Cell::Empty => {}
        }
    }
    out.write_all(b"\n")
}

/// A text cell. Spreadsheets run a cell that starts with one of `=+-@` as a formula, even when it is
/// quoted; an apostrophe in front stops them.
fn quote(text: &str) -> String {
    let text = escape_up_to(text, MAX_CELL);
    let guard = if text.trim_start().starts_with(['=', '+', '-', '@']) { "'" } else { "" };
    if text.contains(['"', ',']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{guard}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cells: &[Cell<'_>]) -> String {
        let mut out = Vec::new();
        row(&mut out, cells).expect("a Vec takes everything");
        String::from_utf8(out).expect("cells are text")
    }

    #[test]
    fn a_row_of_every_kind() {
        let cells = [Cell::text("worker"), Cell::Count(7), Cell::Number(1.0 / 3.0, 2), Cell::Empty];
        assert_eq!(written(&cells), "worker,7,0.33,\n");
    }

    #[test]
    fn text_is_quoted_where_it_must_be() {
        assert_eq!(written(&[Cell::text("a, \"b\"")]), "\"a, \"\"b\"\"\"\n");
        assert_eq!(written(&[Cell::text("two\nlines")]), "two\\x0alines\n");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for start in ["=", "+", "-", "@", " =", "\t=", "\r="] {
            let cell = written(&[Cell::text(format!("{start}cmd|'/C calc'!A0"))]);
            let inner = cell.trim_start_matches('"');
            assert!(!inner.starts_with(['=', '+', '-', '@', ' ', '\t', '\r']), "{cell}");
        }
        assert_eq!(written(&[Cell::text("=1+1,2")]), "\"'=1+1,2\"\n");
    }
}
