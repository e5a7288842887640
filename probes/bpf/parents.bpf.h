/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who resumed a coroutine of ngx_lua, and who spawned a light thread. Neither is on the C stack:
 * ngx_lua runs every thread from its scheduler (ngx_http_lua_run_thread), and a thread that resumes
 * another is suspended meanwhile. What it runs is on its own Lua stack, and ngx_lua's bookkeeping of a
 * thread, found by lua_State.exdata2, leads to that of its parent.
 *
 * A spawner does not wait for what it spawned, so its frames say where it is now; the mark tells both
 * apart. Nothing is believed that does not lead back: bookkeeping to its thread, thread to its bookkeeping.
 *
 * Facts: ngx_http_lua_co_ctx_t (ngx_http_lua_common.h; stream alike), ngx_http_lua_coroutine.c,
 * ngx_http_lua_uthread.c, lj_api.c lua_yield.
 */
#ifndef UPPROF_PARENTS_H
#define UPPROF_PARENTS_H

#include "lua.bpf.h"

/* Beginning of ngx_http_lua_co_ctx_t, the same in every version. */
struct co_ctx {
	u64 data, co, parent;
};

/*
 * How a thread keeps from being collected: a pair {int co_ref, bit fields}. A coroutine that Lua code made
 * has no reference in the registry; a light thread has one, and a bit of its own. Where the pair lies:
 * 152 in stream's, 200 in http's since 2020-11, 208 since 2022-06.
 */
struct co_anchors {
	struct {
		s32 co_ref;
		u32 bits;
	} at[8]; /* from 152 on */
};

enum {
	CO_ANCHORS = 152,
	CO_STREAM = 0,
	CO_HTTP_2020 = 6,
	CO_HTTP_2022 = 7,
	CO_NOREF = -2, /* LUA_NOREF */
	CO_BITS = 0x3ff,
	CO_IS_UTHREAD = 1 << 5,
};

/* The mark that this pair is proof of, or 0. */
INLINE u32 mark_of(s32 co_ref, u32 bits)
{
	if (bits & ~(u32)CO_BITS)
		return 0;
	if (co_ref == CO_NOREF && !(bits & CO_IS_UTHREAD))
		return MARK_COROUTINE;
	return co_ref > 0 && bits & CO_IS_UTHREAD ? MARK_LIGHT_THREAD : 0;
}

INLINE u32 begun_as(u64 ctx)
{
	struct co_anchors a;
	u32 mark;

	if (read_user(&a, sizeof(a), ctx + CO_ANCHORS))
		return 0;
	mark = mark_of(a.at[CO_HTTP_2022].co_ref, a.at[CO_HTTP_2022].bits);
	if (!mark)
		mark = mark_of(a.at[CO_HTTP_2020].co_ref, a.at[CO_HTTP_2020].bits);
	return mark ? mark : mark_of(a.at[CO_STREAM].co_ref, a.at[CO_STREAM].bits);
}

/* Makes the thread of this bookkeeping the one to be shown next, if it is suspended. */
INLINE int take_parent(struct walk *w, const struct lua_vm *vm, u64 ctx)
{
	struct lua_thread t = {};
	struct co_ctx c;

	if (read_user(&c, sizeof(c), ctx) || !c.co || read_thread(vm, c.co, &t))
		return -1;
	if (t.g != vm->g || t.exdata2 != ctx || t.cframe)
		return -1;
	w->l = c.co;
	w->co_ctx = ctx;
	w->stack_lo = t.stack;
	w->stack_hi = t.maxstack;
	w->frame = t.base - slot_bytes();
	w->pc = 0;
	w->skip = 0;
	return 0;
}

/*
 * A thread has been shown to its first frame. If it has a parent, that follows behind a mark; if not,
 * native code goes on, whose registers are set already. Bookkeeping that is another thread's was
 * inherited (lj_state.c lj_state_new): such a coroutine is not ngx_lua's.
 */
GLOBAL int step_parent(struct walk *w, const struct lua_vm *vm)
{
	struct co_ctx c;
	u32 mark;

	if (!w || !vm)
		return 0;
	if (!w->co_ctx || w->n_lua >= MAX_LUA_FRAMES || read_user(&c, sizeof(c), w->co_ctx) || c.co != w->l ||
	    !c.parent)
		goto native;
	if (w->n_parents >= MAX_PARENTS) {
		emit_mark(w, MARK_TRUNCATED);
		w->outcome = OUTCOME_TRUNCATED;
		goto native;
	}
	mark = begun_as(w->co_ctx);
	if (mark)
		emit_mark(w, mark);
	if (mark && !take_parent(w, vm, c.parent)) {
		w->n_parents++;
		w->phase = PHASE_LUA;
		return 0;
	}
	/* A spawner may have ended before what it spawned. */
	if (mark != MARK_LIGHT_THREAD) {
		count(COUNT_LUA_BROKEN);
		emit_mark(w, MARK_LUA_LOST);
	}
native:
	if (w->n_parents)
		w->l = 0; /* its stack is not the next segment's */
	w->n_parents = 0;
	w->phase = PHASE_NATIVE;
	return 0;
}

#endif
