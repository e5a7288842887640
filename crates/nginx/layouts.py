#!/usr/bin/env python3
"""Writes layouts.yaml: compiles offsets.c for every version of nginx and ngx_lua in two clones.

    layouts.py NGINX-CLONE LUA-NGINX-MODULE-CLONE LUAJIT2-SRC [FIRST-VERSION] > layouts.yaml

A row is written where a struct differs from the version before. Needs a C compiler and the headers
of PCRE2, PCRE, OpenSSL and zlib (CPPFLAGS can name their folder). docs/new-nginx-version.md says
when to run it and how to check what it wrote.
"""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# OpenResty 1.13.6 and what came with it; Debian 11 has newer ones.
FIRST_NGINX, FIRST_LUA = 1013006, 10013
INCLUDES = "core event event/modules event/quic os/unix http http/modules http/v2 http/v3".split()
SOURCE_OF_NGINX = ("src/core", "src/event", "src/os/unix", "src/http")
# Headers that define a struct of offsets.c, or one inside it.
HEADERS = tuple(
    f"src/{name}.h"
    for name in "core/ngx_module core/ngx_cycle core/ngx_connection core/ngx_slab core/ngx_palloc "
    "core/ngx_list core/ngx_rbtree core/ngx_buf event/ngx_event event/ngx_event_connect "
    "http/ngx_http_request http/ngx_http_upstream http/ngx_http_core_module".split()
)
# Builds that are told apart, by configure's arguments. Whatever else differs, a default build has it.
TLS = "--with-stream --with-http_ssl_module --with-http_v2_module"
BUILDS = {
    "compat": f"{TLS} --with-compat",
    "plain": TLS,
    "realip": f"{TLS} --with-http_realip_module",
    "realip_threads": f"{TLS} --with-http_realip_module --with-threads",
    "realip_dav_threads": f"{TLS} --with-http_realip_module --with-http_dav_module --with-threads",
    "no_tls_threads": "--with-stream --with-threads",
}
# Bits of NGX_MODULE_SIGNATURE (ngx_module.h) that change a struct here.
BITS = {
    "quic": 18, "threads": 22, "pcre": 23, "ssl": 24, "gzip": 26, "x_forwarded_for": 28, "realip": 29,
    "headers": 30, "dav": 31, "cache": 32, "upstream_zone": 33, "compat": 34,
}
HEAD = """\
# Where nginx's and ngx_lua's structs have their members, x86-64. Written by layouts.py: do not edit.
# Candidates only: what is read by them is checked (probes/bpf/request.bpf.h, src/inspect).
# How to add a version: docs/new-nginx-version.md.
#
# builds   what tells builds apart, as bits of the signature that every nginx module carries
#          (NGX_MODULE_SIGNATURE, ngx_module.h). A build that is none of these has no row.
# since    the first version with this row, as nginx and ngx_lua write it: 1022001 is 1.22.1,
#          10023 is 0.10.23. It holds until the struct's next row for the same build.
# at       bytes from the struct's start; "size" is its size; "200.3+1" is a bit-field of one bit
#          whose lowest bit is bit 3 of byte 200.
"""


def run(*args, **kwargs):
    return subprocess.run(args, check=True, capture_output=True, **kwargs).stdout


def tags(clone, pattern, first):
    """(number, tag) of releases from `first` on, oldest first; numbers as nginx writes them."""
    found = []
    for tag in run("git", "-C", clone, "tag").decode().split():
        if m := re.fullmatch(pattern, tag):
            a, b, c = (int(x) for x in m.groups())
            found.append((a * 1000000 + b * 1000 + c, tag))
    return sorted(t for t in found if t[0] >= first)


def unpack(clone, tag, paths, to):
    os.makedirs(to)
    archive = run("git", "-C", clone, "archive", tag, *paths)
    subprocess.run(["tar", "x", "-C", to], input=archive, check=True)


def configure(clone, tag, work):
    """Folders with ngx_auto_config.h, one a build, and the signature's bits of each."""
    unpack(clone, tag, [], f"{work}/configure")
    flags = os.environ.get("CPPFLAGS", "")
    libs = os.environ.get("LDFLAGS", "")
    objs = {}
    for name, args in BUILDS.items():
        run(
            "auto/configure", *args.split(),
            f"--with-cc-opt={flags}", f"--with-ld-opt={libs}", f"--builddir={work}/objs/{name}",
            cwd=f"{work}/configure",
        )
        objs[name] = f"{work}/objs/{name}"
    return objs


def offsets(source, objs, work, extra=()):
    """{struct: {member: place}} of one version and build."""
    includes = [f"-I{source}/src/{folder}" for folder in INCLUDES] + [f"-I{objs}"]
    flags = os.environ.get("CPPFLAGS", "").split()
    program = f"{work}/offsets"
    try:
        run("cc", "-w", *includes, *flags, *extra, f"{HERE}/offsets.c", "-o", program)
    except subprocess.CalledProcessError as e:
        sys.exit(f"{source}: {e.stderr.decode()[:2000]}")
    found = {}
    for line in run(program).decode().splitlines():
        struct, member, place = line.split()
        found.setdefault(struct, {})[member] = place
    return found


def signature(source, objs, work):
    """The bits of one build's signature, as its own compiler spells them."""
    program = f"{work}/signature.c"
    with open(program, "w") as f:
        f.write("#include <ngx_config.h>\n#include <ngx_core.h>\nconst char *s = NGX_MODULE_SIGNATURE;\n")
    includes = [f"-I{source}/src/{folder}" for folder in INCLUDES] + [f"-I{objs}"]
    text = run("cc", "-w", "-S", "-o-", *includes, *os.environ.get("CPPFLAGS", "").split(), program).decode()
    digits = re.search(r'"\d+,\d+,\d+,([01]+)', text).group(1)
    bits = {name: int(digits[bit - 1]) for name, bit in BITS.items()}
    if bits["compat"]:
        del bits["quic"]  # has it since there is QUIC
    return bits


def rows_of(history):
    """Per struct: (since, builds, members) wherever something changes for a set of builds."""
    last, rows = {}, {}
    for number, by_build in history:
        changed = {}
        for build, structs in by_build.items():
            for struct, members in structs.items():
                if last.get((struct, build)) != members:
                    last[struct, build] = members
                    changed.setdefault((struct, tuple(sorted(members.items()))), []).append(build)
        for (struct, _), builds in changed.items():
            rows.setdefault(struct, []).append((number, builds, last[struct, builds[0]]))
    return rows


def write_rows(title, rows, all_builds):
    print(f"{title}:")
    for struct, versions in rows.items():
        print(f"  {struct}:")
        for number, builds, members in versions:
            where = "" if set(builds) == set(all_builds) else f" builds: [{', '.join(builds)}],"
            places = ", ".join(
                f"{name}: {place}" if place.isdigit() else f'{name}: "{place}"'
                for name, place in members.items()
            )
            print(f"  - {{ since: {number},{where} at: {{ {places} }} }}")


def main():
    nginx, lua, luajit = sys.argv[1:4]
    first = int(sys.argv[4]) if len(sys.argv) > 4 else FIRST_NGINX
    print(HEAD, end="")
    with tempfile.TemporaryDirectory() as work:
        versions = tags(nginx, r"release-(\d+)\.(\d+)\.(\d+)", first)
        # What configure finds out of the system is the same for every version.
        reference = next(tag for number, tag in versions if number >= 1022001)
        objs = configure(nginx, reference, work)
        print("\nbuilds:")
        for name, folder in objs.items():
            bits = signature(f"{work}/configure", folder, work)
            print(f"  {name}: {{ {', '.join(f'{k}: {v}' for k, v in bits.items())} }}")
        history, before = [], None
        for number, tag in versions:
            headers = run("git", "-C", nginx, "ls-tree", tag, *HEADERS)
            if headers == before:
                continue
            before = headers
            source = f"{work}/{tag}"
            unpack(nginx, tag, SOURCE_OF_NGINX, source)
            history.append((number, {b: offsets(source, o, work) for b, o in objs.items()}))
            print(tag, file=sys.stderr)
        print()
        write_rows("nginx", rows_of(history), objs)

        # ngx_lua's structs depend on nginx only by pointers and by PCRE, which every build here has.
        history = []
        for number, tag in tags(lua, r"v(\d+)\.(\d+)\.(\d+)", FIRST_LUA):
            source = f"{work}/{tag}"
            unpack(lua, tag, ["src"], source)
            # What its own configure finds out; no struct here depends on it.
            open(f"{source}/src/ngx_http_lua_autoconf.h", "w").close()
            extra = ["-DUPPROF_LUA", f"-I{source}/src", f"-I{luajit}", "-DLUA_HAVE_PCRE_JIT=1"]
            at = offsets(f"{work}/configure", objs["compat"], work, extra)
            history.append((number, {"any": at}))
            print(tag, file=sys.stderr)
        print()
        write_rows("ngx_lua", rows_of(history), ["any"])


if __name__ == "__main__":
    main()
