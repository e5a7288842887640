#!/usr/bin/env bash
# Makes a Docker engine available: uses the one that answers, else installs and
# starts one (Debian or Ubuntu, as root).
#
#   engine.sh         make sure an engine answers
#   engine.sh stop    stop the engine this script started, and no other
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=/var/lib/upprof-dev
pidfile=$state/dockerd.pid
log=$state/dockerd.log

say() { printf 'engine: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# wait_until SECONDS COMMAND…: polls, so that a slow machine is no failure.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

answers() { docker info >/dev/null 2>&1; }

# The pid of the engine we started, if it lives. A pid file can outlive a reboot,
# hence the look at what runs there (nothing does in a zombie).
our_pid() {
    local pid
    pid=$(cat "$pidfile" 2>/dev/null) || return 1
    [[ $(readlink "/proc/$pid/exe") == */dockerd ]] && echo "$pid"
}

is_gone() { ! our_pid >/dev/null; }

# Bit 24 is CAP_SYS_RESOURCE, the one sandboxes are seen to withhold.
lacks_sys_resource() {
    local bounding
    bounding=$(awk '/^CapBnd/ { print $2 }' /proc/self/status)
    (((16#$bounding >> 24 & 1) == 0))
}

install_engine() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "no engine answers: start Docker, or see https://docs.docker.com/engine/install/"
    fi
    local packages=(docker.io jq)
    say "installing docker.io"
    apt-get update -qq
    # From Debian 13 on the client is a package of its own.
    ! apt-cache show docker-cli >/dev/null 2>&1 || packages+=(docker-cli)
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
}

start_engine() {
    [ "$(id -u)" = 0 ] || die "no engine answers; start Docker, or run this as root"
    mkdir -p "$state"
    our_pid >/dev/null || rm -f "$pidfile"
    echo '{}' >"$state/daemon.json"
    if lacks_sys_resource; then
        say "root lacks CAP_SYS_RESOURCE here: --privileged containers go without it too"
        # A copy: the engine may outlive this checkout.
        install -m 755 "$here/runc-within-bounds.sh" "$state/runc"
        cat >"$state/daemon.json" <<JSON
{ "default-runtime": "within-bounds",
  "runtimes": { "within-bounds": { "path": "$state/runc" } } }
JSON
    fi
    # No bridge: the demo and the tests talk over loopback only, so the host's
    # firewall stays as it is and no container can reach out.
    setsid dockerd --config-file "$state/daemon.json" --pidfile "$pidfile" \
        --bridge=none --iptables=false </dev/null >"$log" 2>&1 &
    wait_until 60 answers || die "dockerd did not come up; its log is $log"
    say "started dockerd, pid $(our_pid), log $log"
}

stop_engine() {
    local pid
    pid=$(our_pid) || { say "none of ours is running"; return; }
    kill "$pid"
    wait_until 60 is_gone || die "dockerd (pid $pid) does not stop"
    say "stopped dockerd, pid $pid"
}

case ${1:-start} in
start)
    answers && exit
    if ! command -v dockerd >/dev/null || ! command -v jq >/dev/null; then
        install_engine
        # Where services start on installation, that one serves.
        wait_until 5 answers && exit
    fi
    start_engine
    ;;
stop) stop_engine ;;
*) die "usage: engine.sh [start|stop]" ;;
esac
