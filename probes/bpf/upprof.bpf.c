// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The kernel side of upprof, one translation unit. `sample` runs at the sampling rate on every CPU,
 * walks the stack of a process of the target, and counts it; a stack not seen before is sent to user
 * space whole, once. Three tracepoints follow the target's processes through fork, exec and exit.
 *
 * Needs: bpf_loop (Linux 5.17), ring buffer (5.8), BTF.
 */
#include "kernel.h"
#include "walk.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024); /* resized by user space */
	__type(key, u32);
	__type(value, struct process_entry);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* resized by user space */
	__type(key, u32);
	__type(value, struct process_info);
} process_info SEC(".maps");

/* Unwind tables of every file, one after the other, and the index of their pages. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* resized by user space */
	__type(key, u32);
	__type(value, struct unwind_row);
} unwind_rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* resized by user space */
	__type(key, u32);
	__type(value, struct unwind_page);
} unwind_pages SEC(".maps");

/* Samples per distinct stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* resized by user space, to counts_mask + 1 */
	__type(key, u32);
	__type(value, struct count_bucket);
} counts SEC(".maps");

/* Buckets of `counts` - 1; their number is a power of two. Set by user space before loading. */
const volatile u32 counts_mask;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNT_MAX);
	__type(key, u32);
	__type(value, u64);
} counters SEC(".maps");

/* Functions that user space has been told of, by id and process. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TOLD);
	__type(key, u64);
	__type(value, u32);
} told SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct walk);
} walks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct row_cache);
} row_caches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19); /* resized by user space */
} events SEC(".maps");

/* ---- what the walkers need ------------------------------------------------------------------- */

INLINE int read_user(void *dst, u32 size, u64 addr)
{
	return bpf_probe_read_user(dst, size, (const void *)addr);
}

INLINE int read_text(u8 *dst, u32 size, u64 addr)
{
	return bpf_probe_read_user_str(dst, size, (const void *)addr);
}

INLINE int tell_function(struct function_event *e)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, one = 1;
	u64 key = e->id ^ (u64)tgid * 0x9e3779b97f4a7c15ULL;

	if (bpf_map_lookup_elem(&told, &key))
		return 0;
	e->type = EVENT_FUNCTION;
	e->tgid = tgid;
	if (bpf_map_update_elem(&told, &key, &one, BPF_ANY))
		return -1;
	if (bpf_ringbuf_output(&events, e, sizeof(*e), BPF_RB_NO_WAKEUP)) {
		bpf_map_delete_elem(&told, &key);
		return -1;
	}
	return 0;
}

INLINE struct row_cache *row_cache(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&row_caches, &zero);
}

INLINE const struct unwind_page *page_entry(u32 index)
{
	return bpf_map_lookup_elem(&unwind_pages, &index);
}

INLINE const struct unwind_row *row_entry(u32 index)
{
	return bpf_map_lookup_elem(&unwind_rows, &index);
}

INLINE void count_many(u32 counter, u64 more)
{
	u64 *n = bpf_map_lookup_elem(&counters, &counter);

	if (n)
		*n += more; /* per CPU, and programs of one CPU do not nest */
}

INLINE void count(u32 counter)
{
	count_many(counter, 1);
}

#include "step.bpf.h"
#include "request.bpf.h"

/* ---- one sample ------------------------------------------------------------------------------ */

struct loop_context {
	struct walk *walk;
	const struct process_info *process;
};

static long loop_step(u32 index, void *context)
{
	struct loop_context *c = context;

	return walk_step(c->walk, c->process);
}

/* Registers of the user side: the sample's own, or those saved when the kernel was entered. */
INLINE int user_registers(struct bpf_perf_event_data *ctx, struct walk *w, int *in_kernel)
{
	const u64 user_mode = 3;

	*in_kernel = (ctx->regs.cs & user_mode) != user_mode;
	if (!*in_kernel) {
		w->ip = ctx->regs.ip;
		w->sp = ctx->regs.sp;
		w->bp = ctx->regs.bp;
		w->bx = ctx->regs.bx;
		w->r14 = ctx->regs.r14;
		w->leaf_dx = ctx->regs.dx;
		return 0;
	}

	struct pt_regs regs;
	const void *saved = (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());

	if (bpf_probe_read_kernel(&regs, sizeof(regs), saved))
		return -1;
	if ((regs.cs & user_mode) != user_mode)
		return -1;
	w->ip = regs.ip;
	w->sp = regs.sp;
	w->bp = regs.bp;
	w->bx = regs.bx;
	w->r14 = regs.r14;
	w->leaf_dx = regs.dx;
	return 0;
}

/* Appends the kernel's frames behind the user's; returns how many. */
INLINE u32 kernel_frames(struct bpf_perf_event_data *ctx, struct walk *w)
{
	u32 n = w->n_frames;

	if (n > MAX_FRAMES)
		return 0;
	u64 *at = (u64 *)&w->frames[n];
	long bytes = bpf_get_stack(ctx, at, MAX_KERNEL_FRAMES * sizeof(u64), 0);
	if (bytes <= 0)
		return 0;
	u32 found = (u32)bytes / sizeof(u64);
	for (u32 i = 0; i < MAX_KERNEL_FRAMES && i < found; i++)
		hash_word(w, at[i]);
	return found;
}

INLINE int send(struct walk *w)
{
	u64 size = sizeof(struct stack_event) + (u64)w->event.n_frames * sizeof(struct frame) +
		   (u64)w->event.n_kernel * sizeof(u64);

	if (size > sizeof(struct stack_event) + sizeof(w->frames))
		return -1;
	return bpf_ringbuf_output(&events, &w->event, size, BPF_RB_NO_WAKEUP);
}

/* The slot of a stack, taken for it if need be; null when its bucket is full. */
INLINE struct count_slot *count_slot(const struct stack_key *key)
{
	u32 index = (u32)key->h2 & counts_mask;
	struct count_bucket *bucket = bpf_map_lookup_elem(&counts, &index);

	if (!bucket)
		return 0;
	for (u32 i = 0; i < COUNT_SLOTS; i++) {
		struct count_slot *slot = &bucket->slots[i];
		u64 owner = slot->key.h1;

		if (!owner) {
			owner = __sync_val_compare_and_swap(&slot->key.h1, 0, key->h1);
			if (!owner) {
				slot->key.h2 = key->h2;
				return slot;
			}
		}
		/* Another CPU that has just taken it may not have written h2 yet. */
		if (owner == key->h1 && (slot->key.h2 == key->h2 || !slot->key.h2))
			return slot;
	}
	return 0;
}

/*
 * Counts the stack, and sends it when it is new. Two CPUs may both send a new one; user space takes them
 * for one. A sample whose stack could not be sent is lost; the next one of its kind tries again.
 */
INLINE void record(struct walk *w)
{
	struct count_slot *slot = count_slot(&w->event.key);
	int sent = slot && slot->sent;

	if (!slot) {
		count(COUNT_COUNTS_FULL);
		w->event.flags |= STACK_UNCOUNTED;
	}
	if (!sent && send(w)) {
		count(COUNT_LOST_RING_FULL);
		return;
	}
	if (!slot)
		return;
	slot->sent = 1;
	__sync_fetch_and_add(&slot->n, 1);
}

SEC("perf_event")
int sample(struct bpf_perf_event_data *ctx)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, zero = 0;
	int in_kernel = 0;
	u64 label = LABEL_NONE;
	struct process_entry *entry = bpf_map_lookup_elem(&processes, &tgid);

	if (!entry || entry->state == PROCESS_WATCHED)
		return 0;
	struct walk *w = bpf_map_lookup_elem(&walks, &zero);
	if (!w)
		return 0;

	w->event.phase = 0;
	u32 slot = entry->slot;
	const struct process_info *p = bpf_map_lookup_elem(&process_info, &slot);
	if (entry->state != PROCESS_READY || !p) {
		w->n_frames = 0;
		w->h1 = w->h2 = 0;
		w->outcome = OUTCOME_NOT_READY;
		w->vm_state = VM_NOT_LUA;
	} else if (user_registers(ctx, w, &in_kernel)) {
		w->n_frames = 0;
		w->h1 = w->h2 = 0;
		w->outcome = OUTCOME_NO_REGS;
		w->vm_state = VM_NOT_LUA;
	} else {
		struct loop_context c = { .walk = w, .process = p };

		w->tls = bpf_get_current_task_btf()->thread.fsbase;
		walk_begin(w, p);
		bpf_loop(MAX_WALK_STEPS, loop_step, &c, 0);
		walk_end(w);
		label = request_label(w, tgid);
	}
	if (w->outcome < OUTCOME_MAX)
		count(w->outcome);

	struct stack_event *e = &w->event;
	e->type = EVENT_STACK;
	e->tgid = tgid;
	e->n_frames = w->n_frames;
	e->n_kernel = in_kernel ? kernel_frames(ctx, w) : 0;
	e->outcome = w->outcome;
	e->vm_state = w->vm_state;
	e->flags = 0;
	e->label = label;
	hash_word(w, (u64)tgid << 32 | (u64)w->outcome << 16 | (u64)e->phase << 8 | w->vm_state);
	hash_word(w, label);
	hash_word(w, (u64)e->n_frames << 32 | e->n_kernel);
	e->key.h1 = w->h1 ? w->h1 : 1; /* 0 is a free slot */
	e->key.h2 = w->h2;
	record(w);
	return 0;
}

/* ---- the target's processes ------------------------------------------------------------------ */

INLINE void send_process(u32 type, u32 tgid, u32 parent)
{
	struct process_event e = { .type = type, .tgid = tgid, .parent = parent, .pad = 0 };

	/* At once: until user space has described it, a new process's samples have no stack. */
	if (bpf_ringbuf_output(&events, &e, sizeof(e), BPF_RB_FORCE_WAKEUP))
		count(COUNT_EVENT_LOST);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	u32 tgid = child->tgid, from = parent->tgid;
	struct process_entry entry = { .state = PROCESS_NEW, .slot = 0 };

	if ((u32)child->pid != tgid) /* a thread */
		return 0;
	if (!bpf_map_lookup_elem(&processes, &from))
		return 0;
	if (bpf_map_update_elem(&processes, &tgid, &entry, BPF_ANY)) {
		count(COUNT_PROCESS_TABLE_FULL);
		return 0;
	}
	send_process(EVENT_FORK, tgid, from);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
	u32 tgid = task->tgid;
	struct process_entry *entry = bpf_map_lookup_elem(&processes, &tgid);

	if (!entry)
		return 0;
	/* Nothing that was known of its memory holds any more. */
	entry->state = PROCESS_NEW;
	send_process(EVENT_EXEC, tgid, 0);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	u32 tgid = task->tgid;

	if ((u32)task->pid != tgid)
		return 0;
	if (!bpf_map_lookup_elem(&processes, &tgid))
		return 0;
	bpf_map_delete_elem(&processes, &tgid);
	send_process(EVENT_EXIT, tgid, 0);
	return 0;
}
