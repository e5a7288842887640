/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Native frames by unwind tables: one step takes the registers of a frame to those of its caller.
 * Beside ip, sp and bp it restores rbx and r14, which hold LuaJIT's PC and DISPATCH wherever the
 * interpreter has called C (docs/luajit.md 3.3); rbp holds BASE in some of those calls.
 */
#ifndef UPPROF_NATIVE_H
#define UPPROF_NATIVE_H

#include "tail.bpf.h"

/*
 * The mapping that holds `ip`, or null. Binary search over at most MAX_MAPPINGS, after a look at the
 * one that held the frame before: calls mostly stay in a file.
 */
INLINE const struct mapping *find_mapping(struct walk *w, const struct process_info *p, u64 ip)
{
	u32 lo = 0, hi = p->n_mappings, last = w->last_mapping;

	if (last < MAX_MAPPINGS) {
		const struct mapping *m = &p->mappings[last];
		if (ip >= m->start && ip < m->end)
			return m;
	}
	for (int i = 0; i < MAPPING_SEARCH_STEPS && lo < hi; i++) {
		u32 mid = (lo + hi) / 2;
		/* The verifier does not know that mid < n_mappings <= MAX_MAPPINGS. */
		if (mid >= MAX_MAPPINGS)
			return 0;
		const struct mapping *m = &p->mappings[mid];
		if (ip < m->start)
			hi = mid;
		else if (ip >= m->end)
			lo = mid + 1;
		else {
			w->last_mapping = mid;
			return m;
		}
	}
	return 0;
}

/* The last row at or before `pc`, or null: page index first, then a search inside the page. */
INLINE const struct unwind_row *find_row(const struct mapping *m, u64 vaddr)
{
	u64 page = (vaddr >> UNWIND_PAGE_SHIFT) - m->first_page;

	if (page >= m->n_pages)
		return 0;
	const struct unwind_page *rows = page_entry(m->index + (u32)page);
	if (!rows)
		return 0;
	/*
	 * The rule of a page's first byte may have begun on an earlier page: one row before. A file's
	 * first page starts with a row for its first byte, so that row is never another file's.
	 */
	u32 lo = rows->first, hi = rows->end, pc = (u32)vaddr;
	const struct unwind_row *found = lo ? row_entry(lo - 1) : 0;
	for (int i = 0; i < ROW_SEARCH_STEPS && lo < hi; i++) {
		u32 mid = lo + (hi - lo) / 2;
		const struct unwind_row *row = row_entry(mid);
		if (!row)
			return 0;
		if (row->pc <= pc) {
			found = row;
			lo = mid + 1;
		} else {
			hi = mid;
		}
	}
	return found;
}

/*
 * The rule for `at`, or null with the reason in `outcome`. What is found is kept for the next time; a
 * failure is not, so that a file that becomes known is found.
 */
NOINLINE const struct unwind_row *rule_for(struct walk *w, const struct process_info *p, u64 at, int *outcome)
{
	struct row_cache *cache = row_cache();
	const struct unwind_row *row;
	const struct mapping *m;
	u32 i = (u32)(at * 0x9e3779b97f4a7c15ULL >> (64 - ROW_CACHE_BITS));

	if (!cache)
		return 0;
	HIDE(i);
	struct cached_row *c = &cache->rows[i & (ROW_CACHE_ROWS - 1)];
	if (c->at == at && c->process == p->id)
		return &c->row;
	m = find_mapping(w, p, at);
	if (!m) {
		*outcome = OUTCOME_NO_MAPPING;
		return 0;
	}
	row = find_row(m, at - m->bias);
	if (!row) {
		*outcome = OUTCOME_NO_ROW;
		return 0;
	}
	c->at = at;
	c->process = p->id;
	c->row = *row;
	return &c->row;
}

/* A word of the native stack. Callers' frames are above: the window reaches up from there. */
INLINE int read_stack(struct walk *w, u64 addr, u64 *out)
{
	return read_word(&w->native_stack, addr, addr - 64, out);
}

/* Restores one callee-saved register. Returns whether its value is known afterwards. */
INLINE u8 restore(struct walk *w, u64 *reg, u8 known, s16 off, u64 cfa)
{
	if (off == SAVED_SAME)
		return known;
	if (off == SAVED_LOST)
		return 0;
	return read_stack(w, cfa + (s64)off, reg) == 0;
}

/*
 * A signal frame: rsp points at a ucontext (arch/x86/include/uapi/asm/sigcontext.h): 40 bytes of
 * header, then r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
 */
INLINE int step_signal(struct walk *w)
{
	u64 at = w->sp + 40;
	u64 sp;

	if (read_user(&w->r14, 8, at + 6 * 8) || read_user(&w->bp, 8, at + 10 * 8) ||
	    read_user(&w->bx, 8, at + 11 * 8) || read_user(&sp, 8, at + 15 * 8) ||
	    read_user(&w->ip, 8, at + 16 * 8))
		return OUTCOME_READ_FAILED;
	w->sp = sp;
	w->bp_known = w->bx_known = w->r14_known = 1;
	/* The interrupted instruction, not a return address. */
	w->leaf = 1;
	return OUTCOME_COMPLETE;
}

/*
 * One native step: emits the frame at `ip`, then moves to its caller. COMPLETE here means "went
 * well"; the process's entry finishes the walk.
 */
INLINE int step_native(struct walk *w, const struct process_info *p)
{
	const struct unwind_row *row;
	u64 ip = w->ip, cfa, ra;
	int missing = OUTCOME_NO_ROW;

	if (w->n_native >= MAX_NATIVE_FRAMES) {
		emit_mark(w, MARK_TRUNCATED);
		return OUTCOME_TRUNCATED;
	}
	/* A return address may lie in the next function; the call itself does not. */
	u64 at = w->leaf ? ip : ip - 1;
	row = rule_for(w, p, at, &missing);
	if (!row && missing == OUTCOME_NO_MAPPING)
		return missing;
	emit(w, frame_word(w->leaf ? FRAME_NATIVE : FRAME_NATIVE_CALL, ip, 0), 0, 0);
	w->n_native++;
	if (!row)
		return missing;

	if (row->cfa_kind != CFA_RSP && w->tail == TAIL_KEPT)
		tail_end(w, row->cfa_kind == CFA_END ? p->id : 0);
	switch (row->cfa_kind) {
	case CFA_RSP:
		cfa = w->sp + (s64)row->cfa_off;
		break;
	case CFA_RBP:
		if (!w->bp_known)
			return OUTCOME_NO_ROW;
		cfa = w->bp + (s64)row->cfa_off;
		break;
	case CFA_RBX:
		if (!w->bx_known)
			return OUTCOME_NO_ROW;
		cfa = w->bx + (s64)row->cfa_off;
		break;
	case CFA_DEREF_RSP:
		if (read_user(&cfa, 8, w->sp + (s64)row->cfa_off))
			return OUTCOME_READ_FAILED;
		cfa += (s64)row->extra;
		break;
	case CFA_DEREF_RBP:
		if (!w->bp_known || read_user(&cfa, 8, w->bp + (s64)row->cfa_off))
			return OUTCOME_READ_FAILED;
		cfa += (s64)row->extra;
		break;
	case CFA_PLT:
		cfa = w->sp + 8 + ((ip & 15) >= (u64)(s64)row->extra ? 8 : 0);
		break;
	case CFA_SIGNAL:
		return step_signal(w);
	case CFA_END:
		finish(w, OUTCOME_COMPLETE);
		return OUTCOME_COMPLETE;
	default:
		return OUTCOME_NO_ROW;
	}

	/* Stacks grow down: a caller's frame is above, by at least its return address. */
	if (cfa < w->sp + 8)
		return OUTCOME_NO_PROGRESS;
	if (read_stack(w, cfa - 8, &ra))
		return OUTCOME_READ_FAILED;
	if (w->tail == TAIL_KEPT)
		tail_add(w, ra, cfa - 8);
	w->bp_known = restore(w, &w->bp, w->bp_known, row->rbp_off, cfa);
	w->bx_known = restore(w, &w->bx, w->bx_known, row->rbx_off, cfa);
	w->r14_known = restore(w, &w->r14, w->r14_known, row->r14_off, cfa);
	w->sp = cfa;
	w->ip = ra;
	w->leaf = 0;
	return OUTCOME_COMPLETE;
}

#endif
