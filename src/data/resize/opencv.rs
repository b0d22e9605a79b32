//! OpenCV's `resize` with `INTER_LINEAR` on 8-bit images: two taps an axis, 11-bit weights, no antialiasing.

use super::Rgb8;

/// The weight 1.
const ONE: f32 = 2048.0;

/// Equal to the byte to `cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)`; a size of 0 counts as 1.
pub fn resize_bilinear(image: &Rgb8, width: usize, height: usize) -> Rgb8 {
    let (width, height) = (width.max(1), height.max(1));
    if (width, height) == (image.width, image.height) {
        return image.clone();
    }
    let columns = columns(image.width, width);
    let mut data = vec![0; 3 * width * height];
    let (mut upper, mut lower) = (Line::new(width), Line::new(width));
    for (target, [above, below]) in data.chunks_exact_mut(3 * width).zip(rows(image.height, height)) {
        // The row below is often the row above of the next output row.
        if lower.row == Some(above.source) {
            std::mem::swap(&mut upper, &mut lower);
        }
        upper.fill(image, above.source, &columns);
        lower.fill(image, below.source, &columns);
        for ((target, &a), &b) in target.iter_mut().zip(&upper.values).zip(&lower.values) {
            // OpenCV drops bits of each product on its own, so that its vector code can do with 16.
            let sum = ((above.weight * (a >> 4)) >> 16) + ((below.weight * (b >> 4)) >> 16);
            *target = ((sum + 2) >> 2).clamp(0, 255) as u8;
        }
    }
    Rgb8 { width, height, data }
}

/// A source pixel or row and its weight, in 2048ths.
#[derive(Clone, Copy)]
struct Tap {
    source: usize,
    weight: i32,
}

/// Where each output position lies in the source: floor and fraction, in `f32` from here on.
fn positions(from: usize, to: usize) -> impl Iterator<Item = (f32, f32)> {
    // The reciprocal of a rounded ratio, not from / to.
    let scale = 1.0 / (to as f64 / from as f64);
    (0..to).map(move |index| {
        let position = ((index as f64 + 0.5) * scale - 0.5) as f32;
        (position.floor(), position - position.floor())
    })
}

fn taps(sources: [f32; 2], fraction: f32, last: usize) -> [Tap; 2] {
    let weights = [1.0 - fraction, fraction].map(|weight| (weight * ONE).round_ties_even() as i32);
    // A cast to usize cuts at 0.
    let sources = sources.map(|source| (source as usize).min(last));
    [Tap { source: sources[0], weight: weights[0] }, Tap { source: sources[1], weight: weights[1] }]
}

/// Left and right of the edges, the edge pixel alone counts.
fn columns(from: usize, to: usize) -> Vec<[Tap; 2]> {
    let last = from - 1;
    positions(from, to)
        .map(|(floor, fraction)| {
            let inside = floor >= 0.0 && (floor as usize) < last;
            taps([floor, floor + 1.0], if inside { fraction } else { 0.0 }, last)
        })
        .collect()
}

/// Above and below the edges, the edge row counts twice: the two products are truncated apart.
fn rows(from: usize, to: usize) -> impl Iterator<Item = [Tap; 2]> {
    positions(from, to).map(move |(floor, fraction)| taps([floor, floor + 1.0], fraction, from - 1))
}

/// A source row brought to the output's width; values up to 255 * 2048.
struct Line {
    row: Option<usize>,
    values: Vec<i32>,
}

impl Line {
    fn new(width: usize) -> Self {
        Self { row: None, values: vec![0; 3 * width] }
    }

    fn fill(&mut self, image: &Rgb8, row: usize, columns: &[[Tap; 2]]) {
        if self.row.replace(row) == Some(row) {
            return;
        }
        let (pixels, _) = image.data[3 * image.width * row..][..3 * image.width].as_chunks::<3>();
        let (values, _) = self.values.as_chunks_mut::<3>();
        for (value, [left, right]) in values.iter_mut().zip(columns) {
            let (a, b) = (pixels[left.source], pixels[right.source]);
            for (value, (a, b)) in value.iter_mut().zip(a.into_iter().zip(b)) {
                *value = i32::from(a) * left.weight + i32::from(b) * right.weight;
            }
        }
    }
}
