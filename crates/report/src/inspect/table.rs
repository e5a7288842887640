//! Tables for people: plain text, columns aligned, every number with its unit.

use std::fmt;
use upprof_profile::export::escape_up_to;
use upprof_profile::number::thousands;

/// Longest text of a cell, characters.
const MAX_CELL: usize = 120;

/// One value of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Anything, also what a target wrote: escaped and cut when it is printed.
    Text(String),
    /// A number of things.
    Count(u64),
    /// Bytes.
    Bytes(u64),
    /// Things a second.
    PerSecond(f64),
    /// Bytes a second.
    BytesPerSecond(f64),
    /// Of a hundred.
    Percent(f64),
    /// Seconds.
    Seconds(f64),
    /// Not known, or there is none.
    Missing,
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Into::into)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        Self::Count(n)
    }
}

impl From<u32> for Cell {
    fn from(n: u32) -> Self {
        Self::Count(n.into())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&escaped(text, MAX_CELL)),
            Self::Count(n) => f.write_str(&thousands(*n)),
            Self::Bytes(n) => f.write_str(&bytes(*n)),
            Self::PerSecond(n) => write!(f, "{n:.1}/s"),
            Self::BytesPerSecond(n) => write!(f, "{}/s", bytes(n.max(0.0) as u64)),
            Self::Percent(n) => write!(f, "{n:.1} %"),
            Self::Seconds(n) if n.abs() < 1.0 => write!(f, "{:.1} ms", n * 1e3),
            Self::Seconds(n) => write!(f, "{n:.1} s"),
            Self::Missing => f.write_str("-"),
        }
    }
}

/// Folded stacks need the semicolon escaped, sentences do not. A backslash of the text's own is an escape
/// by now, so that nothing else can read like this one.
fn escaped(text: &str, max: usize) -> String {
    escape_up_to(text, max).replace("\\x3b", ";")
}

/// `1536` as `1.5 KiB`.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A table: a title, columns, rows, and sentences below it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    notes: Vec<String>,
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        Self { title: title.into(), columns: columns.to_vec(), ..Self::default() }
    }

    /// Adds a row: one cell a column.
    ///
    /// # Panics
    /// With another number of cells: a mistake of the inspector.
    pub fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.columns.len(), "cells in a row of {}", self.title);
        self.rows.push(cells);
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Whether it has neither rows nor notes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.notes.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", escaped(&self.title, 2 * MAX_CELL))?;
        if !self.rows.is_empty() {
            let texts: Vec<Vec<String>> =
                self.rows.iter().map(|row| row.iter().map(Cell::to_string).collect()).collect();
            let columns: Vec<Column> = (0..self.columns.len()).map(|i| self.column(i, &texts)).collect();
            let heads: Vec<String> = self.columns.iter().map(|c| (*c).to_owned()).collect();
            write_row(f, &columns, &heads)?;
            for row in &texts {
                write_row(f, &columns, row)?;
            }
        }
        for note in &self.notes {
            writeln!(f, "  {}", escaped(note, 4 * MAX_CELL))?;
        }
        Ok(())
    }
}

/// How a column is printed.
struct Column {
    width: usize,
    numeric: bool,
}

impl Table {
    fn column(&self, index: usize, texts: &[Vec<String>]) -> Column {
        let head = self.columns[index].chars().count();
        let width = texts.iter().map(|row| row[index].chars().count()).max().unwrap_or(0).max(head);
        let numeric = self.rows.iter().all(|row| !matches!(row[index], Cell::Text(_)));
        Column { width, numeric }
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, columns: &[Column], cells: &[String]) -> fmt::Result {
    let mut line = String::new();
    for (column, cell) in columns.iter().zip(cells) {
        let width = column.width;
        let padded = if column.numeric { format!("  {cell:>width$}") } else { format!("  {cell:<width$}") };
        line.push_str(&padded);
    }
    writeln!(f, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_hostile_text_is_escaped() {
        let mut table = Table::new("gc\x1b[2J", &["process", "total", "state"]);
        table.row(vec!["worker 7".into(), Cell::Bytes(1536), "pause".into()]);
        table.row(vec!["a\nb\u{202e}".into(), Cell::Missing, "x".into()]);
        table.note("why; \\x3b\r");
        let text = table.to_string();
        assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{text:?}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!(lines[4], "  why; \\x5cx3b\\x0d");
        let at = |line: &str, what: &str| line.find(what).unwrap_or_else(|| panic!("{what} in {line}"));
        assert_eq!(at(lines[1], "state"), at(lines[2], "pause"));
        assert_eq!(at(lines[1], "total") + 5, at(lines[2], "KiB") + 3, "numbers end where their head ends");
    }

    #[test]
    fn numbers_have_units() {
        let shown = |c: Cell| c.to_string();
        assert_eq!(shown(Cell::Bytes(1023)), "1023 B");
        assert_eq!(shown(Cell::Bytes(5 << 30)), "5.0 GiB");
        assert_eq!(shown(Cell::Count(1_234_567)), "1,234,567");
        assert_eq!(shown(Cell::Seconds(0.0125)), "12.5 ms");
        assert_eq!(shown(Cell::BytesPerSecond(2048.0)), "2.0 KiB/s");
        assert_eq!(shown(None::<u64>.into()), "-");
    }
}
