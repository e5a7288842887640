//! A layout from debug information, where the file that holds LuaJIT has some. It is a candidate like
//! the rows of `layouts.yaml`, tried before them and checked against live memory just the same.

use crate::layout::{ByFork, Era, Fixed, GC32, GC64, JitOffsets};
use std::collections::HashMap;
use upprof_binary::StructLayout;

/// The structs that [`from_debug_info`] needs (lj_obj.h, lj_jit.h, lj_dispatch.h).
pub const STRUCTS: [&str; 7] =
    ["lua_State", "global_State", "GG_State", "jit_State", "GCproto", "GCstr", "GCtrace"];

/// The era that the debug information describes. `Ok(None)` when it does not describe LuaJIT.
///
/// # Errors
/// The first member that lies elsewhere than in every version known: such a build cannot be read.
pub fn from_debug_info(found: &HashMap<String, StructLayout>) -> Result<Option<Era>, String> {
    let at = |of: &str, member: &str| found.get(of)?.members.get(member).copied();
    let Some(glref) = at("lua_State", "glref") else { return Ok(None) };
    let gc64 = glref == GC64.l_glref;
    disagreement(&at, if gc64 { &GC64 } else { &GC32 })?;
    let era = || {
        let small = |v: u64| u16::try_from(v).ok();
        let g = at("GG_State", "g")?;
        let disp = at("GG_State", "dispatch")?.checked_sub(g)?;
        let trace = (at("GG_State", "J")? + at("jit_State", "trace")?).checked_sub(g)?;
        let both = |v: u64| ByFork { upstream: vec![v], luajit2: vec![v] };
        Some(Era {
            id: "debug-information".into(),
            since: "this very build".into(),
            gc64,
            vmstate: small(at("global_State", "vmstate")?)?,
            mainthref: small(at("global_State", "mainthref")?)?,
            cur_l: small(at("global_State", "cur_L")?)?,
            jit_base: small(at("global_State", "jit_base")?)?,
            gc_total: small(at("global_State", "gc")?)?,
            str_tab: small(at("global_State", "str").or_else(|| at("global_State", "strhash"))?)?,
            registry: small(at("global_State", "registrytv")?)?,
            str_len: small(at("GCstr", "len")?)?,
            g2disp: both(disp),
            g2trace: both(trace),
            jit: jit(&at, disp).into_iter().collect(),
            cframes: Vec::new(), // macros, which debug information does not tell
        })
    };
    Ok(era())
}

/// Where `jit_State` keeps what inspectors read; without it they alone go without.
fn jit(at: &dyn Fn(&str, &str) -> Option<u64>, g2disp: u64) -> Option<JitOffsets> {
    let j = at("GG_State", "J")?.checked_sub(at("GG_State", "g")?)?;
    let of = |member: &str| Some(j + at("jit_State", member)?);
    Some(JitOffsets {
        g2disp,
        trace: of("trace")?,
        flags: of("flags")?,
        param: of("param")?,
        penalty: of("penalty")?,
        mcarea: of("mcarea")?,
    })
}

/// Members that this crate and the kernel side take for fixed.
fn disagreement(at: &dyn Fn(&str, &str) -> Option<u64>, fixed: &Fixed) -> Result<(), String> {
    for (of, member, expected) in [
        ("lua_State", "glref", fixed.l_glref),
        ("lua_State", "stack", fixed.l_stack),
        ("lua_State", "maxstack", fixed.l_maxstack),
        ("lua_State", "env", fixed.l_env),
        ("GCproto", "sizebc", fixed.pt_sizebc),
        ("GCproto", "chunkname", fixed.pt_chunkname),
        ("GCproto", "firstline", fixed.pt_firstline),
        ("GCproto", "lineinfo", fixed.pt_lineinfo),
        ("GCtrace", "startpc", fixed.tr_startpc),
        ("GCtrace", "startins", fixed.tr_startins),
        ("GCtrace", "mcode", fixed.tr_mcode),
        ("GCtrace", "traceno", fixed.tr_traceno),
    ] {
        if let Some(found) = at(of, member)
            && found != expected
        {
            return Err(format!("debug information puts {of}.{member} at {found}, not at {expected}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layouts(entries: &[(&str, &str, u64)]) -> HashMap<String, StructLayout> {
        let mut found: HashMap<String, StructLayout> = HashMap::new();
        for (of, member, offset) in entries {
            found.entry((*of).into()).or_default().members.insert((*member).into(), *offset);
        }
        found
    }

    /// luajit2 v2.1-20230119 GC64, from docs/luajit.md 3.1 and 3.2.
    const LUAJIT2: [(&str, &str, u64); 20] = [
        ("lua_State", "glref", 16),
        ("lua_State", "stack", 56),
        ("global_State", "vmstate", 184),
        ("global_State", "gc", 16),
        ("global_State", "str", 152),
        ("global_State", "registrytv", 272),
        ("global_State", "mainthref", 192),
        ("global_State", "cur_L", 368),
        ("global_State", "jit_base", 376),
        ("GCstr", "len", 20),
        ("GCproto", "firstline", 72),
        ("GCtrace", "traceno", 104),
        ("GG_State", "g", 112),
        ("GG_State", "J", 816),
        ("GG_State", "dispatch", 4120),
        ("jit_State", "trace", 416),
        ("jit_State", "flags", 200),
        ("jit_State", "param", 1664),
        ("jit_State", "penalty", 1856),
        ("jit_State", "mcarea", 3080),
    ];

    #[test]
    fn a_described_build_is_the_era_of_its_version() {
        let era = from_debug_info(&layouts(&LUAJIT2)).expect("agrees").expect("complete");
        let table = crate::eras(crate::Arch::X86_64)
            .into_iter()
            .find(|e| e.id == "gc64-2020-09")
            .expect("in the table");
        assert_eq!(
            (era.gc64, era.vmstate, era.mainthref, era.cur_l, era.jit_base, era.str_len),
            (table.gc64, table.vmstate, table.mainthref, table.cur_l, table.jit_base, table.str_len)
        );
        assert_eq!(era.g2disp.luajit2, [4008]);
        assert_eq!(era.g2trace.luajit2, [1120]);
        assert_eq!(
            (era.gc_total, era.str_tab, era.registry),
            (table.gc_total, table.str_tab, table.registry)
        );
        assert!(table.jit.contains(&era.jit[0]), "{:?}", era.jit);
    }

    #[test]
    fn a_build_with_moved_members_is_refused_by_name() {
        let mut moved = LUAJIT2;
        moved[11].2 = 112; // LUAJIT_USE_GDBJIT shifts GCtrace
        let e = from_debug_info(&layouts(&moved));
        assert_eq!(e, Err("debug information puts GCtrace.traceno at 112, not at 104".into()));
        assert_eq!(from_debug_info(&HashMap::new()), Ok(None));
    }
}
