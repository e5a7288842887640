//! `nginx -s reload` while the window is open.

use std::collections::BTreeSet;
use upprof_tests::harness::bundle::{Bundle, Worker};
use upprof_tests::harness::load::Load;
use upprof_tests::harness::pprof;
use upprof_tests::harness::process::cpu_seconds;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::target::Target;
use upprof_tests::harness::wait::until;

/// CPU seconds that each worker has to use inside the window: at 999 Hz, some hundred samples.
const BURN: f64 = 0.5;

#[test]
fn workers_of_a_reload_are_sampled_and_leaving_ones_keep_what_they_gave() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::ticking("reload");
    let old: BTreeSet<u32> = target.workers().into_iter().collect();
    let _load = Load::on_all_workers(&target, &["/recursion", "/sort", "/jit/loop"]);
    let mut upprof = Upprof::on_host()
        .args(["--container", target.name(), "-d", "0", "-F", "999"])
        .out(folder.path())
        .start();
    upprof.sampling();
    let before: Vec<f64> = old.iter().map(|pid| cpu_seconds(*pid)).collect();
    until("each worker to work", || {
        old.iter().zip(&before).all(|(pid, from)| cpu_seconds(*pid) - from >= BURN).then_some(())
    });

    target.exec(&["nginx", "-s", "reload"]);
    let new: BTreeSet<u32> = until("new workers that work", || {
        let new: BTreeSet<u32> = target.workers().into_iter().filter(|pid| !old.contains(pid)).collect();
        (new.len() == old.len() && new.iter().all(|pid| cpu_seconds(*pid) >= BURN)).then_some(new)
    });
    upprof.signal(rustix::process::Signal::INT);
    upprof.wait().exits(0);

    let bundle = Bundle::only_in(folder.path());
    let rows = bundle.workers();
    for pid in old.iter().chain(&new) {
        let row = rows.iter().find(|row| row.pid == *pid);
        let row = row.unwrap_or_else(|| panic!("{pid} is not in {rows:#?}"));
        // Half of what was used must be seen: the window of a new worker starts when it is known.
        assert!(row.samples as f64 >= BURN * 999.0 / 2.0, "{row:?}");
        assert!(row.lua_percent.is_some_and(|p| p > 50.0), "{row:?}");
        assert_eq!(row.lua_unavailable, "", "{row:?}");
    }
    for row in rows.iter().filter(|row| new.contains(&row.pid)) {
        assert_eq!(row.role, "worker", "{row:?}");
    }
    let sum: u64 = rows.iter().map(|row: &Worker| row.samples).sum();
    assert_eq!(sum, bundle.stacks().total(), "every sample has its process");
    let labels = &pprof::decode(&bundle.bytes("cpu/profile.pb.gz")).labels["pid"];
    for pid in old.iter().chain(&new) {
        assert!(labels.contains(&pid.to_string()), "{pid} is not in {labels:?}");
    }
    // The Lua functions of both have their names.
    let stacks = bundle.stacks();
    let named =
        stacks.samples(|s| s.frames.iter().any(|f| f.starts_with("lua:recursion_inner@/app/calls.lua:")));
    assert!(named > 0);
    let nameless = stacks.samples(|s| s.frames.iter().any(|f| f.starts_with("lua:?@/app/")));
    assert_eq!(nameless, 0, "functions by line only");
}
