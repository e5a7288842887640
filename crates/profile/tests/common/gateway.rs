//! A capture as it could be: a gateway under load, uneven, with a draining worker.

use upprof_profile::{Profile, Role, Severity, VmState};

use super::Maker;

/// Like thirty seconds of a gateway.
pub fn gateway() -> Profile {
    let mut m = Maker::default();
    m.profile.container = "apisix".into();
    m.profile.frequency_hz = 99;
    m.profile.started_unix_ns = 1_776_161_472_000_000_000;
    m.profile.duration_ns = 30_012_000_000;
    let master = m.process(48_201, Role::Master, Some(0));
    let agent = m.process(48_260, Role::PrivilegedAgent, Some(120_000_000));
    for (index, share) in [100_u64, 96, 41, 7].into_iter().enumerate() {
        let worker =
            m.process(48_250 + u32::try_from(index).expect("few"), Role::Worker, Some(share * 219_000_000));
        worker_load(&mut m, worker, share);
    }
    let old = m.process(47_110, Role::DrainingWorker, Some(430_000_000));
    m.profile.processes[old].lua_unavailable =
        Some("the worker's LuaJIT was replaced on disk and its layout could not be checked".into());
    m.sample(
        old,
        VmState::NotLua,
        41,
        &[
            "native main nginx",
            "native ngx_worker_process_cycle nginx",
            "native ngx_epoll_process_events nginx",
            "native epoll_wait libc.so.6",
            "kernel ep_poll",
        ],
    );
    m.sample(
        agent,
        VmState::Interpreted,
        12,
        &[
            "native main nginx",
            "native ngx_event_expire_timers nginx",
            "native ngx_http_lua_timer_handler nginx",
            "lua run_loop /usr/local/apisix/apisix/timers.lua 44",
            "lua sync_data /usr/local/apisix/apisix/core/config_etcd.lua 571",
        ],
    );
    m.sample(
        master,
        VmState::NotLua,
        1,
        &["native main nginx", "native ngx_master_process_cycle nginx", "kernel do_signal"],
    );
    m.counter(
        "ring_full",
        0,
        Severity::Loss,
        "Samples the kernel had no room for: the profile is short of them.",
    );
    m.counter("lua_state_busy", 14, Severity::Doubt, "The Lua stack was being changed while it was read: the topmost Lua function is missing and [lua lost] stands in its place.");
    m.counter(
        "native_truncated",
        3,
        Severity::Doubt,
        "Native stacks deeper than 127 frames: the root is missing and [native lost] stands in its place.",
    );
    m.counter("idle_ticks", 8_112, Severity::Info, "Timer ticks at which no sampled process was running.");
    m.profile
}

fn worker_load(m: &mut Maker, worker: usize, share: u64) {
    const BASE: [&str; 5] = [
        "native main nginx",
        "native ngx_worker_process_cycle nginx",
        "native ngx_process_events_and_timers nginx",
        "native ngx_epoll_process_events nginx",
        "native ngx_http_process_request nginx",
    ];
    let access = [
        &BASE[..],
        &[
            "native ngx_http_lua_access_handler_file nginx",
            "native lj_vm_call libluajit-5.1.so.2",
            "lua main_chunk =access_by_lua(nginx.conf:412) 0",
            "lua http_access_phase /usr/local/apisix/apisix/init.lua 569",
        ],
    ]
    .concat();
    let plugin = [&access[..], &["lua run_plugin /usr/local/apisix/apisix/plugin.lua 1121"]].concat();
    let mut add = |state, count: u64, base: &[&str], rest: &[&str]| {
        m.sample(worker, state, (count * share).div_ceil(100), &[base, rest].concat());
    };
    add(
        VmState::Compiled,
        402,
        &plugin,
        &[
            "lua rewrite /usr/local/apisix/apisix/plugins/jwt-auth.lua 231",
            "lua verify /usr/local/apisix/deps/share/lua/5.1/resty/jwt.lua 800",
            "trace loop@/usr/local/apisix/deps/share/lua/5.1/resty/jwt.lua:812",
        ],
    );
    add(
        VmState::Interpreted,
        310,
        &plugin,
        &[
            "lua rewrite /usr/local/apisix/apisix/plugins/jwt-auth.lua 231",
            "lua verify /usr/local/apisix/deps/share/lua/5.1/resty/jwt.lua 800",
        ],
    );
    add(
        VmState::C,
        190,
        &plugin,
        &[
            "lua rewrite /usr/local/apisix/apisix/plugins/jwt-auth.lua 231",
            "lua decode /usr/local/apisix/apisix/core/json.lua 90",
            "cfunc cjson.decode",
            "native json_parse_value cjson.so",
            "native lua_pushlstring libluajit-5.1.so.2",
            "native lj_str_new libluajit-5.1.so.2",
        ],
    );
    add(
        VmState::Interpreted,
        120,
        &plugin,
        &[
            "lua access /usr/local/apisix/apisix/plugins/limit-count.lua 88",
            "lua incoming /usr/local/apisix/apisix/plugins/limit-count/init.lua 140",
            "cfunc shdict.incr",
            "native ngx_http_lua_ffi_shdict_incr nginx",
            "native ngx_shmtx_lock nginx",
        ],
    );
    add(
        VmState::Compiled,
        260,
        &access,
        &[
            "lua match /usr/local/apisix/deps/share/lua/5.1/resty/radixtree.lua 744",
            "lua compare_param /usr/local/apisix/deps/share/lua/5.1/resty/radixtree.lua 612",
            "trace loop@/usr/local/apisix/deps/share/lua/5.1/resty/radixtree.lua:630",
        ],
    );
    add(
        VmState::Interpreted,
        88,
        &access,
        &["lua match /usr/local/apisix/deps/share/lua/5.1/resty/radixtree.lua 744"],
    );
    add(
        VmState::Gc,
        97,
        &plugin,
        &[
            "lua concat /usr/local/apisix/apisix/core/table.lua 51",
            "marker GC",
            "native lj_gc_step libluajit-5.1.so.2",
            "native gc_onestep libluajit-5.1.so.2",
            "native gc_sweep libluajit-5.1.so.2",
        ],
    );
    add(
        VmState::GcCompiled,
        31,
        &plugin,
        &[
            "lua concat /usr/local/apisix/apisix/core/table.lua 51",
            "trace loop@/usr/local/apisix/apisix/core/table.lua:53",
            "marker GC",
            "native lj_gc_step_jit libluajit-5.1.so.2",
        ],
    );
    for depth in 1..24 {
        let recursion: Vec<&str> =
            std::iter::repeat_n("lua merge /usr/local/apisix/apisix/core/table.lua 102", depth).collect();
        add(VmState::Interpreted, 3, &access, &recursion);
    }
    add(VmState::C, 60, &access, &["cfunc ngx.re.match", "native pcre2_match_8 libpcre2-8.so.0", "unknown"]);
    add(VmState::Record, 9, &access, &["marker JIT recorder", "native lj_trace_ins libluajit-5.1.so.2"]);
    add(VmState::Assemble, 4, &access, &["marker JIT assembler", "native lj_asm_trace libluajit-5.1.so.2"]);
    add(
        VmState::Exit,
        6,
        &access,
        &[
            "lua match /usr/local/apisix/deps/share/lua/5.1/resty/radixtree.lua 744",
            "marker trace exit",
            "native lj_vm_exit_interp libluajit-5.1.so.2",
        ],
    );
    add(
        VmState::NotLua,
        240,
        &BASE,
        &[
            "native ngx_http_upstream_process_header nginx",
            "native ngx_unix_recv nginx",
            "native recv libc.so.6",
            "kernel tcp_recvmsg",
            "kernel copy_user_enhanced_fast_string",
        ],
    );
    add(
        VmState::NotLua,
        180,
        &BASE[..4],
        &[
            "native ngx_http_write_filter nginx",
            "native writev libc.so.6",
            "kernel do_syscall_64",
            "kernel tcp_sendmsg",
            "kernel tcp_write_xmit",
        ],
    );
    add(
        VmState::NotLua,
        70,
        &BASE[..4],
        &[
            "native ngx_ssl_handshake nginx",
            "native SSL_do_handshake libssl.so.3",
            "native rsa_ossl_private_decrypt libcrypto.so.3",
            "native bn_mul_mont libcrypto.so.3",
        ],
    );
    add(
        VmState::NotLua,
        25,
        &BASE[..3],
        &["native epoll_wait libc.so.6", "kernel ep_poll", "kernel schedule"],
    );
    add(
        VmState::Interpreted,
        11,
        &BASE[..2],
        &["marker native lost", "lua log /usr/local/apisix/apisix/plugins/prometheus/exporter.lua 301"],
    );
    add(VmState::NotLua, 5, &["unknown"], &[]);
}
