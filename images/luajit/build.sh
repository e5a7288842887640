#!/usr/bin/env bash
# Compiles crates/luajit/offsets.c with the headers of LuaJITs that Debian and crates.io have, for x86-64 in both modes
# and for arm64, with debug information, and prints where the results are: a tar file of SOURCE-VERSION.MODE. Made
# once, and kept.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../debian.sh"
tools=ca-certificates,dpkg-dev,gcc,libc6-dev,make,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross
sources="luajit/bookworm luajit2/bookworm luajit/forky"
# Of the crate luajit-src, which carries LuaJIT: versions that Debian has no sources of, or none any more.
crates="210.0.0 210.1.0 210.1.1 210.7.4"
program=$here/../../crates/luajit/offsets.c

# carried VERSION: the LuaJIT of this version of luajit-src, in /src of $work/root.
carried() {
    local package=$work/carrier
    rm -rf "$package"
    logged cargo new --quiet --lib --vcs none "$package"
    logged cargo add --quiet --manifest-path "$package/Cargo.toml" "luajit-src@=$1"
    logged cargo vendor --manifest-path "$package/Cargo.toml" "$package/vendor"
    mv "$package"/vendor/luajit-src/luajit*/ "$work/root/src/luajit-src-$1"
}

made=$cache/offsets-$(hashed "$tools" "$sources" "$crates" "$(cat "$here/offsets.sh" "$program")").tar
if [ ! -e "$made" ]; then
    say "compiling the headers of $sources and of luajit-src $crates (some minutes, once)"
    bootstrap bookworm "$tools"
    fetch "$sources"
    for version in $crates; do
        carried "$version"
    done
    cp "$program" "$work/root/offsets.c"
    inside "$here/offsets.sh"
    keep "$work/root/out" "$made"
fi
echo "$made"
