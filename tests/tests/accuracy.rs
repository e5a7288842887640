//! The kernel's walkers against a second opinion, on real stacks of every target of the matrix
//! (`upprof_tests::accuracy`; `./dev accuracy` prints the same as a table). They must agree.
//!
//! Needs root, a Docker engine, and the images of all targets.

use upprof_tests::accuracy::{Observatory, TARGETS, Tally, Work};

/// Stops with Lua on the stack of each workload: at the bounds below, five may be wrong.
const STOPS: usize = 1000;

/// The numbers, for every target and workload.
fn judge(what: &str, tally: &Tally, idle: usize) {
    const SHOWN: usize = 6;
    println!("{what}\n{tally}");
    for text in tally.impossible.iter().chain(&tally.disagreements).take(SHOWN) {
        println!("  {text}");
    }
    assert_eq!(idle, 0, "{what}: Lua frames in a worker that waits");
    assert!(tally.lua >= STOPS / 2, "{what}: only {} stops had Lua on the stack", tally.lua);
    assert!(tally.impossible.is_empty(), "{what}: {}", tally.impossible.join("\n"));
    assert!(tally.leaf_right() >= 99.5, "{what}: leaves differ\n{tally}");
    assert!(tally.whole_right() >= 99.5, "{what}: stacks differ\n{tally}");
    assert!(tally.root_reached() >= 99.5, "{what}: the entry was reached too seldom\n{tally}");
    // With a VM for each request, which the demo has some of, nobody is told in time.
    let fresh = [Work::FreshVm, Work::Demo].iter().any(|work| what.ends_with(work.name()));
    assert!(fresh || tally.unplaced == 0, "{what}: traces without a place\n{tally}");
    // An oracle that abstains often would prove little.
    assert!(tally.undecided * 200 <= tally.stops, "{what}: the oracle cannot tell too often\n{tally}");
    // The kernel side tells vmstate's number, which is the trace before for an instant after a jump from
    // trace to trace (3 in 244, docs/luajit.md 3.5); the launcher takes the trace that holds the address.
    let told = tally.trace_number_equal + tally.trace_unnumbered;
    assert!(told * 100 >= tally.in_trace * 95, "{what}: traces differ\n{tally}");
}

fn accurate(name: &str) {
    let matter = TARGETS.iter().find(|t| t.name == name).expect("a target of the matrix");
    let mut all = Observatory::of(matter).expect("a target of our own can be stopped and read");
    for &work in matter.works() {
        let tally = all.under(work, STOPS).expect("a target of our own can be stopped and read");
        let idle = all.idle().expect("a target of our own can be stopped and read");
        let what = format!("{name}, {}", work.name());
        judge(&what, &tally, idle);
        match work {
            Work::Interpreted => {
                assert!(
                    tally.proven * 10 >= tally.lua * 9,
                    "{what}: too few leaves could be proven\n{tally}"
                );
            }
            Work::Compiled => {
                assert!(tally.in_trace * 2 >= tally.lua, "{what}: too few stops in machine code\n{tally}");
            }
            Work::FreshVm | Work::Stream | Work::Demo => {}
        }
    }
}

#[test]
fn debian_11_agrees_with_a_second_opinion() {
    accurate("bullseye");
}

#[test]
fn debian_12_agrees_with_a_second_opinion() {
    accurate("bookworm");
}

#[test]
fn debian_13_agrees_with_a_second_opinion() {
    accurate("trixie");
}

#[test]
fn debian_14_agrees_with_a_second_opinion() {
    accurate("forky");
}

#[test]
fn openrestys_gc32_agrees_with_a_second_opinion() {
    accurate("gc32");
}

#[test]
fn luajit_in_nginx_itself_agrees_with_a_second_opinion() {
    accurate("static");
}

#[test]
fn a_program_that_is_not_nginx_agrees_with_a_second_opinion() {
    accurate("host");
}
