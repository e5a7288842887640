# OpenResty's LuaJIT in GC32 mode under the soname of Debian's own: nginx and all modules go on with it.
cd /src/luajit2-*/
make clean >/dev/null
make -j2 amalg PREFIX=/usr MULTILIB=lib/x86_64-linux-gnu XCFLAGS=-DLUAJIT_DISABLE_GC64 >/dev/null
install -D --strip src/libluajit.so "$OUT/usr/lib/x86_64-linux-gnu/libluajit-5.1.so.2"
