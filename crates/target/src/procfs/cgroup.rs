/// The control groups of a process: hierarchy (its controllers; empty for v2) and path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cgroups {
    paths: Vec<(String, String)>,
}

impl Cgroups {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let line = |l: &str| {
            let mut parts = l.splitn(3, ':').skip(1);
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        };
        Self { paths: text.lines().filter_map(line).collect() }
    }

    /// Each hierarchy's controllers, empty for v2, and the path in it.
    pub(super) fn hierarchies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.paths.iter().map(|(hierarchy, path)| (hierarchy.as_str(), path.as_str()))
    }

    /// Whether some path has `id` in it.
    pub(crate) fn mentions(&self, id: &str) -> bool {
        !id.is_empty() && self.paths.iter().any(|(_, path)| path.contains(id))
    }

    /// The hierarchies in which this process, a container's first, is in a group of the container's
    /// own. Where some paths have a container's ID in them only those count: engines leave a container
    /// in their own group in the hierarchies they do not manage. A root holds everybody and never counts.
    pub(crate) fn own(&self) -> Self {
        let of = |wanted: fn(&str) -> bool| Self {
            paths: self.paths.iter().filter(|(_, path)| wanted(path)).cloned().collect(),
        };
        let named = of(has_id);
        if named.paths.is_empty() { of(|path| !is_root(path)) } else { named }
    }

    /// Whether a process with these groups is in, or below, every group of `container`. Nobody is in a
    /// container without groups of its own.
    pub(crate) fn are_within(&self, container: &Self) -> bool {
        !container.paths.is_empty()
            && container.paths.iter().all(|(hierarchy, outer)| {
                self.paths.iter().any(|(h, path)| h == hierarchy && is_at_or_below(path, outer))
            })
    }
}

/// `/`, or as seen from within a control group namespace, some groups above our own.
fn is_root(path: &str) -> bool {
    path.split('/').all(|part| part.is_empty() || part == "..")
}

/// An engine's container ID: 64 hexadecimal digits in a row.
fn has_id(path: &str) -> bool {
    let mut run = 0;
    path.bytes().any(|b| {
        run = if b.is_ascii_hexdigit() { run + 1 } else { 0 };
        run == 64
    })
}

fn is_at_or_below(path: &str, outer: &str) -> bool {
    match path.strip_prefix(outer) {
        Some("") => true,
        Some(rest) => rest.starts_with('/') && !rest.split('/').any(|part| part == ".."),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(process: &str, init: &str) -> bool {
        Cgroups::parse(process.as_bytes()).are_within(&Cgroups::parse(init.as_bytes()).own())
    }

    #[test]
    fn at_or_below_but_not_beside_or_above() {
        assert!(within("0::/docker/a\n", "0::/docker/a\n"));
        assert!(within("0::/docker/a/x/y\n", "0::/docker/a\n"));
        assert!(!within("0::/docker/ab\n", "0::/docker/a\n"));
        assert!(!within("0::/docker\n", "0::/docker/a\n"));
        assert!(!within("1:cpu:/docker/a\n", "0::/docker/a\n"), "another hierarchy");
        assert!(within("1:cpu,cpuacct:/docker/a:b\n0::/\n", "5:cpu,cpuacct:/docker/a:b\n0::/\n"));
    }

    #[test]
    fn a_root_matches_nobody() {
        for root in ["0::/\n", "0::/..\n", "0::/../..\n", "", "garbage\n", "1:cpu:/\n0::/\n"] {
            assert!(!within("1:cpu:/docker/a\n0::/docker/a\n", root), "{root:?}");
            assert!(!within(root, root), "{root:?}");
        }
    }

    #[test]
    fn namespaced_paths_do_not_climb() {
        assert!(within("0::/../a/b\n", "0::/../a\n"));
        assert!(!within("0::/../../a\n", "0::/../a\n"));
        assert!(!within("0::/../a/../b\n", "0::/../a\n"));
    }

    #[test]
    fn the_engines_own_group_is_not_the_containers() {
        let id = "0123456789abcdef".repeat(4);
        let init =
            format!("2:cpu:/docker/{id}\n1:name=systemd:/docker/{id}\n0::/system.slice/docker.service\n");
        assert!(!within("2:cpu:/\n1:name=systemd:/\n0::/system.slice/docker.service\n", &init));
        assert!(within(&format!("2:cpu:/docker/{id}/w\n1:name=systemd:/docker/{id}\n0::/\n"), &init));
        assert!(!within(&format!("2:cpu:/docker/{id}\n1:name=systemd:/user\n0::/\n"), &init), "in one only");
        assert!(Cgroups::parse(init.as_bytes()).mentions(&id));
        assert!(!Cgroups::parse(init.as_bytes()).mentions(""));
    }
}
