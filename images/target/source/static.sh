# LuaJIT and the Lua module linked into nginx itself. --whole-archive: Lua's C modules (cjson) need
# all of its API.
cd /src/luajit2-*/
make clean >/dev/null
make -j2 amalg PREFIX=/usr MULTILIB=lib/x86_64-linux-gnu BUILDMODE=static >/dev/null
make install PREFIX=/usr MULTILIB=lib/x86_64-linux-gnu BUILDMODE=static DESTDIR=/luajit >/dev/null
export LUAJIT_INC=/luajit/usr/include/luajit-2.1 LUAJIT_LIB=/luajit/usr/lib/x86_64-linux-gnu
cd /src/nginx-*/
./configure --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --pid-path=/run/nginx.pid \
    --error-log-path=stderr --http-client-body-temp-path=/var/lib/nginx/body \
    --http-proxy-temp-path=/var/lib/nginx/proxy --http-fastcgi-temp-path=/var/lib/nginx/fastcgi \
    --http-scgi-temp-path=/var/lib/nginx/scgi --http-uwsgi-temp-path=/var/lib/nginx/uwsgi \
    --without-pcre2 --with-pcre-jit --with-threads --with-http_stub_status_module \
    --with-ld-opt="-Wl,--whole-archive,$LUAJIT_LIB/libluajit-5.1.a,--no-whole-archive -lm -ldl" \
    --add-module="$(echo /src/libnginx-mod-http-ndk-*)" --add-module="$(echo /src/libnginx-mod-http-lua-*)" >/dev/null
make -j2 >/dev/null
install -D --strip objs/nginx "$OUT/usr/sbin/nginx"
# The dynamic modules of the base would be a second Lua.
for module in 10-mod-http-ndk 50-mod-http-lua; do
    install -D /dev/null "$OUT/etc/nginx/modules-enabled/$module.conf"
done
