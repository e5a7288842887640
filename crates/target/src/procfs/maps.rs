use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The kernel's own default is 65,530.
const MAX_MAPPINGS: usize = 65_536;

/// One mapping of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// The device's major and minor number. On overlayfs not the one `stat` gives.
    pub dev: (u32, u32),
    /// The file's inode, 0 without a file. On overlayfs, older kernels do not always give the one `stat` gives.
    pub inode: u64,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub exec: bool,
    /// What is mapped.
    pub path: MapPath,
}

/// What is mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapPath {
    /// A file.
    File {
        /// Its path in the process's mount namespace; the target's choice, to be printed escaped.
        path: PathBuf,
        /// Whether it has been deleted or replaced since.
        deleted: bool,
    },
    /// Memory without a name.
    Anonymous,
    /// `[stack]`, `[vdso]`, `[anon:…]` and other things that are no files.
    Special(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed,
    TooMany,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Mapping>, Fault> {
    let mut out = Vec::new();
    for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        if out.len() == MAX_MAPPINGS {
            return Err(Fault::TooMany);
        }
        out.push(mapping(line).ok_or(Fault::Malformed)?);
    }
    Ok(out)
}

/// `start-end perms offset dev inode    path`, all but the path in ASCII without spaces.
fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut parts = line.splitn(6, |b| *b == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (start, end) = word()?.split_once('-')?;
    let perms = word()?.as_bytes();
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let inode = word()?.parse().ok()?;
    let path = parts.next().unwrap_or_default();
    let path = &path[path.iter().position(|b| *b != b' ').unwrap_or(path.len())..];
    let (start, end) = (hex(start)?, hex(end)?);
    Some(Mapping {
        start,
        end: (end > start).then_some(end)?,
        offset,
        dev: (u32::try_from(hex(major)?).ok()?, u32::try_from(hex(minor)?).ok()?),
        inode,
        read: *perms.first()? == b'r',
        write: *perms.get(1)? == b'w',
        exec: *perms.get(2)? == b'x',
        path: map_path(path),
    })
}

fn map_path(text: &[u8]) -> MapPath {
    match text.first() {
        None => MapPath::Anonymous,
        Some(b'/') => {
            let (path, deleted) = text.strip_suffix(b" (deleted)").map_or((text, false), |p| (p, true));
            MapPath::File { path: PathBuf::from(OsString::from_vec(unescape(path))), deleted }
        }
        Some(_) => MapPath::Special(String::from_utf8_lossy(text).into_owned()),
    }
}

/// The kernel writes a newline in a path as `\012`, and nothing else escaped, not even a backslash: a
/// file whose name really has `\012` in it is read wrong here, and found by its mapping instead.
fn unescape(mut path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    while let Some((first, rest)) = path.split_first() {
        if let Some(rest) = path.strip_prefix(b"\\012") {
            out.push(b'\n');
            path = rest;
        } else {
            out.push(*first);
            path = rest;
        }
    }
    out
}

/// Hexadecimal digits only: `from_str_radix` alone would take a sign.
fn hex(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn one(line: &str) -> Mapping {
        parse(line.as_bytes()).unwrap().remove(0)
    }

    fn file(line: &str) -> (PathBuf, bool) {
        match one(line).path {
            MapPath::File { path, deleted } => (path, deleted),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_field() {
        let m = one("55d0a000-55d0b000 r-xp 0001f000 fd:1a 786433        /usr/sbin/nginx\n");
        let path = MapPath::File { path: "/usr/sbin/nginx".into(), deleted: false };
        assert_eq!(
            m,
            Mapping {
                start: 0x55d0_a000,
                end: 0x55d0_b000,
                offset: 0x1f000,
                dev: (0xfd, 0x1a),
                inode: 786_433,
                read: true,
                write: false,
                exec: true,
                path
            }
        );
        let top = one("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]");
        assert_eq!((top.read, top.path), (false, MapPath::Special("[vsyscall]".into())));
        assert_eq!(one("1000-2000 rw-p 00000000 00:00 0 ").path, MapPath::Anonymous);
        assert_eq!(one("1000-2000 rw-p 00000000 00:00 0").path, MapPath::Anonymous);
        assert_eq!(
            one("1000-2000 rw-s 0 00:0e 1  anon_inode:[perf_event]").path,
            MapPath::Special("anon_inode:[perf_event]".into())
        );
    }

    #[test]
    fn paths_are_read_as_the_kernel_writes_them() {
        let start = "1000-2000 r-xp 00000000 08:01 5   ";
        assert_eq!(file(&format!("{start}/a b  c ")).0, Path::new("/a b  c "));
        assert_eq!(file(&format!("{start}/a (deleted)")), ("/a".into(), true));
        assert_eq!(file(&format!("{start}/a (deleted)x")), ("/a (deleted)x".into(), false));
        assert_eq!(file(&format!("{start}/a\\012b\\040c")).0, Path::new("/a\nb\\040c"), "only newlines");
        assert_eq!(file(&format!("{start}/memfd:x (deleted)")), ("/memfd:x".into(), true));
        let raw = [start.as_bytes(), b"/\xff\xfe"].concat();
        assert!(
            matches!(&parse(&raw).unwrap()[0].path, MapPath::File { path, .. } if path.as_os_str().len() == 3)
        );
    }

    #[test]
    fn what_the_kernel_never_writes_is_refused() {
        for bad in [
            "x",
            "1000 r-xp 0 00:00 0",
            "2000-1000 r-xp 0 00:00 0",
            "1000-1000 r-xp 0 00:00 0",
            "1000-2000 r- 0 00:00 0",
            "1000-2000 r-xp 0 0000 0",
            "1000-2000 r-xp 0 00:00 -1",
            "+1000-2000 r-xp 0 00:00 0",
            "10000000000000000-20000000000000000 r-xp 0 00:00 0",
            "1000-2000 r-xp 0 100000000:00 0",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(Fault::Malformed), "{bad:?}");
        }
        assert_eq!(parse(b""), Ok(vec![]));
    }

    #[test]
    fn there_is_a_limit() {
        let lines = |n: usize| "1000-2000 r-xp 0 00:00 0\n".repeat(n);
        assert_eq!(parse(lines(65_536).as_bytes()).unwrap().len(), 65_536);
        assert_eq!(parse(lines(65_537).as_bytes()), Err(Fault::TooMany));
    }
}
