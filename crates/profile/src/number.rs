//! Numbers as people read them: one spelling for the pictures, the page and the tables.

/// `1234567` as `1,234,567`.
#[must_use]
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `part` of `whole` in percent, 0 when there is no whole.
#[must_use]
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) * 100.0 / float(whole) }
}

/// Nanoseconds as seconds.
#[must_use]
pub fn seconds(ns: u64) -> f64 {
    float(ns) / 1e9
}

/// A count as a float; above 2^53 the last digits are lost, which no table shows.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts are shown with four digits at most")]
pub const fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped_from_the_right() {
        let spelled: Vec<String> = [0, 7, 999, 1_000, 12_345, 1_234_567].map(thousands).to_vec();
        assert_eq!(spelled, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn percent_of_nothing_is_nothing() {
        assert!(percent(0, 0).abs() < f64::EPSILON);
        assert!((percent(1, 8) - 12.5).abs() < f64::EPSILON);
    }

    #[test]
    fn nanoseconds_are_seconds() {
        assert!((seconds(1_500_000_000) - 1.5).abs() < f64::EPSILON);
    }
}
