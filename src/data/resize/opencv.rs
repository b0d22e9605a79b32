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
    let columns: Vec<_> = taps(image.width, width).collect();
    let mut data = vec![0; 3 * width * height];
    let (mut upper, mut lower) = (Line::new(width), Line::new(width));
    for (target, [above, below]) in data.chunks_exact_mut(3 * width).zip(taps(image.height, height)) {
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

/// The source pixels or rows on either side of each output position; beyond an edge both are the edge.
///
/// There OpenCV drops the fraction across but not down. Across, the products are added whole and the weights sum to
/// 2048, so that it makes no difference.
fn taps(from: usize, to: usize) -> impl Iterator<Item = [Tap; 2]> {
    // The reciprocal of a rounded ratio, not from / to.
    let scale = 1.0 / (to as f64 / from as f64);
    (0..to).map(move |index| {
        let position = ((index as f64 + 0.5) * scale - 0.5) as f32;
        let floor = position.floor();
        let fraction = position - floor;
        // A cast to usize cuts at 0.
        let tap = |source: f32, weight: f32| Tap {
            source: (source as usize).min(from - 1),
            weight: (weight * ONE).round_ties_even() as i32,
        };
        [tap(floor, 1.0 - fraction), tap(floor + 1.0, fraction)]
    })
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

#[cfg(test)]
mod tests {
    use super::super::fixtures::{SHAPES, cut, image, json, noise, read, sha256, stem};
    use super::super::{CropRule, crop_origin, short_side};
    use super::*;
    use crate::data::npy::read_u8;

    #[test]
    fn equals_opencv_to_the_byte() {
        let expected = json("preproc_opencv/expected.json");
        let images = expected["images"].as_object().unwrap();
        assert_eq!(images.len(), 8);
        for (name, expected) in images {
            let image = image(name);
            let short = |size| short_side(image.width, image.height, size);
            let runs = [("r64c56", short(64), 56), ("r256c224", short(256), 224), ("s256c224", (256, 256), 224)];
            for (run, (width, height), crop) in runs {
                let resized = resize_bilinear(&image, width, height);
                let cropped =
                    cut(&resized.data, width, crop_origin(width, height, crop, CropRule::Opencv).unwrap(), crop);
                assert_eq!(expected[run]["resized_wh"].as_array().unwrap()[..], [width, height]);
                assert_eq!(sha256(&cropped), expected[run]["crop_sha256"], "{name}, {run}");
                if run == "r64c56" {
                    let (shape, small) =
                        read_u8(&read(&format!("preproc_opencv/{}.r64c56.u8.npy", stem(name)))).unwrap();
                    assert_eq!(shape, [56, 56, 3]);
                    assert!(cropped == small, "{name}");
                }
            }
        }
    }

    #[test]
    fn equals_bilinear_interpolation_within_a_level() {
        for [from_width, from_height, width, height] in SHAPES {
            let image = noise(from_width, from_height);
            let resized = resize_bilinear(&image, width, height);
            assert_eq!((resized.width, resized.height), (width, height));
            let (across, down) = (from_width as f64 / width as f64, from_height as f64 / height as f64);
            for (index, &byte) in resized.data.iter().enumerate() {
                let (pixel, channel) = (index / 3, index % 3);
                let x = ((pixel % width) as f64 + 0.5) * across - 0.5;
                let y = ((pixel / width) as f64 + 0.5) * down - 0.5;
                let at = |x: f64, y: f64| {
                    let x = x.clamp(0.0, (from_width - 1) as f64) as usize;
                    let y = y.clamp(0.0, (from_height - 1) as f64) as usize;
                    f64::from(image.data[3 * (y * from_width + x) + channel])
                };
                let (left, top) = (x.floor(), y.floor());
                let row = |y| at(left, y) * (1.0 - x + left) + at(left + 1.0, y) * (x - left);
                let value = row(top) * (1.0 - y + top) + row(top + 1.0) * (y - top);
                let case = format!("{from_width}x{from_height} to {width}x{height}, byte {index}");
                assert!((f64::from(byte) - value).abs() < 1.0, "{case}: {byte}, not {value}");
            }
        }
    }
}
