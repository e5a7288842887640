//! A bundle, read back from the disk.

use super::stacks::Stacks;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use upprof_report::Manifest;

/// The mark of a folder that is not whole.
pub const INCOMPLETE: &str = "INCOMPLETE";

/// A bundle's folder.
#[derive(Debug)]
pub struct Bundle {
    /// The folder.
    pub path: PathBuf,
}

/// A row of `cpu/by-worker.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// On the host.
    pub pid: u32,
    /// What it is.
    pub role: String,
    /// Samples of it.
    pub samples: u64,
    /// How many per cent of them have Lua; `None` without samples.
    pub lua_percent: Option<f64>,
    /// Why there are no Lua stacks; empty if there are.
    pub lua_unavailable: String,
}

/// Every bundle in a folder, by name.
#[must_use]
pub fn all_in(out: &Path) -> Vec<Bundle> {
    let entries = fs::read_dir(out).expect("the output folder").map(|e| e.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries.filter(|p| p.is_dir()).collect();
    found.sort();
    found.into_iter().map(|path| Bundle { path }).collect()
}

impl Bundle {
    /// The only bundle in a folder.
    ///
    /// # Panics
    /// When there is none or more than one.
    #[must_use]
    pub fn only_in(out: &Path) -> Self {
        let mut all = all_in(out);
        assert_eq!(all.len(), 1, "bundles in {}: {all:?}", out.display());
        all.remove(0)
    }

    /// A file's bytes.
    #[must_use]
    pub fn bytes(&self, file: &str) -> Vec<u8> {
        fs::read(self.path.join(file)).unwrap_or_else(|e| panic!("{file} of {}: {e}", self.path.display()))
    }

    /// A file's text.
    #[must_use]
    pub fn text(&self, file: &str) -> String {
        String::from_utf8(self.bytes(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    /// The folded stacks.
    #[must_use]
    pub fn stacks(&self) -> Stacks {
        Stacks::parse(&self.text("cpu/profile.folded"))
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        Manifest::from_yaml(&self.text("manifest.yaml")).expect("a manifest")
    }

    /// A counter's value.
    ///
    /// # Panics
    /// When the manifest does not have it.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.manifest().counters;
        counters.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no counter {name}")).count
    }

    /// The table of processes.
    #[must_use]
    pub fn workers(&self) -> Vec<Worker> {
        let text = self.text("cpu/by-worker.csv");
        let mut rows = text.lines().map(cells);
        let heads = rows.next().expect("a header");
        rows.map(|row| {
            assert_eq!(row.len(), heads.len(), "{row:?}");
            let cell = |name: &str| {
                let column = heads.iter().position(|h| h == name);
                row[column.unwrap_or_else(|| panic!("no column {name}"))].clone()
            };
            Worker {
                pid: cell("pid").parse().expect("a pid"),
                role: cell("role"),
                samples: cell("samples").parse().expect("a count"),
                lua_percent: cell("lua_percent").parse().ok(),
                lua_unavailable: cell("lua_unavailable"),
            }
        })
        .collect()
    }

    /// A table: every row's cells by the name of their column.
    ///
    /// # Panics
    /// When a row has not as many cells as the header.
    #[must_use]
    pub fn table(&self, file: &str) -> Vec<BTreeMap<String, String>> {
        let text = self.text(file);
        let mut rows = text.lines().map(cells);
        let heads = rows.next().expect("a header");
        rows.map(|row| {
            assert_eq!(row.len(), heads.len(), "{row:?}");
            heads.iter().cloned().zip(row).collect()
        })
        .collect()
    }

    /// The files of the folder, by path inside it.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&self.path).expect("inside").to_str().expect("UTF-8");
                    found.insert(name.to_owned(), fs::read(&path).expect("a file"));
                }
            }
        }
        found
    }

    /// Where the archive is.
    #[must_use]
    pub fn archive_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".tar.gz");
        path.into()
    }

    /// The files of the archive, by path inside its one folder, which is called as this one.
    ///
    /// # Panics
    /// When the archive is not like that.
    #[must_use]
    pub fn archive(&self) -> BTreeMap<String, Vec<u8>> {
        let file = fs::File::open(self.archive_path()).expect("an archive");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let folder = self.path.file_name().expect("a name");
        let mut found = BTreeMap::new();
        for entry in archive.entries().expect("a tar file") {
            let mut entry = entry.expect("an entry");
            if entry.header().entry_type().is_dir() {
                continue;
            }
            let path = entry.path().expect("a path").into_owned();
            let name = path.strip_prefix(folder).expect("in its folder").to_str().expect("UTF-8").to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("its bytes");
            found.insert(name, bytes);
        }
        found
    }
}

/// A line of CSV; quotes are doubled inside quotes.
fn cells(line: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let cell = all.last_mut().expect("never empty");
        match c {
            '"' if quoted && rest.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(String::new()),
            c => cell.push(c),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn csv_with_quotes() {
        assert_eq!(super::cells(r#"1,"a, ""b""",,x"#), ["1", r#"a, "b""#, "", "x"]);
    }
}
