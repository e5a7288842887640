/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Lua frames, exactly interleaved with C frames.
 *
 * Every entry into LuaJIT's interpreter from C leaves a C frame of fixed layout on the native
 * stack, and lua_State.cframe chains them. Lua runs on this stack iff the newest one lies above
 * the sampled stack pointer. Each C frame owns one segment of the Lua stack, up to a frame of type
 * C; below it native code goes on with the registers that the C frame saved. So the walk goes:
 * native frames, Lua segment, native frames, Lua segment, ..., process entry.
 */
#ifndef UPPROF_LUA_H
#define UPPROF_LUA_H

#include "leaf.bpf.h"

/* Ends a segment: native code goes on where the C frame was entered from. */
GLOBAL int leave_lua(struct walk *w, const struct lua_vm *vm)
{
	const struct cframe *c;
	u64 next;

	if (!w || !vm)
		return 0;
	c = &w->cframe;
	next = c->word[4] & ~(u64)CFRAME_MASK;
	/* A parent is on no C stack: what follows is known since the segment that it was reached from. */
	if (w->n_parents) {
		w->phase = PHASE_PARENT;
		return 0;
	}
	w->ip = c->word[9];
	w->bp = c->word[8];
	w->bx = c->word[7];
	w->r14 = c->word[5];
	w->bp_known = w->bx_known = w->r14_known = 1;
	w->sp = w->cf + CFRAME_SIZE;
	w->leaf = 0;
	/*
	 * lj_vm_resume stores a null link. When coroutine.resume was called from Lua, the interpreter
	 * called it, and the parent's C frame begins right here (measured 300/300, docs/luajit.md 3.4).
	 */
	if (!next && in_vm_text(vm, w->ip))
		next = w->sp;
	w->segment++;
	w->phase = next ? PHASE_NATIVE : PHASE_PARENT;
	if (next && next < w->sp) {
		count(COUNT_LUA_BROKEN);
		next = 0;
	}
	w->cf = next;
	w->tail = next ? TAIL_NONE : TAIL_DUE;
	return 0;
}

/* Lua frames that are there and cannot be trusted: not shown, and said so. */
NOINLINE int not_trusted(struct walk *w, u32 why)
{
	count(why);
	emit_mark(w, MARK_LUA_LOST);
	return -1;
}

/*
 * Begins the segment of the C frame at w->cf. Returns negative when the frame cannot be trusted;
 * that is marked, and the walk must go on natively.
 */
GLOBAL int enter_lua(struct walk *w, const struct lua_vm *vm)
{
	int found = LEAF_FOUND;
	struct cframe *c;
	u64 l;
	s32 nres;

	if (!w || !vm)
		return -1;
	c = &w->cframe;
	if (read_user(c, sizeof(*c), w->cf))
		return not_trusted(w, COUNT_LUA_BROKEN);
	l = cframe_l(vm, c);
	if (w->segment == 0) {
		if (l != w->l)
			return not_trusted(w, COUNT_SAVE_L_MISMATCH);
		found = leaf(w, vm);
		if (found == LEAF_UNSURE) {
			count(COUNT_LUA_UNSURE);
			emit_mark(w, MARK_LEAF_UNSURE);
		}
	} else {
		if (l != w->l) {
			struct lua_thread t = {};

			if (read_thread(vm, l, &t) || t.g != vm->g)
				return not_trusted(w, COUNT_LUA_BROKEN);
			w->l = l;
			w->stack_lo = t.stack;
			w->stack_hi = t.maxstack;
			w->frame = t.base - slot_bytes();
			w->co_ctx = t.exdata2;
		}
		w->pc = cframe_pc(vm, c);
	}
	w->skip = 0;
	w->tail = TAIL_NONE;
	w->phase = PHASE_LUA;
	/*
	 * lj_vm_cpcall stores -savestack(top) as the number of results: while the C callback runs, the
	 * frame has no Lua segment; once the callback has started a Lua call, it does (lj_err.c).
	 */
	nres = cframe_nres(vm, c);
	if (found == LEAF_NO_FRAME || (nres < 0 && w->frame && w->frame < w->stack_lo + (u64)(-(s64)nres))) {
		leave_lua(w, vm);
	} else if (w->segment && w->frame && w->frame <= frame_bottom(vm, w)) {
		/*
		 * Its frames were taken for a newer C frame's, which had none yet (lj_ccallback_enter): they
		 * are above the C code that they called.
		 */
		count(COUNT_LUA_BROKEN);
		emit_mark(w, MARK_LUA_LOST);
		leave_lua(w, vm);
	}
	return 0;
}

NOINLINE int lua_broken(struct walk *w, const struct lua_vm *vm)
{
	count(COUNT_LUA_BROKEN);
	emit_mark(w, MARK_LUA_LOST);
	w->frame = 0;
	return leave_lua(w, vm);
}

/* Emits the Lua or C function of one frame. */
GLOBAL int emit_function(struct walk *w, const struct lua_vm *vm, u64 func)
{
	const struct lua_known *k;
	u32 at = PC_UNKNOWN;
	u64 pc, bytecode;

	if (!w || !vm)
		return -1;
	k = &w->known;
	pc = w->pc;
	if (know_function(w, vm, func))
		return -1;
	if (k->ffid != FFID_LUA)
		return emit(w, frame_word(FRAME_LUA_C, k->cfunction, k->ffid), k->ffid, 0);
	bytecode = k->pc;
	if (pc) {
		pc = bytecode_of(w, vm, pc);
		if (!pc)
			count(COUNT_LUA_PC_OUTSIDE);
	}
	if (pc)
		at = (u32)((pc - bytecode) / 4);
	if (w->adopted && (k->told_as || !tell(w, bytecode - proto_size(vm))))
		return emit(w, frame_word(FRAME_LUA, k->told_as, 0), told_line(w, at), k->check);
	return emit(w, frame_word(FRAME_LUA, bytecode - proto_size(vm), 0), at, k->check);
}

/* One Lua frame: emits its function, then moves to the frame below, or ends the segment. */
GLOBAL int step_lua(struct walk *w, const struct lua_vm *vm)
{
	struct lua_slot s;
	u64 frame, prev, link;

	if (!w || !vm)
		return 0;
	frame = w->frame;
	if (!frame) {
		/* An outer segment of a thread whose frames were lost further up. */
		emit_mark(w, MARK_LUA_LOST);
		leave_lua(w, vm);
		return 0;
	}
	if (frame <= frame_bottom(vm, w)) {
		leave_lua(w, vm);
		return 0;
	}
	if (w->n_lua >= MAX_LUA_FRAMES) {
		emit_mark(w, MARK_TRUNCATED);
		w->outcome = OUTCOME_TRUNCATED;
		w->frame = 0;
		leave_lua(w, vm);
		return 0;
	}
	if (frame > w->stack_hi || read_slot(w, vm, frame, &s)) {
		lua_broken(w, vm);
		return 0;
	}
	/* A frame whose function is the thread itself is a dummy (lj_err_optype_call). */
	if (s.func != w->l) {
		if (w->skip) {
			w->skip = 0;
		} else if (emit_function(w, vm, s.func)) {
			lua_broken(w, vm);
			return 0;
		} else {
			w->n_lua++;
		}
	}

	link = s.link;
	if ((link & LINK_TYPE) == LINK_LUA) {
		u32 call;

		/* The caller's frame is below the callee by the call's A operand: second byte. */
		if (read_user(&call, 4, link - 4)) {
			lua_broken(w, vm);
			return 0;
		}
		prev = frame - slot_bytes() * (1 + (vm->layout.gc64 ? 1 : 0) + ((call >> 8) & 0xff));
		w->pc = link;
	} else {
		u64 size = link & ~(u64)LINK_TYPE_P;

		prev = frame - size;
		if (!size || prev >= frame) {
			lua_broken(w, vm);
			return 0;
		}
		w->pc = 0;
		switch (link & LINK_TYPE_P) {
		case LINK_VARG:
			w->skip = 1;
			break;
		case LINK_C:
		case LINK_CP:
			w->frame = prev;
			leave_lua(w, vm);
			return 0;
		case LINK_CONT:
			if (read_continuation(w, vm, frame)) {
				w->frame = prev;
				leave_lua(w, vm);
				return 0;
			}
			break;
		default: /* pcall, xpcall: the frame below is that fast function, and has its own link */
			break;
		}
	}
	w->frame = prev;
	return 0;
}

#endif
