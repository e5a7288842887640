
/*
 * A stand-in for OpenResty's privileged agent, which Debian's nginx does not have. It is written for upprof's
 * tests and goes into ngx_process_cycle.c: a process that runs Lua's timers, keeps the user it was started by, and
 * listens on nothing. The variable, and two fields of ngx_core_conf_t, are what ngx_lua asks for
 * (ngx_http_lua_worker.c, ngx_http_lua_initworkerby.c).
 */
ngx_uint_t  ngx_is_privileged_agent;


static void
privileged_agent_cycle(ngx_cycle_t *cycle, void *data)
{
    ngx_process = NGX_PROCESS_HELPER;
    ngx_is_privileged_agent = 1;
    ngx_close_listening_sockets(cycle);
    cycle->connection_n = (uintptr_t) data;
    ngx_worker_process_init(cycle, -1);
    ngx_use_accept_mutex = 0;
    ngx_setproctitle("privileged agent process");
    while (!ngx_terminate && !ngx_quit) {
        ngx_process_events_and_timers(cycle);
    }
    exit(0);
}


static void
start_privileged_agent(ngx_cycle_t *cycle, ngx_uint_t reconfigured)
{
    ngx_core_conf_t  *conf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (conf->privileged_agent) {
        ngx_spawn_process(cycle, privileged_agent_cycle, (void *) conf->privileged_agent_connections,
                          "privileged agent process",
                          reconfigured ? NGX_PROCESS_JUST_RESPAWN : NGX_PROCESS_RESPAWN);
        ngx_pass_open_channel(cycle);
    }
}
