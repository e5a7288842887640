//! Folded stacks and tables, against files checked by hand and against hostile names.

mod common;

use upprof_profile::export::{ByVmState, ByWorker, Exporter, Folded};
use upprof_profile::{Profile, TopView, by_total, top};

fn text(exporter: &dyn Exporter, profile: &Profile) -> String {
    let mut out = Vec::new();
    exporter.write(profile, &mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("text formats are UTF-8")
}

#[test]
fn folded_matches_the_golden_file() {
    assert_eq!(text(&Folded::default(), &common::tiny()), include_str!("golden/profile.folded"));
}

#[test]
fn tables_match_the_golden_files() {
    assert_eq!(text(&ByWorker, &common::tiny()), include_str!("golden/by-worker.csv"));
    assert_eq!(text(&ByVmState, &common::tiny()), include_str!("golden/by-vmstate.csv"));
}

#[test]
fn nothing_sampled_is_an_empty_file_or_a_bare_header() {
    assert_eq!(text(&Folded::default(), &common::idle()), "");
    let workers = text(&ByWorker, &common::idle());
    assert_eq!(workers.lines().nth(1), Some("7,7,worker,0,0.00,0.00,0.02,,"));
    assert_eq!(text(&ByWorker, &Profile::default()).lines().count(), 1);
}

#[test]
fn every_folded_line_is_frames_a_space_and_a_count() {
    let profile = common::hostile();
    let folded = text(&Folded::default(), &profile);
    assert!(folded.chars().all(|c| c == '\n' || !c.is_control()), "a control character got through");
    let mut sum = 0;
    for line in folded.lines() {
        let (stack, count) = line.rsplit_once(' ').expect("a count");
        sum += count.parse::<u64>().expect("a number");
        // Every hostile stack is one frame deep.
        assert!(!stack.contains(';') && !stack.is_empty(), "{line}");
    }
    assert_eq!(sum, profile.total());
    let lines: Vec<&str> = folded.lines().collect();
    assert!(lines.is_sorted(), "lines are in byte order");
}

#[test]
fn the_same_stack_of_two_workers_is_one_line() {
    let folded = text(&Folded::default(), &common::gateway());
    let stacks: Vec<&str> = folded.lines().filter_map(|l| l.rsplit_once(' ')).map(|(s, _)| s).collect();
    let mut unique = stacks.clone();
    unique.dedup();
    assert_eq!(stacks, unique);
    assert!(folded.contains("[privileged agent];main;"), "a role is the root where it is not a worker");
    assert!(!folded.contains("[worker]"));
}

#[test]
fn hostile_cells_stay_in_their_cell() {
    let table = text(&ByWorker, &common::hostile());
    assert_eq!(table.lines().count(), 2, "no cell breaks the line");
    assert!(!table.chars().any(|c| c.is_control() && c != '\n'));
}

#[test]
fn self_and_total_count_recursion_once() {
    let mut m = common::Maker::default();
    let worker = m.process(1, upprof_profile::Role::Worker, None);
    let interpreted = upprof_profile::VmState::Interpreted;
    m.sample(worker, interpreted, 10, &["native main nginx", "lua f x 1", "lua f x 1", "lua f x 1"]);
    m.sample(worker, interpreted, 4, &["lua f x 1", "lua g x 2", "native lj_str_new libluajit.so"]);
    m.sample(worker, interpreted, 7, &["lua f x 1", "trace loop@x:1"]);
    m.sample(worker, interpreted, 3, &["native main nginx"]);
    let name = |row: &upprof_profile::TopRow| m.profile.frame(row.frame).name.clone();
    let lua: Vec<_> = top(&m.profile, TopView::Lua)
        .iter()
        .map(|r| (name(r), r.self_samples, r.self_compiled, r.total_samples))
        .collect();
    assert_eq!(lua, [("f".into(), 17, 7, 21), ("g".into(), 4, 0, 4)]);
    let all = top(&m.profile, TopView::All);
    let own: Vec<_> = all.iter().map(|r| (name(r), r.self_samples)).collect();
    assert_eq!(own[0], ("f".into(), 10));
    assert_eq!(all.iter().map(|r| r.self_samples).sum::<u64>(), m.profile.total());
    let total: Vec<_> = by_total(all).iter().map(|r| (name(r), r.total_samples)).collect();
    assert_eq!(total[..2], [("f".into(), 21), ("main".into(), 13)]);
}

#[test]
fn compiled_time_belongs_to_the_function_that_was_compiled() {
    let profile = common::tiny();
    let rows = top(&profile, TopView::Lua);
    let hot = rows.iter().find(|r| profile.frame(r.frame).name == "hot").expect("hot is listed");
    assert_eq!((hot.self_samples, hot.self_compiled, hot.total_samples), (50, 50, 50));
    let access = rows.iter().find(|r| profile.frame(r.frame).name == "access").expect("access is listed");
    assert_eq!((access.self_samples, access.self_compiled, access.total_samples), (39, 0, 98));
}

#[test]
fn sums_agree_with_each_other() {
    let profile = common::gateway();
    assert_eq!(profile.samples_by_process().iter().sum::<u64>(), profile.total());
    assert_eq!(profile.samples_by_vmstate(None).iter().map(|(_, n)| n).sum::<u64>(), profile.total());
    assert!(profile.samples_with_lua(None) < profile.total());
    assert_eq!(profile.process_label(3).as_deref(), Some("worker 2"));
    let cores = common::tiny().cores(100);
    assert!((cores - 0.1).abs() < 1e-9, "100 samples at 100 Hz are 1 s of the 10 s: {cores}");
}

#[test]
fn an_empty_profile_says_why() {
    let reason = common::idle().no_samples_reason().expect("a reason");
    assert_eq!(reason, "the one sampled process used 0.02 s of CPU time in 5.0 s: too little to be sampled");
    let mut lost = common::idle();
    lost.counters.push(upprof_profile::Counter {
        name: "ring_full".into(),
        count: 9,
        meaning: "No room.".into(),
        severity: upprof_profile::Severity::Loss,
    });
    assert_eq!(lost.no_samples_reason().as_deref(), Some("every sample of the 5.0 s was lost: No room."));
    assert_eq!(common::tiny().no_samples_reason(), None);
}
