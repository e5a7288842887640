/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel types we touch, by hand and with CO-RE relocations, so that no vmlinux.h is needed.
 * A field that was renamed gets both names here, with the commit that renamed it; none yet.
 */
#ifndef UPPROF_KERNEL_H
#define UPPROF_KERNEL_H

#include "abi.h"

/* The names that libbpf's headers expect. */
typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef u64 __u64;
typedef s16 __s16;
typedef s32 __s32;
typedef s64 __s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u32 __wsum;

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define RELOCATED __attribute__((preserve_access_index))

struct thread_struct {
	unsigned long fsbase;
} RELOCATED;

struct task_struct {
	int pid;
	int tgid;
	int on_cpu;
	unsigned int __state;
	unsigned long nvcsw;
	unsigned long nivcsw;
	struct thread_struct thread;
} RELOCATED;

/*
 * User registers, x86-64 (arch/x86/include/asm/ptrace.h). The order is ABI (ptrace, signals), so
 * the layout is fixed. `cs` is 16 bits followed by flags since FRED (Linux 6.9): mask before use.
 */
struct pt_regs {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

/* Context of a perf_event program (include/uapi/linux/bpf_perf_event.h). */
struct bpf_perf_event_data {
	struct pt_regs regs;
	u64 sample_period;
	u64 addr;
};

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_MMAPABLE = 1 << 10,
	BPF_RB_FORCE_WAKEUP = 1 << 1,
	BPF_RB_NO_WAKEUP = 1 << 0,
};

#endif
