//! `lua_code_cache off`: a VM for each request, made and closed within milliseconds. No symbol leads to it,
//! and nothing of it is there when user space would read it; its functions have names and lines all the same.

use upprof_tests::harness::bundle::Bundle;
use upprof_tests::harness::load::Load;
use upprof_tests::harness::run::Upprof;
use upprof_tests::harness::source::Sources;
use upprof_tests::harness::target::Target;

const FILE: &str = "/app/fresh.lua";
/// CPU seconds of the workers in the window.
const BURN: f64 = 4.0;
const MIN_SAMPLES: u64 = 50;

#[test]
fn functions_of_a_vm_that_is_gone_at_once_have_names_and_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::quiet("fresh-vm");
    let sources = Sources::of(&target);
    let load = Load::on(&target, &["/fresh_vm"]);
    let mut upprof = Upprof::on_host()
        .out(folder.path())
        .args(["--container", target.name(), "-d", "0", "-F", "999"])
        .start();
    upprof.sampling();
    target.burn(BURN);
    upprof.signal(rustix::process::Signal::INT);
    upprof.wait().exits(0);
    let answers = load.stop();
    assert!(answers.bad == 0 && answers.all > 0, "{answers:?}");
    let bundle = Bundle::only_in(folder.path());
    let stacks = bundle.stacks();
    let (samples, complete) = (bundle.counter("samples"), bundle.counter("stacks_complete"));
    let ends = ["no_mapping", "no_unwind_rule", "memory_absent", "no_progress", "truncated"]
        .map(|end| (end, bundle.counter(&format!("stacks_{end}"))));
    let lost = stacks.0.iter().find(|s| s.frames[0] == "[outer frames lost]");
    assert!(
        complete * 1000 >= samples * 999,
        "{complete} of {samples} stacks are complete: {ends:?}, {lost:#?}"
    );

    let work = sources.lua("fresh_vm_work", FILE);
    let main = format!("lua:(main chunk)@{FILE}:0");
    for (chain, count) in stacks.callers(&work) {
        assert_eq!(chain, [main.as_str(), &work], "{count} samples");
    }
    let seen = stacks.samples(|s| s.frames.contains(&work));
    assert!(seen >= MIN_SAMPLES, "{seen} samples in {work}");
    // Hundreds of VMs, each with functions of its own at addresses of its own.
    let gone = stacks.samples(|s| s.frames.iter().any(|f| f.contains("freed before it was read")));
    assert!(gone * 100 <= samples, "{gone} of {samples} samples have functions that nobody could read");
}
