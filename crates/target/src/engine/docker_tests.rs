//! The Docker client against an engine made of canned answers, on a real socket.

use super::docker::{Docker, Limits};
use super::*;
use crate::ContainerName;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

/// Status, further headers, body.
type Answer = (u16, String, Vec<u8>);

/// Answers `GET /version` itself and asks `answer` for the rest, by method and path without version.
fn serve(answer: impl Fn(&str, &str) -> Answer + Send + 'static) -> (tempfile::TempDir, Docker) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let Some((method, path)) = request(&stream) else { continue };
            let path = path.strip_prefix("/v1.41").unwrap_or(&path).to_owned();
            let (status, headers, body) = if path.ends_with("/version") {
                (200, String::new(), br#"{"ApiVersion":"1.41","Version":"20.10"}"#.to_vec())
            } else {
                answer(&method, &path)
            };
            let mut out = stream;
            let length = body.len();
            let _ = write!(
                out,
                "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
            );
            let _ = if method == "HEAD" { Ok(()) } else { out.write_all(&body) };
        }
    });
    let docker = connect(&socket, 1000).unwrap();
    (dir, docker)
}

fn connect(socket: &Path, ms: u64) -> Result<Docker, EngineError> {
    let limits = Limits { call: Duration::from_millis(ms), file: Duration::from_secs(5) };
    let fd = crate::Root::at(Path::new("/")).unwrap().open_path(socket).unwrap();
    Docker::connect(fd, socket, limits)
}

fn request(stream: &UnixStream) -> Option<(String, String)> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    while !lines.next()?.ok()?.is_empty() {}
    let mut words = first.split(' ');
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

fn json(body: &str) -> Answer {
    (200, "Content-Type: application/json\r\n".into(), body.as_bytes().to_vec())
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn named(text: &str) -> ContainerName {
    ContainerName::parse(text).unwrap()
}

fn engine_with_three() -> (tempfile::TempDir, Docker) {
    serve(|_, path| {
        let listed = |d: char, names: &str, state: &str| {
            format!(
                r#"{{"Id":"{}","Names":[{names}],"Image":"img","State":"{state}",
                "Labels":{{"com.docker.compose.service":"svc-{d}"}}}}"#,
                id(d)
            )
        };
        let inspected = |d: char, status: &str, pid: i64| {
            format!(
                r#"{{"Id":"{}","Name":"/n-{d}","Image":"sha256:1","Config":{{"Image":"apache/apisix"}},
                "State":{{"Status":"{status}","Running":true,"Pid":{pid}}}}}"#,
                id(d)
            )
        };
        match path {
            "/containers/json?all=true&size=false" => json(&format!(
                "[{},{},{},{{\"Id\":\"../../x\",\"Names\":[\"/evil\"],\"State\":\"running\"}}]",
                listed('a', r#""/other/alias","/n-a""#, "running"),
                listed('b', r#""/n-b""#, "exited"),
                listed('c', r#""/n-c\u001b[2J""#, "paused")
            )),
            p if p == format!("/containers/{}/json", id('a')) => json(&inspected('a', "running", 4242)),
            p if p == format!("/containers/{}/json", id('c')) => json(&inspected('c', "paused", 0)),
            _ => (404, String::new(), br#"{"message":"No such container"}"#.to_vec()),
        }
    })
}

#[test]
fn names_ids_and_services_resolve() {
    let (_dir, docker) = engine_with_three();
    let a = Container {
        id: id('a'),
        name: "n-a".into(),
        image: "apache/apisix".into(),
        pid: 4242,
        status: Status::Running,
    };
    for name in ["n-a", "docker://n-a", "aaa", "svc-a"] {
        assert_eq!(docker.resolve(&named(name)).as_ref(), Ok(&a), "{name}");
    }
    assert_eq!(docker.list().unwrap().len(), 3, "what has no usable ID is left out");
    let stopped = ResolveError::Stopped { name: "n-b".into(), status: Status::Exited };
    assert_eq!(docker.resolve(&named("n-b")), Err(stopped));
    let no_pid = docker.resolve(&named("svc-c")).unwrap_err();
    assert_eq!(
        no_pid,
        ResolveError::Stopped { name: "n-c".into(), status: Status::Paused },
        "ended meanwhile"
    );
    let ResolveError::NotFound { near, .. } = docker.resolve(&named("n-x")).unwrap_err() else {
        panic!("found")
    };
    assert_eq!(near, ["n-a"]);
    assert_eq!(docker.list().unwrap()[2].name, "n-c\\x1b[2J");
}

#[test]
fn an_id_cannot_become_another_url() {
    let (_dir, docker) = engine_with_three();
    for bad in ["../x", "a/b", "", "a?b", "a%2fb", &"a".repeat(65)] {
        assert!(matches!(docker.inspect(bad), Err(ResolveError::Engine(EngineError::Api(_)))), "{bad}");
        assert!(docker.fetch(bad, Path::new("/x"), 1).is_err());
    }
}

#[test]
fn an_engines_error_is_passed_on_harmless() {
    let (_dir, docker) = serve(|_, _| (500, String::new(), br#"{"message":"bad \u001b[2J thing"}"#.to_vec()));
    let EngineError::Api(said) = docker.list().unwrap_err() else { panic!("another error") };
    assert!(said.contains("thing") && said.chars().all(|c| !c.is_control()), "{said:?}");
    let (_dir, docker) = serve(|_, _| json("[{"));
    assert!(matches!(docker.list(), Err(EngineError::Api(_))));
}

#[test]
fn an_engine_that_says_nothing_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _listener = UnixListener::bind(&socket).unwrap();
    let start = Instant::now();
    let after = Duration::from_millis(200);
    assert_eq!(connect(&socket, 200).unwrap_err(), EngineError::Timeout { after });
    assert!(start.elapsed() < Duration::from_secs(2));
}

fn tarred(kind: tar::EntryType, data: &[u8], link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_path("f").unwrap();
    if !link.is_empty() {
        header.set_link_name(link).unwrap();
    }
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, data).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn files_are_fetched_through_links_and_within_limits() {
    use tar::EntryType as T;
    let data = vec![7; 300_000];
    let copy = data.clone();
    // No answer to HEAD: the links in the archives are all there is.
    let (_dir, docker) = serve(move |method, path| {
        let file = path.split_once("path=").map(|(_, p)| p.replace("%2F", "/")).unwrap_or_default();
        let tar = match (method, file.as_str()) {
            ("HEAD", _) => return (501, String::new(), Vec::new()),
            (_, "/lib/x.so") => tarred(T::Symlink, b"", "../../../usr/./lib/y.so"),
            (_, "/usr/lib/y.so") => tarred(T::Symlink, b"", "/usr/lib/z.so"),
            (_, "/usr/lib/z.so") => tarred(T::Regular, &copy, ""),
            (_, "/loop") => tarred(T::Symlink, b"", "loop"),
            (_, "/dir") => tarred(T::Directory, b"", ""),
            (_, "/short") => tarred(T::Regular, &copy, "")[..9000].to_vec(),
            _ => return (404, String::new(), br#"{"message":"no"}"#.to_vec()),
        };
        (200, String::new(), tar)
    });
    let fetch = |path: &str, max| docker.fetch(&id('a'), Path::new(path), max);
    assert_eq!(fetch("/lib/x.so", 300_000).unwrap(), data);
    assert_eq!(fetch("usr/../lib/x.so", 300_000).unwrap(), data);
    assert_eq!(
        fetch("/lib/x.so", 299_999),
        Err(FetchError::TooLarge { path: "/lib/x.so".into(), max: 299_999 })
    );
    assert_eq!(fetch("/loop", 9), Err(FetchError::TooManyLinks { path: "/loop".into() }));
    assert_eq!(fetch("/dir", 9), Err(FetchError::NotRegular { path: "/dir".into() }));
    assert_eq!(fetch("/none", 9), Err(FetchError::NotFound { path: "/none".into() }));
    assert!(matches!(fetch("/short", 300_000), Err(FetchError::Engine(_))));
}

#[test]
fn a_link_the_engine_resolves_is_taken_from_it() {
    // {"name":"f","size":1,"mode":134218239,"mtime":"2024-01-01T00:00:00Z","linkTarget":"/real"}
    let stat = "eyJuYW1lIjoiZiIsInNpemUiOjEsIm1vZGUiOjEzNDIxODIzOSwibXRpbWUiOiIyMDI0LTAxLTAxVDAwOjAwOjAwWiIsImxpbmtUYXJnZXQiOiIvcmVhbCJ9";
    let header = format!("X-Docker-Container-Path-Stat: {stat}\r\n");
    let (_dir, docker) = serve(move |method, path| match (method, path.ends_with("path=%2Freal")) {
        ("HEAD", false) => (200, header.clone(), Vec::new()),
        ("HEAD", true) => (200, String::new(), Vec::new()),
        (_, false) => panic!("the link itself was asked for"),
        (_, true) => (200, String::new(), tarred(tar::EntryType::Regular, b"real", "")),
    });
    assert_eq!(docker.fetch(&id('a'), Path::new("/link"), 9).unwrap(), b"real");
}
