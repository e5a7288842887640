//! The kernel's walkers (compiled for the host) where they take the outermost frames from an earlier walk: only
//! if walking would give them again.

use upprof_memory::Memory;
use upprof_probes::hostsim::{Described, Walked};
use upprof_tests::snapshot::host::{CFUNCTION, HANDLER, HELPER};
use upprof_tests::snapshot::scenes::{BELOW, both, outer_and_inner};
use upprof_tests::snapshot::{BIAS, Link, Machine};

/// Walks the same description of the process several times, each after a change to the machine.
fn walks(m: &mut Machine, changes: &[&dyn Fn(&mut Machine)]) -> Vec<Walked> {
    let (sim, spec) = m.described();
    let described = Described::from(&spec);
    changes
        .iter()
        .map(|change| {
            change(m);
            m.freeze();
            let Machine { image, regs, .. } = &*m;
            sim.walk(|addr, to| image.read(addr, to).is_ok(), &described, regs)
        })
        .collect()
}

#[test]
fn what_was_walked_before_is_recognised() {
    both(|m| {
        outer_and_inner(m);
        let walked = walks(m, &[&|_| {}, &|_| {}]);
        assert_eq!(m.shown(&walked[1].frames), BELOW);
        assert_eq!(walked[0].frames, walked[1].frames);
        assert_eq!(walked[0].outcome, walked[1].outcome);
        // Three native frames in one step.
        assert_eq!(walked[0].steps - walked[1].steps, 2);
    });
}

#[test]
fn a_return_address_that_is_another_now_is_seen() {
    both(|m| {
        outer_and_inner(m);
        // The last C frame's own return address is checked with the rest: handler's lies right above it.
        let handlers = m.cframe() + 80 + HANDLER.frame - 8;
        let was = m.image.get64(handlers);
        let other = BIAS + HANDLER.vaddr + 0x10;
        assert_ne!(was, other);
        let change = |m: &mut Machine| m.image.put64(handlers, other);
        let back = |m: &mut Machine| m.image.put64(handlers, was);
        let walked = walks(m, &[&|_| {}, &change, &back]);
        assert_eq!(m.shown(&walked[0].frames), BELOW);
        assert_eq!(m.shown(&walked[1].frames)[..4], ["lua inner:3", "lua outer:5", "handler", "handler"]);
        assert_eq!(walked[2].frames, walked[0].frames);
    });
}

/// Another description may have other files at the same addresses.
#[test]
fn another_description_starts_anew() {
    both(|m| {
        outer_and_inner(m);
        let first = walks(m, &[&|_| {}, &|_| {}]);
        let second = walks(m, &[&|_| {}]);
        assert_eq!(first[0].steps, second[0].steps);
    });
}

/// Native frames with Lua further out are no tail: only what lies below the last Lua frame is.
#[test]
fn frames_between_two_segments_are_walked() {
    both(|m| {
        let (_, inner) = outer_and_inner(m);
        let (c, f) = (m.c(CFUNCTION), m.lua("compare"));
        m.lua_calls_c(inner, 3, c, CFUNCTION);
        m.store_base();
        m.call(HELPER);
        m.call_lua(f, Link::C, 4);
        m.at(f, 1);
        let mut frames = vec!["lua compare:1", "helper", "cfunction", "c cfunction"];
        frames.extend(BELOW);
        let walked = walks(m, &[&|_| {}, &|_| {}]);
        assert_eq!(m.shown(&walked[0].frames), frames);
        assert_eq!(m.shown(&walked[1].frames), frames);
    });
}
