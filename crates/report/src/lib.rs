//! What a capture leaves behind: the bundle's folder and archive, the manifest, the page to open.
//!
//! Takes a finished [`upprof_profile::Profile`] and what the launcher knows of the capture
//! ([`Manifest`]); the only room that writes files.

mod bundle;
mod file;
pub mod html;
pub mod inspect;
pub mod manifest;
mod now;
mod recording;
mod utc;

pub use bundle::{BundleDir, BundleError, INCOMPLETE};
pub use file::NewFile;
pub use html::Page;
pub use manifest::{Manifest, ManifestError};
pub use now::{Doing, Now};
pub use recording::{Recording, RecordingError};
pub use utc::Utc;
