//! `index.html`: the page to open. One file, no network, no script of its own; the flame graph in it
//! runs in a sandboxed frame.
//!
//! The markup is well-formed XML as well as HTML, so that the tests can read it strictly.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Write;

use upprof_profile::Profile;
use upprof_profile::export::ExportError;
use upprof_profile::number::thousands;

use crate::manifest::Manifest;
use crate::utc::Utc;

mod about;
mod flame;
mod functions;
mod losses;
mod overview;
mod processes;
mod requests;
mod text;

use text::text;

const STYLE: &str = include_str!("style.css");

/// The page of a bundle.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// What was measured.
    pub profile: &'a Profile,
    /// How, and what else is in the bundle.
    pub manifest: &'a Manifest,
}

impl Page<'_> {
    /// Where the page goes in the bundle.
    pub const PATH: &'static str = "index.html";
    /// What the page is, in a sentence.
    pub const WHAT: &'static str = "This page: numbers, tables, flame graph, and what was lost";

    /// Writes the page.
    ///
    /// # Errors
    /// When `out` cannot be written or the flame graph cannot be drawn.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), ExportError> {
        let nonce = nonce();
        let sections = [
            overview::section(self.profile),
            functions::section(self.profile),
            requests::section(self.profile),
            processes::section(self.profile),
            flame::section(self.profile, &nonce)?,
            losses::section(self.profile),
            about::section(self.manifest),
        ];
        write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{}\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"referrer\" content=\"no-referrer\"/>\n\
             <title>{} · upprof</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}\n<main>\n{}\n</main>\n{}\n\
             </body>\n</html>\n",
            policy(&nonce),
            text(&self.profile.target()),
            self.header(),
            sections.join("\n"),
            self.footer(),
        )?;
        Ok(())
    }

    fn header(&self) -> String {
        let profile = self.profile;
        let count = profile.processes.len();
        format!(
            "<header><h1>CPU profile of {}</h1>\n<p class=\"meta\">{} · {:.1} s · {} Hz on each CPU · \
             {} samples · {count} process{}</p>\n<nav>{}<a href=\"#processes\">Workers</a><a href=\"#flame\">Flame graph</a>\
             <a href=\"#lost\">Lost or uncertain</a><a href=\"#files\">Files</a>\
             <a href=\"#how\">How it was measured</a></nav></header>",
            text(&profile.target()),
            Utc::from_unix_ns(profile.started_unix_ns).for_people(),
            profile.duration_seconds(),
            profile.frequency_hz,
            thousands(profile.total()),
            if count == 1 { "" } else { "es" },
            [
                (profile.total() > 0, "<a href=\"#functions\">Functions</a>"),
                (requests::told(profile), "<a href=\"#requests\">Requests</a>"),
            ]
            .iter()
            .filter(|(there, _)| *there)
            .map(|(_, link)| *link)
            .collect::<String>(),
        )
    }

    fn footer(&self) -> String {
        let version = match self.manifest.upprof_version.as_str() {
            "" => String::new(),
            version => format!(" {}", text(version)),
        };
        format!("<footer>Made by upprof{version}. This page needs no network and loads nothing.</footer>")
    }
}

/// Nothing from anywhere. The page has no script; the flame graph's frame inherits this policy, so
/// its one script is let through by a nonce that no text of the target could know in advance.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; base-uri 'none'; \
         form-action 'none'"
    )
}

/// 128 bits from the standard library's random hash keys.
fn nonce() -> String {
    let bits = || RandomState::new().hash_one("upprof");
    format!("{:016x}{:016x}", bits(), bits())
}
