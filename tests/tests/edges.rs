//! Who may depend on whom: the edges between rooms, and the crates that only one room may use. The
//! reasons are in docs/adr/0001-rooms-and-edges.md; a new edge is a decision and starts there.

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Room to rooms, for every kind of dependency. `launcher` and `tests` may use all, and nobody may use
/// them.
const EDGES: [(&str, &[&str]); 9] = [
    ("upprof-probes", &["upprof-binary", "upprof-luajit", "upprof-profile"]),
    ("upprof-target", &["upprof-memory"]),
    ("upprof-luajit", &["upprof-memory", "upprof-binary"]),
    ("upprof-nginx", &["upprof-memory", "upprof-binary"]),
    ("upprof-stacks", &["upprof-luajit", "upprof-binary", "upprof-profile"]),
    ("upprof-report", &["upprof-profile"]),
    ("upprof-memory", &[]),
    ("upprof-binary", &[]),
    ("upprof-profile", &[]),
];
const WALKS_ALL: [&str; 2] = ["upprof", "upprof-tests"];

/// Crates with one user. `upprof-tests` may use them too: an oracle may read ELF on its own.
const ONLY_USER: [(&str, &str); 12] = [
    ("libbpf-rs", "upprof-probes"),
    ("libbpf-sys", "upprof-probes"),
    ("libbpf-cargo", "upprof-probes"),
    ("bollard", "upprof-target"),
    ("tokio", "upprof-target"),
    ("gimli", "upprof-binary"),
    ("object", "upprof-binary"),
    ("blazesym", "upprof-stacks"),
    ("inferno", "upprof-profile"),
    ("prost", "upprof-profile"),
    ("clap", "upprof"),
    ("indicatif", "upprof"),
];

struct Package {
    name: String,
    dependencies: BTreeSet<String>,
}

/// The members of the workspace with everything they depend on, build and test dependencies too.
fn workspace() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo speaks JSON");
    let text = |v: &Value| v.as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("a list");
    packages
        .iter()
        .map(|p| Package {
            name: text(&p["name"]),
            dependencies: p["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|d| text(&d["name"]))
                .collect(),
        })
        .collect()
}

/// What is not allowed, one sentence each.
fn violations(workspace: &[Package]) -> Vec<String> {
    let rooms: BTreeSet<&str> = workspace.iter().map(|p| p.name.as_str()).collect();
    let mut found = Vec::new();
    for package in workspace {
        let allowed = EDGES.iter().find(|(room, _)| *room == package.name).map(|(_, to)| *to);
        let walks_all = WALKS_ALL.contains(&package.name.as_str());
        if allowed.is_none() && !walks_all {
            found.push(format!("{} is in no row of EDGES", package.name));
        }
        for to in &package.dependencies {
            let is_room = rooms.contains(to.as_str());
            if is_room && WALKS_ALL.contains(&to.as_str()) {
                found.push(format!("{} depends on {to}, which nothing may", package.name));
            } else if is_room && !walks_all && !allowed.is_some_and(|a| a.contains(&to.as_str())) {
                found.push(format!("{} depends on {to}: not an allowed edge", package.name));
            }
            let owner = ONLY_USER.iter().find(|(name, _)| name == to).map(|(_, owner)| *owner);
            if let Some(owner) = owner
                && package.name != owner
                && package.name != "upprof-tests"
            {
                found.push(format!("{} depends on {to}: only {owner} may", package.name));
            }
        }
    }
    found
}

#[test]
fn every_edge_is_allowed_and_every_exclusive_crate_has_its_one_user() {
    let found = violations(&workspace());
    assert!(found.is_empty(), "see docs/adr/0001-rooms-and-edges.md\n{}", found.join("\n"));
}

#[test]
fn the_check_sees_the_workspace() {
    let workspace = workspace();
    let uses =
        |name: &str, what: &str| workspace.iter().any(|p| p.name == name && p.dependencies.contains(what));
    for (name, what) in ONLY_USER.iter().map(|(what, owner)| (*owner, *what)) {
        // libbpf-sys is reached through libbpf-rs only.
        assert!(uses(name, what) || what == "libbpf-sys", "{name} does not use {what}: a row too many");
    }
    assert!(uses("upprof", "upprof-probes") && uses("upprof-target", "upprof-memory"));
}

#[test]
fn the_check_finds_what_is_forbidden() {
    let package = |name: &str, dependencies: &[&str]| Package {
        name: name.to_owned(),
        dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
    };
    let broken = [
        package("upprof", &["clap", "upprof-memory"]),
        package("upprof-memory", &["libc", "upprof-binary"]),
        package("upprof-binary", &["gimli", "tokio"]),
        package("upprof-report", &["upprof"]),
        package("upprof-new", &[]),
        package("upprof-tests", &["object", "upprof-binary"]),
    ];
    assert_eq!(
        violations(&broken),
        [
            "upprof-memory depends on upprof-binary: not an allowed edge",
            "upprof-binary depends on tokio: only upprof-target may",
            "upprof-report depends on upprof, which nothing may",
            "upprof-new is in no row of EDGES",
        ]
    );
}
