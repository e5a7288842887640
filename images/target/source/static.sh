# LuaJIT and the Lua module linked into nginx itself, with what Debian's nginx does not have: a stream module with a
# VM of its own, and a privileged agent (stand-ins, $OWN). --whole-archive: Lua's C modules (cjson) need all of
# LuaJIT's API.
cd /src/luajit2-*/
make clean >/dev/null
make -j2 amalg PREFIX=/usr MULTILIB=lib/x86_64-linux-gnu BUILDMODE=static >/dev/null
make install PREFIX=/usr MULTILIB=lib/x86_64-linux-gnu BUILDMODE=static DESTDIR=/luajit >/dev/null
export LUAJIT_INC=/luajit/usr/include/luajit-2.1 LUAJIT_LIB=/luajit/usr/lib/x86_64-linux-gnu
cd /src/nginx-*/
# Where the agent goes into nginx: its code, who starts it, what of a worker it is not, and what ngx_lua sees of it.
cycle=src/os/unix/ngx_process_cycle
sed -i -e "/^static ngx_open_file_t  ngx_exit_log_file;/r $OWN/agent.c" \
    -e 's/^ *ngx_start_cache_manager_processes(cycle, \([01]\));/&\nstart_privileged_agent(cycle, \1);/' \
    -e 's/geteuid() == 0/& \&\& !ngx_is_privileged_agent/' $cycle.c
sed -i 's/^extern ngx_uint_t      ngx_process;/&\nextern ngx_uint_t ngx_is_privileged_agent;/' $cycle.h
sed -i 's/^} ngx_core_conf_t;/ngx_uint_t privileged_agent, privileged_agent_connections;\n&/' src/core/ngx_cycle.h
./configure --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --pid-path=/run/nginx.pid \
    --error-log-path=stderr --http-client-body-temp-path=/var/lib/nginx/body \
    --http-proxy-temp-path=/var/lib/nginx/proxy --http-fastcgi-temp-path=/var/lib/nginx/fastcgi \
    --http-scgi-temp-path=/var/lib/nginx/scgi --http-uwsgi-temp-path=/var/lib/nginx/uwsgi \
    --without-pcre2 --with-pcre-jit --with-threads --with-http_stub_status_module --with-stream \
    --with-cc-opt=-DHAVE_PRIVILEGED_PROCESS_PATCH \
    --with-ld-opt="-Wl,--whole-archive,$LUAJIT_LIB/libluajit-5.1.a,--no-whole-archive -lm -ldl" \
    --add-module="$(echo /src/libnginx-mod-http-ndk-*)" --add-module="$(echo /src/libnginx-mod-http-lua-*)" \
    --add-module="$OWN" >/dev/null
make -j2 >/dev/null
install -D --strip objs/nginx "$OUT/usr/sbin/nginx"
# The dynamic modules of the base would be a second Lua.
for module in 10-mod-http-ndk 50-mod-http-lua; do
    install -D /dev/null "$OUT/etc/nginx/modules-enabled/$module.conf"
done
install -m 644 "$OWN/stream.conf" "$OUT/etc/nginx/modules-enabled"
