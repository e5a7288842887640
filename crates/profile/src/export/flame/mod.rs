//! Flame graphs: a picture that zooms and searches in any browser, without a network.

use std::io::Write;

use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{Direction, Options, TextTruncateDirection, from_lines};

use crate::export::stacks::{Stacks, Texts, folded_line, pruned};
use crate::export::text::{escape, escape_up_to};
use crate::export::{ExportError, Exporter, Style};
use crate::model::{FrameKind, Profile};
use crate::number::{float, percent, thousands};

mod colours;
mod decorate;

use colours::colour;
pub use colours::{LegendEntry, legend};

/// Boxes narrower than this share of the picture are not drawn, in percent.
const MIN_WIDTH_PERCENT: f64 = 0.01;
/// Longest name of a target that leaves room for the rest of the title, in characters.
const MAX_TITLE: usize = 64;

/// Which frames a flame graph shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlameView {
    /// Every frame of every sample.
    All,
    /// Lua, C-from-Lua and trace frames and the markers above them, of the samples with Lua.
    Lua,
}

impl FlameView {
    /// The kinds that the view can show.
    #[must_use]
    pub fn kinds(self) -> Vec<FrameKind> {
        let shown = |kind: &FrameKind| self == Self::All || kind.is_lua() || *kind == FrameKind::Marker;
        legend().iter().map(|e| e.kind).filter(shown).collect()
    }
}

/// `cpu/flame.svg` or `cpu/lua.svg`.
#[derive(Debug, Clone, Copy)]
pub struct FlameGraph {
    view: FlameView,
    style: Style,
}

/// A flame graph without title and legend, for a page that has its own.
#[derive(Debug, Clone)]
pub struct RenderedFlame {
    /// The `<svg>` element, well-formed XML without a declaration, with one `<script>` in it and no
    /// event attribute.
    pub svg: String,
    /// Height in CSS pixels; the width follows the window.
    pub height: u32,
}

impl FlameGraph {
    /// The exporter of one view.
    #[must_use]
    pub const fn new(view: FlameView) -> Self {
        Self::styled(view, Style { lines: false, inverted: false })
    }

    /// With frames spelled or ordered another way than in the bundle.
    #[must_use]
    pub const fn styled(view: FlameView, style: Style) -> Self {
        Self { view, style }
    }

    /// The picture for a page. `None` when the view has no samples.
    ///
    /// # Errors
    /// When the picture cannot be made.
    pub fn embedded(&self, profile: &Profile) -> Result<Option<RenderedFlame>, ExportError> {
        let texts = Texts::new(profile, self.style);
        let stacks = self.stacks(&texts);
        if stacks.is_empty() {
            return Ok(None);
        }
        let svg = draw(&texts, &stacks, None)?;
        decorate::for_a_page(&svg).map(Some)
    }

    fn stacks<'t>(&self, texts: &'t Texts<'_>) -> Stacks<'t> {
        match self.view {
            FlameView::All => texts.all(),
            FlameView::Lua => texts.lua(),
        }
    }

    fn title(&self, profile: &Profile) -> String {
        let what = match self.view {
            FlameView::All => "CPU time",
            FlameView::Lua => "CPU time in Lua",
        };
        format!(
            "{what} of {}, {:.1} s at {} Hz, {} samples",
            escape_up_to(&profile.target(), MAX_TITLE),
            profile.duration_seconds(),
            profile.frequency_hz,
            thousands(profile.total())
        )
    }

    fn subtitle(&self, profile: &Profile, shown: u64) -> String {
        let total = profile.total();
        let worth = profile.sampled_seconds(1) * 1e3;
        let told = match self.view {
            FlameView::All => format!(
                "1 sample = {worth:.1} ms of one core's time · all samples = {:.2} cores busy on average \
                 = 100 % · wider is more CPU time; left to right is no order in time",
                profile.cores(total)
            ),
            FlameView::Lua => format!(
                "{} of {} samples ({:.1} %) have Lua on the stack: these are 100 % here · 1 sample = \
                 {worth:.1} ms of one core's time · native and kernel frames are left out",
                thousands(shown),
                thousands(total),
                percent(shown, total)
            ),
        };
        let order = if self.style.inverted { " · inverted: callers hang below what they call" } else { "" };
        let focus = profile.focus.as_ref().map(|focus| {
            format!(
                "only stacks with {}: {} of {} samples · ",
                escape_up_to(&focus.pattern, MAX_TITLE),
                thousands(total),
                thousands(focus.of_samples)
            )
        });
        format!("{}{told}{order}", focus.unwrap_or_default())
    }

    fn why_empty(profile: &Profile) -> String {
        profile.no_samples_reason().map_or_else(
            || {
                let reasons = profile.processes.iter().filter_map(|p| p.lua_unavailable.as_deref());
                let reason = reasons.map(|r| format!(" ({})", escape(r))).next().unwrap_or_default();
                format!(
                    "none of {} samples has Lua on the stack{reason}: see cpu/flame.svg",
                    thousands(profile.total())
                )
            },
            |reason| escape(&reason),
        )
    }
}

impl Exporter for FlameGraph {
    fn path(&self) -> &'static str {
        match self.view {
            FlameView::All => "cpu/flame.svg",
            FlameView::Lua => "cpu/lua.svg",
        }
    }

    fn what(&self) -> &'static str {
        match self.view {
            FlameView::All => {
                "Flame graph of all CPU time: Lua, C and kernel in one picture. Open it in a browser: \
                 click to zoom, Ctrl-F to search"
            }
            FlameView::Lua => "Flame graph of Lua only: the same samples without native and kernel frames",
        }
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        let texts = Texts::new(profile, self.style);
        let stacks = self.stacks(&texts);
        let title = self.title(profile);
        let svg = if stacks.is_empty() {
            decorate::empty(&title, &Self::why_empty(profile))
        } else {
            let shown = stacks.values().sum();
            let svg = draw(&texts, &stacks, Some((title, self.subtitle(profile, shown))))?;
            decorate::for_a_file(&svg, &self.view.kinds())?
        };
        Ok(out.write_all(svg.as_bytes())?)
    }
}

/// The bare picture, drawn by inferno.
fn draw(
    texts: &Texts<'_>,
    stacks: &Stacks<'_>,
    titles: Option<(String, String)>,
) -> Result<String, ExportError> {
    let mut palette = PaletteMap::default();
    for (text, kind) in texts.kinds() {
        palette.insert(text, colour(kind, text));
    }
    palette.insert("", Color { r: 0xe4, g: 0xe4, b: 0xe4 });
    let mut options = Options::default();
    let (title, subtitle) = titles.unzip();
    options.title = title.unwrap_or_default();
    options.subtitle = subtitle;
    options.palette_map = Some(&mut palette);
    options.bgcolors = Some(BackgroundColor::Flat(Color { r: 0xff, g: 0xff, b: 0xff }));
    // Root at the top: the first screen of a deep picture is where it starts, not its thinnest tips.
    options.direction = Direction::Inverted;
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.min_width = MIN_WIDTH_PERCENT;
    // inferno's own sorting compares whole lines, which puts `a b` and `a:1` between `a` and `a;x`
    // and draws `a` twice. This mode takes lines as they come, last line first.
    options.flame_chart = true;
    let total: u64 = stacks.values().sum();
    let drawn = pruned(stacks, float(total) * MIN_WIDTH_PERCENT / 100.0);
    let lines: Vec<String> = drawn.iter().rev().map(|(stack, count)| folded_line(stack, *count)).collect();
    let mut svg = Vec::new();
    from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    String::from_utf8(svg).map_err(|_| ExportError::Svg("UTF-8"))
}
