# crates/luajit/offsets.c compiled with the headers of each source in /src, in both modes, with debug
# information: $OUT/SOURCE-VERSION.MODE.
mkdir -p "$OUT"
generated="lj_bcdef.h lj_ffdef.h lj_libdef.h lj_recdef.h lj_folddef.h"
for tree in /src/*/; do
    # 2.1.0-beta3 has GC32 unless told otherwise, everything since has GC64.
    for mode in gc64=-DLUAJIT_ENABLE_GC64 gc32=-DLUAJIT_DISABLE_GC64; do
        cd "$tree/src"
        make clean >/dev/null
        headers=$generated
        ! grep -q '^luajit.h:' Makefile || headers="$headers luajit.h"
        make -j2 XCFLAGS="${mode#*=}" $headers >/dev/null
        gcc -g -fno-eliminate-unused-debug-types -I. "${mode#*=}" /offsets.c -o "$OUT/$(basename "$tree").${mode%%=*}"
    done
done
