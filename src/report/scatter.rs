//! Curves and points: error against size (arXiv 1608.06993, figure 3), calibration, the worst classes.

use super::axes::{Axis, Frame};
use super::canvas::{Anchor, Canvas, Ink};
use crate::metrics::{Bin, ClassError};

const PUBLISHED: Ink = Ink::Rgb([70, 130, 190]);
const MEASURED: Ink = Ink::Rgb([214, 93, 40]);
const BAR: Ink = Ink::Rgb([214, 93, 40]);

/// One network.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) name: String,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) measured: bool,
}

const CORNER: (f64, f64) = (44.0, 26.0);
const SIZE: (f64, f64) = (330.0, 220.0);

/// An empty drawing with axes, and `below` units of room under them.
fn plot(title: &str, x: Axis, y: Axis, x_name: &str, below: f64) -> (Canvas, Frame) {
    let frame = Frame { corner: CORNER, size: SIZE, x, y };
    let mut canvas = Canvas::new(CORNER.0 + SIZE.0 + 20.0, CORNER.1 + SIZE.1 + 36.0 + below);
    frame.draw(&mut canvas, title, Some(x_name));
    (canvas, frame)
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Error in per cent against some size.
pub(super) fn errors(title: &str, x_name: &str, points: &[Point]) -> String {
    let (x, y) = (points.iter().map(|point| point.x), points.iter().map(|point| point.y));
    let (mut canvas, frame) = plot(title, Axis::from_zero(x), Axis::around(y), x_name, 18.0);
    for point in points {
        let place = frame.place(point.x, point.y);
        let kind = if point.measured { "measured" } else { "published" };
        let title = format!("{}: {:.3} % {kind}, {x_name} {}", point.name, point.y, number(point.x));
        let look = if point.measured { (MEASURED, true) } else { (PUBLISHED, false) };
        canvas.circle(place, 4.5, look, Some(title));
        if !point.measured {
            let short = point.name.trim_start_matches("densenet-");
            // On the side with room: inside the drawing, and away from a neighbour.
            let close = |other: &Point| {
                let (x, y) = frame.place(other.x, other.y);
                x > place.0 && x - place.0 < 40.0 && (y - place.1).abs() < 12.0
            };
            let left = place.0 > CORNER.0 + SIZE.0 * 0.75 || points.iter().any(close);
            let (anchor, shift) = if left { (Anchor::End, -8.0) } else { (Anchor::Start, 8.0) };
            canvas.text((place.0 + shift, place.1 + 4.0), anchor, short);
        }
    }
    let legend = CORNER.1 + SIZE.1 + 46.0;
    canvas.circle((CORNER.0 + 4.0, legend - 4.0), 4.5, (PUBLISHED, false), None);
    canvas.text((CORNER.0 + 14.0, legend), Anchor::Start, "published");
    canvas.circle((CORNER.0 + 104.0, legend - 4.0), 4.5, (MEASURED, true), None);
    canvas.text((CORNER.0 + 114.0, legend), Anchor::Start, "measured");
    canvas.svg(false)
}

/// How often the network is right, against how sure it is; the diagonal would be perfect.
pub(super) fn calibration(bins: &[Bin]) -> String {
    let axis = Axis::new(0.0, 1.0);
    let (mut canvas, frame) = plot("share right, by confidence", axis, axis, "confidence", 0.0);
    let (from, to) = (frame.place(0.0, 0.0), frame.place(1.0, 1.0));
    canvas.line(from, to, Ink::Text);
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or(1) as f64;
    let places: Vec<_> = bins.iter().map(|bin| frame.place(bin.confidence, bin.accuracy)).collect();
    for pair in places.windows(2) {
        canvas.line(pair[0], pair[1], MEASURED);
    }
    for (bin, place) in bins.iter().zip(places) {
        let title = format!("{} images: confidence {:.3}, right {:.3}", bin.images, bin.confidence, bin.accuracy);
        canvas.circle(place, 2.5 + 4.0 * (bin.images as f64 / most).sqrt(), (MEASURED, true), Some(title));
    }
    canvas.svg(false)
}

/// The classes with the largest errors, as bars; `name` says what a class is called.
pub(super) fn worst_classes(classes: &[ClassError], name: impl Fn(usize) -> String) -> String {
    const ROW: f64 = 18.0;
    let share = |class: &ClassError| class.wrong as f64 / class.of.max(1) as f64;
    let mut canvas = Canvas::new(394.0, classes.len() as f64 * ROW + 6.0);
    let most = classes.iter().map(share).fold(f64::MIN_POSITIVE, f64::max);
    for (index, class) in classes.iter().enumerate() {
        let y = index as f64 * ROW;
        let full = name(class.label);
        let short = full.split(',').next().unwrap_or_default();
        let short: String = short.chars().take(20).collect();
        canvas.text((128.0, y + 13.0), Anchor::End, &short);
        let width = 170.0 * share(class) / most;
        canvas.rect((134.0, y + 3.0), (width, ROW - 6.0), BAR, Some(full));
        let text = format!("{:.1} % ({} of {})", 100.0 * share(class), class.wrong, class.of);
        canvas.text((140.0 + width, y + 13.0), Anchor::Start, &text);
    }
    canvas.svg(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_say_what_they_are() {
        let point = |name: &str, x, measured| Point { name: name.into(), x, y: 25.0, measured };
        let svg = errors("e", "params M", &[point("densenet-121", 7.98, false), point("mine & yours", 14.0, true)]);
        assert!(svg.contains("<title>densenet-121: 25.000 % published, params M 7.98</title>"), "{svg}");
        assert!(svg.contains("<title>mine &amp; yours: 25.000 % measured, params M 14</title>"));
        assert!(svg.contains(">121</text>"));
    }
}
