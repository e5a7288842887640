//! The phases of a request, the balancer, and a timer, each by nginx's own function for it.

use crate::capture::{CAPTURE, PHASES, always_called_by, always_through, lua};

/// All samples of a phase's function of `/phases` have one of these chains and went this way through C.
fn phase(work: &str, chains: &[&[&str]], natives: &[&str]) {
    let work = lua(work, PHASES);
    let directive = |name: &&str| CAPTURE.sources.directive(name, "location = /phases");
    let frame = |name: &&str| if name.starts_with("cfunc:") { (*name).to_owned() } else { directive(name) };
    let chains: Vec<Vec<String>> = chains.iter().map(|chain| chain.iter().map(frame).collect()).collect();
    always_called_by(&work, &chains);
    always_through(&work, &[&["_start", "main", "ngx_http_core_run_phases"], natives].concat());
}

#[test]
fn each_phase_by_its_directive_and_nginxs_own_function() {
    const REWRITE: &str = "ngx_http_core_rewrite_phase";
    const CONTENT: &str = "ngx_http_core_content_phase";
    const THREAD: &str = "ngx_http_lua_run_thread";
    phase("M.set_phase_work", &[&["set_by_lua"]], &[REWRITE, "lua_pcall"]);
    phase("M.rewrite_phase_work", &[&["rewrite_by_lua"]], &[REWRITE, THREAD]);
    phase("M.access_phase_work", &[&["access_by_lua"]], &["ngx_http_core_access_phase", THREAD]);
    phase("M.content_phase_work", &[&["content_by_lua"]], &[CONTENT, THREAD]);
    // ngx.say sends the header: Lua, C and Lua again.
    let header: &[&str] = &["content_by_lua", "cfunc:ngx.say", "header_filter_by_lua"];
    phase("M.header_filter_phase_work", &[header], &[CONTENT, THREAD]);
    // Once for what ngx.say gives, once for the end of the answer.
    let body: &[&str] = &["content_by_lua", "cfunc:ngx.say", "body_filter_by_lua"];
    phase("M.body_filter_phase_work", &[body, &["body_filter_by_lua"]], &[CONTENT]);
    phase("M.log_phase_work", &[&["log_by_lua"]], &["ngx_http_free_request", "lua_pcall"]);
}

#[test]
fn the_balancer() {
    let work = lua("M.balancer_phase_work", PHASES);
    always_called_by(&work, &[vec![CAPTURE.sources.directive("balancer_by_lua", "upstream backend")]]);
    always_through(&work, &["_start", "main", "ngx_event_connect_peer", "lua_pcall"]);
}

#[test]
fn a_timer_without_a_request() {
    let tick = lua("timer_tick_body", "/app/timer.lua");
    always_called_by(&tick, &[vec![]]);
    always_through(&tick, &["_start", "main", "ngx_event_expire_timers", "ngx_http_lua_run_thread"]);
    let natives = CAPTURE.stacks.with(&tick).flat_map(|s| &s.frames);
    assert_eq!(natives.filter(|f| f.starts_with("ngx_http_core_")).count(), 0, "no request, no phase");
}
