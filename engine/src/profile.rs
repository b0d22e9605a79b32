//! Where a run's time goes.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

/// What a thread does in a dense block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// In the first block: the stem's convolution and pooling.
    Stem,
    /// Norm and ReLU on the way into what the layers' convolutions read.
    Packing,
    /// The layers' 1x1 convolutions.
    One,
    /// Winograd's transforms of the 3x3 convolutions' inputs and outputs.
    Transforms,
    /// The products of the 3x3 convolutions, by Winograd's algorithm or directly.
    Three,
    /// The transition behind the block.
    Transition,
    /// In the last block: the means and the classifier, or what else is read from the last map.
    Head,
    /// At barriers.
    Waiting,
}

impl Stage {
    /// All of them, in the order of a run.
    pub const ALL: [Self; 8] = [
        Self::Stem,
        Self::Packing,
        Self::One,
        Self::Transforms,
        Self::Three,
        Self::Transition,
        Self::Head,
        Self::Waiting,
    ];

    /// A name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stem => "stem",
            Self::Packing => "packing",
            Self::One => "1x1",
            Self::Transforms => "transforms",
            Self::Three => "3x3",
            Self::Transition => "transition",
            Self::Head => "head",
            Self::Waiting => "waiting",
        }
    }
}

/// The time that a run took, by dense block and stage, summed over its threads. Profiles of several runs can be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile(Vec<[Duration; Stage::ALL.len()]>);

impl Profile {
    /// Nothing yet, for that many dense blocks.
    pub(crate) fn new(blocks: usize) -> Self {
        Self(vec![[Duration::ZERO; Stage::ALL.len()]; blocks])
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(Default::default());
    }

    /// The dense blocks.
    pub fn blocks(&self) -> usize {
        self.0.len()
    }

    /// The time of a stage in a dense block, from 0.
    ///
    /// # Panics
    ///
    /// If there are no more than `block` dense blocks.
    pub fn time(&self, block: usize, stage: Stage) -> Duration {
        self.0[block][stage as usize]
    }

    /// All of it: the run's time by its threads, short of their start and the copy of the input.
    pub fn total(&self) -> Duration {
        self.0.iter().flatten().sum()
    }
}

impl AddAssign<&Self> for Profile {
    fn add_assign(&mut self, other: &Self) {
        self.0.resize_with(self.0.len().max(other.0.len()), Default::default);
        for (to, from) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *to += *from;
        }
    }
}

/// A thread's clock, which stands still unless started: a look at it then costs a branch.
#[derive(Debug)]
pub(crate) struct Clock {
    since: Option<Instant>,
    /// Which block the time goes to.
    pub(crate) block: usize,
    times: Profile,
}

impl Clock {
    /// Stands still, with room for that many dense blocks.
    pub(crate) fn new(blocks: usize) -> Self {
        Self { since: None, block: 0, times: Profile::new(blocks) }
    }

    /// Goes on from zero, or stands still.
    pub(crate) fn start(&mut self, on: bool) {
        self.block = 0;
        self.times.clear();
        self.since = on.then(Instant::now);
    }

    /// The time since the last call, or since the start, was that stage's.
    #[inline]
    pub(crate) fn lap(&mut self, stage: Stage) {
        if let Some(since) = &mut self.since {
            let now = Instant::now();
            self.times.0[self.block][stage as usize] += now - *since;
            *since = now;
        }
    }

    /// What was measured since the start, if it was started.
    pub(crate) fn times(&self) -> Option<&Profile> {
        self.since.is_some().then_some(&self.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_time_between_start_and_last_lap_is_some_stage_s() {
        let mut clock = Clock::new(2);
        clock.lap(Stage::Stem);
        assert_eq!(clock.times(), None);
        let before = Instant::now();
        clock.start(true);
        clock.lap(Stage::Stem);
        clock.block = 1;
        let pause = Duration::from_millis(2);
        std::thread::sleep(pause);
        clock.lap(Stage::Head);
        let most = before.elapsed();
        let mut sum = clock.times().unwrap().clone();
        assert!(sum.time(1, Stage::Head) >= pause && sum.time(1, Stage::Stem).is_zero());
        assert!(sum.total() <= most);
        let once = sum.clone();
        sum += &once;
        assert_eq!((sum.total(), sum.blocks()), (2 * once.total(), 2));
        let mut none = Profile::default();
        none += &once;
        assert_eq!(none, once);
        clock.start(false);
        assert_eq!(clock.times(), None);
    }

    #[test]
    fn stages_are_counted_as_they_are_listed() {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index);
        }
    }
}
