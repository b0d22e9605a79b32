//! From component planes to RGB: chroma enlarged by libjpeg's triangle filter ("fancy upsampling"), then its 16-bit
//! fixed-point conversion.

use super::super::from_adobe_cmyk;
use super::frame::{Component, Frame};

/// How a component reaches the image's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Enlarge {
    None,
    /// 2:1 across.
    Across,
    /// 2:1 down.
    Down,
    /// 2:1 both ways.
    Both,
    /// Each sample repeated so often across and down.
    Repeat(usize, usize),
}

impl Enlarge {
    fn of(component: &Component, frame: &Frame) -> Self {
        let (across, down) = (frame.most_h / component.h, frame.most_v / component.v);
        // The filter needs a neighbour on each side.
        match (across, down, component.width > 2) {
            (1, 1, _) => Self::None,
            (2, 1, true) => Self::Across,
            (1, 2, _) => Self::Down,
            (2, 2, true) => Self::Both,
            _ => Self::Repeat(across, down),
        }
    }
}

/// A row of a component at the image's width, at least.
#[inline(always)]
fn row(component: &Component, enlarge: Enlarge, y: usize, sums: &mut Vec<u16>, out: &mut [u8]) {
    let width = component.width;
    match enlarge {
        Enlarge::None => out[..width].copy_from_slice(component.row(y)),
        Enlarge::Across => {
            let x = component.row(y);
            let wide = |at: usize| u16::from(x[at]);
            out[0] = x[0];
            out[1] = ((3 * wide(0) + wide(1) + 2) >> 2) as u8;
            for (pair, near) in out[2..].as_chunks_mut().0.iter_mut().zip(x.windows(3)) {
                let [before, here, after] = [near[0], near[1], near[2]].map(u16::from);
                *pair = [((3 * here + before + 1) >> 2) as u8, ((3 * here + after + 2) >> 2) as u8];
            }
            out[2 * width - 2] = ((3 * wide(width - 1) + wide(width - 2) + 1) >> 2) as u8;
            out[2 * width - 1] = x[width - 1];
        }
        Enlarge::Down => {
            let (near, far, bias) = (component.row(y / 2), component.row(neighbour(component, y)), 1 + (y as u16 & 1));
            for (out, (&near, &far)) in out.iter_mut().zip(near.iter().zip(far)) {
                *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
            }
        }
        Enlarge::Both => {
            let (near, far) = (component.row(y / 2), component.row(neighbour(component, y)));
            sums.clear();
            sums.extend(near.iter().zip(far).map(|(&near, &far)| 3 * u16::from(near) + u16::from(far)));
            out[0] = ((4 * sums[0] + 8) >> 4) as u8;
            out[1] = ((3 * sums[0] + sums[1] + 7) >> 4) as u8;
            for (pair, near) in out[2..].as_chunks_mut().0.iter_mut().zip(sums.windows(3)) {
                *pair = [((3 * near[1] + near[0] + 8) >> 4) as u8, ((3 * near[1] + near[2] + 7) >> 4) as u8];
            }
            out[2 * width - 2] = ((3 * sums[width - 1] + sums[width - 2] + 8) >> 4) as u8;
            out[2 * width - 1] = ((4 * sums[width - 1] + 7) >> 4) as u8;
        }
        Enlarge::Repeat(across, down) => {
            for (samples, &sample) in out.chunks_mut(across).zip(component.row(y / down)) {
                samples.fill(sample);
            }
        }
    }
}

/// The row that lies on the other side of `y`, or the edge itself.
fn neighbour(component: &Component, y: usize) -> usize {
    let near = y / 2;
    if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(component.height - 1) }
}

/// What the components mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Grey,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

/// Red, green and blue of each pixel, row after row.
pub(super) fn rgb(frame: &Frame, space: Space) -> Vec<u8> {
    pulp::Arch::new().dispatch(Pixels { frame, space })
}

/// All rows, compiled for each kind of vectors.
struct Pixels<'a> {
    frame: &'a Frame,
    space: Space,
}

impl pulp::WithSimd for Pixels<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Vec<u8> {
        pixels(self.frame, self.space)
    }
}

#[inline(always)]
fn pixels(frame: &Frame, space: Space) -> Vec<u8> {
    let (width, height) = (frame.width, frame.height);
    let enlarge: Vec<Enlarge> = frame.components.iter().map(|component| Enlarge::of(component, frame)).collect();
    // An enlarged row may be longer than the image's.
    let longest = frame.components.iter().map(|component| component.width * (frame.most_h / component.h)).max();
    let mut rows = vec![vec![0_u8; longest.unwrap_or(0).max(width).max(2)]; frame.components.len()];
    let mut sums = Vec::new();
    let mut out = vec![0_u8; 3 * width * height];
    for (y, pixels) in out.chunks_exact_mut(3 * width).enumerate() {
        for ((component, &enlarge), out) in frame.components.iter().zip(&enlarge).zip(&mut rows) {
            row(component, enlarge, y, &mut sums, out);
        }
        if matches!(space, Space::YCbCr | Space::Ycck)
            && let [luma, blue, red, ..] = &mut rows[..]
        {
            to_rgb(&mut luma[..width], &mut blue[..width], &mut red[..width]);
        }
        match &rows[..] {
            [grey] => interleave(pixels, grey, grey, grey),
            [r, g, b] => interleave(pixels, r, g, b),
            [c, m, y, k] => {
                // YCCK's first three are inverted RGB.
                let inverted = space == Space::Ycck;
                for (x, pixel) in pixels.as_chunks_mut().0.iter_mut().enumerate() {
                    let [c, m, y] = [c[x], m[x], y[x]].map(|ink| if inverted { 255 - ink } else { ink });
                    *pixel = from_adobe_cmyk([c, m, y, k[x]]);
                }
            }
            _ => {}
        }
    }
    out
}

#[inline(always)]
fn interleave(pixels: &mut [u8], r: &[u8], g: &[u8], b: &[u8]) {
    for (pixel, ((&r, &g), &b)) in pixels.as_chunks_mut().0.iter_mut().zip(r.iter().zip(g).zip(b)) {
        *pixel = [r, g, b];
    }
}

/// Y, Cb, Cr of a row become R, G, B in place (JFIF 1.02; the fractions times 65536, rounded).
#[inline(always)]
fn to_rgb(luma: &mut [u8], blue: &mut [u8], red: &mut [u8]) {
    const HALF: i32 = 1 << 15;
    for ((y, cb), cr) in luma.iter_mut().zip(blue).zip(red) {
        let (luma, blue, red) = (i32::from(*y), i32::from(*cb) - 128, i32::from(*cr) - 128);
        let r = luma + ((91_881 * red + HALF) >> 16);
        let g = luma + ((-22_554 * blue - 46_802 * red + HALF) >> 16);
        let b = luma + ((116_130 * blue + HALF) >> 16);
        *y = r.clamp(0, 255) as u8;
        *cb = g.clamp(0, 255) as u8;
        *cr = b.clamp(0, 255) as u8;
    }
}
