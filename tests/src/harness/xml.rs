//! Pictures and pages, read strictly as XML, and what in them could act.

use roxmltree::{Document, ParsingOptions};
use std::collections::BTreeSet;

/// What a document could do when it is opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Active {
    /// The text of each script.
    pub scripts: Vec<String>,
    /// Each different attribute that holds code (`onload="…"`, `href="javascript:…"`).
    pub handlers: BTreeSet<(String, String)>,
    /// Each different address of something elsewhere.
    pub addresses: BTreeSet<String>,
    /// Names of all elements.
    pub elements: BTreeSet<String>,
    /// All text, as a reader sees it.
    pub text: String,
}

/// Reads a document.
///
/// # Panics
/// When it is not well-formed.
pub fn active(text: &str) -> Active {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).expect("well-formed XML");
    let mut found = Active::default();
    found.text.extend(document.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()));
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name().to_ascii_lowercase();
        if name == "script" {
            found.scripts.push(node.text().unwrap_or_default().to_owned());
        }
        found.elements.insert(name);
        for attribute in node.attributes() {
            let (key, value) = (attribute.name().to_ascii_lowercase(), attribute.value());
            if key.starts_with("on") || value.trim_start().to_ascii_lowercase().starts_with("javascript:") {
                found.handlers.insert((key, value.to_owned()));
            } else if ["href", "src", "action", "data"].contains(&key.as_str()) {
                found.addresses.insert(value.to_owned());
            }
        }
    }
    found
}

/// The document inside the page's frame.
///
/// # Panics
/// When the page has no frame with a document.
#[must_use]
pub fn frame(page: &str) -> String {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(page, options).expect("well-formed XML");
    let inner = document.descendants().find_map(|n| n.attribute("srcdoc"));
    inner.expect("a frame").to_owned()
}
