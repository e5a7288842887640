//! How much is uncertain: marks, counted by hand.

mod common;

use upprof_profile::{Doubt, Profile, Role, VmState};

/// 200 samples of one process, in which everything occurs that can be in doubt.
fn doubtful() -> Profile {
    let mut m = common::Maker::default();
    let worker = m.process(1, Role::Worker, None);
    for (count, frames) in [
        (137, &["native main nginx", "lua f /a.lua 1"][..]),
        (20, &["native main nginx", "lua f /a.lua 1", "marker GC"]),
        // Two reasons in one stack, and one reason twice in another.
        (9, &["marker outer frames lost", "lua f /a.lua 1", "marker leaf function unsure"]),
        (5, &["native main nginx", "marker Lua lost", "native g nginx", "marker Lua lost"]),
        (4, &["marker outer frames cut", "lua f /a.lua 1"]),
        (3, &["native main nginx", "trace gone"]),
        (4, &["native main nginx", "lua f /a.lua 1", "trace 12 @ /a.lua:3"]),
        (2, &["native main nginx", "lua f /a.lua 1", "trace not known"]),
        (7, &["native main nginx", "lua f /a.lua 1", "trace f@/a.lua:3"]),
        (2, &["native main nginx", "marker native lost", "lua f /a.lua 1"]),
        (1, &["marker new process, no stack"]),
        (1, &[]),
        (1, &["native main nginx", "unknown"]),
        (1, &["native main nginx", "unknown Lua function, freed before it was read"]),
        // A function may be called as a mark is.
        (3, &["native main nginx", "lua gone /a.lua 1", "native truncated nginx"]),
    ] {
        m.sample(worker, VmState::Interpreted, count, frames);
    }
    m.profile
}

#[test]
fn a_sample_counts_once_and_for_each_of_its_reasons() {
    let uncertainty = doubtful().uncertainty();
    assert_eq!((uncertainty.samples, uncertainty.of), (33, 200));
    let reasons = [
        (Doubt::LeafUnsure, 9),
        (Doubt::OuterFramesLost, 9),
        (Doubt::InlinedUnknown, 6),
        (Doubt::LuaFramesLost, 5),
        (Doubt::Truncated, 4),
        (Doubt::TraceGone, 3),
        (Doubt::NativeFramesLost, 2),
        (Doubt::NoStack, 2),
        (Doubt::FunctionGone, 1),
        (Doubt::UnknownCode, 1),
    ];
    assert_eq!(uncertainty.reasons, reasons);
    let sentence = uncertainty.sentence();
    assert!(
        sentence.starts_with("16.5 % of samples uncertain (33 of 200), because the innermost"),
        "{sentence}"
    );
    assert!(sentence.ends_with("; code lies in no file (1)"), "{sentence}");
    for (doubt, samples) in reasons {
        assert!(sentence.contains(&format!("{doubt} ({samples})")), "{sentence}");
    }
}

#[test]
fn little_is_not_nothing() {
    let mut profile = doubtful();
    profile.samples.truncate(1);
    assert_eq!(profile.uncertainty().sentence(), "no sample uncertain");
    assert_eq!(Profile::default().uncertainty().sentence(), "no sample uncertain");
    let mut profile = doubtful();
    profile.samples[0].count = 1_000_000;
    assert!(
        profile.uncertainty().sentence().starts_with("under 0.1 % of samples uncertain (33 of 1,000,063)")
    );
}
