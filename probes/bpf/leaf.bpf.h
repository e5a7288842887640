/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where Lua begins on the sampled stack: the newest C frame, and which Lua function runs in it. The
 * function is proven by PC inside its bytecode, or said to be unsure (docs/luajit.md 3.3, 5.3).
 *
 * C frame: lj_frame.h CFRAME_*.
 */
#ifndef UPPROF_LEAF_H
#define UPPROF_LEAF_H

#include "objects.bpf.h"

/* ---- the newest C frame ---------------------------------------------------------------------- */

INLINE u8 vm_state_of(s32 vmstate, u64 jit_base)
{
	if (vmstate == VMSTATE_GC)
		return jit_base ? VM_GC_COMPILED : VM_GC;
	if (vmstate >= 0 || jit_base)
		return VM_COMPILED;
	switch (vmstate) {
	case VMSTATE_C:
		return VM_C;
	case VMSTATE_EXIT:
		return VM_EXIT;
	case VMSTATE_RECORD:
		return VM_RECORD;
	case VMSTATE_OPT:
		return VM_OPT;
	case VMSTATE_ASM:
		return VM_ASM;
	default:
		return VM_INTERP;
	}
}

/* Takes a thread's newest C frame as where Lua begins on this stack; w->vm is its VM. */
INLINE int begin_lua(struct walk *w, u64 l, const struct lua_thread *t, u64 cf)
{
	const struct lua_vm *vm = &w->vm;
	u64 jit_base = 0;
	s32 vmstate;

	if (read_user(&vmstate, 4, vm->g + vm->layout.g_vmstate) ||
	    read_user(&jit_base, vm->layout.gc64 ? 8 : 4, vm->g + vm->layout.g_jit_base))
		return -1;
	w->has_vm = 1;
	w->cf = cf;
	w->l = w->leaf_l = l;
	w->stack_lo = t->stack;
	w->stack_hi = t->maxstack;
	w->frame = t->base - slot_bytes();
	w->co_ctx = t->exdata2;
	w->jit_base = jit_base;
	w->vmstate = vmstate;
	w->vm_state = vm_state_of(vmstate, jit_base);
	return 0;
}

/*
 * Whether this VM runs Lua on the sampled stack: its current thread's newest C frame must lie
 * between the stack pointer and the stack's end; in the interpreter itself rsp is the C frame. An idle
 * VM keeps a stale cur_L, whose cframe is null.
 */
NOINLINE int find_lua(struct walk *w, const struct lua_vm *vm)
{
	struct lua_thread t = {};
	u64 l = 0, cf;

	if (read_user(&l, vm->layout.gc64 ? 8 : 4, vm->g + vm->layout.g_cur_l) || !l)
		return -1;
	if (read_thread(vm, l, &t) || t.g != vm->g)
		return -1;
	cf = t.cframe & ~(u64)CFRAME_MASK;
	if (cf < w->sp || cf > w->stack_end)
		return -1;
	w->vm = *vm;
	return begin_lua(w, l, &t, cf);
}

/*
 * Whether a C frame lies at `cf`: its thread must point back to it. Then the thread's VM is the one
 * that runs here, laid out like `like`.
 */
NOINLINE int adopt_cframe(struct walk *w, const struct lua_vm *like, u64 cf)
{
	struct lua_thread t = {};
	u64 l = 0;

	if (read_user(&l, like->layout.gc64 ? 8 : 4, cf + (like->layout.gc64 ? 16 : 24)) || !l)
		return -1;
	if (read_thread(like, l, &t) || (t.cframe & ~(u64)CFRAME_MASK) != cf)
		return -1;
	w->vm = *like;
	w->vm.dispatch += t.g - like->g;
	w->vm.g = t.g;
	w->adopted = t.g != like->g;
	return begin_lua(w, l, &t, cf);
}

INLINE u64 cframe_l(const struct lua_vm *vm, const struct cframe *c)
{
	return vm->layout.gc64 ? c->word[2] : (u32)c->word[3];
}

INLINE u64 cframe_pc(const struct lua_vm *vm, const struct cframe *c)
{
	return vm->layout.gc64 ? c->word[3] : c->word[3] >> 32;
}

INLINE s32 cframe_nres(const struct lua_vm *vm, const struct cframe *c)
{
	return (s32)(vm->layout.gc64 ? c->word[1] : c->word[2]);
}

/* ---- which Lua function is the leaf ---------------------------------------------------------- */

/*
 * A continuation frame keeps {continuation, PC of the interrupted bytecode} below its function
 * (lj_frame.h frame_contv, frame_contpc). Sets w->pc; returns 1 when the frame was entered from C
 * through an FFI callback, which ends the segment.
 */
INLINE int read_continuation(struct walk *w, const struct lua_vm *vm, u64 frame)
{
	u64 cont = 0, pc = 0;

	if (vm->layout.gc64) {
		if (read_user(&cont, 8, frame - 24) || read_user(&pc, 8, frame - 16))
			return 0;
	} else {
		if (read_user(&cont, 4, frame - 8) || read_user(&pc, 4, frame - 4))
			return 0;
	}
	w->pc = pc;
	return cont == CONT_FFI_CALLBACK;
}

/* Reads what a frame's function is, unless it is the one read last. */
NOINLINE int know_function(struct walk *w, const struct lua_vm *vm, u64 func)
{
	struct lua_known *k = &w->known;
	struct lua_func f;

	if (k->func == func && func)
		return 0;
	k->func = k->told_as = 0;
	if (read_func(vm, func, &f))
		return -1;
	k->pc = f.pc;
	k->ffid = f.ffid;
	if (f.ffid != FFID_LUA)
		k->cfunction = read_cfunction(vm, func);
	else if (read_proto(vm, f.pc - proto_size(vm), &k->sizebc, &k->check))
		return -1;
	k->func = func;
	return 0;
}

/* Whether `base` can be a frame's base at all. */
INLINE int base_inside(const struct walk *w, const struct lua_vm *vm, u64 base)
{
	return base > frame_bottom(vm, w) && base <= w->stack_hi && !(base & 7);
}

/*
 * The bytecode address that `pc` stands for in the function known last, or 0: an address in its bytecode, or
 * in a trace that starts at a return of it. Such a trace keeps the return in GCtrace.startins, and an exit to
 * it leads PC there, and then behind it; the real address is startpc (lj_debug.c). Objects are aligned to 8.
 */
INLINE u64 bytecode_of(const struct walk *w, const struct lua_vm *vm, u64 pc)
{
	const struct lua_known *k = &w->known;
	u64 end = k->pc + 4 * (u64)k->sizebc, start = 0, into = pc - vm->layout.tr_startins;

	if (pc >= k->pc && pc <= end)
		return pc;
	if (!pc || read_user(&start, vm->layout.gc64 ? 8 : 4, (into & ~7ULL) + vm->layout.tr_startpc))
		return 0;
	return start >= k->pc && start < end ? start + (into & 4) : 0;
}

/* Takes the frame with this base as the leaf's, at this bytecode address (0 unknown). */
INLINE int take_frame(struct walk *w, u64 base, u64 pc)
{
	w->frame = base - slot_bytes();
	w->pc = pc;
	return 1;
}

/*
 * Whether a slot is a frame's link at all: a bytecode address, or a distance on this Lua stack. A function
 * that is an argument has a value of another kind behind it.
 */
INLINE int link_inside(const struct walk *w, u64 base, u64 link)
{
	u64 size = link & ~(u64)LINK_TYPE_P;

	if ((link & LINK_TYPE) == LINK_LUA)
		return link && !(link >> 47);
	return size && size <= base - w->stack_lo;
}

/*
 * Takes the frame with this base if it can be the one executing at bytecode address `pc`: that must be
 * inside its function. A call has PC at the callee's first instruction, whatever the callee is, before
 * anything else of it is true.
 */
NOINLINE int take_base(struct walk *w, const struct lua_vm *vm, u64 base, u64 pc)
{
	const struct lua_known *k = &w->known;
	struct lua_slot s;

	if (!base_inside(w, vm, base) || read_slot(w, vm, base - slot_bytes(), &s) ||
	    !link_inside(w, base, s.link) || know_function(w, vm, s.func))
		return 0;
	if (k->ffid != FFID_LUA) {
		if (pc != k->pc && pc != k->pc + 4 && pc != s.link)
			return 0;
	} else if (!bytecode_of(w, vm, pc)) {
		return 0;
	}
	return take_frame(w, base, pc);
}

/*
 * While a function returns, PC is the caller's already and BASE still the returning one's, whose slots
 * are being overwritten by its results: only the caller can be told, as the VM is about to, by operand A
 * of the call before PC (vm_x64.dasc BC_RET). The same holds while a call is being set up, before its link
 * is written.
 */
INLINE int take_caller(struct walk *w, const struct lua_vm *vm, u64 base, u64 pc)
{
	u32 call;

	if (pc & 3 || read_user(&call, 4, pc - 4))
		return 0;
	return take_base(w, vm, base - slot_bytes() * (1 + (vm->layout.gc64 ? 1 : 0) + ((call >> 8) & 0xff)), pc);
}

enum leaf_found {
	LEAF_UNSURE = 0,
	LEAF_FOUND = 1,
	LEAF_NO_FRAME = 2, /* the newest C frame has no Lua frame yet */
};

/*
 * The interpreter's own code with a small PC: not a bytecode address but a frame link that it looks at
 * (returns to C) or is about to write (calls from C: vm_x64.dasc vm_call, vm_return). A fast function that
 * returns to C may have put its result in its own function's place. One that resumes a coroutine counts in
 * PC, having saved it.
 */
INLINE int leaf_at_c_boundary(struct walk *w, const struct lua_vm *vm, u64 base, u64 pc)
{
	u64 saved_pc = cframe_pc(vm, &w->cframe);
	struct lua_slot s;

	if (!base_inside(w, vm, base) || read_slot(w, vm, base - slot_bytes(), &s))
		return pc == LINK_C || pc == LINK_CP ? LEAF_NO_FRAME : LEAF_UNSURE;
	if ((s.link & ~(u64)LINK_TYPE_P) == (pc & ~(u64)LINK_TYPE_P)) {
		if (!know_function(w, vm, s.func))
			return take_frame(w, base, 0);
		take_frame(w, base - (pc & ~(u64)LINK_TYPE_P), 0);
		return LEAF_NO_FRAME;
	}
	if (take_base(w, vm, base, saved_pc))
		return LEAF_FOUND;
	if ((pc & LINK_TYPE) != LINK_C)
		return LEAF_UNSURE;
	take_frame(w, base, 0);
	return LEAF_NO_FRAME;
}

/*
 * An FFI callback is being entered or left: C code with the interpreter's vmstate, but no bytecode. The
 * callback's frame is on the Lua stack (lj_ccallback.c callback_conv_args).
 */
INLINE int leaf_in_callback(struct walk *w, const struct lua_vm *vm, u64 base)
{
	struct lua_slot s;

	if (!base_inside(w, vm, base) || read_slot(w, vm, base - slot_bytes(), &s))
		return LEAF_UNSURE;
	if ((s.link & LINK_TYPE_P) != LINK_CONT || !read_continuation(w, vm, base - slot_bytes()))
		return LEAF_UNSURE;
	return take_frame(w, base, 0);
}

/*
 * The interpreter keeps BASE in a caller-saved register (rdx), and stores it to lua_State.base only
 * before calls that may look at it; helpers that do not (table length, float functions, ...) get it
 * kept in rbp. So there are up to three candidates, and PC (rbx) inside the candidate's bytecode is
 * the proof (docs/luajit.md 3.3, 5.3). Registers hold 32 bits of either in GC32.
 */
GLOBAL int leaf_interpreted(struct walk *w, const struct lua_vm *vm)
{
	u64 mask, pc, dx, stored;

	if (!w || !vm)
		return LEAF_UNSURE;
	mask = vm->layout.gc64 ? ~0ULL : 0xffffffffULL;
	pc = w->bx & mask;
	dx = w->leaf_dx & mask;
	stored = w->frame + slot_bytes();
	w->pc = 0;
	/* r14 not being DISPATCH means the registers were not restored right: do not use them. */
	if (!w->bx_known || (vm->dispatch && !(w->r14_known && w->r14 == vm->dispatch)))
		return LEAF_UNSURE;
	if (w->leaf && in_vm_text(vm, w->ip)) {
		if (pc <= MAX_FRAME_LINK)
			return leaf_at_c_boundary(w, vm, dx, pc);
		if (take_base(w, vm, dx, pc) || take_caller(w, vm, dx, pc))
			return LEAF_FOUND;
	}
	if (w->bp_known && take_base(w, vm, w->bp & mask, pc))
		return LEAF_FOUND;
	if (take_base(w, vm, stored, pc))
		return LEAF_FOUND;
	return w->leaf ? LEAF_UNSURE : leaf_in_callback(w, vm, stored);
}

INLINE int leaf_compiled(struct walk *w, const struct lua_vm *vm)
{
	u64 base = w->jit_base;

	w->pc = 0;
	/*
	 * The interpreter enters and leaves traces with jit_base and vmstate already or still set. Its own
	 * code with a BASE and PC that fit is interpreting; jit_base is then where the trace was entered.
	 */
	if (w->leaf && in_vm_text(vm, w->ip) && take_base(w, vm, w->leaf_dx, w->bx)) {
		w->vm_state = VM_INTERP;
		return LEAF_FOUND;
	}
	/* User space knows nothing of the traces of a VM that nobody told of: number and address are another's. */
	if (base && w->adopted)
		emit(w, frame_word(FRAME_TRACE, 0, 0), PC_UNKNOWN, 0);
	else if (base)
		emit(w, frame_word(FRAME_TRACE, w->jit_ip, 0), w->vmstate >= 0 ? (u32)w->vmstate : PC_UNKNOWN, 0);
	return base_inside(w, vm, base) ? take_frame(w, base, 0) : LEAF_UNSURE;
}

/*
 * In C lua_State.base is exact, but for the moments in which the interpreter's own code enters or leaves a
 * call from C: its C frame has no Lua frame yet, or none any more (vm_x64.dasc vm_call, vm_return). PC is
 * then FRAME_C or FRAME_CP; on the way out how far BASE goes back, and next where to. A thread that is
 * resumed, whose C frame has no link, has its frames already.
 */
INLINE int leaf_c(struct walk *w, const struct lua_vm *vm)
{
	u64 mask = vm->layout.gc64 ? ~0ULL : 0xffffffffULL;
	u64 pc = w->bx & mask, dx = w->leaf_dx & mask;

	if (!w->leaf || !in_vm_text(vm, w->ip))
		return LEAF_FOUND;
	if (w->cf != w->sp) {
		/* Code without a C frame, and who called it cannot be told (entry.bpf.h): lost up to the one before. */
		emit(w, frame_word(FRAME_NATIVE, w->ip, 0), 0, 0);
		emit_mark(w, MARK_NATIVE_LOST);
		count(COUNT_NATIVE_LOST);
		return LEAF_FOUND;
	}
	if (!w->cframe.word[4])
		return LEAF_FOUND;
	if (pc == LINK_C || pc == LINK_CP)
		return LEAF_NO_FRAME;
	if (pc <= MAX_FRAME_LINK) {
		pc = dx - (pc & ~(u64)LINK_TYPE_P);
		if (!base_inside(w, vm, pc))
			return LEAF_UNSURE;
	}
	if (!base_inside(w, vm, pc))
		return LEAF_FOUND;
	take_frame(w, pc, 0);
	return LEAF_NO_FRAME;
}

/*
 * The newest frame of the newest segment. GC steps and the recorder are entered with SAVE_PC and
 * lua_State.base stored (vm_x64.dasc fff_gcstep, lj_dispatch_ins); a trace exit stores them late.
 */
INLINE int leaf(struct walk *w, const struct lua_vm *vm)
{
	u64 saved_pc = cframe_pc(vm, &w->cframe);

	w->pc = 0;
	switch (w->vm_state) {
	case VM_GC:
		emit_mark(w, MARK_GC);
		w->pc = saved_pc;
		break;
	case VM_GC_COMPILED:
		emit_mark(w, MARK_GC);
		return leaf_compiled(w, vm);
	case VM_EXIT:
		emit_mark(w, MARK_EXIT);
		break;
	case VM_RECORD:
		emit_mark(w, MARK_RECORD);
		break;
	case VM_OPT:
		emit_mark(w, MARK_OPT);
		break;
	case VM_ASM:
		emit_mark(w, MARK_ASM);
		break;
	case VM_COMPILED:
		return leaf_compiled(w, vm);
	case VM_INTERP:
		return leaf_interpreted(w, vm);
	default:
		return leaf_c(w, vm);
	}
	return LEAF_FOUND;
}

#endif
