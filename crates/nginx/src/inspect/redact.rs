//! Takes secrets out of configuration text. It errs on the side of hiding: what is hidden by mistake is
//! still in the file, what is shown by mistake is out.

/// What stands in the place of a secret.
const HIDDEN: &str = "[hidden]";
/// Parts of names whose value is a secret.
const NAMES: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "admin_key",
    "private_key",
    "access_key",
    "credential",
    "keyring",
    "encrypt_key",
];
/// Headers whose value is one.
const HEADERS: [&str; 3] = ["authorization", "cookie", "x-auth"];
/// Names that only sound like it: their value is a path or a size.
const HARMLESS_ENDINGS: [&str; 4] = ["_file", "_path", "_dict", "_size"];

/// The text with its secrets replaced, and how many were.
#[must_use]
pub fn redact(text: &str) -> (String, u64) {
    let mut hidden = 0;
    let mut in_key = false;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let begins = line.contains("-----BEGIN ");
        if begins || in_key {
            in_key = !line.contains("-----END ");
            if begins {
                hidden += 1;
                out.push_str(HIDDEN);
                out.push('\n');
            }
            continue;
        }
        out.push_str(&redact_line(line, &mut hidden));
    }
    (out, hidden)
}

fn redact_line(line: &str, hidden: &mut u64) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    // A comment is text like any other: an old password in one is a password.
    while let Some(word) = next_word(rest) {
        let (before, from) = rest.split_at(word.start);
        out.push_str(before);
        let (name, after) = from.split_at(word.len);
        if is_token(name) {
            out.push_str(HIDDEN);
            *hidden += 1;
            rest = after;
            continue;
        }
        out.push_str(name);
        rest = after;
        if let Some(password) = userinfo(after) {
            out.push_str("://");
            out.push_str(HIDDEN);
            *hidden += 1;
            rest = &after[password..];
        } else if names_a_secret(name)
            && let Some(value) = value(after)
        {
            out.push_str(&after[..value.start]);
            out.push_str(HIDDEN);
            *hidden += 1;
            rest = &after[value.start + value.len..];
        }
    }
    out.push_str(rest);
    out
}

struct Span {
    start: usize,
    len: usize,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn next_word(text: &str) -> Option<Span> {
    let start = text.find(is_word)?;
    let len = text[start..].find(|c| !is_word(c)).unwrap_or(text.len() - start);
    Some(Span { start, len })
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let harmless = HARMLESS_ENDINGS.iter().any(|e| name.ends_with(e));
    !harmless && (NAMES.iter().any(|n| name.contains(n)) || HEADERS.contains(&name.as_str()))
        || name == "bearer"
        || name == "basic"
}

/// A JSON web token shows itself.
fn is_token(word: &str) -> bool {
    word.len() >= 20 && word.starts_with("eyJ")
}

/// Behind a scheme: the bytes up to the `@` of `://user:password@`.
fn userinfo(after: &str) -> Option<usize> {
    let rest = after.strip_prefix("://")?;
    let end = rest.find(|c: char| c.is_whitespace() || "/\"';".contains(c)).unwrap_or(rest.len());
    let at = rest[..end].find('@')?;
    rest[..at].contains(':').then_some(3 + at)
}

/// The value behind a name: over quotes, brackets and one `=`, `:` or `,`, what is in quotes or reaches
/// to the next space or `;`. A variable is none.
fn value(after: &str) -> Option<Span> {
    let mut start = after.find(|c: char| !"\"'] \t".contains(c))?;
    // The name's own closing quote must not be taken for the value's opening one.
    if after[start..].starts_with(['=', ':', ',']) {
        start += 1;
    } else if !after.starts_with([' ', '\t', '"', '\'']) {
        return None;
    }
    start += after[start..].find(|c: char| !c.is_whitespace())?;
    // What was passed over may end with the value's own quote.
    let before = after[..start].chars().next_back();
    let opened = before.filter(|c| *c == '"' || *c == '\'');
    let value = &after[start..];
    let (start, value, quote) = match value.chars().next()? {
        q @ ('"' | '\'') => (start + 1, &value[1..], Some(q)),
        _ => (start, value, opened),
    };
    let len = match quote {
        Some(q) => value.find(q).unwrap_or(value.trim_end().len()),
        None => value.find(|c: char| c.is_whitespace() || ";,}\"'".contains(c)).unwrap_or(value.len()),
    };
    let plain = &value[..len];
    let variable = plain.starts_with('$') && plain[1..].chars().all(|c| is_word(c) || "{}".contains(c));
    (len > 0 && !variable).then_some(Span { start, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_configurations_keep_them() {
        for (line, expected) in [
            (
                "proxy_set_header Authorization \"Basic Zm9vOmJhcg==\";",
                "proxy_set_header Authorization \"[hidden]\";",
            ),
            (
                "proxy_set_header X-Forwarded \"Bearer abc.def\";",
                "proxy_set_header X-Forwarded \"Bearer [hidden]\";",
            ),
            ("set $admin_key edd1c9f034335f136f87ad84b625c8f1;", "set $admin_key [hidden];"),
            ("  pg_password = \"it's me\",", "  pg_password = \"[hidden]\","),
            ("local t = { [\"api_key\"] = 'abc' }", "local t = { [\"api_key\"] = '[hidden]' }"),
            ("  key = \"x\"  # password: hunter2", "  key = \"x\"  # password: [hidden]"),
            (
                "{\"client_secret\": \"s3\", \"id\": \"a\"}",
                "{\"client_secret\": \"[hidden]\", \"id\": \"a\"}",
            ),
            ("proxy_pass http://me:pw@10.0.0.1:80/x;", "proxy_pass http://[hidden]@10.0.0.1:80/x;"),
            ("return 200 eyJhbGciOiJIUzI1NiJ9abc.x;", "return 200 [hidden].x;"),
            ("env VAULT_TOKEN=s.abc;", "env VAULT_TOKEN=[hidden];"),
            ("secure_link_secret enigma;", "secure_link_secret [hidden];"),
            ("rewrite ^ /a?token=abc&x=1 last;", "rewrite ^ /a?token=[hidden] last;"),
        ] {
            assert_eq!(redact(line), (expected.to_owned(), 1), "{line}");
        }
        let pem = "a;\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb;\n";
        assert_eq!(redact(pem), ("a;\n[hidden]\nb;\n".into(), 1));
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "ssl_certificate_key /etc/ssl/private/a.key;",
            "ssl_password_file /etc/keys/pass;",
            "proxy_set_header Authorization $http_authorization;",
            "proxy_hide_header Set-Cookie;",
            "proxy_pass http://backend/path@2;",
            "lua_shared_dict token_dict 1m;",
            "listen 127.0.0.1:8080 reuseport; # größe",
            "",
        ] {
            assert_eq!(redact(line), (line.to_owned(), 0), "{line}");
        }
    }
}
