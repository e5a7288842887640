//! What an inspector is, and how one is run.

use super::{Ask, World};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use upprof_report::inspect::{Document, Found, Part, SCHEMA, Subject, Table};

/// One WHAT of `upprof inspect`. To add one: a file with a type that implements this, and a line in
/// [`super::all`].
pub(crate) trait Inspector {
    /// What it finds for one subject. Fields say their unit in their name or documentation; rates are
    /// `Option`s that [`Inspector::compare`] fills.
    type Artifact: Serialize;
    /// Its name on the command line and in JSON; in a bundle the file is `inspect/NAME.json`.
    const NAME: &'static str;
    /// What it shows, for the help text: half a sentence.
    const ABOUT: &'static str;
    /// Whether it is among those that a command without WHAT runs: not what takes long.
    const BY_DEFAULT: bool = true;
    /// Whether a bundle has it: all that need no question of their own.
    const IN_BUNDLE: bool = true;
    /// Whether it walks through a VM's memory: what takes longer the more of that there is, and under
    /// `--watch` comes less often.
    const GROWS_WITH_HEAP: bool = false;

    /// Looks. Each part degrades alone: what does not check out is [`Found::NotTrusted`].
    fn look(&mut self, world: &World<'_>, ask: &Ask) -> Vec<Part<Self::Artifact>>;

    /// Called ten times a second between two looks under `--watch`: for what a look a second misses.
    fn between(&mut self, _world: &World<'_>) {}

    /// Fills in what two looks at the same subject tell: rates, differences.
    fn compare(_now: &mut Self::Artifact, _before: &Self::Artifact, _elapsed: Duration) {}

    /// The artifact for people. Cells are escaped when they are printed.
    fn tables(found: &[(&Subject, &Self::Artifact)]) -> Vec<Table>;
}

/// What a look gave, rendered both ways.
pub(crate) struct Shown {
    pub(crate) json: Box<RawValue>,
    pub(crate) tables: Vec<Table>,
    /// Parts that were found.
    pub(crate) found: usize,
    /// Why the first part that was not trusted was not.
    pub(crate) first_refusal: Option<String>,
}

/// An [`Inspector`] whose artifact's type does not matter.
pub(crate) trait AnyInspector {
    fn name(&self) -> &'static str;
    fn about(&self) -> &'static str;
    fn by_default(&self) -> bool;
    fn in_bundle(&self) -> bool;
    fn grows_with_heap(&self) -> bool;
    fn look(&mut self, world: &World<'_>, ask: &Ask) -> Shown;
    fn between(&mut self, world: &World<'_>);
}

/// An inspector with its last look.
pub(super) struct Running<I: Inspector> {
    inspector: I,
    before: Option<(Instant, Vec<Part<I::Artifact>>)>,
}

impl<I: Inspector + 'static> Running<I> {
    pub(super) fn of(inspector: I) -> Box<dyn AnyInspector> {
        Box::new(Self { inspector, before: None })
    }
}

impl<I: Inspector> AnyInspector for Running<I> {
    fn name(&self) -> &'static str {
        I::NAME
    }

    fn about(&self) -> &'static str {
        I::ABOUT
    }

    fn by_default(&self) -> bool {
        I::BY_DEFAULT
    }

    fn in_bundle(&self) -> bool {
        I::IN_BUNDLE
    }

    fn grows_with_heap(&self) -> bool {
        I::GROWS_WITH_HEAP
    }

    fn look(&mut self, world: &World<'_>, ask: &Ask) -> Shown {
        let taken = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let begun = Instant::now();
        let mut parts = self.inspector.look(world, ask);
        let read = begun.elapsed();
        let mut interval = None;
        if let Some((at, before)) = &self.before {
            let elapsed = begun - *at;
            interval = Some(elapsed);
            compare::<I>(&mut parts, before, elapsed);
        }
        let document = Document {
            schema: SCHEMA,
            what: I::NAME,
            taken_unix_ms: u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
            read_ms: read.as_secs_f64() * 1e3,
            interval_s: interval.map(|i| i.as_secs_f64()),
            parts,
        };
        let shown = show::<I>(&document);
        self.before = Some((begun, document.parts));
        shown
    }

    fn between(&mut self, world: &World<'_>) {
        self.inspector.between(world);
    }
}

fn compare<I: Inspector>(now: &mut [Part<I::Artifact>], before: &[Part<I::Artifact>], elapsed: Duration) {
    for part in now {
        let same = before.iter().find(|b| b.of == part.of);
        if let (Found::Found(now), Some(Part { found: Found::Found(before), .. })) = (&mut part.found, same) {
            I::compare(now, before, elapsed);
        }
    }
}

fn show<I: Inspector>(document: &Document<I::Artifact>) -> Shown {
    let mut found = Vec::new();
    let mut refused = Table::new(format!("{}: not trusted", I::NAME), &[]);
    let mut first_refusal = None;
    for part in &document.parts {
        match &part.found {
            Found::Found(artifact) => found.push((&part.of, artifact)),
            Found::NotTrusted { why } => {
                refused.note(format!("{}: {why}", part.of));
                first_refusal.get_or_insert_with(|| why.clone());
            }
        }
    }
    let mut tables = if found.is_empty() { Vec::new() } else { I::tables(&found) };
    if !refused.is_empty() {
        tables.push(refused);
    }
    let json = to_raw_value(document).expect("an artifact's type has no map with keys that are no strings");
    Shown { json, tables, found: found.len(), first_refusal }
}
