//! Numbers drawn from a key, the same on every machine and in every version: what a run draws for an image depends on
//! neither threads nor order.

use std::f64::consts::TAU;

/// Where random numbers come from: [`Draws`], or in tests what another program drew.
pub trait Random {
    /// The next number, evenly from `from` to below `to`.
    fn uniform(&mut self, from: f64, to: f64) -> f64;

    /// The next number from 0 to below `bound`, each as likely.
    fn below(&mut self, bound: usize) -> usize;

    /// The numbers below `count` in a random order.
    fn permutation(&mut self, count: usize) -> Vec<usize>;

    /// The next number of the normal distribution around 0.
    fn normal(&mut self, deviation: f64) -> f64;

    /// True half of the time.
    fn half(&mut self) -> bool {
        self.uniform(0.0, 1.0) < 0.5
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195).
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// Those of a key. Another number anywhere in it gives others.
    pub fn of(key: &[u64]) -> Self {
        key.iter().fold(Self { state: 0 }, |mut draws, &part| Self { state: draws.bits() ^ part })
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A multiple of 2^-53 from 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Random for Draws {
    fn uniform(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    /// Each as likely to 2^-40 for the bounds of this crate.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// By Fisher and Yates.
    fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }

    /// By Box and Muller, each from two even ones.
    fn normal(&mut self, deviation: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        deviation * radius * (TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_splitmix64_s() {
        // Java's SplittableRandom and Vigna's splitmix64.c from a state of 1234567.
        let mut draws = Draws { state: 1_234_567 };
        let bits = [0; 3].map(|_| draws.bits());
        assert_eq!(bits, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let first = |key: &[u64]| Draws::of(key).bits();
        let all = [first(&[1, 2, 3]), first(&[0, 2, 3]), first(&[1, 0, 3]), first(&[1, 2, 0]), first(&[3, 2, 1])];
        assert!((0..all.len()).all(|at| !all[..at].contains(&all[at])));
        assert_eq!(all[0], first(&[1, 2, 3]));
    }

    #[test]
    fn numbers_are_even_and_permutations_whole() {
        let mut draws = Draws::of(&[7]);
        let mut counts = [0_u32; 9];
        (0..9000).for_each(|_| counts[draws.below(9)] += 1);
        // 1000 each with a deviation of 30.
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        let order = draws.permutation(1437);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1437) && order[..3] != [0, 1, 2]);
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let mut draws = Draws::of(&[8]);
        let uniform: Vec<f64> = (0..10_000).map(|_| draws.uniform(-1.0, 3.0)).collect();
        let normal: Vec<f64> = (0..10_000).map(|_| draws.normal(0.5)).collect();
        let moment = |values: &[f64], power| values.iter().map(|value| value.powi(power)).sum::<f64>() / 10_000.0;
        assert!(uniform.iter().all(|value| (-1.0..3.0).contains(value)));
        // (b³ - a³) / 3(b - a) = 7/3; four standard errors.
        assert!((moment(&uniform, 1) - 1.0).abs() < 0.05 && (moment(&uniform, 2) - 7.0 / 3.0).abs() < 0.1);
        assert!(moment(&normal, 1).abs() < 0.02 && (moment(&normal, 2) - 0.25).abs() < 0.015);
        // 3 σ⁴, and a bell's share within a deviation.
        assert!((moment(&normal, 4) - 0.1875).abs() < 0.025);
        assert!((normal.iter().filter(|value| value.abs() < 0.5).count() as f64 - 6827.0).abs() < 190.0);
    }
}
