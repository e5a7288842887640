//! `upprof inspect --json`, and requests that a test makes by hand.

use super::docker::Container;
use super::run::Upprof;
use super::target::LUA_PORT;
use super::wait::until;
use serde_json::Value;

/// Looks once, and returns what was found of each part of one artifact.
///
/// # Panics
/// When something was not trusted: on the targets of these tests everything is.
#[must_use]
pub fn found(target: &Container, words: &[&str]) -> Vec<Value> {
    parts(target, words)
        .iter()
        .map(|part| {
            assert!(part["not_trusted"].is_null(), "{words:?}: {part}");
            part["found"].clone()
        })
        .collect()
}

/// Looks once, and returns the parts of one artifact as they are.
///
/// # Panics
/// When the answer is not one artifact of that name.
#[must_use]
pub fn parts(target: &Container, words: &[&str]) -> Vec<Value> {
    let outcome = Upprof::on_host()
        .args(["inspect", "--quiet", "--json", "--container", target.name()])
        .args(words)
        .run();
    outcome.exits(0);
    let round: Value = serde_json::from_str(&outcome.stdout).expect("one line of JSON");
    let artifacts = round["artifacts"].as_array().expect("artifacts");
    assert_eq!(artifacts.len(), 1, "{round}");
    assert_eq!(artifacts[0]["what"], words[0]);
    artifacts[0]["parts"].as_array().expect("parts").clone()
}

/// The body of the answer to a GET from inside the target.
#[must_use]
pub fn get(target: &Container, path: &str) -> String {
    let ask = format!(
        "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET {path} HTTP/1.0\\r\\nHost: inside\\r\\n\\r\\n' >&3; cat <&3"
    );
    let answer = target.exec(&["bash", "-c", &ask]);
    let (head, body) = answer
        .replace("\r\n", "\n")
        .split_once("\n\n")
        .map(|(h, b)| (h.to_owned(), b.to_owned()))
        .unwrap_or_else(|| panic!("{path}: {answer}"));
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    body
}

/// What a worker says of itself (`/debug/ACTION` of images/target/app/debug.lua), by its pid in the target's
/// own pid namespace. Each question goes to any of the workers: it is asked until the right one has answered.
///
/// # Panics
/// When the answer is no JSON.
#[must_use]
pub fn ask(target: &Container, ns_pid: u64, action: &str) -> Value {
    let (path, query) = action.split_once('?').unwrap_or((action, ""));
    let path = format!("/debug/{path}?{query}&pid={ns_pid}");
    until("the worker to be the one that answers", || {
        let body: Value = serde_json::from_str(&get(target, &path)).expect("JSON");
        body.get("other").is_none().then_some(body)
    })
}

/// Clients that send something, and stay connected without reading until the target ends.
pub fn stay(target: &Container, clients: usize, request: &str) {
    stay_at(target, LUA_PORT, clients, request);
}

/// The same at another port.
pub fn stay_at(target: &Container, port: u16, clients: usize, request: &str) {
    let connect = format!(
        "for i in $(seq {clients}); do exec {{fd}}<>/dev/tcp/127.0.0.1/{port}; printf '{request}' >&$fd; done; sleep infinity"
    );
    super::docker::docker(["exec", "-d", target.id(), "bash", "-c", &connect]);
}
