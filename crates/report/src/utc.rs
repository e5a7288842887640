//! A moment as people and file names write it, without a time zone database.

use std::fmt;

const DAY: u64 = 86_400;

/// A moment in UTC, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc {
    unix_seconds: u64,
}

impl Utc {
    /// This moment by the host's clock; the epoch when that is set before it.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self { unix_seconds: since.unwrap_or_default().as_secs() }
    }

    /// From nanoseconds since the Unix epoch, as [`upprof_profile::Profile::started_unix_ns`] has.
    #[must_use]
    pub const fn from_unix_ns(ns: u64) -> Self {
        Self { unix_seconds: ns / 1_000_000_000 }
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub const fn unix_seconds(self) -> u64 {
        self.unix_seconds
    }

    /// `20260414T101112Z`: sorts by time and is safe in a file name.
    #[must_use]
    pub fn compact(self) -> String {
        let (year, month, day) = self.date();
        let (hour, minute, second) = self.time();
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }

    /// `2026-04-14 10:11:12 UTC`.
    #[must_use]
    pub fn for_people(self) -> String {
        self.to_string().replace('T', " ").replace('Z', " UTC")
    }

    const fn time(self) -> (u64, u64, u64) {
        let second = self.unix_seconds % DAY;
        (second / 3_600, second / 60 % 60, second % 60)
    }

    /// Year, month and day, by counting years that begin in March: the leap day comes last
    /// (Howard Hinnant, `civil_from_days`).
    const fn date(self) -> (u64, u64, u64) {
        let days = self.unix_seconds / DAY + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        (era * 400 + year + carry, month, day)
    }
}

/// `2026-04-14T10:11:12Z` (RFC 3339).
impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let (hour, minute, second) = self.time();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `date -u -d @SECONDS` gives them.
    #[test]
    fn moments_are_those_of_date() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_776_161_472, "2026-04-14T10:11:12Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc::from_unix_ns(seconds * 1_000_000_000).to_string(), text);
        }
    }

    #[test]
    fn compact_is_for_file_names() {
        assert_eq!(Utc::from_unix_ns(1_776_161_472_999_999_999).compact(), "20260414T101112Z");
    }
}
