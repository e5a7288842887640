//! `upprof inspect`: what is in the target's memory, without a probe in the kernel.
//!
//! [`World`] is what can be looked at; each WHAT is an [`Inspector`] in a file of its own, listed in
//! [`all`]. They only read: the target is not stopped, signalled or written to.

pub(crate) mod bundle;
mod coroutines;
mod gc;
mod inspector;
mod jit;
mod modules;
mod nginx;
mod objects;
mod pace;
mod plan;
mod strings;
mod symbols;
mod world;

pub(crate) use inspector::{AnyInspector, Inspector, Shown};
pub(crate) use plan::{Ask, Plan};
pub(crate) use world::World;

use crate::failure::{Exit, Failure};
use crate::session::target::Target;
use crate::session::window::Signals;
use inspector::Running;
use pace::Pace;
use std::io::Write;
use std::time::{Duration, Instant};
use upprof_report::inspect::{Round, SCHEMA, to_json};

/// Every inspector, in the order of the help text.
pub(crate) fn all() -> Vec<Box<dyn AnyInspector>> {
    let mut all: Vec<Box<dyn AnyInspector>> = vec![
        Running::of(gc::GcInspector::default()),
        Running::of(strings::StringsInspector),
        Running::of(jit::JitInspector),
        Running::of(modules::ModulesInspector),
        Running::of(coroutines::CoroutinesInspector),
        Running::of(objects::ObjectsInspector),
        Running::of(symbols::SymbolsInspector),
    ];
    all.extend(nginx::all());
    all
}

/// Between two samples of inspectors that look more often than they tell.
const BETWEEN: Duration = Duration::from_millis(100);

/// Looks once, or again and again.
///
/// # Errors
/// The failure to tell and its exit code; [`Exit::NoSamples`] when nothing at all could be read.
pub(crate) fn run(plan: &Plan) -> Result<(), Failure> {
    let signals = Signals::install();
    let target = Target::find(&plan.target)?;
    let mut world = World::look_at(&target)?;
    world.tell(plan.voice);
    let mut inspectors = chosen(plan);
    let mut pace = Pace::default();
    loop {
        let round = Instant::now();
        let shown = pace.look(&mut inspectors, &world, &plan.ask);
        print(plan, &world, &shown)?;
        let Some(every) = plan.watch else { return judge(&shown) };
        while round.elapsed() < every {
            if signals.stop() {
                return Ok(());
            }
            std::thread::sleep(BETWEEN.min(every.saturating_sub(round.elapsed())));
            inspectors.iter_mut().for_each(|i| i.between(&world));
        }
        world.refresh()?;
    }
}

/// The inspectors that were asked for; all that need no question of their own when none was.
fn chosen(plan: &Plan) -> Vec<Box<dyn AnyInspector>> {
    let mut inspectors = all();
    inspectors.retain(|i| match plan.what.is_empty() {
        true => i.by_default(),
        false => plan.what.iter().any(|w| w == i.name()),
    });
    inspectors
}

fn print(plan: &Plan, world: &World<'_>, shown: &[Shown]) -> Result<(), Failure> {
    let mut text = String::new();
    if plan.json {
        let artifacts = shown.iter().map(|s| s.json.clone()).collect();
        let round = Round { schema: SCHEMA, target: &world.target.label(), artifacts };
        text = to_json(&round).map_err(|_| Failure::bug())?;
        text.push('\n');
    } else {
        for s in shown {
            s.tables.iter().for_each(|t| text.push_str(&format!("{t}\n")));
        }
    }
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // `| head` has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Failure::new(
            Exit::Output,
            format!("standard output cannot be written: {e}"),
            "the disk is full, or what reads it has gone",
            "redirect it to another file",
        )),
    }
}

/// Nothing that could be read at all is a failure, told after what was tried was shown.
fn judge(shown: &[Shown]) -> Result<(), Failure> {
    let Some(why) = shown.iter().find_map(|s| s.first_refusal.clone()) else { return Ok(()) };
    if shown.iter().any(|s| s.found > 0) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::NoSamples,
        format!("nothing could be read: {why}"),
        "the target is not what the inspector reads, or a build whose layout is not known",
        "upprof inspect TARGET symbols says what is known of its files",
    ))
}
