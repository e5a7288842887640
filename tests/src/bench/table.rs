//! Goals and measurements, side by side.

use std::fmt;

/// Whether a goal is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Met,
    /// It is not.
    FallsShort,
    /// There is no goal: shown beside.
    Shown,
    /// It could not be measured.
    NotMeasured,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Met => "ok",
            Self::FallsShort => "FALLS SHORT",
            Self::Shown => "-",
            Self::NotMeasured => "NOT MEASURED",
        })
    }
}

/// One number.
#[derive(Debug, Clone)]
pub struct Row {
    what: String,
    goal: String,
    measured: String,
    verdict: Verdict,
    remarks: Vec<String>,
}

impl Row {
    /// A number that must not be above its goal, both in `unit`.
    #[must_use]
    pub fn at_most(what: impl Into<String>, goal: f64, measured: Option<f64>, unit: &str) -> Self {
        let verdict = match measured {
            None => Verdict::NotMeasured,
            Some(m) if m <= goal => Verdict::Met,
            Some(_) => Verdict::FallsShort,
        };
        Self {
            what: what.into(),
            goal: format!("≤ {goal} {unit}"),
            measured: measured.map_or_else(|| "?".into(), |m| format!("{} {unit}", digits(m))),
            verdict,
            remarks: Vec::new(),
        }
    }

    /// A number without a goal.
    #[must_use]
    pub fn shown(what: impl Into<String>, measured: Option<String>) -> Self {
        let verdict = if measured.is_some() { Verdict::Shown } else { Verdict::NotMeasured };
        Self {
            what: what.into(),
            goal: "-".into(),
            measured: measured.unwrap_or_else(|| "?".into()),
            verdict,
            remarks: Vec::new(),
        }
    }

    /// What must be known to read the number right.
    #[must_use]
    pub fn remark(mut self, text: impl Into<String>) -> Self {
        self.remarks.push(text.into());
        self
    }

    /// How it went.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }
}

/// Three significant digits, as few as that needs.
fn digits(n: f64) -> String {
    match n.abs() {
        a if a >= 100.0 => format!("{n:.0}"),
        a if a >= 10.0 => format!("{n:.1}"),
        a if a >= 1.0 => format!("{n:.2}"),
        _ => format!("{n:.3}"),
    }
}

/// All numbers, as text.
#[derive(Debug, Clone, Default)]
pub struct Table(pub Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Row) -> &str, head: &str| {
            self.0.iter().map(|r| text(r).chars().count()).chain([head.len()]).max().unwrap_or(0)
        };
        let (a, b, c) =
            (width(|r| &r.what, "what"), width(|r| &r.goal, "goal"), width(|r| &r.measured, "measured"));
        writeln!(f, "{:a$}  {:>b$}  {:>c$}  ok?", "what", "goal", "measured")?;
        for row in &self.0 {
            writeln!(f, "{:a$}  {:>b$}  {:>c$}  {}", row.what, row.goal, row.measured, row.verdict)?;
            for remark in &row.remarks {
                writeln!(f, "    {remark}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_not_and_says_so() {
        let rows = [
            Row::at_most("a", 10.0, Some(10.0), "µs"),
            Row::at_most("b", 0.3, Some(0.3001), "%"),
            Row::at_most("c", 15.0, None, "MB"),
            Row::shown("d", Some("7".into())).remark("why"),
        ];
        let verdicts: Vec<Verdict> = rows.iter().map(Row::verdict).collect();
        assert_eq!(verdicts, [Verdict::Met, Verdict::FallsShort, Verdict::NotMeasured, Verdict::Shown]);
        let text = Table(rows.to_vec()).to_string();
        assert!(text.contains("FALLS SHORT") && text.contains("NOT MEASURED"), "{text}");
        assert!(text.contains("≤ 0.3 %") && text.contains("\n    why\n"), "{text}");
    }
}
