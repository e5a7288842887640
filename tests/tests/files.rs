//! A container's files, by each way to them: the same bytes.

use std::path::Path;
use upprof_target::{ContainerName, Discovery, Files, MapPath, Proc, Source};
use upprof_tests::harness::target::Target;

#[test]
fn the_engines_archive_gives_the_same_bytes_as_the_containers_root() {
    let target = Target::quiet("files");
    let engine = Discovery::default().connect().expect("an engine");
    let name = ContainerName::parse(target.name()).expect("a name");
    let container = engine.resolve(&name).expect("our container");
    assert_eq!((container.id.as_str(), container.pid), (target.id(), target.pid()));

    let proc = Proc::default();
    let worker = proc.info(target.workers()[0]).expect("a worker");
    let maps = proc.maps(worker.pid).expect("its mappings");
    let files = |way| Files::of(&proc, &worker).with_engine(engine.as_ref(), &container.id).only(&[way]);
    let mut seen = 0;
    // nginx itself, LuaJIT behind a symbolic link, a module: whatever the worker runs.
    for mapping in maps.iter().filter(|m| m.exec) {
        let MapPath::File { path, deleted: false } = &mapping.path else { continue };
        let from = |way| files(way).image(mapping).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (root, mapped, archive) = (from(Source::Root), from(Source::Mapping), from(Source::Engine));
        assert!(root.bytes().starts_with(b"\x7fELF"), "{}", path.display());
        assert!(root.bytes() == archive.bytes(), "{} differs in the archive", path.display());
        assert!(root.bytes() == mapped.bytes(), "{} differs in the mapping", path.display());
        seen += 1;
    }
    // nginx, libc, the loader, LuaJIT and ngx_lua at the least.
    assert!(seen >= 5, "{seen}");

    // A link is followed inside the container.
    let link = Path::new("/usr/lib/x86_64-linux-gnu/libluajit-5.1.so.2");
    let at = |way| files(way).image_at(link).unwrap_or_else(|e| panic!("{e}"));
    assert!(at(Source::Root).bytes() == at(Source::Engine).bytes());
}
