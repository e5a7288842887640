use crate::MissingPrivilege;

/// Why sampling could not be set up or read.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The process lacks a capability.
    #[error("{0}")]
    Privilege(MissingPrivilege),
    /// The kernel refused the BPF programs.
    #[error("the kernel did not load upprof's BPF programs: {message}")]
    Load {
        /// libbpf's message.
        message: String,
        /// What libbpf and the verifier printed.
        log: String,
    },
    /// `perf_event_open(2)` failed.
    #[error("perf events could not be opened on CPU {cpu}: {error}")]
    Perf {
        /// Which CPU.
        cpu: u32,
        /// The system's error.
        error: std::io::Error,
    },
    /// A program could not be attached.
    #[error("the BPF program {program} could not be attached: {message}")]
    Attach {
        /// Its name in `upprof.bpf.c`.
        program: &'static str,
        /// libbpf's message.
        message: String,
    },
    /// A table in the kernel is full.
    #[error("the kernel table of {what} is full ({capacity} entries)")]
    Full {
        /// What it holds.
        what: &'static str,
        /// How many it can hold.
        capacity: usize,
    },
    /// Any other operation on a map or the ring buffer.
    #[error("{doing}: {message}")]
    Map {
        /// What was being done.
        doing: &'static str,
        /// libbpf's message.
        message: String,
    },
}

impl ProbeError {
    pub(crate) fn map(doing: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |e| Self::Map { doing, message: e.to_string() }
    }
}
