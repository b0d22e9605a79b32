//! Time, as fetching needs it. Tests bring their own.

use std::time::{Duration, SystemTime};

/// Time and chance.
pub trait Clock: Sync {
    /// Now.
    fn now(&self) -> SystemTime;
    /// Lets that time pass.
    fn sleep(&self, time: Duration);
    /// Anything from 0 to 1, so that many clients do not come back at once.
    fn chance(&self) -> f64;
}

/// The system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn chance(&self) -> f64 {
        // The sub-second part of the time is chance enough to spread clients.
        let nanos = self.now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
        f64::from(nanos % 1_000_003) / 1_000_003.0
    }
}
