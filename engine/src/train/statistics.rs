//! Sums over pixels and images in f64, and what a batch norm makes of them.

use crate::lanes::{LANES, Lanes};

/// Number, mean and squared distances from the mean of a block's values.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    pub(crate) mean: [f64; LANES],
    /// Sum of the squared distances from the mean.
    pub(crate) squares: [f64; LANES],
}

impl Moments {
    /// Those of a short run, taken in f32: a rounded mean, the sum of the distances from it and that of their squares.
    #[inline(always)]
    pub(crate) fn of(count: usize, [mean, distances, squares]: &[Lanes; 3]) -> Self {
        let mut moments = Self { count: count as f64, ..Self::default() };
        for lane in 0..LANES {
            let rest = f64::from(distances.0[lane]) / moments.count;
            moments.mean[lane] = f64::from(mean.0[lane]) + rest;
            moments.squares[lane] = f64::from(squares.0[lane]) - rest * rest * moments.count;
        }
        moments
    }

    /// Adds those of other values (Chan, Golub and LeVeque 1979).
    #[inline(always)]
    pub(crate) fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        if count == 0.0 {
            return;
        }
        let share = other.count / count;
        for lane in 0..LANES {
            let distance = other.mean[lane] - self.mean[lane];
            self.mean[lane] += distance * share;
            self.squares[lane] += other.squares[lane] + distance * distance * self.count * share;
        }
        self.count = count;
    }
}

/// Of a block's gated gradient d: the sums of d and of d times the normalised value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) plain: [f64; LANES],
    pub(crate) normalised: [f64; LANES],
}

impl Sums {
    /// Adds those of a short run, taken in f32.
    #[inline(always)]
    pub(crate) fn add(&mut self, plain: &Lanes, normalised: &Lanes) {
        for lane in 0..LANES {
            self.plain[lane] += f64::from(plain.0[lane]);
            self.normalised[lane] += f64::from(normalised.0[lane]);
        }
    }
}

/// The batch's statistics of a map's channels, at their lanes. All norms that read the map share them.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    /// Values of a channel: images times pixels.
    pub(crate) count: f64,
    pub(crate) mean: Vec<f64>,
    /// Divided by the count, as batch norm uses it.
    pub(crate) variance: Vec<f64>,
    /// 1 / √(variance + eps)
    pub(crate) inverse: Vec<f64>,
    /// The same for kernels, for each block: `rate * x + offset` is the normalised x.
    pub(crate) rate: Vec<Lanes>,
    /// See `rate`.
    pub(crate) offset: Vec<Lanes>,
}

impl Statistics {
    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Appends blocks from each image's moments of them, added up in the images' order.
    pub(crate) fn append<'a>(&mut self, blocks: usize, images: impl Iterator<Item = &'a [Moments]>, eps: f64) {
        let mut all = vec![Moments::default(); blocks];
        for image in images {
            for (all, one) in all.iter_mut().zip(image) {
                all.merge(one);
            }
        }
        for block in all {
            self.count = block.count;
            let variance = block.squares.map(|squares| squares / block.count);
            let inverse = variance.map(|variance| 1.0 / (variance + eps).sqrt());
            self.rate.push(Lanes(inverse.map(|inverse| inverse as f32)));
            self.offset.push(Lanes(std::array::from_fn(|lane| (-block.mean[lane] * inverse[lane]) as f32)));
            self.mean.extend(block.mean);
            self.variance.extend(variance);
            self.inverse.extend(inverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_parts_are_those_of_the_whole() {
        let lanes = |value: f32| Lanes([value; LANES]);
        // 1, 2, 3 and 10, 20: mean 7.2, squared distances 254.8.
        let mut moments = Moments::default();
        moments.merge(&Moments::of(3, &[lanes(2.5), lanes(-1.5), lanes(2.75)]));
        moments.merge(&Moments::of(2, &[lanes(15.0), lanes(0.0), lanes(50.0)]));
        assert_eq!(moments.count, 5.0);
        assert!((moments.mean[3] - 7.2).abs() < 1e-12 && (moments.squares[3] - 254.8).abs() < 1e-12);
        moments.merge(&Moments::default());
        assert_eq!(moments.count, 5.0);
    }

    #[test]
    fn statistics_are_those_of_all_images() {
        let one =
            |mean: f32, squares: f32| [Moments::of(2, &[Lanes([mean; LANES]), Lanes::ZERO, Lanes([squares; LANES])])];
        let images = [one(1.0, 2.0), one(3.0, 2.0)];
        let mut statistics = Statistics::default();
        statistics.append(1, images.iter().map(|image| &image[..]), 0.25);
        // 0, 2, 2, 4: mean 2, variance 2.
        assert_eq!((statistics.count, statistics.mean[5], statistics.variance[5]), (4.0, 2.0, 2.0));
        assert_eq!((statistics.rate[0].0[5], statistics.offset[0].0[5]), (1.0 / 1.5, -2.0 / 1.5));
    }
}
