use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// A tar stream has headers and padding besides the file.
pub(super) const TAR_OVERHEAD: u64 = 1 << 20;

/// What the first entry of an archive is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A regular file, whole.
    File(Vec<u8>),
    /// A symbolic link and its target, as written in it.
    Link(PathBuf),
    /// A folder, a device, a pipe.
    Other,
    /// A regular file with more bytes than allowed.
    TooLarge,
    /// Nothing at all.
    Empty,
}

/// Reads the first entry of a tar stream, and no more of it than `max` bytes of content.
pub(super) fn first_entry<R: Read>(archive: &mut tar::Archive<R>, max: u64) -> std::io::Result<Found> {
    let Some(entry) = archive.entries()?.next() else { return Ok(Found::Empty) };
    let entry = entry?;
    let kind = entry.header().entry_type();
    if kind.is_symlink() {
        let target = entry.link_name()?.map(|t| t.into_owned()).unwrap_or_default();
        return Ok(Found::Link(target));
    }
    if !kind.is_file() && !kind.is_contiguous() {
        return Ok(Found::Other);
    }
    let size = entry.size();
    if size > max {
        return Ok(Found::TooLarge);
    }
    let mut bytes = Vec::new();
    entry.take(max).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Found::File(bytes))
}

/// `target`, as found in a link at `link`, as an absolute path inside the container's root: `..` never
/// climbs above it. `None` when the path gets longer than a path may be.
pub(super) fn follow(link: &Path, target: &Path) -> Option<PathBuf> {
    let base = link.parent().unwrap_or(Path::new("/"));
    let mut out = PathBuf::from("/");
    for part in base.join(target).components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    (out.as_os_str().len() < 4096).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tarred(kind: tar::EntryType, data: &[u8], link: Option<&str>) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_path("f").unwrap();
        if let Some(link) = link {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, data).unwrap();
        builder.into_inner().unwrap()
    }

    fn first(bytes: &[u8], max: u64) -> std::io::Result<Found> {
        first_entry(&mut tar::Archive::new(bytes), max)
    }

    #[test]
    fn files_links_and_the_rest() {
        use tar::EntryType as T;
        assert_eq!(first(&tarred(T::Regular, b"hello", None), 5).unwrap(), Found::File(b"hello".to_vec()));
        assert_eq!(first(&tarred(T::Regular, b"hello", None), 4).unwrap(), Found::TooLarge);
        assert_eq!(
            first(&tarred(T::Symlink, b"", Some("../x")), 9).unwrap(),
            Found::Link(PathBuf::from("../x"))
        );
        for other in [T::Directory, T::Fifo, T::Char, T::Block, T::Link] {
            assert_eq!(first(&tarred(other, b"", Some("x")), 9).unwrap(), Found::Other, "{other:?}");
        }
        assert_eq!(first(&[0; 1024], 9).unwrap(), Found::Empty);
    }

    #[test]
    fn hostile_streams_are_errors_not_panics_or_allocations() {
        let whole = tarred(tar::EntryType::Regular, &[7; 4000], None);
        assert!(first(&whole[..600], 9000).is_err(), "a stream that ends early");
        assert!(first(&[0xff; 512], 9000).is_err(), "noise");
        let mut lying = whole.clone();
        lying[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
        lying[148..156].copy_from_slice(b"        ");
        let sum: u32 = lying[..512].iter().map(|b| u32::from(*b)).sum();
        lying[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(first(&lying, 9000).unwrap(), Found::TooLarge, "a size that is not true");
    }

    #[test]
    fn links_stay_inside_the_root() {
        let f = |l: &str, t: &str| follow(Path::new(l), Path::new(t)).unwrap().display().to_string();
        assert_eq!(f("/usr/lib/a.so", "a.so.2"), "/usr/lib/a.so.2");
        assert_eq!(f("/usr/lib/a.so", "../b/./c"), "/usr/b/c");
        assert_eq!(f("/usr/lib/a.so", "../../../../../../etc/passwd"), "/etc/passwd");
        assert_eq!(f("/usr/lib/a.so", "/etc/passwd"), "/etc/passwd");
        assert_eq!(f("/a", ".."), "/");
        assert!(follow(Path::new("/a"), Path::new(&"x/".repeat(4096))).is_none());
    }
}
