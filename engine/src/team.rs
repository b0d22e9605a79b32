//! Several threads on one image.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// How often a waiting thread looks before it sleeps: some ten microseconds, longer than a step's bands differ. A tenth as
/// many put small networks to sleep at every step; ten times as many waste the turns that a busy machine gives.
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
    /// This thread's share of `count` rows, pixels or groups.
    pub(crate) fn share(&self, count: usize) -> Range<usize> {
        share(count, self.index, self.barrier.threads)
    }

    /// This thread's share of a product's pixels and output groups. Outputs are split only where there are too few tiles
    /// of `tile` pixels for all threads.
    pub(crate) fn split(&self, pixels: usize, tile: usize, groups: usize) -> (Range<usize>, Range<usize>) {
        let (threads, tiles) = (self.barrier.threads, pixels.div_ceil(tile));
        let slowest = |parts: usize| tiles.div_ceil(threads / parts) * groups.div_ceil(parts);
        let parts = (1..=groups.min(threads)).min_by_key(|&parts| slowest(parts)).unwrap_or(1);
        let bands = threads / parts;
        if self.index >= bands * parts {
            return (0..0, 0..0);
        }
        (share(pixels, self.index % bands, bands), share(groups, self.index / bands, parts))
    }

    /// Whether nobody else works on the image.
    pub(crate) fn is_alone(&self) -> bool {
        self.barrier.threads == 1
    }

    /// Waits for the others.
    pub(crate) fn meet(&self) {
        self.barrier.wait();
    }
}

/// Part `index` of `parts` as equal parts of `count` as can be.
fn share(count: usize, index: usize, parts: usize) -> Range<usize> {
    count * index / parts..count * (index + 1) / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_before_the_last_has_arrived() {
        const THREADS: usize = 5;
        const ROUNDS: usize = if cfg!(miri) { 5 } else { 200 };
        let barrier = Barrier::new(THREADS);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for round in 1..=ROUNDS {
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

    #[test]
    fn small_products_are_split_by_outputs_too_and_each_is_one_thread_s() {
        for (threads, pixels, groups) in
            [(1, 49, 4), (2, 49, 4), (3, 1, 5), (8, 49, 4), (16, 49, 4), (40, 4, 3), (7, 196, 4)]
        {
            let barrier = Barrier::new(threads);
            let mut times = vec![0; pixels * groups];
            for index in 0..threads {
                let (pixel_share, group_share) = Place { index, barrier: &barrier }.split(pixels, 14, groups);
                for pixel in pixel_share {
                    group_share.clone().for_each(|group| times[pixel * groups + group] += 1);
                }
            }
            assert!(times.iter().all(|&times| times == 1), "{threads} {pixels} {groups}");
        }
        let split = |threads, index| Place { index, barrier: &Barrier::new(threads) }.split(49, 14, 4);
        assert_eq!(split(4, 1), (12..24, 0..4));
        assert_eq!(split(8, 5), (12..24, 2..4));
    }
}
