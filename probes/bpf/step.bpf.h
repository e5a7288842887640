/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The driver of both walkers: which one takes the next step. */
#ifndef UPPROF_STEP_H
#define UPPROF_STEP_H

#include "native.bpf.h"
#include "entry.bpf.h"
#include "parents.bpf.h"

/* Places of 16 bytes that machine code's frame may have: up to 256 spill slots of 4 bytes (lj_asm.c). */
enum { MAX_SPILL_STEPS = 66 };

/*
 * Where this thread's stack ends at the latest. Stacks of threads lie side by side, so a distance alone
 * would let one thread's Lua be taken for its neighbour's.
 */
INLINE u64 end_of_stack(const struct walk *w, u64 span)
{
	u64 end = w->sp + span;

	return w->tls > w->sp && w->tls < end ? w->tls : end;
}

/* Prepares a walk; registers and leaf values are already set. */
INLINE void walk_begin(struct walk *w, const struct process_info *p)
{
	w->stack_end = end_of_stack(w, p->stack_span);
	w->has_vm = 0;
	w->segment = 0;
	w->cf = 0;
	w->l = 0;
	w->co_ctx = 0;
	w->n_parents = 0;
	w->adopted = 0;
	w->frame = 0;
	w->pc = 0;
	w->jit_base = 0;
	w->jit_ip = 0;
	w->skip = 0;
	w->phase = PHASE_NATIVE;
	w->outcome = OUTCOME_COMPLETE;
	w->vm_state = VM_NOT_LUA;
	w->bp_known = w->bx_known = w->r14_known = 1;
	w->leaf = 1;
	w->last_mapping = 0;
	w->tail = TAIL_NONE;
	w->known.func = 0;
	w->native_stack.start = w->lua_stack.start = WINDOW_EMPTY;
	w->n_frames = w->n_native = w->n_lua = 0;
	w->h1 = w->h2 = 0;
	for (u32 i = 0; i < MAX_VMS && i < p->n_vms; i++) {
		if (!find_lua(w, &p->vms[i]))
			return;
	}
}

/* Whether native code at the current frame is the interpreter's own, with a C frame behind it. */
INLINE int at_interpreter(struct walk *w, const struct lua_vm *vm)
{
	if (!in_vm_text(vm, w->ip))
		return 0;
	if (w->segment == 0) {
		/* Leaving a trace, rsp is not the C frame either. */
		int in_lua = w->vm_state == VM_COMPILED || w->vm_state == VM_EXIT;

		if (w->leaf && !in_lua && w->cf != w->sp && leave_entry(w, vm))
			return 0;
		return w->cf != 0;
	}
	if (!w->cf) {
		/*
		 * The chain ended, as lj_vm_resume makes it do, but there is more Lua further out: C code
		 * called from Lua resumed a coroutine. Outside calls, rsp is the C frame.
		 */
		w->cf = w->sp;
	} else if (w->cf != w->sp) {
		count(COUNT_CFRAME_MISMATCH);
	}
	return 1;
}

/* A VM laid out like `like` by what r14 holds as its DISPATCH: it must run on this stack. */
NOINLINE int adopt_dispatch(struct walk *w, const struct lua_vm *like)
{
	if (!w->r14_known)
		return -1;
	w->vm = *like;
	w->vm.g = w->r14 - (like->dispatch - like->g);
	w->vm.dispatch = w->r14;
	if (find_lua(w, &w->vm))
		return -1;
	w->adopted = w->vm.g != like->g;
	return 0;
}

/*
 * A VM that nobody told of, in the interpreter's code of one that is known: `lua_code_cache off`
 * makes one for each request.
 */
GLOBAL int adopt_vm(struct walk *w, const struct process_info *p)
{
	if (!w || !p)
		return 0;
	for (u32 i = 0; i < MAX_VMS && i < p->n_vms; i++) {
		const struct lua_vm *like = &p->vms[i];

		if (!in_vm_text(like, w->ip))
			continue;
		/* rsp is the C frame but where traces are left or errors are thrown. */
		if (!adopt_cframe(w, like, w->sp) || !adopt_dispatch(w, like))
			return 1;
		if (w->leaf)
			leave_entry(w, like);
		return 0;
	}
	return 0;
}

/*
 * The C frame that lies right above the spill slots of GC32 machine code whose stack pointer is `sp`, or
 * 0: its thread leads back to it.
 */
NOINLINE u64 cframe_above(u64 sp)
{
	u64 cf = (sp + 15) & ~15ULL, back;
	u32 l;

	for (u32 k = 0; k < MAX_SPILL_STEPS; k++, cf += 16) {
		if (read_user(&l, sizeof(l), cf + 24))
			return 0;
		if (l && !read_user(&back, sizeof(back), (u64)l + 48) && (back & ~(u64)CFRAME_MASK) == cf)
			return cf;
	}
	return 0;
}

/*
 * The same in code that has no file, such as a trace's. Machine code of GC64 keeps DISPATCH in r14, and
 * C code that it calls restores it; machine code of GC32 keeps nothing, so its C frame is looked for.
 */
GLOBAL int adopt_compiled(struct walk *w, const struct process_info *p)
{
	if (!w || !p)
		return 0;
	for (u32 i = 0; i < MAX_VMS && i < p->n_vms; i++) {
		const struct lua_vm *like = &p->vms[i];

		if (!like->layout.gc64)
			return !adopt_cframe(w, like, cframe_above(w->sp));
		if (!adopt_dispatch(w, like))
			return 1;
	}
	return 0;
}

/*
 * Native unwinding cannot go on. With Lua on the stack it goes on at the C frame, exactly; what lies
 * between is lost and marked. Code without a file below a trace passes for the trace's own here; user
 * space knows the traces' addresses and marks what is not (launcher/src/session/traces.rs).
 */
INLINE void native_stuck(struct walk *w, const struct process_info *p, u32 outcome)
{
	if (!w->has_vm)
		adopt_compiled(w, p);
	if (!w->has_vm || !w->cf || (w->segment && w->cf < w->sp)) {
		finish(w, outcome);
		return;
	}
	if (outcome == OUTCOME_NO_MAPPING && w->segment == 0 && w->jit_base) {
		/* Of a call, an address inside its instruction: what is behind it may be another's. */
		w->jit_ip = w->ip - !w->leaf;
	} else {
		if (outcome == OUTCOME_NO_MAPPING)
			emit(w, frame_word(w->leaf ? FRAME_NATIVE : FRAME_NATIVE_CALL, w->ip, 0), 0, 0);
		emit_mark(w, MARK_NATIVE_LOST);
		count(COUNT_NATIVE_LOST);
	}
	w->bp_known = w->bx_known = w->r14_known = 0;
	w->leaf = 0;
	if (enter_lua(w, &w->vm))
		finish(w, outcome);
}

GLOBAL int step_c(struct walk *w, const struct process_info *p)
{
	const struct lua_vm *vm = &w->vm;
	int outcome;

	if (!w || !p)
		return 0;
	if (w->tail == TAIL_DUE && tail_taken(w, p))
		return 0;
	if ((w->has_vm || adopt_vm(w, p)) && at_interpreter(w, vm)) {
		if (!enter_lua(w, vm))
			return 0;
		/* Not to be trusted: its frame is still a native one, with a rule of its own. */
		w->cf = 0;
	}
	outcome = step_native(w, p);
	if (outcome == OUTCOME_TRUNCATED)
		finish(w, outcome);
	else if (outcome != OUTCOME_COMPLETE)
		native_stuck(w, p, outcome);
	return 0;
}

/* One step. Returns 1 when the walk is over. */
INLINE long walk_step(struct walk *w, const struct process_info *p)
{
	if (w->phase == PHASE_LUA)
		step_lua(w, &w->vm);
	else if (w->phase == PHASE_PARENT)
		step_parent(w, &w->vm);
	else
		step_c(w, p);
	return w->phase == PHASE_DONE;
}

/* After the last step: a walk that ran out of steps is truncated. */
INLINE void walk_end(struct walk *w)
{
	if (w->phase != PHASE_DONE) {
		emit_mark(w, MARK_TRUNCATED);
		finish(w, OUTCOME_TRUNCATED);
	}
}

#endif
