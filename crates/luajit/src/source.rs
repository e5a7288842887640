//! The name of a function from its definition site: the chunk name, and the source line that holds
//! the `function` keyword.

/// What a chunk name is (lj_debug.c `lj_debug_shortname`).
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// The name that the source gives to the function whose `function` keyword is on `line` (1-based).
/// `None` when the line has no such keyword, more than one, or the function has no name.
#[must_use]
pub fn name_at(source: &str, line: u32) -> Option<String> {
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    let text = source.lines().nth(index)?;
    let code = code_of(text);
    let mut keywords = keyword_positions(&code);
    let at = keywords.next()?;
    if keywords.next().is_some() {
        return None; // two functions on one line: which one is not known
    }
    let after = &code[at + "function".len()..];
    if let Some(name) = declared_name(after) {
        return Some(name);
    }
    let before = code[..at].trim_end();
    if !before.is_empty() {
        return assigned_name(before);
    }
    // `x =` on the line above.
    let above = source.lines().take(index).filter(|l| !l.trim().is_empty()).last()?;
    assigned_name(code_of(above).trim_end())
}

/// The line with strings and comments blanked, so that keywords in them do not count.
fn code_of(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut quote: Option<char> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            Some(q) => {
                if c == '\\' {
                    chars.next();
                    out.push(' ');
                } else if c == q {
                    quote = None;
                }
                out.push(if quote.is_none() { c } else { '_' });
            }
            None if c == '-' && chars.peek() == Some(&'-') => break,
            None => {
                if c == '"' || c == '\'' {
                    quote = Some(c);
                }
                out.push(c);
            }
        }
    }
    out
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn keyword_positions(code: &str) -> impl Iterator<Item = usize> + '_ {
    code.match_indices("function").map(|(i, _)| i).filter(|i| {
        let before = code[..*i].chars().next_back();
        let after = code[*i + "function".len()..].chars().next();
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

/// `function a.b:c(`: what follows the keyword.
fn declared_name(after: &str) -> Option<String> {
    let name = after.trim_start();
    let end = name.find(|c: char| !is_name(c) && c != '.' && c != ':').unwrap_or(name.len());
    (end > 0).then(|| name[..end].to_owned())
}

/// `x.y = `, `local x = `, `["x"] = `: what precedes the keyword.
fn assigned_name(before: &str) -> Option<String> {
    let target = before.strip_suffix('=')?.trim_end();
    if target.ends_with(['=', '<', '>', '~']) {
        return None; // a comparison
    }
    let start = target.rfind(|c: char| !is_name(c) && c != '.').map_or(0, |i| i + 1);
    let name = target[start..].trim_matches('.');
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_function() {
        for (line, name) in [
            ("local function parse_uri(s)", Some("parse_uri")),
            ("function _M.access(conf, ctx)", Some("_M.access")),
            ("  function Account:deposit (v)", Some("Account:deposit")),
            ("local rewrite = function(ctx)", Some("rewrite")),
            ("_M.log = function () -- function two", Some("_M.log")),
            ("  header_filter = function(c) return 'function' end,", Some("header_filter")),
            ("table.sort(t, function(a, b) return a < b end)", None),
            ("return function() end", None),
            ("local functional = 1", None),
            ("if x == function() end then", None),
            ("f(function() return function() end end)", None),
            ("local function outer() return g(function() end) end", None),
        ] {
            assert_eq!(name_at(line, 1).as_deref(), name, "{line}");
        }
    }

    #[test]
    fn a_name_on_the_line_above_and_lines_out_of_range() {
        assert_eq!(name_at("local handler =\n\n   function(r)\n", 3).as_deref(), Some("handler"));
        assert_eq!(name_at("x = 1", 0), None);
        assert_eq!(name_at("x = 1", 9), None);
    }

    #[test]
    fn chunk_names() {
        assert_eq!(Chunk::parse(b"@/app/x.lua"), Chunk::File("/app/x.lua".into()));
        let inline = Chunk::parse(b"=access_by_lua(nginx.conf:12)");
        assert_eq!(inline.directive(), Some(("access_by_lua", "nginx.conf", 12)));
        assert_eq!(Chunk::parse(b"return 1\nend").display(), "[string \"return 1…\"]");
        assert_eq!(Chunk::parse(b"").display(), "[string \"\"]");
        assert_eq!(Chunk::parse(b"=C").directive(), None);
    }
}
