/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose request a sample is. ngx_lua keeps the request that a Lua thread runs for in
 * lua_State.exdata (OpenResty's LuaJIT); it is stale in a VM that is not running, so only threads with
 * Lua on the sampled stack are asked. A request lives for milliseconds: what is wanted of it is read
 * here and now, in eight small reads at most, and only in samples with Lua. Its strings are told to user space
 * once for each distinct request; samples carry their hash.
 *
 * Nothing is believed: the memory may be another version's, or freed. What fails a check is no
 * request, and counted. Facts: ngx_http_request.h, ngx_http_lua_util.h (ngx_http_lua_get_req),
 * ngx_http_lua_util.c (ngx_http_lua_create_fake_request); offsets: crates/nginx/layouts.yaml.
 */
#ifndef UPPROF_REQUEST_H
#define UPPROF_REQUEST_H

#include "walk.h"

#define HTTP_SIGNATURE 0x50545448U /* NGX_HTTP_MODULE, "HTTP" */

enum {
	EXDATA_GC64 = 96, /* lua_State.exdata: behind upstream's lua_State */
	EXDATA_GC32 = 64,
	METHOD_UNKNOWN = 1,
	METHOD_LAST = 1 << 16, /* NGX_HTTP_CONNECT */
	/* No length of a string in a request: its buffers are kilobytes (large_client_header_buffers). */
	STRING_INSANE = 1 << 16,
};

/*
 * Labels that user space knows. A label has one bucket, one line of the cache, where it can be: at 99 Hz
 * everything a sample touches is cold. The second table is for requests whose bucket was full: their
 * path is cut behind its first segment.
 */
enum { BUCKET_LABELS = 8 };

struct label_bucket {
	u64 labels[BUCKET_LABELS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_LABELS / BUCKET_LABELS);
	__type(key, u32);
	__type(value, struct label_bucket);
} labels SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_PREFIX_LABELS / BUCKET_LABELS);
	__type(key, u32);
	__type(value, struct label_bucket);
} prefix_labels SEC(".maps");

struct request_string {
	u64 len, data;
};

/* The beginning of ngx_http_request_t. */
struct request_head {
	u32 signature, pad;
	u64 connection, ctx;
};

/* From ngx_http_request_t.method on. */
struct request_line {
	u64 method, version;
	struct request_string line, uri;
};

INLINE u64 hash_bytes(u64 h, const u8 *bytes, u32 size)
{
	/* `size` is a constant: the strings' unused ends are zero. */
	for (u32 i = 0; i < size; i += 8) {
		h = (h ^ *(const u64 *)(bytes + i)) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	return h;
}

/*
 * The phase: one bit of ngx_http_lua_ctx_t.context (ngx_http_lua_common.h), as its number from 1. Until
 * 0.10.28 the member has 16 bits, with bit-fields behind it; later phases use the upper half, alone.
 */
INLINE u8 request_phase(const struct request_layout *at, u64 ctx)
{
	u64 of_lua = 0;
	u32 context = 0, low;

	if (!at->context || read_user(&of_lua, 8, ctx + at->lua_ctx) || !of_lua ||
	    read_user(&context, 4, of_lua + at->context))
		return 0;
	low = context & 0xffff;
	if (low)
		context = low;
	if (!context || context & (context - 1))
		return 0;
	for (u32 bit = 0; bit < 32; bit++)
		if (context >> bit & 1)
			return bit + 1;
	return 0;
}

/* Reads a string into a zeroed buffer; what is longer than the buffer is cut. */
INLINE int read_string(u8 *to, u32 room, const struct request_string *s, u8 *len, u8 *cut)
{
	u32 size = s->len;

	*cut = size > room;
	if (size > room)
		size = room;
	*len = size;
	HIDE(size);
	if (size > room)
		return -1;
	return size && read_user(to, size, s->data) ? -1 : 0;
}

INLINE void hash_label(struct label_event *e)
{
	e->label = hash_bytes(e->method, e->path, sizeof(e->path));
	e->label = hash_bytes(e->label, e->host, sizeof(e->host)) | LABEL_FIRST_HASH;
}

/* Tells user space of a label unless it knows. Negative when there is no room or it could not be told. */
INLINE int know_label(struct label_bucket *bucket, struct label_event *e)
{
	if (!bucket)
		return -1;
	for (u32 i = 0; i < BUCKET_LABELS; i++) {
		u64 *place = &bucket->labels[i], known = *place;

		if (!known)
			known = __sync_val_compare_and_swap(place, 0, e->label);
		if (known == e->label)
			return 0;
		if (known)
			continue;
		if (!bpf_ringbuf_output(&events, e, sizeof(*e), BPF_RB_NO_WAKEUP))
			return 0;
		*place = 0;
		return -1;
	}
	return -1;
}

/*
 * Identifiers in paths make requests without end; their first segment is one of few. 0 when the path has
 * no second.
 */
GLOBAL int cut_path(struct label_event *e)
{
	u32 second = 0;

	if (!e)
		return 0;
	for (u32 i = 1; i < LABEL_PATH; i++) {
		if (second)
			e->path[i] = 0;
		else if (e->path[i] == '/')
			second = i;
	}
	if (second) {
		e->path_len = second + 1;
		e->path_cut = 1;
	}
	return second;
}

/* The label to use for the request that has been read into the event. */
INLINE u64 label_of(struct label_event *e)
{
	u32 bucket;

	hash_label(e);
	bucket = (e->label >> 32) % (MAX_LABELS / BUCKET_LABELS);
	if (!know_label(bpf_map_lookup_elem(&labels, &bucket), e))
		return e->label;
	if (cut_path(e)) {
		hash_label(e);
		bucket = (e->label >> 32) % (MAX_PREFIX_LABELS / BUCKET_LABELS);
		if (!know_label(bpf_map_lookup_elem(&prefix_labels, &bucket), e))
			return e->label;
	}
	count(COUNT_LABELS_FULL);
	return LABEL_OTHER;
}

/* Reads the request at `r` into the event. Returns its label; LABEL_UNREAD when a check fails. */
NOINLINE u64 read_request(const struct request_layout *at, struct label_event *e, u64 r, u8 *phase)
{
	struct request_head head;
	struct request_line line;
	struct request_string host;

	if (read_user(&head, sizeof(head), r) || head.signature != HTTP_SIGNATURE ||
	    read_user(&line, sizeof(line), r + at->method))
		return LABEL_UNREAD;
	if (!line.method || line.method > METHOD_LAST || line.method & (line.method - 1))
		return LABEL_UNREAD;
	*phase = request_phase(at, head.ctx);
	/* Made by ngx_http_lua_create_fake_request: zeroed, but for the method. */
	if (!line.version && !line.uri.len && line.method == METHOD_UNKNOWN)
		return LABEL_OUTSIDE;
	/* NGX_HTTP_VERSION_9 to _30 */
	if (line.version != 9 && line.version != 1000 && line.version != 1001 &&
	    line.version != 2000 && line.version != 3000)
		return LABEL_UNREAD;
	if (!line.uri.len || line.uri.len >= STRING_INSANE ||
	    read_user(&host, sizeof(host), r + at->server) || host.len >= STRING_INSANE)
		return LABEL_UNREAD;

	__builtin_memset(e->path, 0, sizeof(e->path));
	__builtin_memset(e->host, 0, sizeof(e->host));
	if (read_string(e->path, sizeof(e->path), &line.uri, &e->path_len, &e->path_cut) ||
	    e->path[0] != '/' ||
	    read_string(e->host, sizeof(e->host), &host, &e->host_len, &e->host_cut))
		return LABEL_UNREAD;
	e->method = line.method;
	return label_of(e);
}

/*
 * The label of the walk that has just ended; its phase goes into the stack's event. The label's event is made where the walk kept a piece of
 * the Lua stack: nobody needs that any more, and it is in the cache.
 */
GLOBAL u64 request_label(struct walk *w, u32 tgid)
{
	const struct request_layout *at;
	struct label_event *e;
	u64 r = 0, label = LABEL_UNREAD;

	if (!w)
		return LABEL_NONE;
	at = &w->vm.request;
	e = (struct label_event *)w->lua_stack.data;
	UPPROF_ASSERT(sizeof(*e) <= sizeof(w->lua_stack.data));
	if (!w->has_vm || !at->method)
		return LABEL_NONE;
	e->type = EVENT_LABEL;
	e->tgid = tgid;
	if (!read_user(&r, 8, w->leaf_l + (w->vm.layout.gc64 ? EXDATA_GC64 : EXDATA_GC32)))
		/* Null while a VM is made or closed, and in init_by_lua. */
		label = r ? read_request(at, e, r, &w->event.phase) : LABEL_OUTSIDE;
	if (label == LABEL_UNREAD)
		count(COUNT_REQUEST_UNREAD);
	return label;
}

#endif
