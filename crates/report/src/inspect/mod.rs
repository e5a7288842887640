//! What inspectors found, for programs ([`Document`], docs/inspect.md) and for people ([`Table`]).

mod document;
mod table;

pub use document::{Document, Found, Part, Round, SCHEMA, Subject, to_json};
pub use table::{Cell, Table};
