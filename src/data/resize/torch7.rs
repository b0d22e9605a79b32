//! Torch7's `image.scale` with `bicubic` on floats: corners map to corners, four taps at any scale, nothing is clipped.

use std::borrow::Cow;

use super::RgbF32;

/// Equal to the bit to `image.scale(image, width, height, 'bicubic')`; a size of 0 counts as 1.
///
/// Where the source has one row or column only, Torch leaves the last one of the output unwritten; here it is a copy too.
pub fn scale_bicubic(image: &RgbF32, width: usize, height: usize) -> RgbF32 {
    let (width, height) = (width.max(1), height.max(1));
    let rows = match Axis::new(image.width, width) {
        Axis::Same => Cow::Borrowed(&image.data),
        Axis::Copies(source) => Cow::Owned(image.pixel_rows().flat_map(|row| row[source].repeat(width)).collect()),
        Axis::Points(points) => Cow::Owned(horizontal(image, &points)),
    };
    let stride = 3 * width;
    let data = match Axis::new(image.height, height) {
        Axis::Same => rows.into_owned(),
        Axis::Copies(source) => rows[stride * source..][..stride].repeat(height),
        Axis::Points(points) => vertical(&rows, stride, &points),
    };
    RgbF32 { width, height, data }
}

impl RgbF32 {
    fn pixel_rows(&self) -> impl Iterator<Item = &[[f32; 3]]> {
        self.data.chunks_exact(3 * self.width).map(|row| row.as_chunks().0)
    }
}

/// How one axis is scaled.
enum Axis {
    /// Nothing changes.
    Same,
    /// Every output sample is that source sample.
    Copies(usize),
    /// Every output sample but the last lies between two source samples; the last is the source's last.
    Points(Vec<Point>),
}

/// A position: after source sample `index`, at a `fraction` of the way to the next.
struct Point {
    index: usize,
    fraction: f32,
}

impl Axis {
    fn new(from: usize, to: usize) -> Self {
        if from == to {
            return Self::Same;
        }
        if from == 1 || to == 1 {
            // Of many samples, one output sample takes the last.
            return Self::Copies(from - 1);
        }
        let scale = (from - 1) as f32 / (to - 1) as f32;
        let point = |sample: usize| {
            let position = sample as f32 * scale;
            // Rounding reaches the last sample only in outputs of millions.
            let index = (position as usize).min(from - 2);
            Point { index, fraction: position - index as f32 }
        };
        Self::Points((0..to - 1).map(point).collect())
    }
}

/// Between `b` and `c`, in `f32` but for the last step, which Torch's C code promotes to double.
#[inline]
fn cubic([a, b, c, d]: [f32; 4], fraction: f32) -> f32 {
    let a1 = c - a;
    let a2 = 2.0 * a - 5.0 * b + 4.0 * c - d;
    let a3 = 3.0 * (b - c) + d - a;
    let slope = a1 + fraction * (a2 + fraction * a3);
    (f64::from(b) + 0.5 * f64::from(fraction) * f64::from(slope)) as f32
}

/// The sample that would follow `last` on a straight line.
fn beyond(last: f32, before: f32) -> f32 {
    2.0 * last - before
}

fn horizontal(image: &RgbF32, points: &[Point]) -> Vec<f32> {
    let width = points.len() + 1;
    let mut data = vec![0.0; 3 * width * image.height];
    // A row with one extrapolated pixel at either end.
    let mut padded = vec![[0.0; 3]; image.width + 2];
    for (target, row) in data.chunks_exact_mut(3 * width).zip(image.pixel_rows()) {
        let last = image.width - 1;
        padded[1..=image.width].copy_from_slice(row);
        padded[0] = std::array::from_fn(|channel| beyond(row[0][channel], row[1][channel]));
        padded[image.width + 1] = std::array::from_fn(|channel| beyond(row[last][channel], row[last - 1][channel]));
        let (targets, _) = target.as_chunks_mut::<3>();
        targets[width - 1] = row[last];
        for (target, point) in targets.iter_mut().zip(points) {
            let taps = &padded[point.index..point.index + 4];
            *target = std::array::from_fn(|channel| {
                cubic([taps[0][channel], taps[1][channel], taps[2][channel], taps[3][channel]], point.fraction)
            });
        }
    }
    data
}

fn vertical(data: &[f32], stride: usize, points: &[Point]) -> Vec<f32> {
    let rows: Vec<&[f32]> = data.chunks_exact(stride).collect();
    let last = rows.len() - 1;
    let extrapolated =
        |edge: &[f32], next: &[f32]| -> Vec<f32> { edge.iter().zip(next).map(|(&e, &n)| beyond(e, n)).collect() };
    let (above, below) = (extrapolated(rows[0], rows[1]), extrapolated(rows[last], rows[last - 1]));
    let mut scaled = vec![0.0; stride * (points.len() + 1)];
    for (target, point) in scaled.chunks_exact_mut(stride).zip(points) {
        let (b, c) = (rows[point.index], rows[point.index + 1]);
        let a = if point.index == 0 { above.as_slice() } else { rows[point.index - 1] };
        let d = rows.get(point.index + 2).copied().unwrap_or(&below);
        for ((((target, &a), &b), &c), &d) in target.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *target = cubic([a, b, c, d], point.fraction);
        }
    }
    scaled[stride * points.len()..].copy_from_slice(rows[last]);
    scaled
}
