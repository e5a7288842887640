//! A validated request. Pure: nothing is opened, asked or changed here.

use std::path::PathBuf;
use std::time::Duration;
use upprof_target::ContainerName;

/// Who shall be profiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Container(ContainerName),
    Pids(Vec<u32>),
}

/// One capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) who: Who,
    /// `None`: until stopped.
    pub(crate) duration: Option<Duration>,
    /// Samples a second on each CPU.
    pub(crate) frequency_hz: u32,
    /// Folder that the bundle is made in.
    pub(crate) out: PathBuf,
    pub(crate) keep_binaries: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Where the host's root is seen from here.
    pub(crate) host_root: PathBuf,
}

/// `90s`, `5m`, `1h`, `500ms`, or plain seconds. 0 is no duration at all: until stopped.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn parse_duration(text: &str) -> Result<Option<Duration>, String> {
    const MAX: Duration = Duration::from_secs(24 * 3600);
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("'{}' is no unit of time (ms, s, m, h)", unit.escape_debug())),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number such as 30s, 5m or 0".to_owned())?;
    let duration = Duration::try_from_secs_f64(number * scale).map_err(|e| e.to_string())?;
    if duration > MAX {
        return Err("longer than 24h; 0 captures until stopped".into());
    }
    Ok((!duration.is_zero()).then_some(duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_with_units() {
        for (text, ms) in [
            ("30s", 30_000),
            ("30", 30_000),
            ("5m", 300_000),
            ("1.5s", 1_500),
            ("250ms", 250),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Some(Duration::from_millis(ms))), "{text}");
        }
        assert_eq!(parse_duration("0"), Ok(None));
        for bad in ["", "s", "-1s", "5x", "1e9h", "25h", "5 m"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
