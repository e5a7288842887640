//! What runs in which phase of a request, and through which filters an answer goes.

use crate::inspect::view::HTTP_MODULE;
use crate::inspect::{Nginx, Untrusted};
use serde::Serialize;

/// `ngx_http_phases` (ngx_http_core_module.h, the same since 1.13.4).
const PHASES: [&str; 11] = [
    "post-read",
    "server-rewrite",
    "find-config",
    "rewrite",
    "post-rewrite",
    "preaccess",
    "access",
    "post-access",
    "precontent",
    "content",
    "log",
];
const FIND_CONFIG: usize = 2;
const POST_REWRITE: usize = 4;
const POST_ACCESS: usize = 7;
const LOG: usize = 10;
/// Handlers of one phase.
const MAX_HANDLERS: u64 = 256;
/// `ngx_http_phase_handler_t`: checker, handler, next.
const ENGINE_ENTRY: u64 = 24;
/// `ngx_http_phase_t`: an `ngx_array_t`.
const PHASE: u64 = 40;

/// A phase with its handlers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// Its name.
    pub phase: &'static str,
    /// Its handlers in the order they run, by symbol where there is one.
    pub handlers: Vec<String>,
}

/// The phases of an nginx, checked.
pub(crate) struct Phases {
    /// Handlers of each phase, in the order they run.
    handlers: Vec<Vec<u64>>,
    /// The phase of each entry of the engine, by its index: `r->phase_handler`.
    index: Vec<usize>,
}

impl Phases {
    /// Reads `phases[]`, and the engine that is made from it (ngx_http.c, ngx_http_init_phase_handlers).
    /// Both must have the same handlers in each phase; their order within one is ngx_lua's to change.
    pub(crate) fn read(nginx: &Nginx<'_>) -> Result<Self, Untrusted> {
        let conf = nginx.http_main_conf("ngx_http_core_module")?;
        let of = &nginx.at.core_conf;
        let mut registered = Vec::new();
        for i in 0..PHASES.len() as u64 {
            let array = nginx.array(conf.wrapping_add(of.phases + i * PHASE))?;
            if array.len > MAX_HANDLERS || (array.len > 0 && array.size != 8) {
                return Err(Untrusted::Check { what: "the number of handlers of a phase", value: array.len });
            }
            registered.push(nginx.words(array.elts, array.len)?);
        }
        let index = Self::index(&registered);
        let engine = nginx.u64(conf.wrapping_add(of.phase_engine))?;
        let entries = nginx.words(engine, index.len() as u64 * ENGINE_ENTRY / 8)?;
        let mut handlers = vec![Vec::new(); PHASES.len()];
        for (phase, entry) in index.iter().zip(entries.chunks_exact(3)) {
            if !registered[*phase].is_empty() {
                handlers[*phase].push(entry[1]);
            }
        }
        handlers[LOG] = registered[LOG].clone();
        for (phase, (in_engine, registered)) in handlers.iter().zip(&registered).enumerate() {
            let (mut a, mut b) = (in_engine.clone(), registered.clone());
            a.sort_unstable();
            b.sort_unstable();
            if a != b {
                return Err(Untrusted::Check {
                    what: "a phase whose handlers the engine does not have:",
                    value: phase as u64,
                });
            }
        }
        Ok(Self { handlers, index })
    }

    fn index(registered: &[Vec<u64>]) -> Vec<usize> {
        let mut index = Vec::new();
        for (phase, handlers) in registered.iter().enumerate().take(LOG) {
            let entries = match phase {
                FIND_CONFIG => 1,
                POST_REWRITE => usize::from(!registered[phase - 1].is_empty()),
                POST_ACCESS => usize::from(!registered[phase - 1].is_empty()),
                _ => handlers.len(),
            };
            index.extend(std::iter::repeat_n(phase, entries));
        }
        index
    }

    /// The phase that `r->phase_handler` stands for.
    pub(crate) fn phase_of(&self, handler: u64) -> Option<&'static str> {
        let phase = self.index.get(usize::try_from(handler).ok()?)?;
        Some(PHASES[*phase])
    }
}

/// The phases that have handlers, in order.
///
/// # Errors
/// [`Untrusted`] when there is no http block, or it does not check out.
pub fn phases(nginx: &Nginx<'_>) -> Result<Vec<Phase>, Untrusted> {
    let phases = Phases::read(nginx)?;
    let named = |handlers: &Vec<u64>| handlers.iter().map(|h| (nginx.name)(*h)).collect();
    let all = PHASES.iter().zip(&phases.handlers);
    let used = all.filter(|(_, handlers)| !handlers.is_empty());
    Ok(used.map(|(phase, handlers)| Phase { phase, handlers: named(handlers) }).collect())
}

/// The filters of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filters {
    /// The header filter that runs first, by symbol where there is one.
    pub first_header: String,
    /// The body filter that runs first.
    pub first_body: String,
    /// Filter modules in the order their filters run: from the last of the configuration's modules to
    /// the first. Which of them has a header filter, a body filter or both is its own; modules that do not
    /// have `filter` in their name (ngx_lua is one) may have some too.
    pub modules: Vec<String>,
}

/// The filters, by the order of the modules (ngx_http.c calls them in order to set themselves before the
/// one that was first).
///
/// # Errors
/// [`Untrusted`] when the symbols are missing.
pub fn filters(nginx: &Nginx<'_>) -> Result<Filters, Untrusted> {
    let first = |name: &'static str| {
        let at = (nginx.symbol)(name).ok_or(Untrusted::Symbol(name))?;
        match nginx.u64(at)? {
            0 => Err(Untrusted::None("http block in the configuration")),
            handler => Ok((nginx.name)(handler)),
        }
    };
    let modules = nginx.modules().iter().rev();
    let filters = modules.filter(|m| m.kind == HTTP_MODULE && m.name.contains("filter"));
    Ok(Filters {
        first_header: first("ngx_http_top_header_filter")?,
        first_body: first("ngx_http_top_body_filter")?,
        modules: filters.map(|m| m.name.clone()).collect(),
    })
}
