//! Text into markup. Everything on the page goes through here or is a literal of ours.

use std::fmt::{self, Display};

use upprof_profile::export::escape_up_to;
use upprof_profile::number::float;

/// Longest text on the page, in characters.
const MAX_TEXT: usize = 2_000;

/// Text that may come from the target: control and bidirectional characters are shown as escapes,
/// and markup is text.
pub(super) fn text(raw: &str) -> String {
    markup(&escape_up_to(raw, MAX_TEXT))
}

/// A file's path, with places to break a line after each `/`.
pub(super) fn path(raw: &str) -> String {
    text(raw).replace('/', "/<wbr/>")
}

/// XML and HTML agree on these five.
pub(super) fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A link inside the bundle. Whatever the path says, it stays a relative path.
pub(super) fn href(path: &str) -> String {
    let mut out = String::from("./");
    for byte in path.trim_start_matches('/').bytes() {
        if byte.is_ascii_alphanumeric() || b"._-/".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A share with one decimal: `12.3 %`, and `< 0.1 %` for what would read as nothing.
pub(super) struct Share(pub(super) u64, pub(super) u64);

impl Share {
    pub(super) fn percent(&self) -> f64 {
        upprof_profile::number::percent(self.0, self.1)
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.percent() {
            p if p > 0.0 && p < 0.05 => f.write_str("&lt; 0.1 %"),
            p => write!(f, "{p:.1} %"),
        }
    }
}

/// Bytes in the unit that leaves a short number.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = float(count) / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Nanoseconds in the unit that leaves a short number.
pub(super) fn duration(ns: u64) -> String {
    let value = float(ns);
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        assert_eq!(
            text("<b a='1' b=\"2\">&\n\u{202e}"),
            "&lt;b a=&#39;1&#39; b=&quot;2&quot;&gt;&amp;\\x0a\\u{202e}"
        );
    }

    #[test]
    fn links_stay_in_the_bundle() {
        assert_eq!(href("cpu/flame.svg"), "./cpu/flame.svg");
        assert_eq!(href("javascript:alert(1)"), "./javascript%3Aalert%281%29");
        assert_eq!(href("//evil.example/\"x"), "./evil.example/%22x");
    }

    #[test]
    fn numbers_have_short_units() {
        assert_eq!(Share(1, 3).to_string(), "33.3 %");
        assert_eq!(Share(1, 1_000_000).to_string(), "&lt; 0.1 %");
        assert_eq!(Share(0, 0).to_string(), "0.0 %");
        assert_eq!([bytes(512), bytes(2_048), bytes(5 << 30)], ["512 B", "2.0 KiB", "5.0 GiB"]);
        assert_eq!(
            [duration(12), duration(1_500), duration(2_000_000), duration(3_100_000_000)],
            ["12 ns", "1.5 µs", "2.0 ms", "3.10 s"]
        );
    }
}
