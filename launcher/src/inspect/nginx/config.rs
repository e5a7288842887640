//! `config`: the configuration nginx runs with.

use super::of_one;
use crate::inspect::world::{Process, World};
use crate::inspect::{Ask, Inspector};
use serde::Serialize;
use std::path::Path;
use std::time::SystemTime;
use upprof_nginx::inspect::{ConfigFile, Nginx, Untrusted, loaded, path, redact};
use upprof_report::inspect::{Part, Subject, Table};
use upprof_target::{FileError, ProcessInfo, Root};

/// Nothing to remember.
pub(super) struct ConfigInspector;

/// The configuration, secrets hidden.
#[derive(Serialize)]
pub(super) struct Config {
    /// 1.22.1
    version: String,
    /// What `nginx -V` prints, read from the file: nothing is run.
    configure_arguments: Option<String>,
    from: From,
    files: Vec<ConfigFile>,
    /// Secrets that were replaced.
    hidden: u64,
}

/// How the configuration was had.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum From {
    /// nginx kept what it read: this is what runs.
    Memory,
    /// This build keeps nothing: the file as it is now, without what it includes.
    File {
        /// It was changed after this process had started.
        changed_since: bool,
    },
}

impl Inspector for ConfigInspector {
    type Artifact = Config;
    const NAME: &'static str = "config";
    const ABOUT: &'static str = "the loaded configuration, secrets hidden, and how nginx was built";
    /// Hundreds of lines.
    const BY_DEFAULT: bool = false;

    fn look(&mut self, world: &World<'_>, _ask: &Ask) -> Vec<Part<Config>> {
        of_one(world, |process, nginx| {
            let (from, files) = match loaded(nginx) {
                Ok(files) => (From::Memory, files),
                Err(Untrusted::None(_)) => from_file(&process.info, &path(nginx)?)?,
                Err(e) => return Err(e),
            };
            let hidden = files.iter().map(|f| f.hidden).sum();
            let configure_arguments = configure_arguments(world, process);
            Ok(Config { version: version(nginx), configure_arguments, from, files, hidden })
        })
    }

    fn tables(found: &[(&Subject, &Config)]) -> Vec<Table> {
        let mut tables = Vec::new();
        for (_, config) in found {
            let mut table = Table::new("config: the loaded configuration", &["file", "bytes", "hidden"]);
            for file in &config.files {
                table.row(vec![
                    file.path.as_str().into(),
                    (file.text.len() as u64).into(),
                    file.hidden.into(),
                ]);
            }
            table.note(format!("nginx {}", config.version));
            config.configure_arguments.iter().for_each(|a| table.note(a.as_str()));
            match config.from {
                From::Memory => table.note("as nginx keeps it in memory: what it runs with"),
                From::File { changed_since: false } => {
                    table.note("from the file (this build keeps none), not changed since nginx started");
                }
                From::File { changed_since: true } => {
                    table.note("from the file, WHICH WAS CHANGED after this process had started: it may run with another");
                }
            }
            tables.push(table);
            for file in &config.files {
                let mut text = Table::new(file.path.clone(), &[]);
                file.text.lines().for_each(|line| text.note(line));
                tables.push(text);
            }
        }
        tables
    }
}

fn version(nginx: &Nginx<'_>) -> String {
    upprof_nginx::version_text(nginx.version())
}

fn configure_arguments(world: &World<'_>, process: &Process) -> Option<String> {
    const CORE: &str = "ngx_core_module";
    world.symbol(process, CORE)?;
    world.library().text_of(&process.space, CORE, "configure arguments:")
}

fn from_file(process: &ProcessInfo, path: &str) -> Result<(From, Vec<ConfigFile>), Untrusted> {
    const MAX: u64 = 4 << 20;
    let read = || -> Result<(Vec<u8>, Option<SystemTime>), FileError> {
        let root = Root::at(&Path::new("/proc").join(process.pid.to_string()).join("root"))?;
        let changed = root.open(Path::new(path))?.metadata().and_then(|m| m.modified()).ok();
        Ok((root.read(Path::new(path), MAX)?, changed))
    };
    let (bytes, changed) = read().map_err(|_| Untrusted::None("configuration file that can be read"))?;
    let (text, hidden) = redact(&String::from_utf8_lossy(&bytes));
    let changed_since = changed.zip(started(process)).is_some_and(|(changed, start)| changed > start);
    Ok((From::File { changed_since }, vec![ConfigFile { path: path.to_owned(), text, hidden }]))
}

/// When the process started, by the host's clock.
fn started(process: &ProcessInfo) -> Option<SystemTime> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let uptime = std::time::Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
    let ticks = rustix::param::clock_ticks_per_second();
    let start = std::time::Duration::from_secs_f64(process.start_time_ticks as f64 / ticks as f64);
    SystemTime::now().checked_sub(uptime.checked_sub(start)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// What a build without --with-debug is answered by: no such build has a layout that is known.
    #[test]
    fn a_file_says_whether_it_was_changed_since_the_process_started() {
        let me = upprof_target::Proc::default().processes_of_pid(std::process::id()).expect("ourselves");
        let me = me.iter().find(|p| p.pid == std::process::id()).expect("ourselves");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "proxy_set_header Authorization \"Basic c2VjcmV0\";").expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let hour = Duration::from_secs(3600);
        for (modified, changed) in
            [(SystemTime::now() + hour, true), (SystemTime::now() - 1000 * hour, false)]
        {
            file.as_file().set_modified(modified).expect("its own time");
            let (from, files) = from_file(me, path).expect("it can be read");
            assert!(matches!(from, From::File { changed_since } if changed_since == changed), "{modified:?}");
            assert_eq!(files.len(), 1);
            assert_eq!((files[0].hidden, files[0].path.as_str()), (1, path));
            assert!(!files[0].text.contains("c2VjcmV0"), "{}", files[0].text);
        }
        assert!(from_file(me, "/no/such/file").is_err());
    }
}
