#!/usr/bin/env bash
# Builds the image upprof-target:NAME. debootstrap makes the base, once, and it is kept. bookworm, the
# default, is also upprof-target:latest.
#
#   build.sh [NAME]
#
# NAME is a Debian suite (bullseye, bookworm, trixie, forky): its own packages, as stripped as Debian ships
# them; or a script of source/ (gc32, static): bookworm with what that script makes of Debian's sources.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../debian.sh"
name=${1:-bookworm}
packages=nginx,libnginx-mod-http-lua,lua-cjson,zlib1g
suite=$name
[ ! -e "$here/source/$name.sh" ] || suite=bookworm

# What the scripts of source/ need.
tools=ca-certificates,dpkg-dev,gcc,libc6-dev,libpcre3-dev,make,zlib1g-dev
sources="luajit2/bookworm nginx/bookworm libnginx-mod-http-lua/bookworm libnginx-mod-http-ndk/bookworm"

# Another list of packages is another base.
base=upprof-debian:$suite-$(hashed "$packages")
tree=$cache/${base#*:}.tar
if [ ! -e "$tree" ]; then
    say "debootstrap of $suite (about a minute, once)"
    bootstrap "$suite" "$packages"
    keep "$work/root" "$tree"
fi
docker image inspect "$base" >/dev/null 2>&1 || docker import "$tree" "$base" >/dev/null

# Another script is another overlay.
overlay=
if [ "$suite" != "$name" ]; then
    script=$here/source/$name.sh
    shopt -s nullglob
    own=("$here/source/$name"/*) # files of the script's own, if it has a folder
    overlay=$cache/source-$name-$(hashed "$tools" "$sources" "$(cat "$script" "${own[@]}")").tar
    if [ ! -e "$overlay" ]; then
        say "building $name from Debian's sources (some minutes, once)"
        bootstrap "$suite" "$tools"
        fetch "$sources"
        [ ${#own[@]} -eq 0 ] || cp -r "$here/source/$name" "$work/root/src/own"
        inside "$script"
        keep "$work/root/out" "$overlay"
    fi
fi

mkdir "$work/context"
cp -r "$here/Dockerfile" "$here/nginx.conf" "$here/app" "$work/context"
cp "${overlay:-/dev/null}" "$work/context/overlay.tar"
[ -n "$overlay" ] || tar -cf "$work/context/overlay.tar" -T /dev/null

# The classic builder is enough here and needs no plugin; it says so on stderr.
logged env DOCKER_BUILDKIT=0 docker build --build-arg BASE="$base" -t "upprof-target:$name" "$work/context"
[ "$name" != bookworm ] || docker tag "upprof-target:$name" upprof-target:latest
