/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the kernel side and user space: every struct, enum and limit that both
 * sides see is defined here and nowhere else. The BPF programs include it; the Rust side takes its
 * types from the compiled object's BTF (build.rs) and the numbers from the enums below; the host
 * build of the walkers includes it too. It parses on its own: fixed-width types come from the two
 * typedef blocks below, not from kernel or libc headers.
 *
 * Rules: plain data only, no implicit padding (asserted below), values of enums are never reused.
 */
#ifndef UPPROF_ABI_H
#define UPPROF_ABI_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed short s16;
typedef signed int s32;
typedef signed long long s64;

#define UPPROF_ASSERT(cond) _Static_assert(cond, #cond)

enum upprof_limits {
	/* Executable file mappings of one process. nginx with every Debian module has about 60. */
	MAX_MAPPINGS = 256,
	/* LuaJIT VMs of one process that are looked at: http and stream, and room for two more. */
	MAX_VMS = 4,
	/* Frames of one sample by kind; the contract says at least 128 each. */
	MAX_NATIVE_FRAMES = 192,
	MAX_LUA_FRAMES = 256,
	/* Native + Lua + markers (a marker needs a segment change, and those are native frames). */
	MAX_FRAMES = 512,
	/* Kernel frames: the kernel's own default for perf (sysctl kernel.perf_event_max_stack). */
	MAX_KERNEL_FRAMES = 127,
	/*
	 * Steps of one walk. Every step emits a frame, skips a Lua pseudo frame, or changes between C
	 * and Lua; twice the frames is more than any honest stack needs.
	 */
	MAX_WALK_STEPS = 1024,
	/* Functions of VMs that nobody told of which are told to user space, in one capture. */
	MAX_TOLD = 4096,
	/* Bytes of such a function's chunk name that are kept. */
	TOLD_CHUNKNAME = 128,
	/* Suspended threads shown below a coroutine or light thread: who resumed or spawned it, and so on. */
	MAX_PARENTS = 8,
	/* Rows of one indexed piece of text: one a byte at worst, halved by each step of a search. */
	ROW_SEARCH_STEPS = 9,
	/* log2(MAX_MAPPINGS) + 1 */
	MAPPING_SEARCH_STEPS = 9,
	/* Rules kept per CPU for addresses met before; a power of two. */
	ROW_CACHE_BITS = 9,
	ROW_CACHE_ROWS = 512,
	/*
	 * Bytes of text that one entry of the page index covers, as a shift. Small: a sample finds the
	 * tables cold in the cache, and every step of a search is a miss. 256 bytes hold 6 rows or so.
	 */
	UNWIND_PAGE_SHIFT = 8,
	/*
	 * Outermost native frames remembered per CPU: an nginx request has some 20, from main to the Lua
	 * handler; a handful of ways lead there. A power of two.
	 */
	TAILS = 8,
	TAIL_FRAMES = 48,
	/* Bytes of stack that such frames may span. */
	TAIL_BYTES = 4096,
	/*
	 * Room for distinct requests (method, host, path) of one capture; then, in addition, for method,
	 * host and the first segment of the path. A hash says where in the table: some half of it fills.
	 */
	MAX_LABELS = 2048,
	MAX_PREFIX_LABELS = 512,
	/* Bytes of a request's path and of its host that are kept. */
	LABEL_PATH = 128,
	LABEL_HOST = 64,
};

/* ---- user space to kernel ------------------------------------------------------------------- */

/* How the caller's stack pointer (CFA) is found. */
enum cfa_kind {
	CFA_NONE = 0,      /* no rule: not code, or a rule that the table cannot say */
	CFA_RSP = 1,       /* rsp + cfa_off */
	CFA_RBP = 2,       /* rbp + cfa_off */
	CFA_RBX = 3,       /* rbx + cfa_off */
	CFA_DEREF_RSP = 4, /* *(rsp + cfa_off) + extra */
	CFA_DEREF_RBP = 5, /* *(rbp + cfa_off) + extra */
	CFA_PLT = 6,       /* rsp + 8, + 8 where (ip & 15) >= extra */
	CFA_SIGNAL = 7,    /* registers are in the ucontext at rsp */
	CFA_END = 8,       /* the process's entry: nothing called it */
};

enum saved_offset {
	SAVED_SAME = 0x7fff,  /* the register still holds the caller's value */
	SAVED_LOST = -0x8000, /* it cannot be known */
};

/* One unwind rule; holds from `pc` (file virtual address) to the next row. */
struct unwind_row {
	u32 pc;
	u8 cfa_kind;
	u8 pad;
	s16 cfa_off;
	s16 extra;
	s16 rbp_off; /* register saved at CFA + this, or a saved_offset */
	s16 rbx_off;
	s16 r14_off;
};
UPPROF_ASSERT(sizeof(struct unwind_row) == 16);

/*
 * Rows that start on one page of text. 8 bytes: an array map rounds its elements up to that, and
 * user space writes the map as memory.
 */
struct unwind_page {
	u32 first;
	u32 end;
};
UPPROF_ASSERT(sizeof(struct unwind_page) == 8);

/* An executable mapping of a file that has unwind rows. */
struct mapping {
	u64 start;
	u64 end;
	u64 bias;       /* address in the process - file virtual address */
	u32 first_page; /* file virtual address >> UNWIND_PAGE_SHIFT of the first indexed page */
	u32 n_pages;
	u32 index;      /* where this file's pages start in the page index */
	u32 object;     /* user space's number for the file */
};
UPPROF_ASSERT(sizeof(struct mapping) == 40);

/*
 * Where things are in one LuaJIT build. What is the same in every version since 2017 (lua_State,
 * GCfunc, GCproto, the C frame: docs/luajit.md 3.1 and 3.4) is in objects.bpf.h and leaf.bpf.h.
 */
struct lua_layout {
	u16 gc64;       /* 1: GC64 (and FR2 frames); 0: GC32 */
	u16 g_vmstate;  /* offsets in global_State */
	u16 g_cur_l;
	u16 g_jit_base;
	u16 tr_startpc; /* offsets in GCtrace */
	u16 tr_startins;
	u16 tr_spadjust;
	u16 l_exdata2; /* offset in lua_State: OpenResty's LuaJIT since 2020-10; 0: there is none */
	u16 str_data;  /* offset of a string's text in GCstr */
	u16 pad[3];
};
UPPROF_ASSERT(sizeof(struct lua_layout) == 24);

/*
 * Where a request says whose it is (crates/nginx/layouts.yaml). What never moves is in request.bpf.h.
 */
struct request_layout {
	u16 method;  /* ngx_http_request_t.method; http_version, request_line, uri follow. 0: not read */
	u16 server;  /* ngx_http_request_t.headers_in.server */
	u16 lua_ctx; /* offset in ngx_http_request_t.ctx[] of ngx_lua's own */
	u16 context; /* ngx_http_lua_ctx_t.context; 0: the phase is not read */
};
UPPROF_ASSERT(sizeof(struct request_layout) == 8);

struct lua_vm {
	u64 g;             /* global_State */
	u64 dispatch;      /* what r14 holds in the interpreter: g + GG_G2DISP; 0 where it is not kept */
	u64 vm_text_start; /* the interpreter's own code in this process */
	u64 vm_text_end;
	struct lua_layout layout;
	struct request_layout request;
};
UPPROF_ASSERT(sizeof(struct lua_vm) == 64);

enum process_state {
	PROCESS_WATCHED = 1, /* not sampled; its children are followed */
	PROCESS_NEW = 2,     /* forked from a followed process, not yet described by user space */
	PROCESS_READY = 3,   /* sampled */
};

/* Value of the `processes` hash; the key is the tgid in the initial pid namespace. */
struct process_entry {
	u32 state;
	u32 slot; /* index into `process_info` when READY */
};

struct process_info {
	u64 id;         /* never used twice: tells what was cached of an earlier description */
	u64 stack_span; /* bytes a thread's stack may reach; from RLIMIT_STACK */
	u32 n_mappings;
	u32 n_vms;
	struct lua_vm vms[MAX_VMS];
	struct mapping mappings[MAX_MAPPINGS]; /* sorted by start */
};

/* ---- kernel to user space ------------------------------------------------------------------- */

enum frame_kind {
	FRAME_NATIVE = 1,      /* addr: instruction (leaf) */
	FRAME_NATIVE_CALL = 2, /* addr: return address; the call is the instruction before it */
	FRAME_LUA = 3,         /* addr: GCproto, or the id of a function_event; data: struct below */
	FRAME_LUA_C = 4,       /* addr: lua_CFunction; aux: ffid */
	FRAME_TRACE = 5,       /* addr: address in the trace's machine code, 0 unknown; aux: trace number */
	FRAME_MARK = 6,        /* addr: enum mark */
};

/* Things that are not functions but must be said. */
enum mark {
	MARK_NATIVE_LOST = 1, /* C frames are missing between here and the Lua frame below */
	MARK_LUA_LOST = 2,    /* Lua frames are missing */
	MARK_TRUNCATED = 3,   /* deeper than the limits */
	MARK_GC = 4,
	MARK_EXIT = 5,
	MARK_RECORD = 6,
	MARK_OPT = 7,
	MARK_ASM = 8,
	MARK_LEAF_UNSURE = 9, /* the function below is where L->base points; no candidate passed the check */
	MARK_COROUTINE = 10,    /* above: a coroutine of ngx_lua; below: who resumed it, suspended meanwhile */
	MARK_LIGHT_THREAD = 11, /* above: a light thread; below: who spawned it, suspended where it is now */
};

/* One frame. 16 bytes, so that hashing is two multiplications. */
struct frame {
	u64 word; /* addr (48 bits) | kind << 56 | ffid << 48 */
	u32 pc;   /* FRAME_LUA: bytecode index of the next instruction, or of a function_event its line
		     counted from 1; ~0 unknown; else aux */
	u32 check; /* FRAME_LUA: sizebc ^ numparams << 24 ^ framesize << 16, tells a reused prototype */
};
UPPROF_ASSERT(sizeof(struct frame) == 16);

/* How the walk of one sample ended. Each has a counter of the same number. */
enum outcome {
	OUTCOME_COMPLETE = 0,    /* reached the process's entry */
	OUTCOME_NO_MAPPING = 1,  /* an address in no known file */
	OUTCOME_NO_ROW = 2,      /* no unwind rule for an address */
	OUTCOME_READ_FAILED = 3, /* stack memory not present */
	OUTCOME_NO_PROGRESS = 4, /* a rule led back or nowhere */
	OUTCOME_TRUNCATED = 5,   /* deeper than the limits */
	OUTCOME_NOT_READY = 6,   /* process not described yet (just forked): no stack at all */
	OUTCOME_NO_REGS = 7,     /* user registers not available */
	OUTCOME_MAX = 8,
};

/* Counters beside the outcomes, in the same array, after them. */
enum counter {
	COUNT_SAMPLES = 8,           /* samples of the target's processes: user space sums the outcomes */
	COUNT_LOST_RING_FULL = 9,    /* a new stack that could not be sent; its samples are lost */
	COUNT_COUNTS_FULL = 10,      /* not counted in the kernel but sent one by one: nothing lost */
	COUNT_LUA_UNSURE = 11,       /* leaf Lua function taken from L->base without proof */
	COUNT_LUA_BROKEN = 12,       /* a Lua chain that failed a check; Lua frames missing */
	COUNT_CFRAME_MISMATCH = 13,  /* C-frame chain and native unwinding disagree; the chain is used */
	COUNT_LUA_PC_OUTSIDE = 14,   /* a Lua frame whose PC is not inside its function: line unknown */
	COUNT_NATIVE_LOST = 15,      /* C frames lost above a Lua frame, marked in the stack */
	COUNT_PROCESS_TABLE_FULL = 16, /* a forked process that could not be followed */
	COUNT_SAVE_L_MISMATCH = 17,  /* cur_L is not the C frame's thread: Lua not shown */
	COUNT_EVENT_LOST = 18,       /* a process event that could not be sent */
	COUNT_LABELS_FULL = 19,      /* a sample of a request that there was no room for */
	COUNT_REQUEST_UNREAD = 20,   /* a sample in Lua whose request failed a check or could not be read */
	COUNT_MAX = 21,
};

/* What LuaJIT was doing, in words of lj_obj.h's vmstate. */
enum vm_state {
	VM_NOT_LUA = 0,
	VM_INTERP = 1,
	VM_COMPILED = 2,
	VM_C = 3,
	VM_GC = 4,
	VM_GC_COMPILED = 5,
	VM_EXIT = 6,
	VM_RECORD = 7,
	VM_OPT = 8,
	VM_ASM = 9,
};

enum event_type {
	EVENT_STACK = 1, /* struct stack_event: a stack not seen before (or not counted, see flag) */
	EVENT_FORK = 2,  /* struct process_event */
	EVENT_EXEC = 3,
	EVENT_EXIT = 4,
	EVENT_LABEL = 5, /* struct label_event: a request not seen before */
	EVENT_FUNCTION = 6, /* struct function_event: a Lua function of a VM that nobody told of */
};

/* Whose work a sample was, where no request can be told. Others are hashes, above all of these. */
enum label {
	LABEL_NONE = 0,    /* no Lua on the stack, or a VM whose requests are not read */
	LABEL_OTHER = 1,   /* a request that there was no room for */
	LABEL_OUTSIDE = 2, /* ngx_lua's stand-in for a request: timers, init_worker, TLS handshakes */
	LABEL_UNREAD = 3,  /* what should be the request failed a check */
	LABEL_FIRST_HASH = 16,
};

/* Identity of a stack: two 64-bit hashes over everything user space is told of it. */
struct stack_key {
	u64 h1;
	u64 h2;
};

/*
 * The table of counts: buckets of slots, indexed by h2. A stack takes the first slot that is free. One
 * cache line or two are touched, where a hash map's way of finding and adding touches eight: a sample
 * finds all of them cold.
 */
struct count_slot {
	struct stack_key key; /* h1 is 0 while the slot is free; h2 is written after it */
	u64 n;                /* samples */
	u64 sent;             /* 1: user space has been sent this stack */
};
enum count_table {
	COUNT_SLOTS = 4,
};
struct count_bucket {
	struct count_slot slots[COUNT_SLOTS];
};
UPPROF_ASSERT(sizeof(struct count_bucket) == 128);

enum stack_flags {
	STACK_UNCOUNTED = 1, /* this event is one sample that the kernel does not count */
};

/* Header of a stack; `n_frames` frames (leaf first), then `n_kernel` u64 (leaf first) follow. */
struct stack_event {
	u32 type;
	u32 tgid;
	struct stack_key key;
	u64 label; /* enum label, or the hash of a label_event */
	u16 n_frames;
	u16 n_kernel;
	u8 outcome;
	u8 vm_state;
	u8 flags;
	u8 phase; /* number of the bit set in ngx_http_lua_ctx_t.context, from 1; 0: not known */
};
UPPROF_ASSERT(sizeof(struct stack_event) == 40);

/* A request, told once. */
struct label_event {
	u32 type;
	u32 tgid;
	u64 label;
	u32 method;   /* ngx_http_request_t.method */
	u8 path_len;  /* bytes kept */
	u8 host_len;
	u8 path_cut;  /* 1: there are more */
	u8 host_cut;
	u8 path[LABEL_PATH];
	u8 host[LABEL_HOST];
};
UPPROF_ASSERT(sizeof(struct label_event) == 24 + LABEL_PATH + LABEL_HOST);

enum told_flags {
	TOLD_STRIPPED = 256, /* without debug information: no lines */
};

/*
 * A Lua function that may be gone before user space can read it: `lua_code_cache off` makes a VM for each
 * request, which lives for milliseconds. Equal ones of many VMs are one.
 */
struct function_event {
	u32 type;
	u32 tgid;
	u64 id; /* a hash of the rest, with bit 47 set: no address of a process */
	u32 check; /* as of struct frame */
	u32 sizebc;
	u32 firstline;
	u32 numline;
	u32 flags; /* GCproto.flags; enum told_flags */
	u32 pad;
	u8 chunkname[TOLD_CHUNKNAME]; /* zeros behind it; full: cut */
};
UPPROF_ASSERT(sizeof(struct function_event) == 40 + TOLD_CHUNKNAME);

struct process_event {
	u32 type;
	u32 tgid;
	u32 parent; /* EVENT_FORK */
	u32 pad;
};
UPPROF_ASSERT(sizeof(struct process_event) == 16);

/* ---- a look at a process that is not running (asleep.bpf.c) ----------------------------------- */

/* One process's first thread. All words, so that it is read without a layout. */
struct asleep {
	u64 tgid;
	u64 runnable;  /* 1: waits for a CPU only */
	u64 switches;  /* times it left a CPU: the same number means that it has not run in between */
	u64 ip, sp, bp, bx, r14, dx; /* user registers */
	u64 n_kernel;
	u64 kernel[MAX_KERNEL_FRAMES]; /* leaf first */
};
UPPROF_ASSERT(sizeof(struct asleep) == (10 + MAX_KERNEL_FRAMES) * 8);

#endif
