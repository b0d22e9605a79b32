//! A few shapes as pixels, two a unit, with smooth edges.

use font8x8::UnicodeFonts;
use image::{Rgb, RgbImage};

use super::canvas::Anchor;

/// Pixels a unit.
const SCALE: f64 = 2.0;
/// Width of a circle's line, in units: what SVG draws half within and half without.
const RING: f64 = 1.5;

pub(super) struct Raster {
    pub(super) image: RgbImage,
}

impl Raster {
    /// White, of so many units.
    pub(super) fn new(width: f64, height: f64) -> Self {
        let size = |units: f64| (units * SCALE).ceil().max(1.0) as u32;
        Self { image: RgbImage::from_pixel(size(width), size(height), Rgb([255; 3])) }
    }

    /// Covers a share of a pixel.
    fn cover(&mut self, (x, y): (i64, i64), colour: [u8; 3], share: f64) {
        let place = (u32::try_from(x), u32::try_from(y));
        let (Ok(x), Ok(y)) = place else { return };
        if let Some(Rgb(old)) = self.image.get_pixel_mut_checked(x, y) {
            let share = share.clamp(0.0, 1.0);
            for (old, new) in old.iter_mut().zip(colour) {
                *old = (f64::from(*old) * (1.0 - share) + f64::from(new) * share).round() as u8;
            }
        }
    }

    /// Covers what lies within a distance, in pixels: `distance` is that of a pixel's centre, looked at in a box.
    fn within(
        &mut self,
        (from, to): ((f64, f64), (f64, f64)),
        colour: [u8; 3],
        reach: f64,
        distance: impl Fn(f64, f64) -> f64,
    ) {
        let span = |from: f64, to: f64, end: u32| {
            let (first, last) = ((from - reach).floor().max(0.0), (to + reach).ceil().min(f64::from(end)));
            first as i64..last as i64
        };
        let (width, height) = self.image.dimensions();
        for y in span(from.1, to.1, height) {
            for x in span(from.0, to.0, width) {
                let share = reach + 0.5 - distance(x as f64 + 0.5, y as f64 + 0.5);
                if share > 0.0 {
                    self.cover((x, y), colour, share);
                }
            }
        }
    }

    pub(super) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: [u8; 3]) {
        let steps = |from: f64, length: f64| {
            let (first, last) = ((from * SCALE).round() as i64, ((from + length) * SCALE).round() as i64);
            first..last.max(first + 1)
        };
        for row in steps(y, height) {
            for column in steps(x, width) {
                self.cover((column, row), colour, 1.0);
            }
        }
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], width: f64, colour: [u8; 3]) {
        for (from, to) in points.iter().zip(points.iter().skip(1)) {
            let (from, to) = ((from.0 * SCALE, from.1 * SCALE), (to.0 * SCALE, to.1 * SCALE));
            let (dx, dy) = (to.0 - from.0, to.1 - from.1);
            let length = (dx * dx + dy * dy).max(f64::MIN_POSITIVE);
            let corners = ((from.0.min(to.0), from.1.min(to.1)), (from.0.max(to.0), from.1.max(to.1)));
            self.within(corners, colour, width * SCALE / 2.0, |x, y| {
                let along = (((x - from.0) * dx + (y - from.1) * dy) / length).clamp(0.0, 1.0);
                (x - from.0 - along * dx).hypot(y - from.1 - along * dy)
            });
        }
    }

    pub(super) fn circle(&mut self, (x, y): (f64, f64), radius: f64, filled: bool, colour: [u8; 3]) {
        let (x, y, radius, half) = (x * SCALE, y * SCALE, radius * SCALE, RING * SCALE / 2.0);
        let corners = ((x - radius, y - radius), (x + radius, y + radius));
        self.within(corners, colour, half, |column, row| {
            let distance = (column - x).hypot(row - y) - radius;
            if filled { distance } else { distance.abs() }
        });
    }

    /// In cells of eight pixels, twice as high and wide.
    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str, colour: [u8; 3]) {
        let length = 16 * text.chars().count() as i64;
        let start = (x * SCALE) as i64
            - match anchor {
                Anchor::Start => 0,
                Anchor::Middle => length / 2,
                Anchor::End => length,
            };
        let top = (y * SCALE) as i64 - 16;
        for (number, character) in (0..).zip(text.chars()) {
            let glyph = font8x8::BASIC_FONTS.get(character).or_else(|| font8x8::BASIC_FONTS.get('?'));
            for (row, bits) in (0..).zip(glyph.unwrap_or_default()) {
                for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                    for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                        let across = 16 * number + 2 * i64::from(column) + dx;
                        self.cover((start + across, top + 2 * row + dy), colour, 1.0);
                    }
                }
            }
        }
    }
}
