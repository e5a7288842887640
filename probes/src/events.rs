//! Records of the ring buffer, decoded. Pure: bytes in, events out.

use crate::abi::{event_type as t, upprof_limits as l};
use upprof_profile::Phase;
use upprof_profile::raw::{
    Outcome, PackedFrame, RawFunction, RawLabel, RawStack, RawText, StackKey, vm_state_from_abi,
};

/// What the kernel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stack not seen before.
    Stack(RawStack),
    /// A request not seen before.
    Label(RawLabel),
    /// A Lua function of a VM that nobody told of.
    Function(RawFunction),
    /// A process of the target came, changed or went.
    Process(ProcessChange),
    /// A record that does not decode: a bug, counted rather than ignored.
    Malformed,
}

/// A change in the target's processes. Pids are those of the initial pid namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessChange {
    /// A new process, not sampled until described.
    Forked {
        /// The new one.
        pid: u32,
        /// Who forked it.
        parent: u32,
    },
    /// The process runs another program now.
    Execed(u32),
    /// The process is gone.
    Exited(u32),
}

const STACK_HEADER: usize = size_of::<crate::abi::types::stack_event>();

/// Decodes one record.
pub(crate) fn decode(data: &[u8]) -> Event {
    decode_known(data).unwrap_or(Event::Malformed)
}

fn decode_known(data: &[u8]) -> Option<Event> {
    let word = |i: usize| Some(u32::from_le_bytes(data.get(i * 4..i * 4 + 4)?.try_into().ok()?));
    let pid = word(1)?;
    match i64::from(word(0)?) {
        t::EVENT_STACK => stack(pid, data).map(Event::Stack),
        t::EVENT_FORK => Some(Event::Process(ProcessChange::Forked { pid, parent: word(2)? })),
        t::EVENT_EXEC => Some(Event::Process(ProcessChange::Execed(pid))),
        t::EVENT_EXIT => Some(Event::Process(ProcessChange::Exited(pid))),
        t::EVENT_LABEL => label(data).map(Event::Label),
        t::EVENT_FUNCTION => function(pid, data).map(Event::Function),
        _ => None,
    }
}

/// `struct stack_event`, its frames, its kernel frames.
fn stack(pid: u32, data: &[u8]) -> Option<RawStack> {
    let (header, rest) = data.split_at_checked(STACK_HEADER)?;
    let long = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap_or_default());
    let half = |i: usize| usize::from(u16::from_le_bytes([header[i], header[i + 1]]));
    let (n_frames, n_kernel) = (half(32), half(34));
    let (frames, kernel) = rest.split_at_checked(n_frames * size_of::<PackedFrame>())?;
    let frames = frames
        .chunks_exact(16)
        .map(|f| {
            let tail = long(&f[8..16]);
            PackedFrame { word: long(&f[..8]), pc: tail as u32, check: (tail >> 32) as u32 }
        })
        .collect();
    Some(RawStack {
        key: StackKey(long(&header[8..16]), long(&header[16..24])),
        pid,
        frames,
        kernel: kernel.get(..n_kernel * 8)?.chunks_exact(8).map(long).collect(),
        label: long(&header[24..32]),
        phase: Phase::from_abi(header[39]),
        outcome: Outcome::from_abi(header[36]),
        vmstate: vm_state_from_abi(header[37]),
        uncounted: i64::from(header[38]) & crate::abi::stack_flags::STACK_UNCOUNTED != 0,
    })
}

/// `struct function_event`.
fn function(pid: u32, data: &[u8]) -> Option<RawFunction> {
    const CHUNKNAME: usize = 40;
    const MAX_CHUNKNAME: usize = l::TOLD_CHUNKNAME as usize;
    let word = |i: usize| Some(u32::from_le_bytes(data.get(i..i + 4)?.try_into().ok()?));
    // The last byte is a zero: one that ends before it is whole.
    let text = data.get(CHUNKNAME..CHUNKNAME + MAX_CHUNKNAME)?;
    let end = text.iter().position(|b| *b == 0).unwrap_or(MAX_CHUNKNAME);
    Some(RawFunction {
        pid,
        id: u64::from_le_bytes(data.get(8..16)?.try_into().ok()?),
        check: word(16)?,
        sizebc: word(20)?,
        firstline: word(24)?,
        numline: word(28)?,
        flags: word(32)? as u8,
        stripped: i64::from(word(32)?) & crate::abi::told_flags::TOLD_STRIPPED != 0,
        chunkname: RawText { bytes: text[..end].to_vec(), cut: end >= MAX_CHUNKNAME - 1 },
    })
}

/// `struct label_event`.
fn label(data: &[u8]) -> Option<RawLabel> {
    const PATH: usize = 24;
    const MAX_PATH: usize = l::LABEL_PATH as usize;
    const HOST: usize = PATH + MAX_PATH;
    const MAX_HOST: usize = l::LABEL_HOST as usize;
    let text = |from: usize, room: usize, len: usize, cut: usize| {
        let kept = usize::from(*data.get(len)?).min(room);
        Some(RawText { bytes: data.get(from..from + room)?[..kept].to_vec(), cut: *data.get(cut)? != 0 })
    };
    Some(RawLabel {
        label: u64::from_le_bytes(data.get(8..16)?.try_into().ok()?),
        method: u32::from_le_bytes(data.get(16..20)?.try_into().ok()?),
        path: text(PATH, MAX_PATH, 20, 22)?,
        host: text(HOST, MAX_HOST, 21, 23)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{bytes_of, types};
    use upprof_profile::VmState;
    use upprof_profile::raw::RawFrame;

    fn record() -> Vec<u8> {
        let event = types::stack_event {
            r#type: t::EVENT_STACK as u32,
            tgid: 42,
            key: types::stack_key { h1: 1, h2: 2 },
            n_frames: 1,
            n_kernel: 2,
            outcome: 1,
            vm_state: 3,
            flags: 1,
            label: 77,
            phase: 4,
        };
        let frame = types::frame { word: 3 << 56 | 0x1000, pc: 7, check: 9 };
        let mut data = bytes_of(&event).to_vec();
        data.extend(bytes_of(&frame));
        data.extend([8u64, 9].iter().flat_map(|v| v.to_le_bytes()));
        data
    }

    #[test]
    fn a_stack_decodes_field_by_field() {
        let Event::Stack(s) = decode(&record()) else { panic!("not a stack") };
        assert_eq!((s.pid, s.key, s.kernel.as_slice()), (42, StackKey(1, 2), [8, 9].as_slice()));
        assert_eq!((s.outcome, s.vmstate, s.uncounted), (Outcome::NoMapping, VmState::C, true));
        assert_eq!((s.label, s.phase), (77, Some(Phase::Content)));
        assert_eq!(s.frames[0].unpack(), RawFrame::Lua { proto: 0x1000, pc: Some(7), check: 9 });
    }

    fn label_record(path_len: u8, path_cut: u8) -> Vec<u8> {
        let mut event = types::label_event {
            r#type: t::EVENT_LABEL as u32,
            tgid: 42,
            label: 99,
            method: 2,
            path_len,
            host_len: 3,
            path_cut,
            host_cut: 0,
            path: [b'p'; 128],
            host: [0; 64],
        };
        event.host[..3].copy_from_slice(b"a.b");
        bytes_of(&event).to_vec()
    }

    #[test]
    fn a_label_decodes_and_says_what_was_cut() {
        for (len, kept, cut) in [(0, 0, 0), (5, 5, 1), (128, 128, 0), (129, 128, 1)] {
            let Event::Label(l) = decode(&label_record(len, cut)) else { panic!("not a label") };
            assert_eq!((l.label, l.method), (99, 2));
            assert_eq!((l.path.bytes, l.path.cut), (vec![b'p'; kept], cut == 1));
            assert_eq!((l.host.bytes.as_slice(), l.host.cut), (b"a.b".as_slice(), false));
        }
        let whole = label_record(5, 0);
        assert_eq!(decode(&whole[..whole.len() - 1]), Event::Malformed);
    }

    #[test]
    fn a_function_decodes_and_says_what_was_cut() {
        let mut event = types::function_event {
            r#type: t::EVENT_FUNCTION as u32,
            tgid: 42,
            id: 1 << 47 | 9,
            check: 3 << 24 ^ 40,
            sizebc: 40,
            firstline: 5,
            numline: 8,
            flags: 2 | 256,
            pad: 0,
            chunkname: [0; 128],
        };
        event.chunkname[..6].copy_from_slice(b"@a.lua");
        let Event::Function(f) = decode(bytes_of(&event)) else { panic!("not a function") };
        assert_eq!((f.pid, f.id, f.check, f.sizebc), (42, 1 << 47 | 9, 3 << 24 ^ 40, 40));
        assert_eq!((f.firstline, f.numline, f.flags, f.stripped), (5, 8, 2, true));
        assert_eq!((f.chunkname.bytes.as_slice(), f.chunkname.cut), (b"@a.lua".as_slice(), false));
        // As bpf_probe_read_user_str leaves one that is too long: cut, with a zero.
        event.chunkname = [b'x'; 128];
        event.chunkname[127] = 0;
        let Event::Function(f) = decode(bytes_of(&event)) else { panic!("not a function") };
        assert_eq!((f.chunkname.bytes.len(), f.chunkname.cut), (127, true));
        let whole = bytes_of(&event);
        assert_eq!(decode(&whole[..whole.len() - 1]), Event::Malformed);
    }

    #[test]
    fn every_truncation_is_malformed() {
        let whole = record();
        for n in 0..whole.len() {
            assert_eq!(decode(&whole[..n]), Event::Malformed, "{n} bytes");
        }
    }
}
