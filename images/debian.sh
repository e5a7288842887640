# Debian trees, without any image registry: sourced by the scripts that build images and sources.
# shellcheck shell=bash

cache=${UPPROF_CACHE:-/var/cache/upprof-dev}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# Everything half done is in here.
mkdir -p "$cache"
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT

# Runs a command with its words in a log, which is shown when it fails.
logged() { "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }; }

hashed() { printf '%s' "$@" | sha256sum | head -c 8; }

# bootstrap SUITE PACKAGES: makes $work/root. Every suite of Debian has the same script (sid); debootstrap
# knows by name only those that are older than itself.
bootstrap() {
    rm -rf --one-file-system "$work/root"
    logged debootstrap --variant=minbase --include="$2" "$1" "$work/root" "$mirror" sid
}

# keep FOLDER FILE: as a tar file, complete or absent.
keep() {
    tar -C "$1" --numeric-owner -cf "$work/tree.tar" \
        --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
        --exclude='./usr/share/locale/*' .
    mv "$work/tree.tar" "$2"
}

# fetch SOURCE/SUITE…: the sources of these packages, in /src of $work/root. A mirror may be a snapshot, whose
# indexes are past their date; debootstrap does not mind either.
fetch() {
    local suite
    for suite in bullseye bookworm trixie forky; do
        echo "deb-src $mirror $suite main"
    done >"$work/root/etc/apt/sources.list"
    logged chroot "$work/root" sh -c "apt-get -o Acquire::Check-Valid-Until=false update -qq && mkdir /src && cd /src && apt-get source -qq $*"
}

# inside SCRIPT: runs it in $work/root, with files of its own in $OWN, which is $work/root/src/own; it leaves its
# results in $OUT, which is $work/root/out.
inside() { logged chroot "$work/root" env OWN=/src/own OUT=/out bash -euc "$(cat "$1")"; }
