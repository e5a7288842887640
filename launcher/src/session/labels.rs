//! Whose work samples are: what the kernel side needs to read a request, and what it told of them.

use std::collections::HashMap;
use upprof_luajit::{Fork, Vm, global_number};
use upprof_memory::{Memory, ReadError};
use upprof_nginx::{Identity, Layout, Method, NoLayout, Owner, RequestOffsets, identity, version_text};
use upprof_probes::{OTHER_LABEL, OUTSIDE_LABEL, RequestLayout, UNREAD_LABEL};
use upprof_profile::Origin;
use upprof_profile::raw::{RawLabel, RawText};
use upprof_stacks::Recording;

/// Why the requests of a VM cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoRequests {
    #[error("requests of the stream module are not read")]
    Stream,
    #[error(
        "this LuaJIT is not OpenResty's: it keeps the request in a table of Lua, not in the thread (lua_State.exdata)"
    )]
    NoExdata,
    #[error("the symbol {0} is not exported")]
    Symbol(&'static str),
    #[error(transparent)]
    Layout(#[from] NoLayout),
    #[error(transparent)]
    Memory(#[from] ReadError),
}

/// A layout, and why the phase is not in it, if it is not.
pub(super) struct Found {
    pub(super) layout: RequestLayout,
    pub(super) no_phase: Option<String>,
}

/// Layouts by what they were picked by: workers of one nginx share them.
#[derive(Default)]
pub(super) struct Layouts {
    nginx: HashMap<Identity, RequestOffsets>,
    contexts: HashMap<u64, u16>,
}

impl Layouts {
    /// How to read the requests that a VM runs for.
    ///
    /// # Errors
    /// [`NoRequests`] says why they cannot be read.
    pub(super) fn find(
        &mut self,
        mem: &dyn Memory,
        symbol: &dyn Fn(&str) -> Option<u64>,
        owner: Owner,
        vm: &Vm,
    ) -> Result<Found, NoRequests> {
        const MODULE: &str = "ngx_http_lua_module";
        match (owner, vm.fork) {
            (Owner::Stream, _) => return Err(NoRequests::Stream),
            (Owner::Host, _) => return Err(NoRequests::Symbol(MODULE)),
            (Owner::Http, Fork::Upstream) => return Err(NoRequests::NoExdata),
            (Owner::Http, Fork::Luajit2) => {}
        }
        let module = symbol(MODULE).ok_or(NoRequests::Symbol(MODULE))?;
        let nginx = identity(mem, module)?;
        let at = match self.nginx.get(&nginx) {
            Some(at) => *at,
            None => {
                let at = RequestOffsets::of(&Layout::of_nginx(&nginx)?)?;
                *self.nginx.entry(nginx).or_insert(at)
            }
        };
        let (context, no_phase) = match self.context(mem, vm) {
            Ok(context) => (context, None),
            Err(why) => (0, Some(why)),
        };
        let index = mem.u64(module)?;
        let lua_ctx = u16::try_from(index.saturating_mul(8)).map_err(|_| NoRequests::Symbol(MODULE))?;
        let layout = RequestLayout { method: at.method, server: at.server, lua_ctx, context };
        Ok(Found { layout, no_phase })
    }

    /// Where ngx_lua keeps the phase, by the version that Lua code sees.
    fn context(&mut self, mem: &dyn Memory, vm: &Vm) -> Result<u16, String> {
        let number = global_number(mem, vm, &["ngx", "config", "ngx_lua_version"]);
        let version = number.filter(|n| n.fract() == 0.0 && (0.0..1e9).contains(n)).map(|n| n as u64);
        let version = version.ok_or("ngx.config.ngx_lua_version is not there")?;
        if let Some(context) = self.contexts.get(&version) {
            return Ok(*context);
        }
        let found = Layout::of_lua(version).and_then(|l| l.at("ngx_http_lua_ctx_t", "context"));
        let context = found.map_err(|e| format!("ngx_lua {}: {e}", version_text(version)))?;
        let context = u16::try_from(context).map_err(|e| e.to_string())?;
        Ok(*self.contexts.entry(version).or_insert(context))
    }
}

/// An empty recording that knows the labels which every capture has.
pub(super) fn recording() -> Recording {
    let mut recording = Recording::default();
    recording.add_origin(OTHER_LABEL, Origin::Other);
    recording.add_origin(OUTSIDE_LABEL, Origin::Outside);
    recording.add_origin(UNREAD_LABEL, Origin::Unknown);
    recording
}

/// Adds a request that the kernel side told of.
pub(super) fn tell(recording: &mut Recording, label: &RawLabel) {
    recording.add_origin(label.label, origin(label));
}

fn origin(label: &RawLabel) -> Origin {
    let method = Method::new(label.method.into()).map_or("other", Method::name).to_owned();
    let host = text(&label.host);
    // A client may write anything into the Host header, a password too.
    let host = host.rsplit_once('@').map_or(host.as_str(), |(_, host)| host).to_owned();
    Origin::Request { method, host, path: text(&label.path) }
}

fn text(raw: &RawText) -> String {
    let text = String::from_utf8_lossy(&raw.bytes);
    if raw.cut { format!("{text}…") } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(host: &[u8], path: &[u8], cut: bool) -> Origin {
        let plain = |bytes: &[u8], cut| RawText { bytes: bytes.to_vec(), cut };
        origin(&RawLabel { label: 99, method: 2, path: plain(path, cut), host: plain(host, false) })
    }

    #[test]
    fn a_label_becomes_a_request_without_secrets() {
        let request = |host: &str, path: &str| Origin::Request {
            method: "GET".into(),
            host: host.into(),
            path: path.into(),
        };
        assert_eq!(told(b"a.example", b"/x", false), request("a.example", "/x"));
        assert_eq!(told(b"me:secret@a.example", b"/x", true), request("a.example", "/x…"));
        assert_eq!(told(b"", b"/\xff", false), request("", "/\u{fffd}"));
    }
}
