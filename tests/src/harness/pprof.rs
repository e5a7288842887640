//! `cpu/profile.pb.gz`, decoded.

use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use upprof_profile::export::proto;

/// What the tests ask of a pprof file.
#[derive(Debug, PartialEq, Eq)]
pub struct Pprof {
    /// Sum of `samples`.
    pub samples: i64,
    /// Every value of every label.
    pub labels: BTreeMap<String, BTreeSet<String>>,
    /// Names of all functions.
    pub functions: BTreeSet<String>,
    /// Every stack.
    pub stacks: Vec<Stack>,
}

/// A stack with its labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Stack {
    /// Leaf first.
    pub functions: Vec<String>,
    /// By key.
    pub labels: BTreeMap<String, String>,
    /// How many samples.
    pub samples: i64,
}

impl Stack {
    /// A label's value, empty where it has none.
    #[must_use]
    pub fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }

    /// Whether a function whose text begins like this is in it.
    #[must_use]
    pub fn has(&self, beginning: &str) -> bool {
        self.functions.iter().any(|f| f.starts_with(beginning))
    }
}

/// Decodes a gzipped profile.
///
/// # Panics
/// When it is none, or refers to a string that it has not.
#[must_use]
pub fn decode(gzip: &[u8]) -> Pprof {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut bytes).expect("gzip");
    let profile = proto::Profile::decode(&bytes[..]).expect("profile.proto");
    let string = |n: i64| profile.string_table[usize::try_from(n).expect("an index")].clone();
    let types: Vec<String> = profile.sample_type.iter().map(|t| string(t.r#type)).collect();
    assert_eq!(types, ["samples", "cpu"]);
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for label in profile.sample.iter().flat_map(|s| &s.label) {
        labels.entry(string(label.key)).or_default().insert(string(label.str));
    }
    let names: BTreeMap<u64, String> = profile.function.iter().map(|f| (f.id, string(f.name))).collect();
    let function = |location: &proto::Location| names[&location.line[0].function_id].clone();
    let at: BTreeMap<u64, String> = profile.location.iter().map(|l| (l.id, function(l))).collect();
    let stacks = profile.sample.iter().map(|s| Stack {
        functions: s.location_id.iter().map(|id| at[id].clone()).collect(),
        labels: s.label.iter().map(|l| (string(l.key), string(l.str))).collect(),
        samples: s.value[0],
    });
    Pprof {
        stacks: stacks.collect(),
        samples: profile.sample.iter().map(|s| s.value[0]).sum(),
        labels,
        functions: profile.function.iter().map(|f| string(f.name)).collect(),
    }
}
