# crates/luajit/offsets.c compiled with the headers of each source in /src, for x86-64 in both modes and for arm64,
# which has GC64 only, with debug information: $OUT/SOURCE-VERSION.MODE.
mkdir -p "$OUT"
generated="lj_bcdef.h lj_ffdef.h lj_libdef.h lj_recdef.h lj_folddef.h"

# compile MODE FLAGS [CROSS]. The generators of headers run for a second: optimising them takes longer.
compile() {
    make clean >/dev/null
    make -j2 CCOPT=-O0 CROSS="${3-}" XCFLAGS="$2" $headers >/dev/null
    "${3-}gcc" -g -fno-eliminate-unused-debug-types -I. $2 /offsets.c -o "$OUT/$(basename "$tree").$1"
}

for tree in /src/*/; do
    cd "$tree/src"
    headers=$generated
    ! grep -q '^luajit.h:' Makefile || headers="$headers luajit.h"
    # What offsets.c wants to be told of a version.
    told=
    ! grep -q strhash lj_obj.h || told="-DLUAJIT_2017_STRINGS"
    ! grep -q mcofs lj_jit.h || told="-DUPPROF_MCOFS"
    # 2.1.0-beta3 has GC32 unless told otherwise, everything since has GC64.
    compile gc64 "$told -DLUAJIT_ENABLE_GC64"
    compile gc32 "$told -DLUAJIT_DISABLE_GC64"
    compile arm64 "$told" aarch64-linux-gnu-
done
