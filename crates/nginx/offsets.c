/*
 * Prints where nginx's and ngx_lua's structs have their members, for the headers it is compiled with:
 *
 *   STRUCT MEMBER BYTE            a member
 *   STRUCT MEMBER BYTE.BIT+WIDTH  a bit-field: byte and bit where its lowest bit is, and its width
 *
 * Not part of any build: layouts.py compiles and runs it for every version and writes layouts.yaml
 * (docs/new-nginx-version.md). Members that a version does not have are left out by its number.
 */
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>
#ifdef UPPROF_LUA
#include "ngx_http_lua_common.h"
#include "api/ngx_http_lua_api.h"
#include "ngx_http_lua_shdict.h"
#include "ngx_http_lua_socket_tcp.h"
#endif
#undef printf
#include <stdio.h>
#include <string.h>

#define AT(type, member) printf(#type " " #member " %zu\n", offsetof(type, member))
#define SIZE(type) printf(#type " size %zu\n", sizeof(type))
#define BITS(type, member)                                                         \
	do {                                                                       \
		type zeroed;                                                       \
		memset(&zeroed, 0, sizeof(zeroed));                                \
		zeroed.member = ~0u;                                               \
		bits(#type " " #member, (const unsigned char *)&zeroed, sizeof(zeroed)); \
	} while (0)

static void bits(const char *what, const unsigned char *bytes, size_t size)
{
	size_t first = 0, width = 0;

	for (size_t i = 0; i < size * 8; i++) {
		if (!(bytes[i / 8] >> i % 8 & 1))
			continue;
		if (!width++)
			first = i;
	}
	printf("%s %zu.%zu+%zu\n", what, first / 8, first % 8, width);
}

static void core(void)
{
	SIZE(ngx_module_t);
	AT(ngx_module_t, ctx_index);
	AT(ngx_module_t, index);
	AT(ngx_module_t, name);
	AT(ngx_module_t, version);
	AT(ngx_module_t, signature);
	AT(ngx_module_t, type);

	AT(ngx_cycle_t, conf_ctx);
	AT(ngx_cycle_t, pool);
	AT(ngx_cycle_t, files);
	AT(ngx_cycle_t, free_connections);
	AT(ngx_cycle_t, free_connection_n);
	AT(ngx_cycle_t, modules);
	AT(ngx_cycle_t, modules_n);
	AT(ngx_cycle_t, listening);
	AT(ngx_cycle_t, config_dump);
	AT(ngx_cycle_t, open_files);
	AT(ngx_cycle_t, shared_memory);
	AT(ngx_cycle_t, connection_n);
	AT(ngx_cycle_t, connections);
	AT(ngx_cycle_t, read_events);
	AT(ngx_cycle_t, write_events);
	AT(ngx_cycle_t, old_cycle);
	AT(ngx_cycle_t, conf_file);
	AT(ngx_cycle_t, prefix);

	SIZE(ngx_connection_t);
	AT(ngx_connection_t, data);
	AT(ngx_connection_t, read);
	AT(ngx_connection_t, write);
	AT(ngx_connection_t, fd);
	AT(ngx_connection_t, listening);
	AT(ngx_connection_t, sent);
	AT(ngx_connection_t, log);
	AT(ngx_connection_t, pool);
	AT(ngx_connection_t, type);
	AT(ngx_connection_t, sockaddr);
	AT(ngx_connection_t, socklen);
	AT(ngx_connection_t, addr_text);
#if (NGX_SSL || NGX_COMPAT)
	AT(ngx_connection_t, ssl);
#endif
	AT(ngx_connection_t, number);
#if nginx_version >= 1019010
	AT(ngx_connection_t, start_time);
#endif
	AT(ngx_connection_t, requests);
	BITS(ngx_connection_t, timedout);
	BITS(ngx_connection_t, error);
	BITS(ngx_connection_t, destroyed);
	BITS(ngx_connection_t, idle);
	BITS(ngx_connection_t, reusable);
	BITS(ngx_connection_t, close);

	SIZE(ngx_event_t);
	AT(ngx_event_t, data);
	BITS(ngx_event_t, write);
	BITS(ngx_event_t, accept);
	BITS(ngx_event_t, active);
	BITS(ngx_event_t, ready);
	BITS(ngx_event_t, timedout);
	BITS(ngx_event_t, timer_set);
	BITS(ngx_event_t, cancelable);
	AT(ngx_event_t, handler);
	AT(ngx_event_t, timer);
	AT(ngx_rbtree_node_t, key);
	AT(ngx_rbtree_node_t, left);
	AT(ngx_rbtree_node_t, right);
	AT(ngx_rbtree_node_t, parent);
	AT(ngx_rbtree_node_t, color);

	SIZE(ngx_listening_t);
	AT(ngx_listening_t, fd);
	AT(ngx_listening_t, sockaddr);
	AT(ngx_listening_t, socklen);
	AT(ngx_listening_t, addr_text);
	AT(ngx_listening_t, type);
	AT(ngx_listening_t, backlog);
	AT(ngx_listening_t, handler);
	AT(ngx_listening_t, servers);
	AT(ngx_listening_t, connection);
	AT(ngx_listening_t, worker);
	BITS(ngx_listening_t, open);
	BITS(ngx_listening_t, listen);
	BITS(ngx_listening_t, reuseport);

	SIZE(ngx_pool_t);
	AT(ngx_pool_t, d.last);
	AT(ngx_pool_t, d.end);
	AT(ngx_pool_t, d.next);
	AT(ngx_pool_t, max);
	AT(ngx_pool_t, current);
	AT(ngx_pool_t, large);
	AT(ngx_pool_large_t, next);
	AT(ngx_pool_large_t, alloc);
	AT(ngx_list_t, last);
	AT(ngx_list_t, part);
	AT(ngx_list_part_t, elts);
	AT(ngx_list_part_t, nelts);
	AT(ngx_list_part_t, next);

	SIZE(ngx_shm_zone_t);
	AT(ngx_shm_zone_t, data);
	AT(ngx_shm_zone_t, shm);
	AT(ngx_shm_zone_t, init);
	AT(ngx_shm_zone_t, tag);
	AT(ngx_shm_t, addr);
	AT(ngx_shm_t, size);
	AT(ngx_shm_t, name);
	AT(ngx_slab_pool_t, lock);
	AT(ngx_slab_pool_t, min_size);
	AT(ngx_slab_pool_t, min_shift);
	AT(ngx_slab_pool_t, pages);
	AT(ngx_slab_pool_t, last);
	AT(ngx_slab_pool_t, free);
	AT(ngx_slab_pool_t, stats);
	AT(ngx_slab_pool_t, pfree);
	AT(ngx_slab_pool_t, start);
	AT(ngx_slab_pool_t, end);
	AT(ngx_slab_pool_t, data);
	AT(ngx_slab_pool_t, addr);
	SIZE(ngx_slab_page_t);
	AT(ngx_slab_page_t, slab);
	AT(ngx_slab_page_t, next);
	SIZE(ngx_slab_stat_t);
	AT(ngx_slab_stat_t, total);
	AT(ngx_slab_stat_t, used);
	AT(ngx_slab_stat_t, reqs);
	AT(ngx_slab_stat_t, fails);
}

static void http(void)
{
	SIZE(ngx_http_request_t);
	AT(ngx_http_request_t, signature);
	AT(ngx_http_request_t, connection);
	AT(ngx_http_request_t, ctx);
	AT(ngx_http_request_t, main_conf);
	AT(ngx_http_request_t, srv_conf);
	AT(ngx_http_request_t, loc_conf);
	AT(ngx_http_request_t, upstream);
	AT(ngx_http_request_t, upstream_states);
	AT(ngx_http_request_t, pool);
	AT(ngx_http_request_t, headers_in.host);
	AT(ngx_http_request_t, headers_in.server);
	AT(ngx_http_request_t, headers_out.status);
	AT(ngx_http_request_t, start_sec);
	AT(ngx_http_request_t, start_msec);
	AT(ngx_http_request_t, method);
	AT(ngx_http_request_t, http_version);
	AT(ngx_http_request_t, request_line);
	AT(ngx_http_request_t, uri);
	AT(ngx_http_request_t, args);
	AT(ngx_http_request_t, method_name);
	AT(ngx_http_request_t, main);
	AT(ngx_http_request_t, parent);
	AT(ngx_http_request_t, phase_handler);
	AT(ngx_http_request_t, content_handler);
	AT(ngx_http_request_t, stream);
	BITS(ngx_http_request_t, count);
	BITS(ngx_http_request_t, http_state);
	BITS(ngx_http_request_t, internal);
	BITS(ngx_http_request_t, keepalive);

	AT(ngx_http_upstream_t, peer.connection);
	AT(ngx_http_upstream_t, peer.name);
	AT(ngx_http_upstream_t, peer.tries);
	AT(ngx_http_upstream_t, state);
	BITS(ngx_http_upstream_t, request_sent);
	BITS(ngx_http_upstream_t, header_sent);
	SIZE(ngx_http_upstream_state_t);
	AT(ngx_http_upstream_state_t, status);
	AT(ngx_http_upstream_state_t, response_time);
	AT(ngx_http_upstream_state_t, connect_time);
	AT(ngx_http_upstream_state_t, header_time);
	AT(ngx_http_upstream_state_t, response_length);
	AT(ngx_http_upstream_state_t, peer);
	AT(ngx_http_upstream_main_conf_t, upstreams);
	AT(ngx_http_upstream_srv_conf_t, peer);
	AT(ngx_http_upstream_srv_conf_t, srv_conf);
	AT(ngx_http_upstream_srv_conf_t, servers);
	AT(ngx_http_upstream_srv_conf_t, host);
	AT(ngx_http_upstream_srv_conf_t, file_name);
	AT(ngx_http_upstream_srv_conf_t, line);

	AT(ngx_http_core_main_conf_t, servers);
	AT(ngx_http_core_main_conf_t, phase_engine.handlers);
	AT(ngx_http_core_main_conf_t, phases);
	SIZE(ngx_http_phase_t);
	SIZE(ngx_http_phase_handler_t);
	AT(ngx_http_phase_handler_t, checker);
	AT(ngx_http_phase_handler_t, handler);
	AT(ngx_http_phase_handler_t, next);
}

#ifdef UPPROF_LUA
static void lua(void)
{
	AT(ngx_http_lua_main_conf_t, lua);
	AT(ngx_http_lua_main_conf_t, cycle);
	AT(ngx_http_lua_main_conf_t, pool);
	AT(ngx_http_lua_main_conf_t, max_pending_timers);
	AT(ngx_http_lua_main_conf_t, pending_timers);
	AT(ngx_http_lua_main_conf_t, max_running_timers);
	AT(ngx_http_lua_main_conf_t, running_timers);
	AT(ngx_http_lua_main_conf_t, shdict_zones);

	AT(ngx_http_lua_ctx_t, request);
	AT(ngx_http_lua_ctx_t, cur_co_ctx);
	AT(ngx_http_lua_ctx_t, user_co_ctx);
	AT(ngx_http_lua_ctx_t, entry_co_ctx);
	AT(ngx_http_lua_ctx_t, uthreads);
	AT(ngx_http_lua_ctx_t, context);
	BITS(ngx_http_lua_ctx_t, entered_content_phase);
	AT(ngx_http_lua_co_ctx_t, data);
	AT(ngx_http_lua_co_ctx_t, co);
	AT(ngx_http_lua_co_ctx_t, parent_co_ctx);
	BITS(ngx_http_lua_co_ctx_t, is_uthread);

	AT(ngx_http_lua_shdict_ctx_t, sh);
	AT(ngx_http_lua_shdict_ctx_t, shpool);
	AT(ngx_http_lua_shdict_ctx_t, name);
	AT(ngx_http_lua_shdict_ctx_t, main_conf);
	AT(ngx_http_lua_shdict_shctx_t, rbtree);
	AT(ngx_http_lua_shdict_shctx_t, lru_queue);
	AT(ngx_http_lua_shdict_node_t, value_type);
	AT(ngx_http_lua_shdict_node_t, key_len);
	AT(ngx_http_lua_shdict_node_t, value_len);
	AT(ngx_http_lua_shdict_node_t, expires);
	AT(ngx_http_lua_shdict_node_t, queue);
	AT(ngx_http_lua_shdict_node_t, user_flags);
	AT(ngx_http_lua_shdict_node_t, data);

	AT(ngx_http_lua_socket_pool_t, cache);
	AT(ngx_http_lua_socket_pool_t, free);
	AT(ngx_http_lua_socket_pool_t, key);
#if ngx_http_lua_version >= 10014
	AT(ngx_http_lua_socket_pool_t, connections);
	AT(ngx_http_lua_socket_pool_t, size);
	AT(ngx_http_lua_socket_pool_t, backlog);
	AT(ngx_http_lua_socket_pool_t, cache_connect_op);
	AT(ngx_http_lua_socket_pool_t, wait_connect_op);
#endif
}
#endif

int main(void)
{
#ifdef UPPROF_LUA
	lua();
#else
	core();
	http();
#endif
	return 0;
}
