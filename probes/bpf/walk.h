/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * State of one walk, and what the walkers need from their surroundings. The walkers (native.bpf.h,
 * lua.bpf.h) are compiled twice: for the kernel, and for the host (hostsim.c), where they run over
 * memory snapshots in plain unit tests. Whatever differs goes through the four functions declared
 * here; nothing else in the walkers may call a BPF helper.
 */
#ifndef UPPROF_WALK_H
#define UPPROF_WALK_H

#include "abi.h"

#define INLINE static inline __attribute__((always_inline))
/* A BPF-to-BPF call: keeps the walkers' code, and so the verifier's work, in one copy. */
#define NOINLINE static __attribute__((noinline))
/*
 * A BPF-to-BPF call that the verifier looks at once, by itself, instead of again for every way that leads to
 * it. It knows nothing of the arguments then: pointers must be checked.
 */
#ifdef __bpf__
#define GLOBAL __attribute__((noinline))
#else
#define GLOBAL NOINLINE
#endif

/* Makes the compiler forget what it knows of a variable, so that a check after it is kept. */
#define HIDE(var) asm volatile("" : "+r"(var))
UPPROF_ASSERT((MAX_FRAMES & (MAX_FRAMES - 1)) == 0);

enum walk_phase {
	PHASE_NATIVE = 0,
	PHASE_LUA = 1,
	PHASE_DONE = 2,
	PHASE_PARENT = 3, /* all of a thread has been shown; who resumed or spawned it may follow */
};

/* A C frame of LuaJIT's interpreter, 80 bytes from its rsp (docs/luajit.md 3.4). */
struct cframe {
	u64 word[10];
};
UPPROF_ASSERT(sizeof(struct cframe) == 80);

/*
 * A piece of a stack, read at once: frames lie side by side, and each read of the target's memory
 * costs some 50 ns however small it is. Good within one sample only.
 */
enum { WINDOW_BYTES = 512 };
#define WINDOW_EMPTY (1ULL << 63)

struct window {
	u64 start;
	u8 data[WINDOW_BYTES];
};

/* The Lua function that was read last: recursion meets it again in the next frame. */
struct lua_known {
	u64 func; /* GCfunc, 0 none */
	u64 pc;   /* its first bytecode, or the fast function's dispatch code */
	u64 cfunction;
	u32 sizebc;
	u32 check;
	u32 ffid;
	/* In a VM that nobody told of: */
	u64 told_as; /* function_event.id; 0: not told */
	u64 lineinfo;
	u32 firstline, numline;
	u32 pad;
};

/* Room for the kernel frames behind a full list of frames, in frames. */
enum { KERNEL_ROOM = 64 };
UPPROF_ASSERT(KERNEL_ROOM * sizeof(struct frame) >= MAX_KERNEL_FRAMES * sizeof(u64));

/* The rule for one address of one process, found before. */
struct cached_row {
	u64 at;
	u64 process; /* process_info.id */
	struct unwind_row row;
};
UPPROF_ASSERT(sizeof(struct cached_row) == 32);

/*
 * Rules for addresses met before, direct-mapped. The tables are megabytes: looking an address up
 * touches three or four pages that a sample finds cold, in the cache and in the TLB. The frames of an
 * event loop are the same few hundred again and again, and fit here into 16 KiB.
 */
struct row_cache {
	struct cached_row rows[ROW_CACHE_ROWS];
};
UPPROF_ASSERT(ROW_CACHE_ROWS == 1 << ROW_CACHE_BITS);

/* A frame of a tail: its return address, and the word that held it. */
struct tail_frame {
	u64 ip;
	u32 at; /* from the tail's first sp, in bytes */
	u32 pad;
};

/*
 * The outermost native frames, from a return address to the process's entry, as an earlier sample
 * walked them. When every frame's CFA is found from rsp, that walk depends on nothing but the first ip
 * and sp and on the return addresses: where those are the same again, so are the frames (tail.bpf.h).
 */
struct tail {
	u64 process; /* process_info.id; 0: nothing here */
	u64 ip, sp;
	u32 n;       /* frames after the first */
	u32 span;    /* bytes from sp that hold their return addresses */
	struct tail_frame frames[TAIL_FRAMES];
};

enum tail_state {
	TAIL_NONE = 0,
	TAIL_DUE = 1,  /* Lua has just been left for good: a tail may begin here */
	TAIL_KEPT = 2, /* this walk's frames are being noted */
};

struct walk {
	/* Registers of the frame to look at next. */
	u64 ip, sp, bp, bx, r14;
	/* Values at the sampled instruction; rdx may hold BASE (docs/luajit.md 3.3). */
	u64 leaf_dx;
	u64 tls;       /* of the thread: glibc and musl lay it right above the stack of any but the first */
	u64 stack_end; /* no C frame of this thread lies above */

	/* The Lua side. */
	struct lua_vm vm; /* the one that runs on this stack, when has_vm */
	u32 has_vm;
	u32 segment;   /* Lua segments entered so far */
	u64 cf;        /* C frame where the next Lua segment lives, 0: none known */
	u64 l;         /* its lua_State */
	u64 leaf_l;    /* the lua_State of the innermost segment */
	u64 co_ctx;    /* its exdata2: ngx_lua's bookkeeping of l, unless another's */
	u32 adopted;   /* the VM is one that nobody told of */
	u32 n_parents; /* l is not on this stack but so many times the parent of one that is */
	u64 stack_lo;  /* of l: first slot */
	u64 stack_hi;  /* of l: maxstack */
	u64 frame;     /* slot of the Lua frame to look at next */
	u64 pc;        /* its next bytecode instruction's address, 0 unknown */
	u64 jit_base;
	u64 jit_ip;    /* address in machine code, once known */
	s32 vmstate;   /* as read, see lj_obj.h */
	u32 skip;      /* the next Lua frame is the fixed part of a vararg function: same call */
	struct cframe cframe; /* the one of the current segment */
	struct lua_known known;
	struct window native_stack, lua_stack;
	u32 last_mapping; /* index of the mapping of the frame before */
	u32 tail_slot;    /* of `tails`, when TAIL_KEPT */

	u8 phase;
	u8 outcome;
	u8 vm_state;
	u8 bp_known, bx_known, r14_known;
	u8 leaf; /* `ip` is the interrupted instruction, not a return address */
	u8 tail; /* enum tail_state */

	u32 n_frames, n_native, n_lua;
	u64 h1, h2;

	/* What user space is sent: the header, the frames, and right behind them the kernel frames. */
	struct function_event told;
	struct stack_event event;
	struct frame frames[MAX_FRAMES + KERNEL_ROOM];

	/* Kept from one sample to the next. */
	struct tail tails[TAILS];
	u8 tail_stack[TAIL_BYTES];
};

/* Reads the sampled process's memory: 0, or negative. Never faults pages in. */
INLINE int read_user(void *dst, u32 size, u64 addr);
/* Reads a string that ends with a zero, or as much of it as there is room. Negative when it cannot. */
INLINE int read_text(u8 *dst, u32 size, u64 addr);
/* Tells user space of a Lua function, unless it knows: 0; negative where that cannot be. */
INLINE int tell_function(struct function_event *e);
/* This CPU's rules for addresses met before; null where there are none. */
INLINE struct row_cache *row_cache(void);
/* An entry of the page index / of the unwind rows; null when out of range. */
INLINE const struct unwind_page *page_entry(u32 index);
INLINE const struct unwind_row *row_entry(u32 index);
/* Adds one to a counter. */
INLINE void count(u32 counter);

INLINE void hash_word(struct walk *w, u64 v)
{
	/* Two lanes with different odd constants (fractions of phi and sqrt 3), folded by rotation. */
	w->h1 = (w->h1 ^ v) * 0x9e3779b97f4a7c15ULL;
	w->h1 ^= w->h1 >> 29;
	w->h2 = (w->h2 + v) * 0xbb67ae8584caa73bULL;
	w->h2 = w->h2 << 31 | w->h2 >> 33;
}

/* The first word of a frame. */
INLINE u64 frame_word(u32 kind, u64 addr, u32 ffid)
{
	return (addr & 0xffffffffffffULL) | (u64)kind << 56 | (u64)(ffid & 0xff) << 48;
}

NOINLINE int emit(struct walk *w, u64 word, u32 pc, u32 check)
{
	u32 n = w->n_frames;

	if (n >= MAX_FRAMES)
		return 0;
	w->frames[n].word = word;
	w->frames[n].pc = pc;
	w->frames[n].check = check;
	w->n_frames = n + 1;
	hash_word(w, word);
	hash_word(w, (u64)pc << 32 | check);
	return 0;
}

INLINE void emit_mark(struct walk *w, u32 mark)
{
	emit(w, frame_word(FRAME_MARK, mark, 0), 0, 0);
}

/*
 * An aligned word of a stack through its window. When it is not inside, the window is refilled from
 * `refill`, chosen by the caller so that the next words lie inside; where that piece is not readable
 * as a whole, the word alone is read.
 */
NOINLINE int read_word(struct window *win, u64 addr, u64 refill, u64 *out)
{
	u64 at = addr - win->start;

	/* Not aligned, or no address of a process (and so none that an empty window could hold). */
	if (addr & 7 || addr >> 47)
		return read_user(out, 8, addr);
	if (at > WINDOW_BYTES - 8) {
		refill &= ~7ULL;
		if (read_user(win->data, WINDOW_BYTES, refill)) {
			win->start = WINDOW_EMPTY;
			return read_user(out, 8, addr);
		}
		win->start = refill;
		at = addr - refill;
	}
	HIDE(at);
	if (at > WINDOW_BYTES - 8)
		return read_user(out, 8, addr);
	*out = *(u64 *)(win->data + at);
	return 0;
}

INLINE void finish(struct walk *w, u32 outcome)
{
	/* A walk that reached the entry but left Lua frames out stays truncated. */
	if (outcome != OUTCOME_COMPLETE || w->outcome == OUTCOME_COMPLETE)
		w->outcome = outcome;
	w->phase = PHASE_DONE;
}

#endif
