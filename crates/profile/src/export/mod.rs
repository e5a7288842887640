//! One file format a file, all behind [`Exporter`]. `docs/formats.md` is the reader's side of this.

use std::io::{self, Write};

use crate::model::Profile;

mod ascii_json;
mod by_plugin;
mod by_request;
mod by_vmstate;
mod by_worker;
mod csv;
mod flame;
mod folded;
mod json;
mod pprof;
mod speedscope;
mod stacks;
mod text;

pub use ascii_json::write_json;
pub use by_plugin::{ByPlugin, Plugin};
pub use by_request::{ByHost, ByPhase, ByRoute};
pub use by_vmstate::ByVmState;
pub use by_worker::ByWorker;
pub use flame::{FlameGraph, FlameView, LegendEntry, RenderedFlame, legend};
pub use folded::Folded;
pub use json::{Document, InvalidDocument, Json};
pub use pprof::{Pprof, proto};
pub use speedscope::Speedscope;
pub use text::{MAX_FRAME_CHARS, escape, escape_up_to, frame_text, located_text, role_text};

/// Writes a profile in one format.
pub trait Exporter {
    /// Where the file goes in the bundle, with `/` between folders.
    fn path(&self) -> &'static str;

    /// What the file is and what opens it, in one sentence.
    fn what(&self) -> &'static str;

    /// Whether there is anything to say; else the file is left out of a bundle.
    fn applies(&self, _profile: &Profile) -> bool {
        true
    }

    /// Writes the whole file.
    ///
    /// # Errors
    /// When `out` cannot be written, or the format cannot hold the profile.
    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError>;
}

/// How stacks of text are spelled and ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// The line being executed is a part of each Lua frame: [`located_text`].
    pub lines: bool,
    /// Leaf first.
    pub inverted: bool,
}

/// Every format of the bundle where it applies, in the order of its list of files.
#[must_use]
pub fn bundle() -> Vec<Box<dyn Exporter>> {
    vec![
        Box::new(FlameGraph::new(FlameView::All)),
        Box::new(FlameGraph::new(FlameView::Lua)),
        Box::new(Folded::default()),
        Box::new(Pprof),
        Box::new(ByWorker),
        Box::new(ByVmState),
        Box::new(ByRoute),
        Box::new(ByHost),
        Box::new(ByPhase),
        Box::new(ByPlugin),
    ]
}

/// Why a profile was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The destination failed.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
    /// The flame graph library's output is not what we know how to label. A bug, never the data.
    #[error("the flame graph has no {0}: the SVG writer changed under us")]
    Svg(&'static str),
}
