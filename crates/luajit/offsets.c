/*
 * Prints the row of layouts.yaml (arm64: of layouts-arm64.yaml) for the LuaJIT whose headers it is compiled with, and refuses to
 * compile where something has moved that upprof takes for fixed. Not part of any build; used by
 * people who add a version: docs/new-luajit-version.md.
 *
 *   cd LuaJIT/src && make lj_bcdef.h lj_ffdef.h lj_libdef.h lj_recdef.h lj_folddef.h luajit.h
 *   cc -I. …/crates/luajit/offsets.c -o /tmp/offsets && /tmp/offsets
 *
 * With -DLUAJIT_DISABLE_GC64 it prints the GC32 row of the same source; sources before 2020-06 need
 * -DLUAJIT_2017_STRINGS.
 */
#include <stdio.h>
#include <stddef.h>
#include "lj_obj.h"
#include "lj_frame.h"
#include "lj_jit.h"
#include "lj_dispatch.h"

/* src/layout.rs (Fixed) and probes/bpf/{objects,leaf}.bpf.h have these numbers. */
#define FIXED(what, gc64, gc32) _Static_assert((what) == (LJ_GC64 ? (gc64) : (gc32)), #what)
#define AT(type, field, gc64, gc32) FIXED(offsetof(type, field), gc64, gc32)

AT(lua_State, gct, 9, 5);
AT(lua_State, glref, 16, 8);
AT(lua_State, status, 11, 7);
AT(lua_State, base, 32, 16);
AT(lua_State, top, 40, 24);
AT(lua_State, maxstack, 48, 32);
AT(lua_State, stack, 56, 36);
AT(lua_State, env, 72, 44);
AT(lua_State, openupval, 64, 40);
AT(lua_State, cframe, 80, 48);
AT(lua_State, stacksize, 88, 56);
AT(GCproto, numparams, 10, 6);
AT(GCproto, framesize, 11, 7);
AT(GCproto, sizebc, 12, 8);
AT(GCproto, k, 32, 16);
AT(GCproto, sizekgc, 48, 24);
AT(GCproto, sizept, 56, 32);
AT(GCproto, flags, 61, 37);
AT(GCproto, trace, 62, 38);
AT(GCproto, chunkname, 64, 40);
AT(GCproto, firstline, 72, 44);
AT(GCproto, numline, 76, 48);
AT(GCproto, lineinfo, 80, 52);
FIXED(sizeof(GCproto), 104, 64);
AT(GCproto, uvinfo, 88, 56);
AT(GCproto, varinfo, 96, 60);
FIXED(PROTO_VARARG, 2, 2);
AT(GCfuncL, pc, 32, 16);
AT(GCfuncL, nupvalues, 11, 7);
AT(GCfuncL, uvptr, 40, 20);
AT(GCupval, v, 32, 16);
AT(GCfuncC, ffid, 10, 6);
AT(GCfuncC, env, 16, 8);
AT(GCfuncC, pc, 32, 16);
AT(GCfuncC, f, 40, 24);
AT(GCfuncC, nupvalues, 11, 7);
AT(GCfuncC, upvalue, 48, 32);
AT(GCupval, closed, 10, 6);
AT(GCupval, tv, 16, 8);
FIXED(sizeof(GCupval), 48, 24);
AT(GCudata, env, 16, 8);
AT(GCudata, len, 24, 12);
AT(GCudata, metatable, 32, 16);
FIXED(sizeof(GCudata), 48, 24);
AT(GCcdata, ctypeid, 10, 6);
FIXED(sizeof(GCcdata), 16, 8);
AT(GCtab, colo, 11, 7);
AT(GCtab, array, 16, 8);
AT(GCtab, metatable, 32, 16);
AT(GCtab, asize, 48, 24);
FIXED(sizeof(GCtab), 64, 32);
AT(GCtab, node, 40, 20);
AT(GCtab, hmask, 52, 28);
FIXED(sizeof(Node), 24, 24);
AT(GCtrace, nins, 12, 8);
AT(GCtrace, ir, 32, 16);
AT(GCtrace, nk, 40, 24);
AT(GCtrace, snap, 48, 32);
AT(GCtrace, snapmap, 56, 40);
AT(GCtrace, startpt, 64, 48);
AT(GCtrace, startpc, 72, 52);
AT(GCtrace, startins, 80, 56);
AT(GCtrace, szmcode, 84, 60);
AT(GCtrace, mcode, 88, 64);
AT(GCtrace, mcloop, 96, 72);
AT(GCtrace, spadjust, 102, 78);
AT(GCtrace, nchild, 100, 76);
AT(GCtrace, traceno, 104, 80);
AT(GCtrace, link, 106, 82);
AT(GCtrace, root, 108, 84);
FIXED(sizeof(GCtrace), 120, 96);
AT(GCState, threshold, 8, 4);
AT(GCState, currentwhite, 16, 8);
AT(GCState, state, 17, 9);
AT(GCState, root, 24, 16);
AT(GCState, debt, 72, 40);
AT(GCState, estimate, 80, 44);
AT(GCState, stepmul, 88, 48);
AT(GCState, pause, 92, 52);
FIXED(offsetof(jit_State, szallmcarea) - offsetof(jit_State, mcarea), 32, 32);
FIXED(sizeof(HotPenalty), 16, 8);
FIXED(JIT_P__MAX, 15, 15);
FIXED(offsetof(jit_State, sizetrace) - offsetof(jit_State, trace), 12, 12);
FIXED(offsetof(global_State, jit_base) - offsetof(global_State, cur_L), 8, 4);
#if LJ_TARGET_X64
FIXED(CFRAME_SIZE, 80, 80);
FIXED(CFRAME_OFS_PREV, 32, 32);
FIXED(CFRAME_OFS_PC, 24, 28);
FIXED(CFRAME_OFS_L, 16, 24);
FIXED(CFRAME_OFS_NRES, 8, 16);
#endif
FIXED(GG_OFS(g), sizeof(lua_State), sizeof(lua_State));
/* src/bytecode.rs */
FIXED(BC_MOV, 18, 18);
FIXED(BC_KNIL, 44, 44);
FIXED(BC_UGET, 45, 45);
FIXED(BC_USETV, 46, 46);
FIXED(BC_FNEW, 51, 51);
FIXED(BC_TDUP, 53, 53);
FIXED(BC_GGET, 54, 54);
FIXED(BC_GSET, 55, 55);
FIXED(BC_TGETS, 57, 57);
FIXED(BC_TGETR, 59, 59);
FIXED(BC_TSETS, 61, 61);
FIXED(BC_TSETB, 62, 62);
FIXED(BC_CALLM, 65, 65);
FIXED(BC_ITERN, 70, 70);
FIXED(BC_VARG, 71, 71);
FIXED(BC_ISNEXT, 72, 72);
FIXED(BC_FORI, 77, 77);
FIXED(BC_JMP, 88, 88);
FIXED(GCROOT_MMNAME, 0, 0);
/* At most two words of OpenResty's own behind upstream's thread; detect.rs tells the forks by them. */
_Static_assert(sizeof(lua_State) - (LJ_GC64 ? 96 : 64) <= 16, "sizeof(lua_State)");

/*
 * What src/trace/ reads of snapshots, in versions that have SnapShot.mcofs (since 2021-03-23
 * a32aeadc). To check one of those: cc -DUPPROF_MCOFS.
 */
#ifdef UPPROF_MCOFS
AT(GCtrace, nsnap, 10, 6);
AT(GCtrace, nsnapmap, 44, 28);
AT(SnapShot, mapofs, 0, 0);
AT(SnapShot, mcofs, 6, 6);
AT(SnapShot, nslots, 8, 8);
AT(SnapShot, nent, 10, 10);
FIXED(sizeof(SnapShot), 12, 12);
FIXED(SNAP_FRAME, 0x10000, 0x10000);
FIXED(SNAP_CONT, 0x20000, 0x20000);
FIXED(IRT_PROTO, 7, 7);
FIXED(IRT_FUNC, 8, 8);
FIXED(REF_BIAS, 0x8000, 0x8000);
/* The same in older versions; there it is in lj_mcode.c. */
AT(MCLink, next, 0, 0);
AT(MCLink, size, 8, 8);
#endif
/* jit_State.mcarea, mctop, mcbot, szmcarea, szallmcarea follow each other: src/trace/jit.rs finds them so. */
#define BEHIND_MCAREA(field, n) \
	FIXED(offsetof(jit_State, field) - offsetof(jit_State, mcarea), 8 * (n), 8 * (n))
BEHIND_MCAREA(mctop, 1);
BEHIND_MCAREA(mcbot, 2);
BEHIND_MCAREA(szmcarea, 3);
BEHIND_MCAREA(szallmcarea, 4);

/*
 * The C frame, which has moved on arm64. It is macros only, which debug information does not tell;
 * the sizes of these structs it does (tests/tests/layouts.rs).
 */
#define SIZE_TELLS(name, value) struct name { char bytes[value]; }
SIZE_TELLS(cframe_size, CFRAME_SIZE);
SIZE_TELLS(cframe_prev, CFRAME_OFS_PREV);
SIZE_TELLS(cframe_pc, CFRAME_OFS_PC);
SIZE_TELLS(cframe_l, CFRAME_OFS_L);
SIZE_TELLS(cframe_nres, CFRAME_OFS_NRES);

#define OF_G(field) (offsetof(global_State, field))
#define FROM_G(field) (offsetof(GG_State, field) - offsetof(GG_State, g))

int main(void)
{
	size_t own = sizeof(lua_State) - (LJ_GC64 ? 96 : 64);

	printf("  gc64: %s\n", LJ_GC64 ? "true" : "false");
	printf("  vmstate: %zu\n", OF_G(vmstate));
	printf("  mainthref: %zu\n", OF_G(mainthref));
	printf("  cur_l: %zu\n", OF_G(cur_L));
	printf("  jit_base: %zu\n", OF_G(jit_base));
	printf("  gc_total: %zu\n", OF_G(gc.total));
#ifdef LUAJIT_2017_STRINGS
	printf("  str_tab: %zu\n", OF_G(strhash));
#else
	printf("  str_tab: %zu\n", OF_G(str.tab));
#endif
	printf("  registry: %zu\n", OF_G(registrytv));
	printf("  str_len: %zu\n", offsetof(GCstr, len));
	printf("  g2disp: { %s: [%zu] }\n", own ? "luajit2" : "upstream", FROM_G(dispatch));
	printf("  g2trace: { %s: [%zu] }\n", own ? "luajit2" : "upstream", FROM_G(J.trace));
	printf("  jit:\n    - { g2disp: %zu, trace: %zu, flags: %zu, param: %zu, penalty: %zu, mcarea: %zu }\n",
	       FROM_G(dispatch), FROM_G(J.trace), FROM_G(J.flags), FROM_G(J.param), FROM_G(J.penalty),
	       FROM_G(J.mcarea));
#if LJ_TARGET_ARM64
	printf("  cframes:\n    - { size: %d, prev: %d, pc: %d, l: %d, nres: %d }\n",
	       CFRAME_SIZE, CFRAME_OFS_PREV, CFRAME_OFS_PC, CFRAME_OFS_L, CFRAME_OFS_NRES);
#endif
	return 0;
}
