//! Rules of the house that no compiler checks: licences, lints, links of the documentation.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Files that git knows or would add, with this ending.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, ending: &str, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()) {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let left_out = name.starts_with('.') || ["target", "out"].contains(&name.as_str());
            // images/target and crates/target are rooms, not what cargo makes.
            if entry.is_dir()
                && (!left_out || entry.join("Dockerfile").exists() || entry.join("Cargo.toml").exists())
            {
                walk(&entry, ending, out);
            } else if name.ends_with(ending) {
                out.push(entry);
            }
        }
    }
    let mut out = Vec::new();
    walk(&root(), ending, &mut out);
    out.sort();
    assert!(!out.is_empty(), "no file ends with {ending}");
    out
}

#[test]
fn every_member_takes_the_workspaces_lints_and_licence() {
    for manifest in files("Cargo.toml") {
        let text = read(&manifest);
        if text.contains("[workspace]") {
            continue;
        }
        for line in ["[lints]\nworkspace = true", "license.workspace = true", "edition.workspace = true"] {
            assert!(text.contains(line), "{}: {line:?} is missing", manifest.display());
        }
    }
}

#[test]
fn kernel_code_says_its_licence_in_the_first_line() {
    let folder = root().join("probes/bpf");
    for name in ["GPL-2.0", "BSD-2-Clause"] {
        assert!(folder.join(format!("LICENSE.{name}")).exists(), "LICENSE.{name}");
    }
    for file in files(".c").iter().chain(&files(".h")).filter(|f| f.starts_with(&folder)) {
        let text = read(file);
        let first = text.lines().next().unwrap_or_default();
        let tag = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause";
        assert!(first.contains(tag), "{}: {first}", file.display());
    }
}

/// Every licence of a dependency, as its manifest spells it. A new one is read by a person first, and
/// NOTICE says what follows from it.
const LICENCES: [&str; 19] = [
    "(MIT OR Apache-2.0) AND Unicode-3.0",
    "0BSD OR MIT OR Apache-2.0",
    "Apache-2.0",
    "Apache-2.0 OR BSL-1.0",
    "Apache-2.0 OR MIT",
    "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
    "BSD-2-Clause",
    "BSD-2-Clause OR Apache-2.0 OR MIT",
    "BSD-3-Clause",
    "CDDL-1.0",
    "LGPL-2.1-only OR BSD-2-Clause",
    "MIT",
    "MIT OR Apache-2.0",
    "MIT OR Zlib OR Apache-2.0",
    "MIT/Apache-2.0",
    "Unicode-3.0",
    "Unlicense OR MIT",
    "Zlib",
    "Zlib OR Apache-2.0 OR MIT",
];

#[test]
fn every_dependency_has_a_known_licence_and_notice_names_the_unusual_ones() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        // The product's platform: others' packages are not even downloaded.
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo speaks JSON");
    let notice = read(&root().join("NOTICE"));
    let named: Vec<&str> = notice.split_whitespace().collect();
    let packages = metadata["packages"].as_array().expect("a list");
    for package in packages.iter().filter(|p| !p["source"].is_null()) {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or("(none)");
        assert!(LICENCES.contains(&licence), "{name}: {licence} is not a known licence");
        let usual = (licence.contains("MIT") || licence.contains("Apache-2.0")) && !licence.contains(" AND ");
        assert!(usual || named.contains(&name), "{name} ({licence}) is not named in NOTICE");
    }
}

#[test]
fn every_link_in_the_documentation_leads_to_a_file() {
    let mut links = 0;
    for page in files(".md") {
        let text = read(&page);
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            links += 1;
            let to = page.parent().expect("a folder").join(path);
            assert!(to.exists(), "{}: {target} leads nowhere", page.display());
        }
    }
    assert!(links > 0);
}

/// Code in backquotes that looks like a path of this repository must be one: pages that name files
/// are worth little once the files have moved.
#[test]
fn every_path_that_the_documentation_names_exists() {
    let tops = ["launcher/", "probes/", "crates/", "tests/", "images/", "docs/", "ci/", ".ci/"];
    let pages = files(".md").into_iter().chain([root().join("NOTICE")]);
    for page in pages {
        let text = read(&page);
        let words = text.split(|c: char| c.is_whitespace() || "`()[],;|\"'".contains(c));
        for word in words.map(|w| w.trim_end_matches(['.', ':'])) {
            let is_path =
                tops.iter().any(|top| word.starts_with(top)) && !word.contains(['*', '<', '$', '{', '…']);
            let path = word.split([':', '#']).next().unwrap_or_default();
            assert!(!is_path || root().join(path).exists(), "{}: {word} does not exist", page.display());
        }
    }
}

#[test]
fn decisions_are_numbered_without_gaps_and_all_listed() {
    let folder = root().join("docs/adr");
    let index = read(&folder.join("README.md"));
    let mut numbers = Vec::new();
    for file in files(".md").iter().filter(|f| f.parent() == Some(&folder)) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        numbers.push(name[..4].parse::<usize>().expect("four digits first"));
        assert!(index.contains(&name), "docs/adr/README.md does not list {name}");
        for part in ["## Context", "## Decision", "## Consequences", "## Revisit"] {
            assert!(read(file).contains(part), "{name} has no {part}");
        }
    }
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
}
