//! One `ngx_http_request_t`: what the kernel side needs to know to read it.

use crate::layout::{Layout, NoLayout};

const REQUEST: &str = "ngx_http_request_t";

/// Where the members of a request are that a sample reads. Their neighbours are found from them: the
/// same in every version, checked by a test of `layouts.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestOffsets {
    /// `method`; `http_version`, `request_line` and `uri` follow.
    pub method: u16,
    /// `headers_in.server`: the host as nginx takes it, in lower case and without a port.
    pub server: u16,
}

impl RequestOffsets {
    /// Takes them from a layout.
    ///
    /// # Errors
    /// [`NoLayout::Member`].
    pub fn of(layout: &Layout) -> Result<Self, NoLayout> {
        let at = |member: &str| {
            let byte = layout.at(REQUEST, member)?;
            u16::try_from(byte).map_err(|_| NoLayout::Member(format!("{REQUEST}.{member}")))
        };
        Ok(Self { method: at("method")?, server: at("headers_in.server")? })
    }
}

/// A request's method: `NGX_HTTP_GET` and so on, one bit each (ngx_http_request.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(u32);

impl Method {
    /// By the number that `ngx_http_request_t.method` holds; `None` for what is no method.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        let bits = u32::try_from(number).ok()?;
        (bits.is_power_of_two() && (bits.trailing_zeros() as usize) < METHODS.len()).then_some(Self(bits))
    }

    /// Its name, or "other" for one that nginx does not know.
    #[must_use]
    pub fn name(self) -> &'static str {
        METHODS.get(self.0.trailing_zeros() as usize).copied().unwrap_or(METHODS[0])
    }
}

/// In the order of their bits; the first is `NGX_HTTP_UNKNOWN`. CONNECT is new in 1.21.1.
const METHODS: [&str; 17] = [
    "other",
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "MKCOL",
    "COPY",
    "MOVE",
    "OPTIONS",
    "PROPFIND",
    "PROPPATCH",
    "LOCK",
    "UNLOCK",
    "PATCH",
    "TRACE",
    "CONNECT",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_single_bits() {
        let name = |number| Method::new(number).map(Method::name);
        // NGX_HTTP_UNKNOWN, _GET, _POST and _CONNECT of ngx_http_request.h.
        assert_eq!([1, 2, 8, 0x10000].map(name), ["other", "GET", "POST", "CONNECT"].map(Some));
        for no_method in [0, 3, 0x20000, u64::MAX, 1 << 40] {
            assert_eq!(name(no_method), None, "{no_method:#x}");
        }
    }

    #[test]
    fn offsets_come_from_the_layout_of_the_version() {
        let bookworm = crate::Identity {
            version: 1_022_001,
            signature: "8,4,8,0011111111010111001111111111111111".into(),
        };
        let at = RequestOffsets::of(&Layout::of_nginx(&bookworm).expect("a layout")).expect("its members");
        // As offsets.c says, compiled against Debian 12's nginx-dev.
        assert_eq!(at, RequestOffsets { method: 976, server: 496 });
    }
}
