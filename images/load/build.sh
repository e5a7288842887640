#!/usr/bin/env bash
# Builds the image upprof-load: this machine's wrk with the libraries it needs and
# nothing else, so that the target's image holds no load generator. It is meant to
# run in the target's network namespace, over loopback, and stops by itself:
#
#   docker run --rm --network container:TARGET upprof-load \
#       -t 1 -c 4 -d 60s http://127.0.0.1:8080 -- 1000000 /mix
#
# (at most 60 seconds and at most a million answers)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wrk=$(command -v wrk) || { echo "load: wrk is missing (apt-get install wrk)" >&2; exit 1; }
mapfile -t libraries < <(ldd "$wrk" | grep -o '/[^ ]*')

tar -chf - --transform='s,^.*/wrk$,usr/bin/wrk,' -C "$here" paths.lua -P "$wrk" "${libraries[@]}" |
    docker import -c 'ENTRYPOINT ["/usr/bin/wrk", "-s", "/paths.lua"]' - upprof-load >/dev/null
