//! The JSON of `upprof inspect`. docs/inspect.md is the reader's side of this.

use serde::Serialize;

/// Version of the JSON: goes up when a field changes its meaning or goes away, not when one is added.
pub const SCHEMA: u32 = 1;

/// Whom a part is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Subject {
    /// The process, by its pid on the host; `None` for what belongs to the whole target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What its title says it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Which of its Lua VMs: `http`, `stream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// When the process started, in ticks since boot: a later process with the same pid is another.
    #[serde(skip)]
    pub started: u64,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(pid) = self.pid else { return f.write_str("target") };
        write!(f, "{} {pid}", self.role.as_deref().unwrap_or("process"))?;
        match &self.vm {
            Some(vm) => write!(f, " ({vm})"),
            None => Ok(()),
        }
    }
}

/// What was found, or why it is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found<T> {
    /// Read and validated.
    Found(T),
    /// Something did not check out: nothing is shown rather than something wrong.
    NotTrusted {
        /// The check that failed, and the values read.
        why: String,
    },
}

impl<T, E: std::fmt::Display> From<Result<T, E>> for Found<T> {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(found) => Self::Found(found),
            Err(why) => Self::NotTrusted { why: why.to_string() },
        }
    }
}

/// One subject's part of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part<T> {
    /// Whom it is about.
    #[serde(flatten)]
    pub of: Subject,
    /// What was found.
    #[serde(flatten)]
    pub found: Found<T>,
}

/// One artifact: what one inspector found at one time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document<T> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The inspector's name.
    pub what: &'static str,
    /// When, by the host's clock, milliseconds since 1970.
    pub taken_unix_ms: u64,
    /// How long reading took, milliseconds.
    pub read_ms: f64,
    /// Seconds since the look before, which rates are made from; `None` at the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<f64>,
    /// One for each process, VM or whatever the inspector tells apart.
    pub parts: Vec<Part<T>>,
}

/// One round of looking: what `upprof inspect --json` prints in one line.
#[derive(Debug, Clone, Serialize)]
pub struct Round<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The container's name, or the pid that was asked for.
    pub target: &'a str,
    /// Each a [`Document`].
    pub artifacts: Vec<Box<serde_json::value::RawValue>>,
}

/// A value as one line of JSON in ASCII: what a target wrote cannot move a terminal's cursor or turn
/// its text around.
///
/// # Errors
/// When the value has a map whose keys are no strings: a mistake of its type.
pub fn to_json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(value)?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Outside of strings JSON is ASCII, so each of these is inside of one.
        if c.is_ascii() && c != '\x7f' {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_whom_and_what_or_why_not() {
        let of = Subject { pid: Some(7), role: Some("worker".into()), vm: None, started: 9 };
        let part = |found| Part { of: of.clone(), found };
        let json = |p: &Part<u32>| to_json(p).expect("JSON");
        assert_eq!(json(&part(Found::Found(3))), r#"{"pid":7,"role":"worker","found":3}"#);
        let refused: Result<u32, _> = Err("x\u{202e}\x1b");
        assert_eq!(
            json(&part(refused.into())),
            r#"{"pid":7,"role":"worker","not_trusted":{"why":"x\u202e\u001b"}}"#
        );
    }

    #[test]
    fn json_is_ascii_and_says_the_same() {
        let text = "größe \u{7f} 😀 \u{9b}";
        let json = to_json(&text).expect("JSON");
        assert!(json.bytes().all(|b| (0x20..0x7f).contains(&b)), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
    }
}
