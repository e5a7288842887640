//! What inferno does not draw: a legend, a dark background, a search that works in a page.
//!
//! inferno's output is edited at a few fixed places. All text from the target is in it already and
//! is XML-escaped, so none of these places can be faked by a name; a place that is not found is an
//! error, and a test's business.

use std::fmt::Write;

use super::{LegendEntry, RenderedFlame, legend};
use crate::export::ExportError;
use crate::model::FrameKind;

/// Height of the legend's row in pixels.
const LEGEND_HEIGHT: u32 = 22;
/// Where inferno's title and subtitle end.
const LEGEND_Y: u32 = 58;
/// Below inferno's "Search".
const MATCHED_Y: u32 = 42;
const WIDTH: u32 = 1200;
const CSS: &str = include_str!("flame.css");
const SCRIPT: &str = include_str!("flame.js");
const PAGE_SCRIPT: &str = include_str!("page.js");

/// The picture as a file of its own: with a legend of these kinds.
pub(super) fn for_a_file(svg: &str, kinds: &[FrameKind]) -> Result<String, ExportError> {
    let mut edit = Edit::new(svg)?;
    edit.grow(LEGEND_HEIGHT)?;
    edit.insert_before("</style>", CSS)?;
    edit.insert_before("</script>", &cdata(SCRIPT))?;
    edit.insert_before("<svg id=\"frames\"", &legend_row(kinds))?;
    Ok(edit.svg)
}

/// The picture as a part of a page, which has the title, the legend and the search box.
pub(super) fn for_a_page(svg: &str) -> Result<RenderedFlame, ExportError> {
    let mut edit = Edit::new(svg)?;
    edit.grow(0)?;
    edit.insert_before("</style>", CSS)?;
    edit.insert_before("</script>", &cdata(&format!("{SCRIPT}{PAGE_SCRIPT}")))?;
    // The page's policy forbids script in attributes; page.js starts it instead.
    edit.replace(" onload=\"init(evt)\"", "")?;
    let start = edit.svg.find("<svg ").ok_or(ExportError::Svg("root element"))?;
    Ok(RenderedFlame { svg: edit.svg.split_off(start), height: edit.height })
}

/// A picture that says why it is empty.
pub(super) fn empty(title: &str, reason: &str) -> String {
    let (title, reason) = (xml(title), xml(reason));
    format!(
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"{WIDTH}\" height=\"120\" viewBox=\"0 0 {WIDTH} 120\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n\
         <style type=\"text/css\">text {{ text-anchor: middle; }}{CSS}</style>\n\
         <rect id=\"paper\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text id=\"title\" x=\"50%\" y=\"24\" font-size=\"17\">{title}</text>\n\
         <text id=\"empty\" x=\"50%\" y=\"62\" font-size=\"15\" font-weight=\"bold\">No samples</text>\n\
         <text id=\"reason\" x=\"50%\" y=\"86\" font-size=\"13\">{reason}</text>\n\
         </svg>\n"
    )
}

struct Edit {
    svg: String,
    height: u32,
}

impl Edit {
    fn new(svg: &str) -> Result<Self, ExportError> {
        let height = svg
            .split_once("<svg ")
            .and_then(|(_, rest)| rest.split_once(" height=\""))
            .and_then(|(_, rest)| rest.split_once('"'))
            .and_then(|(height, _)| height.parse().ok());
        Ok(Self { svg: svg.to_owned(), height: height.ok_or(ExportError::Svg("height"))? })
    }

    /// Makes room above the frames, and brings the search result up to the search from below them.
    fn grow(&mut self, by: u32) -> Result<(), ExportError> {
        let old = self.height;
        let new = old + by;
        self.replace(&format!(" height=\"{old}\" onload"), &format!(" height=\"{new}\" onload"))?;
        self.replace(&format!(" viewBox=\"0 0 {WIDTH} {old}\""), &format!(" viewBox=\"0 0 {WIDTH} {new}\""))?;
        self.replace(
            &format!("<rect x=\"0\" y=\"0\" width=\"100%\" height=\"{old}\""),
            &format!("<rect id=\"paper\" x=\"0\" y=\"0\" width=\"100%\" height=\"{new}\""),
        )?;
        self.replace("<svg id=\"frames\"", &format!("<svg id=\"frames\" y=\"{by}\""))?;
        let details = self.y_of("details")?;
        self.set_y("details", details + by)?;
        self.set_y("matched", MATCHED_Y)?;
        self.height = new;
        Ok(())
    }

    /// Start of inferno's text with this id, and the place of its y: pixels with two decimals.
    fn y_range(&self, id: &'static str) -> Result<std::ops::Range<usize>, ExportError> {
        let missing = ExportError::Svg(id);
        let Some(text) = self.svg.find(&format!("<text id=\"{id}\"")) else { return Err(missing) };
        let Some(y) = self.svg[text..].find(" y=\"") else { return Err(missing) };
        let start = text + y + " y=\"".len();
        match self.svg[start..].find('"') {
            Some(length) => Ok(start..start + length),
            None => Err(missing),
        }
    }

    fn y_of(&self, id: &'static str) -> Result<u32, ExportError> {
        let y = &self.svg[self.y_range(id)?];
        y.strip_suffix(".00").and_then(|y| y.parse().ok()).ok_or(ExportError::Svg(id))
    }

    fn set_y(&mut self, id: &'static str, y: u32) -> Result<(), ExportError> {
        let range = self.y_range(id)?;
        self.svg.replace_range(range, &format!("{y}.00"));
        Ok(())
    }

    fn replace(&mut self, old: &str, new: &str) -> Result<(), ExportError> {
        let at = self.svg.find(old).ok_or(ExportError::Svg("place to edit"))?;
        self.svg.replace_range(at..at + old.len(), new);
        Ok(())
    }

    fn insert_before(&mut self, place: &'static str, new: &str) -> Result<(), ExportError> {
        let at = self.svg.find(place).ok_or(ExportError::Svg(place))?;
        self.svg.insert_str(at, new);
        Ok(())
    }
}

fn legend_row(kinds: &[FrameKind]) -> String {
    let entries: Vec<&LegendEntry> = legend().iter().filter(|e| kinds.contains(&e.kind)).collect();
    let mut svg = String::from("<g id=\"legend\">");
    let mut x = 10.0;
    for entry in entries {
        let label = format!("{} ", entry.mark);
        // A String cannot fail.
        let _ = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{LEGEND_Y}\" width=\"13\" height=\"13\" rx=\"2\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{}\"><tspan class=\"mark\">{}</tspan><tspan dx=\"5\">{}</tspan></text>",
            entry.css(),
            x + 18.0,
            LEGEND_Y + 11,
            xml(entry.mark),
            xml(entry.meaning)
        );
        x += 18.0 + width(&label, 6.7) + width(entry.meaning, 5.9) + 18.0;
    }
    svg.push_str("</g>");
    svg
}

/// A guess at a text's width; the row has room to spare.
fn width(text: &str, per_char: f64) -> f64 {
    text.chars().map(|_| per_char).sum()
}

/// Text of the script; it holds no `]]>`, which a test checks.
fn cdata(script: &str) -> String {
    format!("<![CDATA[\n{script}]]>")
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_scripts_and_style_can_be_embedded() {
        for script in [SCRIPT, PAGE_SCRIPT] {
            assert!(!script.contains("]]>") && !script.contains("</script"));
        }
        assert!(!CSS.contains(['<', '&']));
    }

    #[test]
    fn a_change_in_the_svg_writer_is_an_error() {
        assert!(matches!(for_a_page("<svg height=\"1\"/>"), Err(ExportError::Svg(_))));
        assert!(matches!(for_a_file("", &[]), Err(ExportError::Svg("height"))));
    }

    #[test]
    fn the_legend_fits_the_picture() {
        let kinds: Vec<FrameKind> = legend().iter().map(|e| e.kind).collect();
        let row = legend_row(&kinds);
        let last = row.rsplit_once("<text x=\"").and_then(|(_, rest)| rest.split_once('"'));
        let x: f64 = last.and_then(|(x, _)| x.parse().ok()).expect("a text with a place");
        assert!(x < f64::from(WIDTH) - 200.0, "the last entry starts at {x}");
        assert_eq!(row.matches("<rect").count(), kinds.len());
    }
}
