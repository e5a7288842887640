/// What is needed of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) ppid: u32,
    pub(crate) utime: u64,
    pub(crate) stime: u64,
    pub(crate) start_time: u64,
}

impl Stat {
    /// The name is the target's choice and may hold spaces, newlines and parentheses: it ends at the
    /// last `)`, because nothing after it can hold one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|b| *b == b'(')?;
        let close = bytes.iter().rposition(|b| *b == b')').filter(|close| *close > open)?;
        let comm = String::from_utf8_lossy(&bytes[open + 1..close]).into_owned();
        let rest = std::str::from_utf8(&bytes[close + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbered as in proc(5), where the state is the third.
        let field = |n: usize| fields.get(n - 3).copied();
        let number = |n: usize| field(n)?.parse::<u64>().ok();
        Some(Self {
            comm,
            state: field(3)?.chars().next()?,
            ppid: u32::try_from(number(4)?).ok()?,
            utime: number(14)?,
            stime: number(15)?,
            start_time: number(22)?,
        })
    }

    /// Ended, and only waiting to be noticed.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The last number of `NSpid` in `/proc/PID/status`.
pub(super) fn innermost_pid(status: &[u8]) -> Option<u32> {
    // The name is the first line; the kernel escapes newlines in it.
    let line = status.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"NSpid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().last()?.parse().ok()
}

/// The soft stack limit in `/proc/PID/limits`: `Some(None)` is without limit.
pub(super) fn stack_limit(limits: &[u8]) -> Option<Option<u64>> {
    let line = limits.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"Max stack size"))?;
    match std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()? {
        "unlimited" => Some(None),
        soft => soft.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: &str = "S 7 1 1 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 987654 0 0 18446744073709551615";

    #[test]
    fn hostile_names_do_not_shift_the_fields() {
        for name in ["nginx", "a b", "x) R 1 (y", ")", "((", "a\nb", ""] {
            let stat = Stat::parse(format!("42 ({name}) {AFTER}\n").as_bytes()).unwrap();
            assert_eq!(
                (stat.comm.as_str(), stat.state, stat.ppid, stat.utime, stat.stime, stat.start_time),
                (name, 'S', 7, 150, 25, 987_654)
            );
        }
    }

    #[test]
    fn broken_lines_are_none() {
        for bad in ["", "42", "42 (x", "42 x) S", ")(", "42 (x)", "42 (x) S 7 1", "42 (x) S -1 1 1"] {
            assert_eq!(Stat::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Stat::parse(format!("1 (x) {}", AFTER.replace("150", "1e9")).as_bytes()), None);
        assert_eq!(Stat::parse(b"1 (\xff\xfe) \xff"), None);
    }

    #[test]
    fn the_dead_are_known() {
        let state = |s: &str| Stat::parse(format!("1 (x) {}", AFTER.replacen('S', s, 1)).as_bytes()).unwrap();
        assert!(state("Z").is_dead() && state("X").is_dead() && !state("T").is_dead());
    }

    #[test]
    fn the_innermost_pid_is_the_last() {
        assert_eq!(innermost_pid(b"Name:\tx\nNSpid:\t4242\t17\t1\nNSsid:\t9\n"), Some(1));
        assert_eq!(innermost_pid(b"Name:\tNSpid:\t9\nNSpid:\t4242\n"), Some(4242));
        assert_eq!(innermost_pid(b"Name:\tx\n"), None);
        assert_eq!(innermost_pid(b"NSpid:\t\n"), None);
    }

    #[test]
    fn stack_limits() {
        let limits =
            |soft: &str| format!("Limit  Soft Limit\nMax stack size            {soft}  unlimited   bytes\n");
        assert_eq!(stack_limit(limits("8388608").as_bytes()), Some(Some(8_388_608)));
        assert_eq!(stack_limit(limits("unlimited").as_bytes()), Some(None));
        assert_eq!(stack_limit(limits("x").as_bytes()), None);
        assert_eq!(stack_limit(b""), None);
    }
}
