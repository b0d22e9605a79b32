//! Torch7's `image.scale` with `bicubic` on floats: corners map to corners, four taps at any scale, nothing is clipped.

use std::borrow::Cow;

use super::RgbF32;

/// Equal to the bit to `image.scale(image, width, height, 'bicubic')`; a size of 0 counts as 1.
///
/// Where the source has one row or column only, Torch leaves the last one of the output unwritten; here it is a copy too.
pub fn scale_bicubic(image: &RgbF32, width: usize, height: usize) -> RgbF32 {
    let (width, height) = (width.max(1), height.max(1));
    let data = pulp::Arch::new().dispatch(Passes { image, width, height });
    RgbF32 { width, height, data }
}

/// Both passes, compiled for each kind of vectors.
struct Passes<'a> {
    image: &'a RgbF32,
    width: usize,
    height: usize,
}

impl pulp::WithSimd for Passes<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Vec<f32> {
        let Self { image, width, height } = self;
        let rows = match Axis::new(image.width, width) {
            Axis::Same => Cow::Borrowed(&image.data),
            Axis::Copies(source) => Cow::Owned(image.pixel_rows().flat_map(|row| row[source].repeat(width)).collect()),
            Axis::Points(points) => Cow::Owned(horizontal(image, &points)),
        };
        let stride = 3 * width;
        match Axis::new(image.height, height) {
            Axis::Same => rows.into_owned(),
            Axis::Copies(source) => rows[stride * source..][..stride].repeat(height),
            Axis::Points(points) => vertical(&rows, stride, &points),
        }
    }
}

/// The (width, height) that fb.resnet.torch's `Scale(size)` asks for. It rounds long / short before it multiplies, so that at
/// 224 and a few more sizes the longer side can come out one pixel less than [`super::short_side`] has it.
pub fn short_side(width: usize, height: usize, size: usize) -> (usize, usize) {
    let (short, long) = (width.min(height), width.max(height));
    if short == size {
        return (width, height);
    }
    let follow = (long as f64 / short.max(1) as f64 * size as f64) as usize;
    if width < height { (size, follow) } else { (follow, size) }
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
#[inline(always)]
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

#[inline(always)]
fn horizontal(image: &RgbF32, points: &[Point]) -> Vec<f32> {
    let width = points.len() + 1;
    let mut data = vec![0.0; 3 * width * image.height];
    // A row with one extrapolated pixel at either end, each with a fourth channel for nothing: four lanes.
    let mut padded = vec![[0.0; 4]; image.width + 2];
    for (target, row) in data.chunks_exact_mut(3 * width).zip(image.pixel_rows()) {
        let last = image.width - 1;
        for (lanes, &[red, green, blue]) in padded[1..].iter_mut().zip(row) {
            *lanes = [red, green, blue, 0.0];
        }
        let (first, end) = (padded[1], padded[last + 1]);
        padded[0] = std::array::from_fn(|lane| beyond(first[lane], padded[2][lane]));
        padded[last + 2] = std::array::from_fn(|lane| beyond(end[lane], padded[last][lane]));
        let (targets, _) = target.as_chunks_mut::<3>();
        targets[width - 1] = row[last];
        for (target, point) in targets.iter_mut().zip(points) {
            let taps = &padded[point.index..point.index + 4];
            let mut lanes = [0.0; 4];
            for (lane, value) in lanes.iter_mut().enumerate() {
                *value = cubic([taps[0][lane], taps[1][lane], taps[2][lane], taps[3][lane]], point.fraction);
            }
            *target = [lanes[0], lanes[1], lanes[2]];
        }
    }
    data
}

#[inline(always)]
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

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::super::fixtures::{SHAPES, cut, image, json, noise, read, sha256};
    use super::super::{CropRule, Rgb8, crop_origin, short_side};
    use super::*;

    /// Torch's tensors, channel after channel.
    fn planar(data: &[f32]) -> Vec<f32> {
        (0..3).flat_map(|channel| data.iter().skip(channel).step_by(3).copied()).collect()
    }

    fn interleaved<T: Copy>(data: &[T]) -> Vec<T> {
        let (red, rest) = data.split_at(data.len() / 3);
        let (green, blue) = rest.split_at(red.len());
        red.iter().zip(green).zip(blue).flat_map(|((&red, &green), &blue)| [red, green, blue]).collect()
    }

    fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
        let tensor = tensors.tensor(name).unwrap();
        tensor.data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
    }

    fn bytes(data: &[f32]) -> Vec<u8> {
        data.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn scaled_crop(image: &Rgb8, size: usize, crop: usize) -> Vec<f32> {
        let (width, height) = short_side(image.width, image.height, size);
        let scaled = scale_bicubic(&RgbF32::from(image), width, height);
        cut(&scaled.data, width, crop_origin(width, height, crop, CropRule::Torch7).unwrap(), crop)
    }

    #[test]
    fn equals_torch_to_the_bit() {
        let (small, corners) =
            (read("torch_image/a_scale64_crop56.safetensors"), read("torch_image/b_val224_corner32.safetensors"));
        let (small, corners) = (SafeTensors::deserialize(&small).unwrap(), SafeTensors::deserialize(&corners).unwrap());
        let expected = json("torch_image/expected.json");
        let mut images = 0;
        for expected in expected["images"].as_array().unwrap() {
            let name = expected["name"].as_str().unwrap();
            // Its pixels are not among the fixtures.
            if name == "up_97x131.jpg" {
                continue;
            }
            let image = image(name);
            let scaled = planar(&scaled_crop(&image, 64, 56));
            assert!(scaled == floats(&small, name), "{name}, 64");
            assert_eq!(sha256(&bytes(&scaled)), expected["scale64_crop56"]["sha256"], "{name}, 64");

            let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
            let mut validation = scaled_crop(&image, 256, 224);
            for pixel in validation.as_chunks_mut::<3>().0 {
                *pixel = std::array::from_fn(|channel| (pixel[channel] - mean[channel]) / std[channel]);
            }
            let corner = planar(&cut(&validation, 224, (0, 0), 32));
            assert!(corner == floats(&corners, name), "{name}, 256");
            assert_eq!(sha256(&bytes(&planar(&validation))), expected["val224"]["sha256"], "{name}, 256");
            images += 1;
        }
        assert_eq!(images, 11);
    }

    #[test]
    fn equals_torch_at_odd_sizes() {
        let file = read("torch_image/e_interp.safetensors");
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let source = Rgb8::new(33, 47, interleaved(tensors.tensor("src_u8").unwrap().data())).unwrap();
        let source = RgbF32::from(&source);
        let sizes = [(15, 21), (15, 71), (1, 1), (1, 30), (2, 2), (30, 1), (32, 46), (33, 71), (60, 21), (60, 71)];
        for (width, height) in sizes {
            let scaled = scale_bicubic(&source, width, height);
            assert_eq!((scaled.width, scaled.height), (width, height));
            let expected = floats(&tensors, &format!("bicubic_w{width}_h{height}"));
            assert!(planar(&scaled.data) == expected, "{width}x{height}");
        }
        // One row: Torch leaves the last one of the output as it was, here -7.
        let source = RgbF32 { width: 5, height: 1, data: interleaved(&floats(&tensors, "row1_src")) };
        let scaled = scale_bicubic(&source, 5, 4);
        let expected = interleaved(&floats(&tensors, "row1_bicubic_w5_h4_prefilled_minus7"));
        assert_eq!(scaled.data[..45], expected[..45]);
        assert_eq!(scaled.data[45..], source.data);
        assert_eq!(expected[45..], [-7.0; 15]);
    }

    #[test]
    fn equals_catmull_rom() {
        for [from_width, from_height, width, height] in SHAPES {
            let image = RgbF32::from(&noise(from_width, from_height));
            let across = plain(&image.data, 3, from_width, width);
            let down = plain(&across, 3 * width, from_height, height);
            let scaled = scale_bicubic(&image, width, height);
            assert_eq!(scaled.data.len(), down.len());
            let worst = scaled.data.iter().zip(&down).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-6, "{from_width}x{from_height} to {width}x{height}: {worst}");
        }
    }

    /// One axis, whose neighbours lie `step` floats apart, by the four weights in double.
    fn plain(data: &[f32], step: usize, from: usize, to: usize) -> Vec<f32> {
        if from == to {
            return data.to_vec();
        }
        let scale = (from - 1) as f32 / (to.max(2) - 1) as f32;
        let mut scaled = vec![0.0; data.len() / from * to];
        for (target, block) in scaled.chunks_exact_mut(step * to).zip(data.chunks_exact(step * from)) {
            for offset in 0..step {
                let line: Vec<f64> = block[offset..].iter().step_by(step).map(|&value| f64::from(value)).collect();
                let (first, second) = (line[0], line[1.min(from - 1)]);
                let (last, before) = (line[from - 1], line[from.max(2) - 2]);
                // Straight on beyond both ends; the very last has no weight.
                let padded = [&[2.0 * first - second], line.as_slice(), &[2.0 * last - before, 0.0]].concat();
                for index in 0..to {
                    let position = if index + 1 == to { (from - 1) as f32 } else { index as f32 * scale };
                    let t = f64::from(position.fract());
                    let weights = [
                        0.5 * t * ((2.0 - t) * t - 1.0),
                        0.5 * t * t * (3.0 * t - 5.0) + 1.0,
                        0.5 * t * ((4.0 - 3.0 * t) * t + 1.0),
                        0.5 * t * t * (t - 1.0),
                    ];
                    let taps = &padded[position as usize..];
                    let value: f64 = weights.iter().zip(taps).map(|(weight, tap)| weight * tap).sum();
                    target[step * index + offset] = value as f32;
                }
            }
        }
        scaled
    }
}
