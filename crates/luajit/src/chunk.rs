//! Chunk names: what a function's code came from.

/// What a chunk name is (lj_debug.c `lj_debug_shortname`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Chunk {
    /// `@file`: a file the target loaded.
    File(String),
    /// `=name`: a name the host chose, such as `=access_by_lua(nginx.conf:12)`.
    Named(String),
    /// Anything else is the source text itself (`load(string)`): its first line, shortened.
    Text(String),
}

/// Characters of source text that are shown as a chunk's name.
const MAX_TEXT: usize = 40;

impl Chunk {
    /// Reads a chunk name.
    #[must_use]
    pub fn parse(chunkname: &[u8]) -> Self {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        match chunkname.split_first() {
            Some((b'@', file)) => Self::File(text(file)),
            Some((b'=', name)) => Self::Named(text(name)),
            _ => {
                let source = text(chunkname);
                let first = source.lines().next().unwrap_or_default();
                let mut short: String = first.chars().take(MAX_TEXT).collect();
                if short.len() < source.trim_end().len() {
                    short.push('…');
                }
                Self::Text(format!("[string \"{short}\"]"))
            }
        }
    }

    /// The chunk as a file name for people.
    #[must_use]
    pub fn display(&self) -> &str {
        match self {
            Self::File(s) | Self::Named(s) | Self::Text(s) => s,
        }
    }

    /// A directive's inline code: `access_by_lua(nginx.conf:12)` is directive, file and line.
    #[must_use]
    pub fn directive(&self) -> Option<(&str, &str, u32)> {
        let Self::Named(name) = self else { return None };
        let (directive, place) = name.strip_suffix(')')?.split_once('(')?;
        let (file, line) = place.rsplit_once(':')?;
        Some((directive, file, line.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_names() {
        assert_eq!(Chunk::parse(b"@/app/x.lua"), Chunk::File("/app/x.lua".into()));
        let inline = Chunk::parse(b"=access_by_lua(nginx.conf:12)");
        assert_eq!(inline.directive(), Some(("access_by_lua", "nginx.conf", 12)));
        assert_eq!(Chunk::parse(b"return 1\nend").display(), "[string \"return 1…\"]");
        assert_eq!(Chunk::parse(b"").display(), "[string \"\"]");
        assert_eq!(Chunk::parse(b"=[C]").display(), "[C]");
        assert_eq!(Chunk::parse(b"=C").directive(), None);
    }
}
