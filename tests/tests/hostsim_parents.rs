//! The kernel's walkers (compiled for the host) over threads that ngx_lua's scheduler runs: who resumed a
//! coroutine and who spawned a light thread is on no C stack, and is shown below a mark, or said to be lost.

use upprof_profile::VmState;
use upprof_profile::raw::Outcome;
use upprof_tests::snapshot::host::{CFUNCTION, HANDLER};
use upprof_tests::snapshot::ngx_lua::{ANCHORS, Begun};
use upprof_tests::snapshot::scenes::{both, expect};
use upprof_tests::snapshot::{LuaFunc, Machine};

/// An entry thread that has called C code which yields, and a second thread that runs `body`, begun in this
/// way. Returns both threads' bookkeeping, and the body.
fn scheduled(m: &mut Machine, begun: Begun, anchors: u64) -> ([u64; 2], LuaFunc) {
    let (entry, child) = (m.coroutine(), m.coroutine());
    let (handler, body, yields) = (m.lua("handler"), m.lua("body"), m.c(CFUNCTION));
    m.call(HANDLER);
    m.resume(entry, handler);
    let of_entry = m.bookkeep(entry, 0, Begun::Otherwise, anchors);
    m.yields_in(handler, 4, yields);
    let of_child = m.bookkeep(child, of_entry, begun, anchors);
    m.resume(child, body);
    m.at(body, 1);
    ([of_entry, of_child], body)
}

const BELOW: [&str; 3] = ["handler", "main", "start"];

#[test]
fn who_resumed_a_coroutine_is_below_it() {
    for anchors in ANCHORS {
        both(|m| {
            scheduled(m, Begun::Coroutine, anchors);
            let mut frames = vec!["lua body:1", "[coroutine]", "c cfunction", "lua handler:4"];
            frames.extend(BELOW);
            expect(m, VmState::Interpreted, &frames);
            assert_eq!(m.walk().counted().count(), 0, "nothing is doubtful here");
        });
    }
}

#[test]
fn who_spawned_a_light_thread_is_not_its_caller() {
    for anchors in ANCHORS {
        both(|m| {
            let (ctx, _) = scheduled(m, Begun::LightThread, anchors);
            let mut frames = vec!["lua body:1", "[light thread]", "c cfunction", "lua handler:4"];
            frames.extend(BELOW);
            expect(m, VmState::Interpreted, &frames);
            // It may have ended since (ngx_http_lua_del_thread).
            m.image.put64(ctx[0] + 8, 0);
            frames.drain(2..4);
            expect(m, VmState::Interpreted, &frames);
            assert_eq!(m.walk().counted().count(), 0, "nothing is doubtful here");
        });
    }
}

#[test]
fn an_entry_thread_has_nobody_below() {
    both(|m| {
        let (entry, handler) = (m.coroutine(), m.lua("handler"));
        m.call(HANDLER);
        m.resume(entry, handler);
        m.bookkeep(entry, 0, Begun::Otherwise, ANCHORS[2]);
        m.at(handler, 2);
        expect(m, VmState::Interpreted, &["lua handler:2", "handler", "main", "start"]);
    });
}

#[test]
fn coroutines_of_coroutines_lead_to_the_first() {
    both(|m| {
        let (ctx, body) = scheduled(m, Begun::LightThread, ANCHORS[2]);
        let (third, leaf, resumes) = (m.coroutine(), m.lua("leaf"), m.c(CFUNCTION));
        m.yields_in(body, 6, resumes);
        m.bookkeep(third, ctx[1], Begun::Coroutine, ANCHORS[2]);
        m.resume(third, leaf);
        m.at(leaf, 3);
        let mut frames = vec!["lua leaf:3", "[coroutine]", "c cfunction", "lua body:6"];
        frames.extend(["[light thread]", "c cfunction", "lua handler:4"]);
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);
    });
}

#[test]
fn a_standard_coroutine_inherits_bookkeeping_that_is_not_its_own() {
    both(|m| {
        let (ctx, body) = scheduled(m, Begun::Coroutine, ANCHORS[2]);
        let (inner, leaf, resume) = (m.coroutine(), m.lua("leaf"), m.fast("resume", 40));
        m.set_exdata2(inner, ctx[1]);
        m.lua_calls_fast(body, 2, resume);
        m.resume(inner, leaf);
        m.at(leaf, 3);
        let mut frames = vec!["lua leaf:3", "c resume", "lua body:2", "[coroutine]"];
        frames.extend(["c cfunction", "lua handler:4"]);
        frames.extend(BELOW);
        expect(m, VmState::Interpreted, &frames);
    });
}

#[test]
fn a_parent_that_does_not_lead_back_is_lost_not_guessed() {
    let broken = |break_it: fn(&mut Machine, [u64; 2], u64), shown: &[&str]| {
        both(|m| {
            let (ctx, _) = scheduled(m, Begun::Coroutine, ANCHORS[2]);
            let entry = m.image.get64(ctx[0] + 8);
            break_it(m, ctx, entry);
            let mut frames = vec!["lua body:1"];
            frames.extend(shown);
            frames.extend(BELOW);
            expect(m, VmState::Interpreted, &frames);
        });
    };
    let lost = ["[coroutine]", "[Lua lost]"];
    // Another thread took its place; it runs elsewhere; it is not there.
    broken(|m, ctx, entry| m.set_exdata2(entry, ctx[1]), &lost);
    broken(|m, _, entry| m.image.put64(entry + m.layout().thread.cframe, 0x7ffd_0000_1000), &lost);
    broken(|m, ctx, _| m.image.put64(ctx[0] + 8, 0), &lost);
    broken(|m, ctx, _| m.image.put64(ctx[1] + 16, 0xdead_0000), &lost);
    // Whether it was resumed or spawned cannot be told: another layout.
    broken(|m, ctx, _| m.image.put64(ctx[1] + ANCHORS[2], 0), &["[Lua lost]"]);
    // This thread's bookkeeping is not its own.
    broken(|m, ctx, entry| m.image.put64(ctx[1] + 8, entry), &[]);
}

#[test]
fn parents_without_end_are_cut_and_say_so() {
    both(|m| {
        let (ctx, body) = scheduled(m, Begun::Coroutine, ANCHORS[2]);
        let (third, leaf, resumes) = (m.coroutine(), m.lua("leaf"), m.c(CFUNCTION));
        m.yields_in(body, 6, resumes);
        m.bookkeep(third, ctx[1], Begun::Coroutine, ANCHORS[2]);
        m.resume(third, leaf);
        m.at(leaf, 3);
        // Two suspended threads that are each other's parents.
        m.image.put64(ctx[0] + 16, ctx[1]);
        m.image.put64(ctx[0] + ANCHORS[2], 0xffff_fffe);
        let walked = m.walk();
        let shown = m.shown(&walked.frames);
        assert_eq!(shown.iter().filter(|f| *f == "[coroutine]").count(), 8, "{shown:#?}");
        assert_eq!(shown[shown.len() - 4..], ["[truncated]", "handler", "main", "start"]);
        assert_eq!(walked.outcome, Outcome::Truncated);
    });
}
