//! Where the next marker is, and how a scan goes on behind a restart.

/// The next marker from `at` on, and where what follows it begins. Anything before it is passed over.
pub(super) fn next(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        at += bytes.get(at..)?.iter().position(|&byte| byte != 0xff)?;
        match bytes[at] {
            0 => {}
            marker => return Some((marker, at + 1)),
        }
    }
}

/// How a scan goes on.
pub(super) struct Resumed {
    pub(super) at: usize,
    /// Another marker stands there: what is read up to the next restart is lost.
    pub(super) blocked: bool,
}

/// Looks for restart marker `number` from `at` on, by libjpeg's rules where another one is found: one of the next two means
/// that data was lost, one of the last two that it came late, any other is taken for the one that is missing.
pub(super) fn restart(bytes: &[u8], mut at: usize, number: u8) -> Option<Resumed> {
    const FIRST: u8 = 0xd0;
    const SOF0: u8 = 0xc0;
    loop {
        let (marker, behind) = next(bytes, at)?;
        let here = Resumed { at: behind - 2, blocked: true };
        match marker {
            ..SOF0 => {}
            FIRST..=0xd7 => match (marker - FIRST).wrapping_sub(number) & 7 {
                1 | 2 => return Some(here),
                6 | 7 => {}
                _ => return Some(Resumed { at: behind, blocked: false }),
            },
            _ => return Some(here),
        }
        at = behind;
    }
}
