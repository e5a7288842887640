//! Builds the C host of LuaJIT (`host/host.c`) with upstream's LuaJIT from the crate luajit-src, stripped.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=host/host.c");
    let luajit = luajit_src::Build::new().debug(false).build();
    let host = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("lua-host");
    let made = Command::new("cc")
        .args(["-O2", "-s", "-rdynamic", "host/host.c", "-I"])
        .arg(luajit.include_dir())
        .arg("-o")
        .arg(&host)
        .arg(luajit.lib_dir().join("libluajit.a"))
        .args(["-lm", "-ldl", "-lpthread"])
        .status();
    assert!(made.is_ok_and(|status| status.success()), "host.c does not compile");
    println!("cargo::rustc-env=UPPROF_LUA_HOST={}", host.display());
}
