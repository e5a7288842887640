use crate::shown;

/// A container's name may be this long, in bytes.
const MAX_BYTES: usize = 255;
/// Shorter texts are never taken as the beginning of an ID.
const MIN_ID_PREFIX: usize = 3;
/// How much of a refused name is printed back.
const SHOWN: usize = 64;

/// What a user typed to name a container, checked: `NAME`, the beginning of an ID, a compose service,
/// each with or without `docker://` in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerName {
    text: String,
}

/// A text that cannot name a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{shown}' is not a container's name: {fault}")]
pub struct InvalidName {
    /// The text, escaped and shortened.
    pub shown: String,
    /// What is wrong with it.
    pub fault: NameFault,
}

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// Nothing was given.
    #[error("it is empty")]
    Empty,
    /// Longer than any engine allows.
    #[error("it is {bytes} bytes long, the limit is {MAX_BYTES}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A newline, an escape or another control character.
    #[error("it has a control character")]
    Control,
    /// A slash after the scheme.
    #[error("it has a '/'")]
    Slash,
    /// A scheme of a runtime this version does not know.
    #[error("'{0}://' is not a known runtime (known: docker://)")]
    Scheme(
        /// The scheme, escaped and shortened.
        String,
    ),
}

impl ContainerName {
    /// Checks what the user typed.
    ///
    /// # Errors
    /// [`InvalidName`] says what is wrong, and repeats no more than the start of the text.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let refuse = |fault| InvalidName { shown: shown(text, SHOWN), fault };
        let rest = match text.split_once("://") {
            None => text,
            Some(("docker", rest)) => rest,
            Some((scheme, _)) => return Err(refuse(NameFault::Scheme(shown(scheme, 16)))),
        };
        if rest.is_empty() {
            return Err(refuse(NameFault::Empty));
        }
        if rest.len() > MAX_BYTES {
            return Err(refuse(NameFault::TooLong { bytes: rest.len() }));
        }
        if rest.chars().any(char::is_control) {
            return Err(refuse(NameFault::Control));
        }
        if rest.contains('/') {
            return Err(refuse(NameFault::Slash));
        }
        Ok(Self { text: rest.to_owned() })
    }

    /// The name without its scheme, as typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name as it may be printed.
    #[must_use]
    pub fn shown(&self) -> String {
        shown(&self.text, SHOWN)
    }

    /// The name as the beginning of an ID, in lower case, when it can be one: three or more
    /// hexadecimal digits.
    #[must_use]
    pub fn as_id_prefix(&self) -> Option<String> {
        let hex = self.text.bytes().all(|b| b.is_ascii_hexdigit());
        (hex && (MIN_ID_PREFIX..=64).contains(&self.text.len())).then(|| self.text.to_ascii_lowercase())
    }
}

impl std::str::FromStr for ContainerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> NameFault {
        ContainerName::parse(text).expect_err("must be refused").fault
    }

    #[test]
    fn the_grammar() {
        assert_eq!(ContainerName::parse("apisix").unwrap().as_str(), "apisix");
        assert_eq!(ContainerName::parse("docker://apisix").unwrap().as_str(), "apisix");
        assert_eq!(fault(""), NameFault::Empty);
        assert_eq!(fault("docker://"), NameFault::Empty);
        assert_eq!(fault("a/b"), NameFault::Slash);
        assert_eq!(fault("docker://a/b"), NameFault::Slash);
        assert_eq!(fault("../../etc"), NameFault::Slash);
        assert_eq!(fault("a\nb"), NameFault::Control);
        assert_eq!(fault("a\x1b[2J"), NameFault::Control);
        assert_eq!(fault("podman://a"), NameFault::Scheme("podman".into()));
        assert_eq!(fault("://a"), NameFault::Scheme(String::new()));
    }

    #[test]
    fn a_long_name_is_refused_without_repeating_it() {
        let long = "x".repeat(10_240);
        assert_eq!(fault(&long), NameFault::TooLong { bytes: 10_240 });
        let said = ContainerName::parse(&long).unwrap_err().to_string();
        assert!(said.len() < 200, "{said}");
        let scheme = format!("{long}://a");
        assert!(ContainerName::parse(&scheme).unwrap_err().to_string().len() < 250);
        assert!(ContainerName::parse(&"x".repeat(255)).is_ok());
        assert!(ContainerName::parse(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_refused_name_is_printed_without_its_escapes() {
        let said = ContainerName::parse("\x1b]0;pwned\x07").unwrap_err().to_string();
        assert!(said.chars().all(|c| !c.is_control()), "{said:?}");
    }

    #[test]
    fn id_prefixes_are_hex_and_long_enough() {
        let prefix = |s| ContainerName::parse(s).unwrap().as_id_prefix();
        assert_eq!(prefix("CAFE").as_deref(), Some("cafe"));
        assert_eq!(prefix("ca"), None);
        assert_eq!(prefix("cafg"), None);
        assert_eq!(prefix(&"a".repeat(65)), None);
    }
}
