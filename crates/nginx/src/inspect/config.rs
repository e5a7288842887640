//! The configuration that a process has loaded.

use crate::inspect::redact::redact;
use crate::inspect::view::{MAX_NAME, word_at};
use crate::inspect::{Nginx, Untrusted};
use serde::Serialize;

const MAX_FILES: u64 = 4096;
/// Largest file that is shown.
const MAX_FILE: u64 = 4 << 20;
/// `ngx_conf_dump_t`: the name, the buffer.
const DUMP: u64 = 24;

/// A loaded configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigFile {
    /// Its path when it was read, in the container.
    pub path: String,
    /// Its text as it was read, secrets replaced.
    pub text: String,
    /// How many were.
    pub hidden: u64,
}

/// The files of the configuration as they were when nginx read them, which it keeps when it was built
/// with `--with-debug` (ngx_conf_file.c, ngx_conf_add_dump).
///
/// # Errors
/// [`Untrusted::None`] when this build keeps none.
pub fn loaded(nginx: &Nginx<'_>) -> Result<Vec<ConfigFile>, Untrusted> {
    let array = nginx.array(nginx.cycle.wrapping_add(nginx.at.cycle.config_dump))?;
    if array.len == 0 {
        return Err(Untrusted::None("loaded configuration kept in this build"));
    }
    if array.size != DUMP || array.len > MAX_FILES {
        return Err(Untrusted::Check {
            what: "ngx_cycle->config_dump, the size of an element,",
            value: array.size,
        });
    }
    (0..array.len).map(|i| file(nginx, array.elts.wrapping_add(i * DUMP))).collect()
}

fn file(nginx: &Nginx<'_>, at: u64) -> Result<ConfigFile, Untrusted> {
    let buffer = nginx.u64(at.wrapping_add(16))?;
    // ngx_buf_t: pos, last, file_pos, file_last, start, end.
    let head = nginx.mem.bytes(buffer, 48, 48)?;
    let (pos, last, end) = (word_at(&head, 0), word_at(&head, 8), word_at(&head, 40));
    let len = last.wrapping_sub(pos);
    if len > MAX_FILE || last > end {
        return Err(Untrusted::Check { what: "the length of a configuration file", value: len });
    }
    let (text, hidden) = redact(&nginx.text(pos, len, MAX_FILE as usize)?);
    Ok(ConfigFile { path: nginx.string(at, MAX_NAME * 4)?, text, hidden })
}

/// The path of the configuration file nginx was started with, in the container.
///
/// # Errors
/// [`Untrusted`] when it cannot be read.
pub fn path(nginx: &Nginx<'_>) -> Result<String, Untrusted> {
    nginx.string(nginx.cycle.wrapping_add(nginx.at.cycle.conf_file), MAX_NAME * 4)
}
