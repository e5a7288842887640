//! Compiles the BPF object into a skeleton, and the walkers a second time for the host.

use libbpf_cargo::SkeletonBuilder;
use std::path::{Path, PathBuf};

/// clang that compiles BPF: `UPPROF_CLANG`, else the newest of those Debian names, else `clang`.
fn clang() -> PathBuf {
    if let Some(named) = std::env::var_os("UPPROF_CLANG") {
        return named.into();
    }
    let installed = |name: &&str| Path::new("/usr/bin").join(name).exists();
    ["clang-19", "clang-16", "clang-14", "clang"].iter().find(|n| installed(n)).unwrap_or(&"clang").into()
}

/// The enum constants of `abi.h` as Rust constants. BTF, where the struct types come from, keeps only
/// enums that a type refers to.
fn constants(header: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in header.lines() {
        if let Some(name) = line.strip_prefix("enum ").and_then(|l| l.strip_suffix(" {")) {
            inside = true;
            out.push_str(&format!(
                "/// `enum {name}` of `abi.h`.\n#[allow(dead_code)]\npub(crate) mod {name} {{\n"
            ));
        } else if inside && line.starts_with("};") {
            inside = false;
            out.push_str("}\n");
        } else if inside {
            let code = line.split("/*").next().unwrap_or_default().trim().trim_end_matches(',');
            if let Some((name, value)) = code.split_once(" = ") {
                out.push_str(&format!("    /// See `abi.h`.\n    pub(crate) const {name}: i64 = {value};\n"));
            }
        }
    }
    out
}

fn main() {
    let out: PathBuf = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR").into();
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=UPPROF_CLANG");

    compile("bpf/upprof.bpf.c", &out.join("upprof.skel.rs"));
    compile("bpf/asleep.bpf.c", &out.join("asleep.skel.rs"));

    std::fs::write(out.join("abi.rs"), constants(&std::fs::read_to_string("bpf/abi.h").expect("bpf/abi.h")))
        .expect("OUT_DIR is writable");
    walkers();
}

/// A BPF object and its skeleton.
fn compile(source: &str, skeleton: &Path) {
    SkeletonBuilder::new()
        .source(source)
        .clang(clang())
        // v3 (kernel 5.1) has 32-bit compares, which keep the verifier's work small; the default
        // of clang changes between versions, so it is pinned.
        // A sample finds the program's code cold: unrolled loops are more lines to fetch than they save.
        .clang_args([
            "-mcpu=v3",
            "-fno-unroll-loops",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-parameter",
            "-Wno-unused-function",
        ])
        .build_and_generate(skeleton)
        .expect("the BPF object compiles");
}

/// The walkers as a host library.
fn walkers() {
    cc::Build::new()
        .file("bpf/hostsim.c")
        .warnings(true)
        .extra_warnings(true)
        .flag("-Wno-unused-parameter")
        .flag("-Wno-unused-function")
        .compile("upprof_hostsim");
}
