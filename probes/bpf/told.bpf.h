/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Lua functions of VMs that nobody told of. `lua_code_cache off` makes a VM for each request, which is gone
 * milliseconds later, long before user space reads what a sample points at. So name and line are read in
 * the sample, and a function is known by a hash of what it is instead of its address: the same function of
 * a thousand VMs is one, told once.
 *
 * GCproto, GCstr: lj_obj.h; lines: lj_debug.c lj_debug_line.
 */
#ifndef UPPROF_TOLD_H
#define UPPROF_TOLD_H

#include "walk.h"

/* No address of a process has this bit. */
#define TOLD_ID (1ULL << 47)

INLINE u64 told_hash(const struct function_event *e)
{
	u64 h = (u64)e->check << 32 ^ (u64)e->firstline << 8 ^ e->numline ^ (u64)e->flags << 56;

	for (u32 i = 0; i < TOLD_CHUNKNAME; i += 8) {
		h = (h ^ *(const u64 *)(e->chunkname + i)) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	return h;
}

/* Tells of the Lua function that was read last, whose prototype this is. Negative when it cannot. */
NOINLINE int tell(struct walk *w, u64 proto)
{
	const struct lua_vm *vm = &w->vm;
	struct function_event *e = &w->told;
	struct lua_known *k = &w->known;
	u64 chunkname;
	u8 flags;

	if (vm->layout.gc64) {
		struct {
			u64 chunkname;
			u32 firstline, numline;
			u64 lineinfo;
		} raw;

		if (read_user(&raw, sizeof(raw), proto + 64) || read_user(&flags, 1, proto + 61))
			return -1;
		chunkname = raw.chunkname;
		e->firstline = k->firstline = raw.firstline;
		e->numline = k->numline = raw.numline;
		k->lineinfo = raw.lineinfo;
	} else {
		struct {
			u32 chunkname, firstline, numline, lineinfo;
		} raw;

		if (read_user(&raw, sizeof(raw), proto + 40) || read_user(&flags, 1, proto + 37))
			return -1;
		chunkname = raw.chunkname;
		e->firstline = k->firstline = raw.firstline;
		e->numline = k->numline = raw.numline;
		k->lineinfo = raw.lineinfo;
	}
	__builtin_memset(e->chunkname, 0, sizeof(e->chunkname));
	if (read_text(e->chunkname, sizeof(e->chunkname), chunkname + vm->layout.str_data) < 0)
		return -1;
	e->check = k->check;
	e->sizebc = k->sizebc;
	e->flags = flags | (k->lineinfo ? 0 : TOLD_STRIPPED);
	e->pad = 0;
	e->id = (told_hash(e) & (TOLD_ID - 1)) | TOLD_ID;
	if (tell_function(e))
		return -1;
	k->told_as = e->id;
	return 0;
}

/* The line at index `at` of the next instruction, from the function's first, counted from 1; ~0 unknown. */
NOINLINE u32 told_line(struct walk *w, u32 at)
{
	const struct lua_known *k = &w->known;
	u8 small = 0;
	u16 medium = 0;
	u32 line = 0;

	if (at == ~0U || !k->lineinfo || at > k->sizebc)
		return ~0U;
	/* The header is on the first line. */
	if (at < 2)
		return 1;
	at -= 2;
	if (k->numline < 1 << 8) {
		if (read_user(&small, sizeof(small), k->lineinfo + at))
			return ~0U;
		line = small;
	} else if (k->numline < 1 << 16) {
		if (read_user(&medium, sizeof(medium), k->lineinfo + 2 * (u64)at))
			return ~0U;
		line = medium;
	} else if (read_user(&line, sizeof(line), k->lineinfo + 4 * (u64)at)) {
		return ~0U;
	}
	return line <= k->numline ? line + 1 : ~0U;
}

#endif
