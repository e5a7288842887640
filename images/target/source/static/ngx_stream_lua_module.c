/*
 * A stand-in for OpenResty's ngx_stream_lua_module, which Debian has no package of. It is written for upprof's
 * tests and shares no code with that module, only what is visible from outside the process:
 *
 * - the module's symbol, and a main configuration whose first word is the VM (ngx_stream_lua_common.h);
 * - one VM, made by the master while it reads the configuration and inherited by every worker, beside http's;
 * - each connection's Lua in a coroutine of its own, resumed by a function called ngx_stream_lua_run_thread.
 *
 * It has no API for Lua, sets neither exdata nor exdata2, and resumes nothing that yields: content_by_lua_file
 * names a file that is run when a connection has sent something, and returns the answer.
 */
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_stream.h>
#include <lauxlib.h>
#include <lualib.h>

typedef struct {
    lua_State  *lua;
} ngx_stream_lua_main_conf_t;

typedef struct {
    int  content; /* in the VM's registry */
} ngx_stream_lua_srv_conf_t;

extern ngx_module_t  ngx_stream_lua_module;
ngx_int_t ngx_stream_lua_run_thread(lua_State *vm, int content, ngx_connection_t *c);


static void *
create_main_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_stream_lua_main_conf_t));
}


static void *
create_srv_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_stream_lua_srv_conf_t));
}


static void
close_vm(void *vm)
{
    lua_close(vm);
}


/* The VM goes with the configuration that it was made for: a reload makes another. */
static lua_State *
make_vm(ngx_conf_t *cf)
{
    lua_State           *vm;
    ngx_pool_cleanup_t  *cleanup;

    cleanup = ngx_pool_cleanup_add(cf->pool, 0);
    vm = cleanup ? luaL_newstate() : NULL;
    if (vm == NULL) {
        return NULL;
    }
    luaL_openlibs(vm);
    cleanup->handler = close_vm;
    cleanup->data = vm;
    return vm;
}


/* Sends what the function returns. */
ngx_int_t
ngx_stream_lua_run_thread(lua_State *vm, int content, ngx_connection_t *c)
{
    size_t       length;
    ngx_int_t    rc;
    const char  *answer;
    lua_State   *thread;

    thread = lua_newthread(vm);
    lua_rawgeti(thread, LUA_REGISTRYINDEX, content);
    rc = lua_resume(thread, 0) == 0 ? NGX_OK : NGX_ERROR;
    answer = lua_tolstring(thread, -1, &length);
    if (answer == NULL) {
        answer = "neither an answer nor an error";
        rc = NGX_ERROR;
    }
    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0, "content_by_lua_file: %s", answer);
    } else if (c->send(c, (u_char *) answer, length) != (ssize_t) length) {
        rc = NGX_ERROR;
    }
    lua_pop(vm, 1); /* the thread */
    return rc;
}


static void
run_content(ngx_stream_session_t *s)
{
    ngx_int_t                    rc;
    ngx_stream_lua_srv_conf_t   *server;
    ngx_stream_lua_main_conf_t  *conf;

    conf = ngx_stream_get_module_main_conf(s, ngx_stream_lua_module);
    server = ngx_stream_get_module_srv_conf(s, ngx_stream_lua_module);
    rc = ngx_stream_lua_run_thread(conf->lua, server->content, s->connection);
    ngx_stream_finalize_session(s, rc == NGX_OK ? NGX_STREAM_OK : NGX_STREAM_INTERNAL_SERVER_ERROR);
}


/* What was sent is of no interest, but a socket closed with bytes unread would reset the answer. */
static void
read_something(ngx_event_t *event)
{
    u_char                 bytes[4096];
    ssize_t                n;
    ngx_connection_t      *c = event->data;
    ngx_stream_session_t  *s = c->data;

    n = c->recv(c, bytes, sizeof(bytes));
    if (n > 0) {
        run_content(s);
    } else if (n != NGX_AGAIN || ngx_handle_read_event(event, 0) != NGX_OK) {
        ngx_stream_finalize_session(s, NGX_STREAM_OK);
    }
}


static void
handle_connection(ngx_stream_session_t *s)
{
    s->connection->read->handler = read_something;
    read_something(s->connection->read);
}


static char *
content_by_lua_file(ngx_conf_t *cf, ngx_command_t *command, void *data)
{
    ngx_str_t                   *file = (ngx_str_t *) cf->args->elts + 1;
    ngx_stream_lua_srv_conf_t   *server = data;
    ngx_stream_core_srv_conf_t  *core;
    ngx_stream_lua_main_conf_t  *conf;

    conf = ngx_stream_conf_get_module_main_conf(cf, ngx_stream_lua_module);
    if (conf->lua == NULL) {
        conf->lua = make_vm(cf);
    }
    if (conf->lua == NULL) {
        return "has no memory for a VM";
    }
    if (luaL_loadfile(conf->lua, (char *) file->data) != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", lua_tostring(conf->lua, -1));
        return NGX_CONF_ERROR;
    }
    server->content = luaL_ref(conf->lua, LUA_REGISTRYINDEX);
    core = ngx_stream_conf_get_module_srv_conf(cf, ngx_stream_core_module);
    core->handler = handle_connection;
    return NGX_CONF_OK;
}


static ngx_command_t  commands[] = {
    { ngx_string("content_by_lua_file"), NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      content_by_lua_file, NGX_STREAM_SRV_CONF_OFFSET, 0, NULL },
    ngx_null_command
};


static ngx_stream_module_t  context = {
    .create_main_conf = create_main_conf,
    .create_srv_conf = create_srv_conf,
};


ngx_module_t  ngx_stream_lua_module = {
    NGX_MODULE_V1,
    &context, commands, NGX_STREAM_MODULE,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING
};
