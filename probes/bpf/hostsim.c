// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The walkers, compiled for the host: the same source as in the kernel, over memory that a caller
 * hands in. This is a stand-in for the BPF helpers only (memory reads, map look-ups, counters), so
 * that unwinding can be tested on snapshots without root and without a kernel.
 */
#include "walk.h"

struct hostsim {
	int (*read)(void *memory, void *dst, u32 size, u64 addr);
	void *memory;
	const struct unwind_row *rows;
	u64 n_rows;
	const struct unwind_page *pages;
	u64 n_pages;
	u64 counters[COUNT_MAX];
};

/* One walk at a time a thread, as on a CPU. */
static __thread struct hostsim *sim;

INLINE int read_user(void *dst, u32 size, u64 addr)
{
	return sim->read(sim->memory, dst, size, addr);
}

INLINE int read_text(u8 *dst, u32 size, u64 addr)
{
	return read_user(dst, size, addr);
}

/* Whoever calls this reads what the frames point at by itself. */
INLINE int tell_function(struct function_event *e)
{
	return -1;
}

INLINE struct row_cache *row_cache(void)
{
	static __thread struct row_cache cache;

	return &cache;
}

INLINE const struct unwind_page *page_entry(u32 index)
{
	return index < sim->n_pages ? &sim->pages[index] : 0;
}

INLINE const struct unwind_row *row_entry(u32 index)
{
	return index < sim->n_rows ? &sim->rows[index] : 0;
}

INLINE void count(u32 counter)
{
	if (counter < COUNT_MAX)
		sim->counters[counter]++;
}

#include "step.bpf.h"

/* Registers at the sampled instruction. */
struct hostsim_regs {
	u64 ip, sp, bp, bx, r14, dx, tls;
};

struct hostsim_result {
	u32 n_frames;
	u32 outcome;
	u32 vm_state;
	u32 steps;
};

void upprof_hostsim_walk(struct hostsim *s, const struct process_info *p, const struct hostsim_regs *regs,
			 struct frame *frames, struct hostsim_result *result)
{
	static __thread struct walk w;
	u32 steps = 0;

	sim = s;
	w.ip = regs->ip;
	w.sp = regs->sp;
	w.bp = regs->bp;
	w.bx = regs->bx;
	w.r14 = regs->r14;
	w.leaf_dx = regs->dx;
	w.tls = regs->tls;
	walk_begin(&w, p);
	while (steps < MAX_WALK_STEPS) {
		steps++;
		if (walk_step(&w, p))
			break;
	}
	walk_end(&w);
	for (u32 i = 0; i < w.n_frames; i++)
		frames[i] = w.frames[i];
	result->n_frames = w.n_frames;
	result->outcome = w.outcome;
	result->vm_state = w.vm_state;
	result->steps = steps;
	sim = 0;
}
