//! What a process maps, and the bytes of its executable files.

use anyhow::{Context, Result};
use upprof_memory::{Live, Memory};

/// One line of `/proc/PID/maps`.
#[derive(Debug, Clone)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Executable.
    pub exec: bool,
    /// Where in the file it begins.
    pub offset: u64,
    /// The file, `[vdso]` and the like; empty for anonymous memory.
    pub name: String,
}

/// Reads `/proc/PID/maps`.
///
/// # Errors
/// When it cannot be read.
pub fn regions(pid: u32) -> Result<Vec<Region>> {
    let path = format!("/proc/{pid}/maps");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    text.lines().map(|line| region(line).with_context(|| format!("{path}: {line}"))).collect()
}

fn region(line: &str) -> Option<Region> {
    let hex = |s: &str| u64::from_str_radix(s, 16).ok();
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let exec = words.next()?.contains('x');
    let offset = hex(words.next()?)?;
    let name = words.nth(2).unwrap_or_default().to_owned();
    Some(Region { start: hex(start)?, end: hex(end)?, exec, offset, name })
}

/// The bytes of the file behind a region, read through the kernel's own link to the mapping; the vDSO's from
/// memory.
///
/// # Errors
/// When they cannot be read.
pub fn contents(pid: u32, region: &Region) -> Result<Vec<u8>> {
    if region.name.starts_with('[') {
        let len = usize::try_from(region.end - region.start)?;
        return Ok(Live::new(pid).bytes(region.start, len, 1 << 20)?);
    }
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", region.start, region.end);
    std::fs::read(&link).with_context(|| link)
}
