/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The outermost native frames of an nginx worker, from its event loop's way into Lua up to main, are
 * the same sample after sample, and more than half of a stack. They are walked once, then recognised:
 * one read of the stack and a comparison for each frame, in place of a rule for each. A sample finds
 * caches and TLB cold, and rules lie scattered; this lies in one piece.
 *
 * A tail is taken only if the walk would give it again: it begins where Lua was left for the last
 * time, in the same process description, at the same ip and sp, and every return address is still the
 * one it was. Only frames whose CFA comes from rsp are kept, so no other register has a say.
 */
#ifndef UPPROF_TAIL_H
#define UPPROF_TAIL_H

#include "walk.h"

UPPROF_ASSERT((TAILS & (TAILS - 1)) == 0);

/* Begins to note a tail in its slot; what was there is forgotten. */
INLINE void tail_begin(struct walk *w, struct tail *t)
{
	t->process = 0;
	t->ip = w->ip;
	t->sp = w->sp;
	t->n = 0;
	t->span = 0;
	w->tail = TAIL_KEPT;
}

/* Notes one more frame, whose return address was found at `at`. */
NOINLINE int tail_add(struct walk *w, u64 ra, u64 at)
{
	struct tail *t = &w->tails[w->tail_slot & (TAILS - 1)];
	u32 n = t->n;
	u64 off = at - t->sp;

	if (n >= TAIL_FRAMES || off > TAIL_BYTES - 8) {
		w->tail = TAIL_NONE;
		return 0;
	}
	t->frames[n].ip = ra;
	t->frames[n].at = (u32)off;
	t->span = (u32)off + 8;
	t->n = n + 1;
	return 0;
}

/* The tail is whole, if `process` is not 0; otherwise it is not to be used. */
INLINE void tail_end(struct walk *w, u64 process)
{
	w->tails[w->tail_slot & (TAILS - 1)].process = process;
	w->tail = TAIL_NONE;
}

/* Whether the stack still holds the tail's return addresses. */
INLINE int tail_holds(struct walk *w, const struct tail *t)
{
	u32 span = t->span;

	if (span > TAIL_BYTES || read_user(w->tail_stack, span, t->sp))
		return 0;
	for (u32 i = 0; i < TAIL_FRAMES && i < t->n; i++) {
		u32 at = t->frames[i].at;

		if (at > TAIL_BYTES - 8 || *(u64 *)(w->tail_stack + at) != t->frames[i].ip)
			return 0;
	}
	return 1;
}

/*
 * Where Lua has been left for the last time: takes the rest of the stack from the tail that an earlier
 * sample left, and returns 1; or begins to note one.
 */
NOINLINE int tail_taken(struct walk *w, const struct process_info *p)
{
	u32 slot = (u32)((w->ip ^ w->sp ^ p->id << 32) * 0x9e3779b97f4a7c15ULL >> 32) & (TAILS - 1);
	struct tail *t = &w->tails[slot];

	if (t->process != p->id || t->ip != w->ip || t->sp != w->sp || !tail_holds(w, t) ||
	    w->n_native + t->n >= MAX_NATIVE_FRAMES) {
		w->tail_slot = slot;
		tail_begin(w, t);
		return 0;
	}
	emit(w, frame_word(FRAME_NATIVE_CALL, t->ip, 0), 0, 0);
	for (u32 i = 0; i < TAIL_FRAMES && i < t->n; i++)
		emit(w, frame_word(FRAME_NATIVE_CALL, t->frames[i].ip, 0), 0, 0);
	w->n_native += t->n + 1;
	finish(w, OUTCOME_COMPLETE);
	return 1;
}

#endif
