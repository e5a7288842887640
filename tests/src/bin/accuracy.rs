//! `./dev accuracy [TARGET…]`: how right stacks are on every target of the matrix, as a table. Needs root, an
//! engine, and the images (`images/target/build.sh TARGET`).

use anyhow::{Result, bail};
use upprof_tests::accuracy::{Matter, Observatory, TARGETS, Tally, Work};

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|w| TARGETS.iter().all(|t| t.name != **w)) {
        bail!("no target {unknown}; there are {}", TARGETS.map(|t| t.name).join(", "));
    }
    let chosen = |t: &&Matter| wanted.is_empty() || wanted.iter().any(|w| *w == t.name);
    println!(
        "{:<10} {:<15} {:>6} {:>8} {:>8} {:>10} {:>6} {:>8} {:>10}",
        "target", "work", "stops", "leaf %", "whole %", "impossible", "idle", "root %", "unsure %"
    );
    let mut details = String::new();
    for matter in TARGETS.iter().filter(chosen) {
        let mut all = Observatory::of(matter)?;
        for &work in matter.works() {
            let tally = all.under(work, STOPS)?;
            let idle = all.idle()?;
            println!("{}", row(matter, work, &tally, idle));
            details += &format!("\n{}, {}: {}\n{tally}", matter.name, work.name(), matter.what);
            for text in tally.impossible.iter().chain(&tally.disagreements).take(SHOWN) {
                details += &format!("  {text}\n");
            }
        }
    }
    println!("{details}");
    Ok(())
}

/// Stops with Lua on the stack that one row is made of.
const STOPS: usize = 1000;
/// Disagreements that are told of one row.
const SHOWN: usize = 20;

fn row(matter: &Matter, work: Work, tally: &Tally, idle: usize) -> String {
    format!(
        "{:<10} {:<15} {:>6} {:>8.2} {:>8.2} {:>10} {:>6} {:>8.2} {:>10.2}",
        matter.name,
        work.name(),
        tally.lua,
        tally.leaf_right(),
        tally.whole_right(),
        tally.impossible.len(),
        idle,
        tally.root_reached(),
        tally.uncertainty()
    )
}
