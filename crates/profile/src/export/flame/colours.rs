//! One colour a kind. The kinds differ in lightness as well as in hue, so that they stay apart for
//! the colour-blind and in print, and black text is readable on each of them.

use inferno::flamegraph::color::Color;

use crate::model::FrameKind;

/// One line of the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegendEntry {
    /// The kind.
    pub kind: FrameKind,
    /// How its text looks: `lua:…`.
    pub mark: &'static str,
    /// What it is, in a few words.
    pub meaning: &'static str,
    /// Its colour, red, green and blue.
    pub rgb: [u8; 3],
}

impl LegendEntry {
    /// The colour as CSS writes it.
    #[must_use]
    pub fn css(&self) -> String {
        let [r, g, b] = self.rgb;
        format!("#{r:02x}{g:02x}{b:02x}")
    }
}

const LEGEND: [LegendEntry; 7] = [
    entry(FrameKind::Lua, "lua:…", "Lua function", [0xfe, 0xd8, 0x4d]),
    entry(FrameKind::Trace, "[trace …]", "compiled Lua", [0x1f, 0x9e, 0x8c]),
    entry(FrameKind::LuaC, "cfunc:…", "C called from Lua", [0xf4, 0xa0, 0x55]),
    entry(FrameKind::Native, "symbol", "native code", [0xb5, 0xc9, 0xdf]),
    entry(FrameKind::Kernel, "… [kernel]", "kernel", [0xab, 0x95, 0xd9]),
    entry(FrameKind::Marker, "[…]", "state or gap", [0xff, 0xe6, 0xf3]),
    entry(FrameKind::Unknown, "[unknown …]", "unknown address", [0x86, 0x7a, 0x73]),
];

const fn entry(kind: FrameKind, mark: &'static str, meaning: &'static str, rgb: [u8; 3]) -> LegendEntry {
    LegendEntry { kind, mark, meaning, rgb }
}

/// Every kind with its mark, meaning and colour, in the order of legends.
#[must_use]
pub const fn legend() -> &'static [LegendEntry] {
    &LEGEND
}

/// The colour of a box. Neighbours of one kind differ a little, by their text, so that their edges
/// can be seen; the same text has the same colour in every picture.
pub(super) fn colour(kind: FrameKind, text: &str) -> Color {
    let [r, g, b] = LEGEND.iter().find(|e| e.kind == kind).map_or([0xff; 3], |e| e.rgb);
    let shade = 100 - u16::from(hash(text) % 4);
    let dim = |channel: u8| u8::try_from(u16::from(channel) * shade / 100).unwrap_or(channel);
    Color { r: dim(r), g: dim(g), b: dim(b) }
}

/// FNV-1a, folded to a byte: stable between runs and versions, which the standard hasher is not.
fn hash(text: &str) -> u8 {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    a ^ b ^ c ^ d
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(Color { r, g, b }: Color) -> f64 {
        let linear = |channel: u8| {
            let c = f64::from(channel) / 255.0;
            if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126f64.mul_add(linear(r), 0.7152f64.mul_add(linear(g), 0.0722 * linear(b)))
    }

    /// CIE lightness, 0 to 100: equal steps look equal.
    fn lightness(colour: Color) -> f64 {
        116.0f64.mul_add(luminance(colour).cbrt(), -16.0)
    }

    /// Lightest and darkest shade of a kind.
    fn range(kind: FrameKind) -> (f64, f64) {
        let shades = (0..200).map(|n| lightness(colour(kind, &format!("function {n}"))));
        shades.fold((f64::MAX, f64::MIN), |(low, high), l| (low.min(l), high.max(l)))
    }

    #[test]
    fn kinds_differ_in_lightness_not_only_in_hue() {
        let mut ranges: Vec<_> = legend().iter().map(|e| (range(e.kind), e.kind)).collect();
        ranges.sort_by(|a, b| a.0.0.total_cmp(&b.0.0));
        for pair in ranges.windows(2) {
            let gap = pair[1].0.0 - pair[0].0.1;
            assert!(gap >= 3.0, "{:?} and {:?} are {gap:.1} apart", pair[0], pair[1]);
        }
    }

    #[test]
    fn black_text_is_readable_on_every_box() {
        for kind in legend().iter().map(|e| e.kind) {
            let darkest = (0..200).map(|n| luminance(colour(kind, &n.to_string()))).fold(f64::MAX, f64::min);
            let contrast = (darkest + 0.05) / 0.05;
            assert!(contrast >= 4.5, "{kind:?}: {contrast:.2} to 1");
        }
    }

    #[test]
    fn a_text_keeps_its_colour() {
        assert_eq!(colour(FrameKind::Lua, "lua:f@x:1"), colour(FrameKind::Lua, "lua:f@x:1"));
        assert_ne!(colour(FrameKind::Lua, "lua:f@x:1"), colour(FrameKind::Native, "lua:f@x:1"));
    }
}
