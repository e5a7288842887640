//! pprof, decoded again.

mod common;

use std::collections::BTreeSet;
use std::io::Read;

use prost::Message;
use upprof_profile::Profile;
use upprof_profile::export::{Exporter, Pprof, proto};

fn decode(profile: &Profile) -> proto::Profile {
    let mut gzip = Vec::new();
    Pprof.write(profile, &mut gzip).expect("a Vec takes everything");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut bytes).expect("gzip");
    proto::Profile::decode(&bytes[..]).expect("profile.proto")
}

fn string(out: &proto::Profile, index: i64) -> &str {
    &out.string_table[usize::try_from(index).expect("an index")]
}

fn name(out: &proto::Profile, location_id: u64) -> &str {
    let location = out.location.iter().find(|l| l.id == location_id).expect("a location");
    let function = out.function.iter().find(|f| f.id == location.line[0].function_id).expect("a function");
    string(out, function.name)
}

fn labels(out: &proto::Profile, sample: &proto::Sample) -> Vec<(String, String)> {
    sample.label.iter().map(|l| (string(out, l.key).into(), string(out, l.str).into())).collect()
}

#[test]
fn values_units_and_times() {
    let out = decode(&common::tiny());
    let types: Vec<_> =
        out.sample_type.iter().map(|t| (string(&out, t.r#type), string(&out, t.unit))).collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    let period = out.period_type.expect("a period");
    assert_eq!((string(&out, period.r#type), string(&out, period.unit)), ("cpu", "nanoseconds"));
    assert_eq!(out.period, 10_000_000);
    assert_eq!(string(&out, out.default_sample_type), "cpu");
    assert_eq!((out.time_nanos, out.duration_nanos), (1_776_161_472_000_000_000, 10_000_000_000));
    let samples: i64 = out.sample.iter().map(|s| s.value[0]).sum();
    let cpu: i64 = out.sample.iter().map(|s| s.value[1]).sum();
    assert_eq!((samples, cpu), (100, 1_000_000_000));
    assert_eq!(out.string_table[0], "");
}

#[test]
fn stacks_are_leaf_first_and_carry_labels() {
    let out = decode(&common::tiny());
    let sample = out.sample.iter().find(|s| s.value[0] == 50).expect("the compiled one");
    let stack: Vec<&str> = sample.location_id.iter().map(|id| name(&out, *id)).collect();
    assert_eq!(
        stack,
        ["[trace loop@/app/hot.lua:7]", "lua:hot@/app/hot.lua:5", "lua:access@/app/main.lua:10", "main"]
    );
    let expected =
        [("container", "gateway"), ("pid", "1002"), ("worker", "worker 1"), ("vmstate", "compiled")];
    assert_eq!(labels(&out, sample), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
}

#[test]
fn functions_say_kind_raw_name_file_and_lines() {
    let out = decode(&common::tiny());
    let function = out.function.iter().find(|f| string(&out, f.system_name) == "hot").expect("hot");
    assert_eq!(string(&out, function.name), "lua:hot@/app/hot.lua:5");
    assert_eq!((string(&out, function.filename), function.start_line), ("/app/hot.lua", 5));
    let location = out.location.iter().find(|l| l.line[0].function_id == function.id).expect("a location");
    assert_eq!((location.line[0].line, location.address, location.mapping_id), (7, 0, 0));
    let native = out.location.iter().find(|l| name(&out, l.id) == "lj_str_new").expect("native");
    assert_ne!(native.address, 0);
    let mapping = out.mapping.iter().find(|m| m.id == native.mapping_id).expect("a module");
    assert_eq!(string(&out, mapping.filename), "libluajit.so");
    assert!(mapping.has_functions, "pprof must not symbolise again");
}

#[test]
fn counters_travel_as_comments() {
    let out = decode(&common::tiny());
    let comments: Vec<&str> = out.comment.iter().map(|c| string(&out, *c)).collect();
    assert!(comments[0].contains("100 Hz"), "{comments:?}");
    let uncertain = "1.0 % of samples uncertain (1 of 100), because code lies in no file (1)";
    assert!(comments.contains(&uncertain), "{comments:?}");
    assert!(comments.contains(&"stack_too_deep = 2: Stacks cut at the root."), "{comments:?}");
    assert!(comments.iter().any(|c| c.starts_with("ring_full = 0")), "zero is told too: {comments:?}");
}

#[test]
fn ids_and_indices_are_sound_whatever_the_names() {
    for profile in [common::hostile(), common::gateway(), common::idle(), Profile::default()] {
        let out = decode(&profile);
        let strings = i64::try_from(out.string_table.len()).expect("few");
        let unique: BTreeSet<&String> = out.string_table.iter().collect();
        assert_eq!(unique.len(), out.string_table.len(), "strings are interned");
        let functions: BTreeSet<u64> = out.function.iter().map(|f| f.id).collect();
        let locations: BTreeSet<u64> = out.location.iter().map(|l| l.id).collect();
        assert!(!functions.contains(&0) && !locations.contains(&0), "ids start at 1");
        assert_eq!(locations.len(), out.location.len());
        assert!(out.location.iter().all(|l| functions.contains(&l.line[0].function_id)));
        assert!(out.sample.iter().flat_map(|s| &s.location_id).all(|id| locations.contains(id)));
        let indices = out.function.iter().flat_map(|f| [f.name, f.system_name, f.filename]);
        let indices = indices.chain(out.sample.iter().flat_map(|s| &s.label).flat_map(|l| [l.key, l.str]));
        assert!(indices.into_iter().all(|i| (0..strings).contains(&i)));
        let total: i64 = out.sample.iter().map(|s| s.value[0]).sum();
        assert_eq!(u64::try_from(total).expect("positive"), profile.total());
    }
}

#[test]
fn an_unknown_frequency_divides_by_nothing() {
    let mut profile = common::tiny();
    profile.frequency_hz = 0;
    assert!(decode(&profile).sample.iter().all(|s| s.value[1] == 0));
}
