//! A capture of a target that wants to break the reader.

use upprof_profile::{Frame, FrameKind, Origin, Profile, Role, Sample, Severity, VmState};

use super::Maker;

/// Texts that a target could hold to break a reader.
pub const HOSTILE: [&str; 16] = [
    "<script>alert(1)</script>",
    "]]></script><script>alert(1)//",
    "\"' onload='alert(1)",
    "a;b 12",
    "two\nlines\r\n",
    "bell\x07 esc\x1b[31m nul\0",
    "c1 \u{85}\u{9b}31m",
    "rtl \u{202e}gnp.exe",
    "zero\u{200b}width\u{feff}",
    "not a character \u{ffff}\u{fdd0}",
    "&amp;&lt;{{x}}${y}",
    "lua:evil@/etc/passwd:1",
    "[trace fake]",
    "read [kernel]",
    "=cmd|'/C calc'!A0",
    "C:\\x3b\\u{202e} --><!-- -->",
];

/// Every hostile text as every kind of frame, file, container and reason.
pub fn hostile() -> Profile {
    let mut m = Maker::default();
    m.profile.container = HOSTILE.concat();
    m.profile.frequency_hz = 99;
    m.profile.duration_ns = 1_000_000_000;
    let worker = m.process(7, Role::Worker, None);
    m.profile.processes[worker].lua_unavailable = Some(HOSTILE.concat());
    let kinds = [
        FrameKind::Native,
        FrameKind::Lua,
        FrameKind::LuaC,
        FrameKind::Trace,
        FrameKind::Kernel,
        FrameKind::Marker,
        FrameKind::Unknown,
    ];
    for text in HOSTILE {
        let request = Origin::Request { method: text.into(), host: text.into(), path: text.into() };
        let origin = m.profile.intern_origin(&request);
        for kind in kinds {
            let frame = Frame { kind, name: text.into(), file: Some(text.into()), line: 3 };
            let location = m.frame(frame);
            m.profile.samples.push(Sample {
                stack: vec![location],
                count: 2,
                process: worker,
                vmstate: VmState::Interpreted,
                origin,
                phase: None,
            });
        }
        m.counter(text, 1, Severity::Doubt, text);
    }
    m.profile
}
