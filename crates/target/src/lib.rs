//! From a name to a container, its processes and its files.
//!
//! Owns the way from what a user typed to what can be profiled: the engine that knows the name
//! ([`Engine`], one file a runtime), the container's processes and the part each plays ([`Proc`],
//! [`ProcessInfo`], [`Role`]), and the container's files, opened inside its own root or taken from
//! the kernel or the engine when that root is out of reach ([`Files`], [`Root`], [`FileImage`]). It is
//! the only user of the engine's client and of an async runtime; neither shows in its API. It never
//! writes to a target, never starts, stops or signals one, never follows a link out of a container's
//! root, never opens anything but a regular file, and knows nothing of what a file's bytes mean.
//! Whatever a target can choose (names, titles, paths, file contents) is read with a limit and printed
//! escaped.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod engine;
mod files;
mod name;
mod process;
mod procfs;
mod shown;

pub use engine::{
    Container, Discovery, Docker, Engine, EngineError, EngineFiles, FetchError, NoEngine, ResolveError,
    Status, Summary,
};
pub use files::{Attempt, FileError, FileImage, Files, Identity, ImageError, MAX_IMAGE, Root, Source};
pub use name::{ContainerName, InvalidName, NameFault};
pub use process::{ProcessInfo, Role};
pub use procfs::{CpuQuota, ListenLosses, ListenQueue, MapPath, Mapping, Proc, ProcError, Resources};
pub use shown::{shown, shown_path};
