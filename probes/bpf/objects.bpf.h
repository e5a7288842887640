/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * LuaJIT's objects that a walk reads: threads, functions, prototypes, and the slots of a Lua stack.
 * What differs between builds comes with the VM (struct lua_layout); the rest is the same since 2017
 * (docs/luajit.md 3.1).
 *
 * Frames: lj_frame.h; vmstate and objects: lj_obj.h. GC64 means FR2 (two slots a frame: function, then
 * link); GC32 has one slot (function low, link high).
 */
#ifndef UPPROF_OBJECTS_H
#define UPPROF_OBJECTS_H

#include "told.bpf.h"

enum {
	GCT_THREAD = 6,
	GCT_PROTO = 7,
	GCT_FUNC = 8,
	FFID_LUA = 0,
	/* frame link: type in the low bits, else a bytecode address (4-aligned) */
	LINK_TYPE = 3,   /* FRAME_TYPE: 0 is a bytecode address */
	LINK_TYPE_P = 7, /* FRAME_TYPEP */
	LINK_LUA = 0,
	LINK_C = 1,
	LINK_CONT = 2,
	LINK_VARG = 3,
	LINK_CP = 5, /* as C, entered protected; 6 and 7 are the pcall fast functions */
	CONT_FFI_CALLBACK = 1, /* LJ_CONT_FFI_CALLBACK: entered from C through an FFI callback */
	VMSTATE_INTERP = ~0,
	VMSTATE_C = ~1,
	VMSTATE_GC = ~2,
	VMSTATE_EXIT = ~3,
	VMSTATE_RECORD = ~4,
	VMSTATE_OPT = ~5,
	VMSTATE_ASM = ~6,
	/* The largest frame link that is no address: a distance on a Lua stack (LJ_STACK_MAXEX slots), with its type. */
	MAX_FRAME_LINK = 65536 * 8 * 2,
	CFRAME_SIZE = 80,
	CFRAME_MASK = 3, /* bits of lua_State.cframe that are flags */
};

#define GC64_ADDRESS ((1ULL << 47) - 1)
#define PC_UNKNOWN 0xffffffffU

struct lua_thread {
	u64 g, base, stack, maxstack, cframe, exdata2;
	u8 gct;
};

struct lua_func {
	u64 pc; /* Lua: first bytecode; else the fast function's dispatch code */
	u8 gct, ffid;
};

struct lua_slot {
	u64 func, link;
};

INLINE u64 slot_bytes(void)
{
	return 8;
}

/* Slots between a frame's link and its first stack use: the function slot, with FR2. */
INLINE u64 frame_bottom(const struct lua_vm *vm, const struct walk *w)
{
	return w->stack_lo + (vm->layout.gc64 ? slot_bytes() : 0);
}

INLINE int in_vm_text(const struct lua_vm *vm, u64 ip)
{
	return ip >= vm->vm_text_start && ip < vm->vm_text_end;
}

NOINLINE int read_thread(const struct lua_vm *vm, u64 l, struct lua_thread *t)
{
	if (vm->layout.gc64) {
		struct {
			u64 next;
			u8 marked, gct, ffid, status;
			u32 pad;
			u64 glref, gclist, base, top, maxstack, stack, openupval, env, cframe;
			u64 stacksize, exdata, exdata2; /* where there are any */
		} raw;
		if (read_user(&raw, vm->layout.l_exdata2 ? sizeof(raw) : sizeof(raw) - 24, l))
			return -1;
		t->exdata2 = vm->layout.l_exdata2 ? raw.exdata2 : 0;
		t->gct = raw.gct;
		t->g = raw.glref;
		t->base = raw.base;
		t->stack = raw.stack;
		t->maxstack = raw.maxstack;
		t->cframe = raw.cframe;
	} else {
		struct {
			u32 next;
			u8 marked, gct, ffid, status;
			u32 glref, gclist;
			u64 base, top;
			u32 maxstack, stack, openupval, env;
			u64 cframe;
			u64 stacksize, exdata, exdata2; /* where there are any */
		} raw;
		if (read_user(&raw, vm->layout.l_exdata2 ? sizeof(raw) : sizeof(raw) - 24, l))
			return -1;
		t->exdata2 = vm->layout.l_exdata2 ? raw.exdata2 : 0;
		t->gct = raw.gct;
		t->g = raw.glref;
		t->base = raw.base;
		t->stack = raw.stack;
		t->maxstack = raw.maxstack;
		t->cframe = raw.cframe;
	}
	return t->gct == GCT_THREAD ? 0 : -1;
}

NOINLINE int read_func(const struct lua_vm *vm, u64 addr, struct lua_func *f)
{
	if (vm->layout.gc64) {
		struct {
			u64 next;
			u8 marked, gct, ffid, nupvalues;
			u32 pad;
			u64 env, gclist, pc;
		} raw;
		if (read_user(&raw, sizeof(raw), addr))
			return -1;
		f->gct = raw.gct;
		f->ffid = raw.ffid;
		f->pc = raw.pc;
	} else {
		struct {
			u32 next;
			u8 marked, gct, ffid, nupvalues;
			u32 env, gclist, pc;
		} raw;
		if (read_user(&raw, sizeof(raw), addr))
			return -1;
		f->gct = raw.gct;
		f->ffid = raw.ffid;
		f->pc = raw.pc;
	}
	return f->gct == GCT_FUNC ? 0 : -1;
}

INLINE u64 proto_size(const struct lua_vm *vm)
{
	return vm->layout.gc64 ? 104 : 64;
}

/* lua_CFunction of a C function: one word more than a Lua function without upvalues has. */
INLINE u64 read_cfunction(const struct lua_vm *vm, u64 func)
{
	u64 f = 0;

	if (read_user(&f, 8, func + (vm->layout.gc64 ? 40 : 24)))
		return 0;
	return f;
}

/*
 * GCproto's header: {gct, numparams, framesize, sizebc}, one word in GC64 and GC32 alike but for its
 * place. `check` tells a prototype from another that took its place after it was collected.
 */
INLINE int read_proto(const struct lua_vm *vm, u64 proto, u32 *sizebc, u32 *check)
{
	struct {
		u8 marked, gct, numparams, framesize;
		u32 sizebc;
	} raw;

	if (read_user(&raw, sizeof(raw), proto + (vm->layout.gc64 ? 8 : 4)) || raw.gct != GCT_PROTO)
		return -1;
	*sizebc = raw.sizebc;
	*check = raw.sizebc ^ (u32)raw.numparams << 24 ^ (u32)raw.framesize << 16;
	return 0;
}

/* A frame's function and link. Callers are below: the window reaches down from there. */
INLINE int read_slot(struct walk *w, const struct lua_vm *vm, u64 frame, struct lua_slot *s)
{
	u64 refill = frame + 8 - WINDOW_BYTES, word;

	if (refill < w->stack_lo)
		refill = w->stack_lo;
	if (read_word(&w->lua_stack, frame, refill, &word))
		return -1;
	if (vm->layout.gc64) {
		s->link = word;
		if (read_word(&w->lua_stack, frame - 8, refill, &word))
			return -1;
		s->func = word & GC64_ADDRESS;
	} else {
		s->func = (u32)word;
		s->link = word >> 32;
	}
	return 0;
}

#endif
