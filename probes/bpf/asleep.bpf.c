// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A look at processes that are not running: where they went into the kernel, and with which registers.
 * No sample ever shows them, as they are on no CPU. An iterator: runs when user space reads it, touches
 * nothing, stops nothing. Its own object, so that a capture does not load it.
 */
#include "kernel.h"

/* As the kernel lays them out for iterators (include/linux/bpf.h, kernel/bpf/task_iter.c). */
struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
} RELOCATED;
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} RELOCATED;

/* Whom to look at; keys are tgids. Sized by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u8);
} wanted SEC(".maps");

/* Too large for the stack. One reader at a time (user space holds one iterator). */
static struct asleep look;

SEC("iter/task")
int asleep(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct pt_regs *regs;
	u32 tgid;
	long size;

	/* The last call of an iterator has no task. */
	if (!task)
		return 0;
	tgid = task->tgid;
	if (task->pid != task->tgid || !bpf_map_lookup_elem(&wanted, &tgid) || task->on_cpu)
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	look.tgid = tgid;
	look.runnable = task->__state == 0;
	look.switches = task->nvcsw + task->nivcsw;
	look.ip = regs->ip;
	look.sp = regs->sp;
	look.bp = regs->bp;
	look.bx = regs->bx;
	look.r14 = regs->r14;
	look.dx = regs->dx;
	size = bpf_get_task_stack(task, look.kernel, sizeof(look.kernel), 0);
	look.n_kernel = size > 0 ? (u64)size / sizeof(u64) : 0;
	bpf_seq_write(seq, &look, sizeof(look));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
