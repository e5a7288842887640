//! Where nginx's and ngx_lua's structs have their members: `layouts.yaml`, by version and build.
//!
//! What is picked here is a candidate. Whoever reads memory by it checks what it reads, and gives up
//! where memory disagrees.

use serde::Deserialize;
use std::collections::HashMap;
use std::sync::OnceLock;
use upprof_memory::{Memory, ReadError};

/// What every module of an nginx says of the nginx it was built for (`ngx_module_t`, ngx_module.h; at
/// the same place since 1.9.11).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `NGINX_VERSION` as a number: 1022001 is 1.22.1.
    pub version: u64,
    /// `NGX_MODULE_SIGNATURE`: three sizes, then 34 digits, one for each feature of the build.
    pub signature: String,
}

/// Why there is no layout for an nginx, or nothing of a name in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLayout {
    /// Memory is not there.
    #[error(transparent)]
    Memory(#[from] ReadError),
    /// The address is no `ngx_module_t`.
    #[error("{at:#x} is no nginx module: version {version}, signature {signature:?}")]
    NotModule {
        /// The address tried.
        at: u64,
        /// The version read.
        version: u64,
        /// The signature read, or as much of it as is printable.
        signature: String,
    },
    /// Older than the oldest row.
    #[error("nginx {} is older than every known layout", version_text(*.0))]
    Older(u64),
    /// No known combination of features.
    #[error("no known layout for the build with module signature {0:?}")]
    Build(String),
    /// The data file has no such struct or member for this version.
    #[error("no layout of {0} for this version")]
    Member(String),
}

/// A version number as people write it: 1.22.1.
#[must_use]
pub fn version_text(version: u64) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000)
}

/// Reads what a module says of its nginx.
///
/// # Errors
/// [`NoLayout::Memory`], or [`NoLayout::NotModule`] when what is there cannot be a module.
pub fn identity(mem: &dyn Memory, module: u64) -> Result<Identity, NoLayout> {
    /// `ngx_module_t.version`; `.signature` follows.
    const VERSION: u64 = 40;
    let version = mem.u64(module.wrapping_add(VERSION))?;
    let text = mem.u64(module.wrapping_add(VERSION + 8))?;
    let plausible = (1_000_000..10_000_000).contains(&version);
    let bytes = if plausible { mem.bytes(text, SIGNATURE_LEN + 1, SIGNATURE_LEN + 1)? } else { Vec::new() };
    let signature: String =
        bytes.iter().map(|b| char::from(*b)).take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    if !signature.starts_with(SIGNATURE_SIZES) || signature.len() != SIGNATURE_LEN || bytes.last() != Some(&0)
    {
        return Err(NoLayout::NotModule { at: module, version, signature });
    }
    Ok(Identity { version, signature })
}

/// Sizes of a pointer, of `sig_atomic_t` and of `time_t` on 64-bit Linux.
const SIGNATURE_SIZES: &str = "8,4,8,";
const SIGNATURE_LEN: usize = SIGNATURE_SIZES.len() + 34;

/// A member's place in its struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Bytes from the struct's start; of the member `size`, the struct's size.
    Byte(u64),
    /// A bit-field.
    Bits {
        /// The byte that holds its lowest bit.
        byte: u64,
        /// Which bit of that byte.
        shift: u8,
        /// How many bits.
        width: u8,
    },
}

/// The layout of one version of nginx in one build, or of one version of ngx_lua.
#[derive(Debug, Clone)]
pub struct Layout {
    structs: HashMap<String, HashMap<String, Place>>,
}

impl Layout {
    /// The layout of an nginx.
    ///
    /// # Errors
    /// [`NoLayout::Older`] or [`NoLayout::Build`].
    pub fn of_nginx(identity: &Identity) -> Result<Self, NoLayout> {
        let file = file();
        let digits = identity.signature.strip_prefix(SIGNATURE_SIZES).unwrap_or_default().as_bytes();
        let bit = |name: &str| {
            let (_, number) = BITS.iter().find(|(known, _)| *known == name)?;
            Some(digits.get(number - 1)? - b'0')
        };
        let fits = |bits: &HashMap<String, u8>| bits.iter().all(|(name, value)| bit(name) == Some(*value));
        let build = file.builds.iter().find(|(_, bits)| fits(bits)).map(|(name, _)| name.as_str());
        let build = build.ok_or_else(|| NoLayout::Build(identity.signature.clone()))?;
        Self::pick(&file.nginx, identity.version, Some(build))
    }

    /// The layout of an ngx_lua, by the number that Lua sees as `ngx.config.ngx_lua_version`.
    ///
    /// # Errors
    /// [`NoLayout::Older`].
    pub fn of_lua(version: u64) -> Result<Self, NoLayout> {
        Self::pick(&file().ngx_lua, version, None)
    }

    fn pick(rows: &Structs, version: u64, build: Option<&str>) -> Result<Self, NoLayout> {
        let holds = |row: &Row| {
            row.since <= version
                && build.is_none_or(|b| row.builds.as_ref().is_none_or(|of| of.iter().any(|o| o == b)))
        };
        let structs: HashMap<_, _> = rows
            .iter()
            .filter_map(|(name, rows)| {
                // Rows are in the order of versions; the last one that holds is this version's.
                let row = rows.iter().rfind(|row| holds(row))?;
                let members = row.at.iter().map(|(member, place)| (member.clone(), place.0)).collect();
                Some((name.clone(), members))
            })
            .collect();
        if structs.is_empty() { Err(NoLayout::Older(version)) } else { Ok(Self { structs }) }
    }

    /// The offset of a member, in bytes from the struct's start; with the member `size`, the struct's
    /// size.
    ///
    /// # Errors
    /// [`NoLayout::Member`] when this version has no such member, or it is a bit-field.
    pub fn at(&self, of: &str, member: &str) -> Result<u64, NoLayout> {
        match self.place(of, member)? {
            Place::Byte(byte) => Ok(byte),
            Place::Bits { .. } => Err(NoLayout::Member(format!("{of}.{member}"))),
        }
    }

    /// The place of a member or bit-field.
    ///
    /// # Errors
    /// [`NoLayout::Member`] when this version has no such member.
    pub fn place(&self, of: &str, member: &str) -> Result<Place, NoLayout> {
        let found = self.structs.get(of).and_then(|members| members.get(member));
        found.copied().ok_or_else(|| NoLayout::Member(format!("{of}.{member}")))
    }

    /// Reads a bit-field of the struct at `addr`.
    ///
    /// # Errors
    /// [`NoLayout::Member`] when this version has no such bit-field, or [`NoLayout::Memory`].
    pub fn bits(&self, mem: &dyn Memory, addr: u64, of: &str, member: &str) -> Result<u32, NoLayout> {
        match self.place(of, member)? {
            Place::Bits { byte, shift, width } => {
                // A bit-field of `unsigned` never crosses its four bytes.
                let unit = byte & !3;
                let word = mem.u32(addr.wrapping_add(unit))?;
                let from = u32::from(shift) + 8 * (byte - unit) as u32;
                let mask = u32::MAX.checked_shr(32 - u32::from(width)).unwrap_or(0);
                Ok(word >> from & mask)
            }
            Place::Byte(_) => Err(NoLayout::Member(format!("{of}.{member}"))),
        }
    }
}

/// Bits of `NGX_MODULE_SIGNATURE` by the name of the feature, counted from 1 (ngx_module.h).
const BITS: [(&str, usize); 12] = [
    ("quic", 18),
    ("threads", 22),
    ("pcre", 23),
    ("ssl", 24),
    ("gzip", 26),
    ("x_forwarded_for", 28),
    ("realip", 29),
    ("headers", 30),
    ("dav", 31),
    ("cache", 32),
    ("upstream_zone", 33),
    ("compat", 34),
];

type Structs = HashMap<String, Vec<Row>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    builds: HashMap<String, HashMap<String, u8>>,
    nginx: Structs,
    ngx_lua: Structs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    since: u64,
    builds: Option<Vec<String>>,
    at: HashMap<String, Spelled>,
}

/// A [`Place`] as the file spells it: `200`, or `"200.3+1"`.
#[derive(Clone, Copy)]
struct Spelled(Place);

impl<'de> Deserialize<'de> for Spelled {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Byte(u64),
            Bits(String),
        }
        let place = match Either::deserialize(from)? {
            Either::Byte(byte) => Place::Byte(byte),
            Either::Bits(text) => {
                bit_field(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no place")))?
            }
        };
        Ok(Self(place))
    }
}

fn bit_field(text: &str) -> Option<Place> {
    let (byte, rest) = text.split_once('.')?;
    let (shift, width) = rest.split_once('+')?;
    let (byte, shift, width) = (byte.parse().ok()?, shift.parse().ok()?, width.parse().ok()?);
    (shift < 8 && (1..=32).contains(&width)).then_some(Place::Bits { byte, shift, width })
}

/// # Panics
/// Never in a build whose tests pass: the file is compiled in and parsed by a test.
fn file() -> &'static File {
    /// Parsed once: it is asked for each process, again and again under `--watch`.
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| {
        serde_yaml::from_str(include_str!("../layouts.yaml")).expect("layouts.yaml is tested")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use upprof_memory::Snapshot;

    /// Debian 12's nginx 1.22.1, as `readelf -p .rodata` shows it.
    const BOOKWORM: &str = "8,4,8,0011111111010111001111111111111111";

    fn module(version: u64, signature: &str) -> Snapshot {
        let mut s = Snapshot::default();
        let mut words = [0_u64; 9];
        words[5] = version;
        words[6] = 0x2000;
        s.insert(0x1000, words.iter().flat_map(|w| w.to_le_bytes()).collect());
        let mut text = signature.as_bytes().to_vec();
        text.resize(64, 0);
        s.insert(0x2000, text);
        s
    }

    #[test]
    fn a_module_says_which_nginx_it_was_built_for() {
        let said = identity(&module(1_022_001, BOOKWORM), 0x1000).expect("a module");
        assert_eq!(said, Identity { version: 1_022_001, signature: BOOKWORM.into() });
        for (version, signature) in
            [(7, BOOKWORM), (1_022_001, "8,4,8,01"), (1_022_001, ""), (u64::MAX, BOOKWORM)]
        {
            let found = identity(&module(version, signature), 0x1000);
            assert!(matches!(found, Err(NoLayout::NotModule { .. })), "{version} {signature}: {found:?}");
        }
        assert!(matches!(identity(&module(1_022_001, BOOKWORM), 0x9000), Err(NoLayout::Memory(_))));
    }

    #[test]
    fn every_row_keeps_what_readers_take_for_fixed() {
        let file = file();
        for row in &file.nginx["ngx_http_request_t"] {
            let at = |member: &str| match row.at[member].0 {
                Place::Byte(byte) => byte,
                Place::Bits { .. } => panic!("{member} is a bit-field"),
            };
            // probes/bpf/request.bpf.h reads these by number.
            assert_eq!((at("signature"), at("connection"), at("ctx")), (0, 8, 16), "{}", row.since);
            let method = at("method");
            let follow = [at("http_version"), at("request_line"), at("uri")];
            assert_eq!(follow, [method + 8, method + 16, method + 32], "{}", row.since);
            assert!(at("headers_in.server") < method, "{}", row.since);
        }
        for rows in file.nginx.values().chain(file.ngx_lua.values()) {
            assert!(rows.is_sorted_by_key(|row| row.since));
        }
        for bits in file.builds.values() {
            assert!(bits.keys().all(|name| BITS.iter().any(|(known, _)| known == name)));
        }
    }

    #[test]
    fn a_version_between_two_rows_has_the_older_one() {
        let file = file();
        let rows = &file.ngx_lua["ngx_http_lua_ctx_t"];
        let (first, second) = (&rows[0], &rows[1]);
        assert!(first.since + 1 < second.since || rows.len() > 1);
        let just_before = Layout::of_lua(second.since - 1).expect("known");
        assert_eq!(just_before.structs["ngx_http_lua_ctx_t"].len(), first.at.len());
        assert_eq!(just_before.place("ngx_http_lua_ctx_t", "context"), Ok(first.at["context"].0));
        assert_eq!(Layout::of_lua(first.since - 1).err(), Some(NoLayout::Older(first.since - 1)));
    }

    #[test]
    fn a_build_that_nobody_compiled_has_no_layout() {
        let unknown = Identity { version: 1_022_001, signature: format!("8,4,8,{}", "0".repeat(34)) };
        let refused = Layout::of_nginx(&unknown).err();
        assert_eq!(refused, Some(NoLayout::Build(unknown.signature)));
    }

    #[test]
    fn bit_fields_are_read_by_bit() {
        let layout = Layout {
            structs: HashMap::from([(
                "s".to_owned(),
                HashMap::from([("b".to_owned(), bit_field("5.3+4").expect("a place"))]),
            )]),
        };
        let mut memory = Snapshot::default();
        memory.insert(0x100, vec![0xff, 0xff, 0xff, 0xff, 0xff, 0b0101_0111, 0xff, 0xff]);
        assert_eq!(layout.bits(&memory, 0x100, "s", "b"), Ok(0b1010));
        assert_eq!(bit_field("5.9+1"), None);
        assert_eq!(bit_field("5"), None);
    }
}
