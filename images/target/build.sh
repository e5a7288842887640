#!/usr/bin/env bash
# Builds the image upprof-target:SUITE from Debian's own packages, as stripped as
# Debian ships them. bookworm, the default, is also upprof-target:latest. No image
# registry is needed: debootstrap makes the base, once, and it is kept.
#
#   build.sh [bullseye|bookworm|trixie|forky]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=${1:-bookworm}
packages=nginx,libnginx-mod-http-lua,lua-cjson,zlib1g
cache=${UPPROF_CACHE:-/var/cache/upprof-dev}

# Another list of packages is another base.
base=upprof-debian:$suite-$(printf %s "$packages" | sha256sum | head -c 8)
tree=$cache/${base#*:}.tar

if [ ! -e "$tree" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/debootstrap.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    echo "target: debootstrap of $suite (about a minute, once)" >&2
    debootstrap --variant=minbase --include="$packages" "$suite" "$work/root" \
        "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; exit 1; }
    # Complete or absent: an interrupted run leaves no half a tree behind.
    tar -C "$work/root" --numeric-owner -cf "$work/tree.tar" \
        --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
        --exclude='./usr/share/locale/*' .
    mv "$work/tree.tar" "$tree"
fi

docker image inspect "$base" >/dev/null 2>&1 || docker import "$tree" "$base" >/dev/null

# The classic builder is enough here and needs no plugin; it says so on stderr.
said=$(DOCKER_BUILDKIT=0 docker build --build-arg BASE="$base" -t "upprof-target:$suite" "$here" 2>&1) ||
    { echo "$said" >&2; exit 1; }
[ "$suite" != bookworm ] || docker tag "upprof-target:$suite" upprof-target:latest
