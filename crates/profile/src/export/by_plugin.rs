//! Which plugin of a gateway did the work: told by the source files of the Lua functions on the stack.

use std::io::Write;

use crate::export::by_request::numbers;
use crate::export::csv::{Cell, row};
use crate::export::{ExportError, Exporter};
use crate::model::{Frame, Profile, Sample};

/// `cpu/by-plugin.csv`: one row a plugin of APISIX or Kong. Left out where no stack has a plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByPlugin;

const NO_PLUGIN: &str = "(no plugin)";

impl Exporter for ByPlugin {
    fn path(&self) -> &'static str {
        "cpu/by-plugin.csv"
    }

    fn what(&self) -> &'static str {
        "CPU by plugin of APISIX or Kong: the innermost one on the stack"
    }

    fn applies(&self, profile: &Profile) -> bool {
        profile.frames.iter().any(|f| plugin(f).is_some())
    }

    fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ExportError> {
        writeln!(out, "gateway,plugin,samples,share_percent,cpu_seconds_sampled")?;
        for (plugin, samples) in profile.by_plugin() {
            let (gateway, name) = match plugin {
                Some(p) => (Cell::text(p.gateway), Cell::text(p.name)),
                None => (Cell::Empty, Cell::text(NO_PLUGIN)),
            };
            let cells: Vec<Cell<'_>> = [gateway, name].into_iter().chain(numbers(profile, samples)).collect();
            row(out, &cells)?;
        }
        Ok(())
    }
}

/// A plugin of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plugin<'a> {
    /// `APISIX` or `Kong`.
    pub gateway: &'static str,
    /// As its folder or file is called. Hostile.
    pub name: &'a str,
}

impl Profile {
    /// Samples by the innermost plugin on the stack, most first; `None` is what ran for no plugin.
    #[must_use]
    pub fn by_plugin(&self) -> Vec<(Option<Plugin<'_>>, u64)> {
        let of_frames: Vec<Option<Plugin<'_>>> = self.frames.iter().map(plugin).collect();
        let innermost = |s: &Sample| {
            s.stack.iter().rev().find_map(|l| of_frames.get(l.frame.0 as usize).copied().flatten())
        };
        self.summed(innermost)
    }
}

/// The plugin that a Lua function belongs to: `…/apisix/plugins/NAME.lua` or a file in `…/plugins/NAME/`,
/// and `…/kong/plugins/NAME/…`, where both gateways load them from.
fn plugin(frame: &Frame) -> Option<Plugin<'_>> {
    const PLACES: [(&str, &str); 2] = [("APISIX", "apisix/plugins/"), ("Kong", "kong/plugins/")];
    if !frame.kind.is_lua() {
        return None;
    }
    let file = frame.file.as_deref()?;
    PLACES.iter().find_map(|(gateway, place)| {
        let (before, rest) = file.rsplit_once(place)?;
        if !before.is_empty() && !before.ends_with('/') {
            return None;
        }
        let name = rest.split('/').next()?;
        let name = name.strip_suffix(".lua").unwrap_or(name);
        (!name.is_empty()).then_some(Plugin { gateway, name })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FrameKind;

    #[test]
    fn plugins_are_told_by_their_files() {
        let of = |kind, file: &str| {
            let frame = Frame { kind, name: "access".into(), file: Some(file.into()), line: 1 };
            plugin(&frame).map(|p| (p.gateway, p.name.to_owned()))
        };
        let lua = |file| of(FrameKind::Lua, file);
        let apisix = |name: &str| Some(("APISIX", name.to_owned()));
        assert_eq!(lua("/usr/local/apisix/apisix/plugins/key-auth.lua"), apisix("key-auth"));
        assert_eq!(lua("/usr/local/apisix//apisix/plugins/limit-count/init.lua"), apisix("limit-count"));
        assert_eq!(lua("apisix/plugins/prometheus.lua"), apisix("prometheus"));
        assert_eq!(
            lua("/usr/local/share/lua/5.1/kong/plugins/rate-limiting/policies/init.lua"),
            Some(("Kong", "rate-limiting".to_owned()))
        );
        for none in
            ["/usr/local/apisix/apisix/plugin.lua", "/x/notapisix/plugins/a.lua", "/apisix/plugins/", ""]
        {
            assert_eq!(lua(none), None, "{none}");
        }
        assert_eq!(of(FrameKind::Native, "/a/kong/plugins/x/y.so"), None);
    }
}
