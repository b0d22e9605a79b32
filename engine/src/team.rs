//! Several threads on one image.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// How often a waiting thread looks before it sleeps: some ten microseconds, longer than a step's bands differ.
const LOOKS: usize = 4000;

/// Where all threads wait for the last: it spins briefly, then sleeps. Poisoned by a thread that will not come, it sends
/// the others home.
#[derive(Debug)]
pub(crate) struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
    /// How often all have met.
    met: AtomicUsize,
    poisoned: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Barrier {
    pub(crate) fn new(threads: usize) -> Self {
        let (arrived, met) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let poisoned = AtomicBool::new(false);
        Self { threads, arrived, met, poisoned, sleep: Mutex::new(()), wake: Condvar::new() }
    }

    /// Returns once every thread has called it; unwinds, without a message, once it is poisoned.
    pub(crate) fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        let met = self.met.load(Ordering::Acquire);
        self.leave_if_poisoned();
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            // Nobody arrives again before `met` moves.
            self.arrived.store(0, Ordering::Relaxed);
            self.release();
            return;
        }
        self.wait_past(met);
        self.leave_if_poisoned();
    }

    /// Lets all go who wait now or come later: they unwind.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
        self.release();
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    fn leave_if_poisoned(&self) {
        if self.is_poisoned() {
            // The thread that poisoned it has said why.
            resume_unwind(Box::new("another thread panicked"));
        }
    }

    /// Lets those go who wait.
    fn release(&self) {
        // Under the lock, so that no thread falls asleep between its last look and the call.
        let asleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.met.fetch_add(1, Ordering::Release);
        drop(asleep);
        self.wake.notify_all();
    }

    fn wait_past(&self, met: usize) {
        for _ in 0..LOOKS {
            if self.met.load(Ordering::Acquire) != met {
                return;
            }
            std::hint::spin_loop();
        }
        let mut asleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        while self.met.load(Ordering::Acquire) == met {
            asleep = self.wake.wait(asleep).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A thread's place among those that share an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// From 0.
    pub(crate) index: usize,
    pub(crate) barrier: &'a Barrier,
}

impl Place<'_> {
    /// This thread's share of `count` rows or groups.
    pub(crate) fn share(&self, count: usize) -> Range<usize> {
        let threads = self.barrier.threads;
        count * self.index / threads..count * (self.index + 1) / threads
    }

    /// Waits for the others.
    pub(crate) fn meet(&self) {
        self.barrier.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_before_the_last_has_arrived() {
        const THREADS: usize = 5;
        let barrier = Barrier::new(THREADS);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for round in 1..=200 {
                        count.fetch_add(1, Ordering::Relaxed);
                        barrier.wait();
                        assert_eq!(count.load(Ordering::Relaxed), round * THREADS);
                        barrier.wait();
                    }
                });
            }
        });
    }

    #[test]
    fn poison_sends_home_who_waits_and_who_comes_later() {
        let barrier = Barrier::new(3);
        std::thread::scope(|scope| {
            let early = scope.spawn(|| barrier.wait());
            // Once it has arrived, and most likely fallen asleep.
            while barrier.arrived.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            barrier.poison();
            assert!(early.join().is_err());
            assert!(scope.spawn(|| barrier.wait()).join().is_err());
        });
    }

    #[test]
    fn shares_are_all_rows_once() {
        let barrier = Barrier::new(3);
        let shares = [0, 1, 2].map(|index| Place { index, barrier: &barrier }.share(7));
        assert_eq!(shares, [0..2, 2..4, 4..7]);
    }
}
