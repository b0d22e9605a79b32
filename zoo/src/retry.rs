//! How long to wait before asking a server again.

use std::time::{Duration, SystemTime};

use crate::Clock;

/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer, unless the server names its own.
const LONGEST: Duration = Duration::from_secs(30);
/// A server that asks for more than this is given up.
const MOST_ASKED: Duration = Duration::from_secs(120);

/// The wait before attempt `number` (from 1), or `None` where the server asks for too long a one.
pub(crate) fn wait(number: u32, asked: Option<Duration>, clock: &dyn Clock) -> Option<Duration> {
    if let Some(asked) = asked {
        return (asked <= MOST_ASKED).then_some(asked);
    }
    let full = FIRST.saturating_mul(1 << number.saturating_sub(1).min(16)).min(LONGEST);
    // From half to all of it.
    Some(full.mul_f64(0.5 + clock.chance().clamp(0.0, 1.0) / 2.0))
}

/// What a Retry-After header asks for: seconds, or a date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Still(f64);

    impl Clock for Still {
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn sleep(&self, _time: Duration) {}

        fn chance(&self) -> f64 {
            self.0
        }
    }

    #[test]
    fn waits_double_up_to_half_a_minute_and_vary_by_half() {
        let waits = |chance| {
            let millis = |number| wait(number, None, &Still(chance)).unwrap().as_millis();
            [1, 2, 3, 4, 5, 6, 60].map(millis)
        };
        assert_eq!(waits(1.0), [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(waits(0.0), [500, 1000, 2000, 4000, 8000, 15000, 15000]);
    }

    #[test]
    fn a_server_s_own_wait_is_kept_in_both_forms_unless_it_is_too_long() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(wait(1, Some(Duration::from_secs(120)), &Still(0.0)), Some(Duration::from_secs(120)));
        assert_eq!(wait(1, Some(Duration::from_secs(121)), &Still(0.0)), None);
    }
}
