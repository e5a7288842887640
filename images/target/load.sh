#!/usr/bin/env bash
# Puts the demo load on a running target, over loopback inside the target's own
# network namespace. Bounded in time and in count: it stops by itself. With -d it
# runs in the background and its container's id is printed.
#
#   load.sh [-d] CONTAINER SECONDS [PATH…]     PATHs default to the whole demo
set -euo pipefail

detach=()
[ "$1" != -d ] || { detach=(-d); shift; }
container=$1
seconds=$2
shift 2
[ $# -gt 0 ] || set -- /mix /mix /mix /mix /mix /phases /balancer /fresh_vm

deadline=$((SECONDS + 30))
until docker exec "$container" bash -c ': </dev/tcp/127.0.0.1/8080' 2>/dev/null; do
    ((SECONDS < deadline)) || { echo "load: $container does not listen" >&2; exit 1; }
    sleep 0.1
done

exec docker run --rm "${detach[@]}" --network "container:$container" upprof-load \
    -t 1 -c 4 -d "${seconds}s" http://127.0.0.1:8080 -- 1000000 "$@"
