/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The interpreter's own code, called from C, with no C frame of its own: the first and last instructions of
 * each entry (vm_x64.dasc saveregs, restoregs), and its small helpers (vm_cpuid, vm_floor). One unwind rule
 * covers all of that code (vm_x64.dasc emit_asm_debug); here it is wrong, or right by chance.
 */
#ifndef UPPROF_ENTRY_H
#define UPPROF_ENTRY_H

#include "lua.bpf.h"

enum {
	CALL_REL32 = 0xe8,
	RETURN_WORD = CFRAME_SIZE / 8 - 1, /* of a C frame: the return address, above rbp, rbx, r15 and r14 */
	WORDS_UNKNOWN = -1,
};

INLINE int begins(u64 code, u64 with, u32 bytes)
{
	return !((code ^ with) << (64 - 8 * bytes));
}

/*
 * Words between rsp and the return address, by the instructions that come next: the rest of saveregs, from
 * `push rbp` to `sub rsp`, or of restoregs, from `pop r14` to `ret`.
 */
INLINE int words_pushed(u64 code)
{
	if (begins(code, 0x8348564157415355, 8) || begins(code, 0xc3, 1))
		return 0;
	if (begins(code, 0xec83485641574153, 8) || begins(code, 0xc35d, 2))
		return 1;
	if (begins(code, 0xec834856415741, 7) || begins(code, 0xc35d5b, 3))
		return 2;
	if (begins(code, 0xec83485641, 5) || begins(code, 0xc35d5b5f41, 5))
		return 3;
	if (begins(code, 0xec8348, 3) || begins(code, 0xc35d5b5f415e41, 7))
		return 4;
	return WORDS_UNKNOWN;
}

/* The eight bytes before a return address into other code than the interpreter's; 0 where there is none. */
INLINE u64 read_call(const struct lua_vm *vm, u64 ra)
{
	u64 code = 0;

	if (in_vm_text(vm, ra) || read_user(&code, 8, ra - 8))
		return 0;
	return code;
}

/* Whether these bytes end in a call: direct, by a register, by a word of the GOT, or by a field. */
INLINE int is_call(u64 code)
{
	u8 last[4] = { code >> 56, code >> 48, code >> 40, code >> 32 };

	return (code >> 24 & 0xff) == CALL_REL32 || (last[1] == 0xff && (last[0] & 0xf8) == 0xd0) ||
	       (code >> 16 & 0xffff) == 0x15ff || (last[2] == 0xff && (last[1] & 0xf8) == 0x50);
}

/* Whether they are a direct call of the interpreter's code, at `ip` or before. */
INLINE int calls_vm(const struct lua_vm *vm, u64 code, u64 ra, u64 ip)
{
	u64 target = ra + (u64)(s64)(s32)(code >> 32);

	return (code >> 24 & 0xff) == CALL_REL32 && in_vm_text(vm, target) && target <= ip;
}

/* Moves to the caller, whose return address lies `n` words above rsp. */
INLINE int leave_by(struct walk *w, u64 ra, u32 n)
{
	emit(w, frame_word(FRAME_NATIVE, w->ip, 0), 0, 0);
	w->n_native++;
	w->leaf = 0;
	w->ip = ra;
	w->sp += 8 * (u64)n + 8;
	return 1;
}

/* Takes back one of saveregs' pushes, if it was made: it is so many bytes below the return address. */
INLINE u8 pop(const struct walk *w, u64 *reg, int was_pushed, u64 below)
{
	return !was_pushed || !read_user(reg, 8, w->sp - 8 - below);
}

/* In a helper, which C calls directly, and which pushes rbx at most. */
INLINE int leave_helper(struct walk *w, const struct lua_vm *vm)
{
	u64 ra;

	for (u32 n = 0; n <= 1; n++) {
		if (read_user(&ra, 8, w->sp + 8 * n) || !calls_vm(vm, read_call(vm, ra), ra, w->ip))
			continue;
		leave_by(w, ra, n);
		w->bx_known = pop(w, &w->bx, n, 8);
		return 1;
	}
	return 0;
}

/*
 * When the leaf is such code, emits it and moves to its caller. Where no instruction tells how far the
 * registers are saved, this is a helper, or they all are: the C frame is not linked yet, or not any more. An
 * entry may have been jumped to by what was called (lua_call), so any call may be behind it.
 */
NOINLINE int leave_entry(struct walk *w, const struct lua_vm *vm)
{
	u64 code, ra;
	int n;

	if (read_user(&code, 8, w->ip))
		return 0;
	n = words_pushed(code);
	if (n == WORDS_UNKNOWN) {
		if (leave_helper(w, vm))
			return 1;
		n = RETURN_WORD;
	}
	if (read_user(&ra, 8, w->sp + 8 * (u64)n) || !is_call(read_call(vm, ra)))
		return 0;
	leave_by(w, ra, n);
	w->bp_known = pop(w, &w->bp, n >= 1, 8);
	w->bx_known = pop(w, &w->bx, n >= 2, 16);
	w->r14_known = pop(w, &w->r14, n >= 4, 32);
	return 1;
}

#endif
