use super::*;
use std::fs;
use std::os::unix::fs::symlink;

/// A `/proc` made of files.
struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    /// We are in the namespace with the number 1.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("self/ns")).unwrap();
        symlink("pid:[1]", dir.path().join("self/ns/pid")).unwrap();
        fs::write(dir.path().join("uptime"), "1 1").unwrap();
        Self { dir }
    }

    fn add(&self, pid: u32, ppid: u32, ns: u32, cgroup: &str, cmdline: &str) -> &Self {
        let at = self.dir.path().join(pid.to_string());
        fs::create_dir_all(at.join("ns")).unwrap();
        symlink(format!("pid:[{ns}]"), at.join("ns/pid")).unwrap();
        fs::write(at.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        fs::write(at.join("cmdline"), cmdline).unwrap();
        fs::write(at.join("status"), format!("Name:\tx\nNSpid:\t{pid}\t{}\n", pid % 100)).unwrap();
        self.state(pid, ppid, 'S');
        self
    }

    fn state(&self, pid: u32, ppid: u32, state: char) {
        let stat = format!("{pid} (ng) inx) {state} {ppid} 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 {}5 0", pid);
        fs::write(self.dir.path().join(pid.to_string()).join("stat"), stat).unwrap();
    }

    fn proc(&self) -> Proc {
        Proc::at(self.dir.path())
    }

    fn of(&self, pid: u32) -> Vec<u32> {
        self.proc().processes_of(pid).unwrap().iter().map(|p| p.pid).collect()
    }

    fn of_pid(&self, pid: u32) -> Vec<u32> {
        self.proc().processes_of_pid(pid).unwrap().iter().map(|p| p.pid).collect()
    }
}

#[test]
fn titles_give_roles() {
    for (title, role) in [
        ("nginx: master process /usr/sbin/nginx -g daemon off;", Role::Master),
        ("nginx: master process\0\0\0", Role::Master),
        ("nginx: worker process", Role::Worker),
        ("nginx: worker process\0\0\0\0", Role::Worker),
        ("nginx: worker process is shutting down\0", Role::DrainingWorker),
        ("nginx: cache manager process", Role::CacheManager),
        ("nginx: cache loader process", Role::CacheLoader),
        ("nginx: privileged agent process", Role::PrivilegedAgent),
        ("nginx: worker processor", Role::Other),
        ("nginx: signaller process", Role::Other),
        ("nginx\0-g\0daemon off;\0", Role::Other),
        ("sh\0-c\0nginx: worker process", Role::Other),
        ("", Role::Other),
    ] {
        assert_eq!(Role::of_title(&super::title(title.as_bytes())), role, "{title:?}");
    }
}

#[test]
fn one_process() {
    let fake = Fake::new();
    fake.add(107, 1, 9, "/docker/a", "nginx: worker process\0\x1b[2J\n\u{202e}\0");
    let info = fake.proc().info(107).unwrap();
    assert_eq!((info.ppid, info.ns_pid, info.start_time_ticks, info.role), (1, Some(7), 1075, Role::Worker));
    assert_eq!(info.comm, "ng) inx");
    assert_eq!(info.title, "nginx: worker process \\x1b[2J\\n\\u{202e}");
    assert_eq!(fake.proc().info(108), Err(ProcError::Gone { pid: 108 }));
    fake.state(107, 1, 'Z');
    assert_eq!(fake.proc().info(107), Err(ProcError::Gone { pid: 107 }), "a zombie");
}

#[test]
fn a_container_is_its_namespace_and_its_groups() {
    let fake = Fake::new();
    fake.add(1, 0, 1, "/init.scope", "init")
        .add(100, 1, 9, "/docker/a", "nginx: master process")
        .add(101, 100, 9, "/docker/a", "nginx: worker process")
        .add(102, 1, 9, "/elsewhere", "docker exec, moved to another group")
        .add(103, 100, 12, "/docker/a/nested", "a namespace within")
        .add(104, 1, 1, "/docker/ab", "another container")
        .add(105, 100, 9, "/docker/a", "ended");
    fake.state(105, 100, 'Z');
    assert_eq!(fake.of(100), [100, 101, 102, 103]);
    assert!(fake.proc().processes_of(99).is_err());
}

#[test]
fn a_container_in_the_hosts_pid_namespace_is_its_groups() {
    let fake = Fake::new();
    fake.add(1, 0, 1, "/init.scope", "init").add(200, 1, 1, "/docker/b", "nginx: master process").add(
        201,
        1,
        1,
        "/docker/b/x",
        "daemonized",
    );
    assert_eq!(fake.of(200), [200, 201]);
}

#[test]
fn without_groups_or_namespace_it_is_the_tree() {
    let fake = Fake::new();
    fake.add(1, 0, 1, "/", "init")
        .add(300, 1, 1, "/", "a")
        .add(301, 300, 1, "/", "b")
        .add(302, 301, 1, "/", "c");
    fake.add(303, 1, 1, "/", "beside");
    assert_eq!(fake.of(300), [300, 301, 302], "never the whole machine");
}

#[test]
fn our_own_namespace_unknown_is_not_the_containers() {
    let fake = Fake::new();
    fs::remove_file(fake.dir.path().join("self/ns/pid")).unwrap();
    fake.add(400, 1, 1, "/", "a").add(401, 1, 1, "/", "same namespace, perhaps everybody's");
    assert_eq!(fake.of(400), [400]);
}

#[test]
fn a_pid_is_itself_and_a_master_its_workers() {
    let fake = Fake::new();
    fake.add(10, 1, 1, "/", "nginx: master process a")
        .add(11, 10, 1, "/", "nginx: worker process is shutting down")
        .add(12, 10, 1, "/", "nginx: master process b")
        .add(13, 12, 1, "/", "nginx: worker process")
        .add(14, 13, 1, "/", "a worker's child")
        .add(15, 1, 1, "/", "nginx: worker process");
    assert_eq!(fake.of_pid(10), [10, 11, 12, 13]);
    assert_eq!(fake.of_pid(12), [12, 13]);
    assert_eq!(fake.of_pid(13), [13]);
}

#[test]
fn a_parent_that_is_its_own_ancestor_ends() {
    let fake = Fake::new();
    fake.add(20, 21, 1, "/", "nginx: master process").add(21, 20, 1, "/", "nginx: master process");
    assert_eq!(fake.of_pid(20), [20, 21]);
    fake.add(22, 22, 1, "/", "nginx: master process");
    assert_eq!(fake.of_pid(22), [22]);
}

#[test]
fn a_real_child_is_found() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let proc = Proc::default();
    // `spawn` may return before the new program has its arguments.
    let wait = || std::thread::sleep(std::time::Duration::from_millis(10));
    let started = |p: &ProcessInfo| p.title == "sleep 60";
    let found =
        (0..200).find_map(|_| proc.info(child.id()).ok().filter(started).or_else(|| (wait(), None).1));
    let me = proc.info(std::process::id()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let found = found.unwrap();
    assert_eq!((found.ppid, found.role, found.comm.as_str()), (std::process::id(), Role::Other, "sleep"));
    assert!(found.start_time_ticks >= me.start_time_ticks && me.start_time_ticks > 0);
}
