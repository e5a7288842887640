//! Writes a bundle of made-up profiles into a folder, to look at what a reader gets:
//! `cargo run -p upprof-report --example sample_bundle -- /tmp/out`.

use std::error::Error;
use std::path::Path;

use upprof_profile::Profile;
use upprof_profile::export;
use upprof_report::manifest::{Artifact, LuaVm, OwnCost, Skipped};
use upprof_report::{BundleDir, Manifest, Page, Utc};

#[path = "../../profile/tests/common/mod.rs"]
mod common;

fn main() -> Result<(), Box<dyn Error>> {
    let out = std::env::args().nth(1).ok_or("usage: sample_bundle FOLDER")?;
    let mut clean = common::tiny();
    clean.container = "clean".into();
    clean.counters.iter_mut().for_each(|c| c.count = 0);
    for profile in [common::gateway(), common::hostile(), common::idle(), clean] {
        write(Path::new(&out), &profile)?;
    }
    Ok(())
}

fn write(out: &Path, profile: &Profile) -> Result<(), Box<dyn Error>> {
    let bundle = BundleDir::create(out, &profile.container, Utc::from_unix_ns(profile.started_unix_ns))?;
    let mut manifest = manifest(profile);
    for exporter in export::bundle() {
        let size = bundle.write(exporter.path(), |out| exporter.write(profile, out))?;
        manifest.artifacts.push(artifact(exporter.path(), exporter.what(), Some(size)));
    }
    manifest.artifacts.push(artifact(
        "manifest.yaml",
        "Who, how, at what cost, what is missing: this page's facts for programs",
        None,
    ));
    manifest.artifacts.push(artifact(Page::PATH, Page::WHAT, None));
    let page = Page { profile, manifest: &manifest };
    bundle.write(Page::PATH, |out| page.write(out))?;
    let yaml = manifest.to_yaml()?;
    bundle.write("manifest.yaml", |out| Ok(out.write_all(yaml.as_bytes())?))?;
    bundle.archive()?;
    println!("{}", bundle.finish()?.display());
    Ok(())
}

fn artifact(path: &str, what: &str, size_bytes: Option<u64>) -> Artifact {
    Artifact { path: path.into(), what: what.into(), size_bytes }
}

fn manifest(profile: &Profile) -> Manifest {
    let mut manifest = Manifest::of(profile);
    manifest.upprof_version = "0.1.0".into();
    manifest.host.kernel_release = "6.12.48+deb13-amd64".into();
    manifest.host.machine = "x86_64".into();
    manifest.host.cpus_online = Some(8);
    manifest.capture.sampling_source = "cpu-clock (software timer)".into();
    manifest.capture.ended_by = "duration".into();
    manifest.capture.duration_asked_ns = Some(30_000_000_000);
    if let Some(container) = &mut manifest.container {
        container.id = "4f1c0c2d9b7e".repeat(5);
        container.image = Some("apache/apisix:3.9.1-debian".into());
        container.runtime = Some("docker".into());
    }
    manifest.lua_vms = profile.processes.iter().skip(2).take(2).map(|process| LuaVm {
        pid: process.pid,
        module: "/usr/local/openresty/luajit/lib/libluajit-5.1.so.2.1.0".into(),
        version: Some("LuaJIT 2.1.1710398010".into()),
        layout: "x64 gc64 luajit2 2021-12".into(),
        trusted_because: "243 dispatch words, the main thread and the trace table were found where this layout has them".into(),
    }).collect();
    manifest.own_cost = OwnCost {
        bpf_total_ns: Some(96_000_000),
        bpf_runs: Some(24_300),
        upprof_cpu_ns: Some(1_210_000_000),
        upprof_window_cpu_ns: Some(410_000_000),
        finish_ns: Some(640_000_000),
        upprof_max_rss_bytes: Some(48 << 20),
        kernel_memory_bytes: Some(19 << 20),
    };
    manifest.skipped.push(Skipped {
        what: "kernel symbols of modules".into(),
        why: "/proc/kallsyms shows zero addresses: run with CAP_SYSLOG".into(),
    });
    manifest
}
