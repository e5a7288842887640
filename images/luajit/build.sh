#!/usr/bin/env bash
# Compiles crates/luajit/offsets.c with the headers of LuaJITs that Debian has, in both modes, with debug
# information, and prints where the results are: a tar file of SOURCE-VERSION.MODE. Made once, and kept.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../debian.sh"
tools=ca-certificates,dpkg-dev,gcc,libc6-dev,make
sources="luajit/bookworm luajit2/bookworm luajit/forky"
program=$here/../../crates/luajit/offsets.c

made=$cache/offsets-$(hashed "$tools" "$sources" "$(cat "$here/offsets.sh" "$program")").tar
if [ ! -e "$made" ]; then
    say "compiling the headers of $sources (some minutes, once)"
    bootstrap bookworm "$tools"
    fetch "$sources"
    cp "$program" "$work/root/offsets.c"
    inside "$here/offsets.sh"
    keep "$work/root/out" "$made"
fi
echo "$made"
