//! Curves and points: error against size (arXiv 1608.06993, figure 3), calibration, the worst classes.

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

/// The drawing area in which axes and points lie.
struct Plot {
    canvas: Canvas,
    x: (f64, f64),
    y: (f64, f64),
}

const LEFT: f64 = 44.0;
const TOP: f64 = 26.0;
const SIDE: (f64, f64) = (330.0, 220.0);

impl Plot {
    fn new(title: &str, x: (f64, f64), y: (f64, f64), x_name: &str, below: f64) -> Self {
        let mut plot = Self { canvas: Canvas::new(LEFT + SIDE.0 + 20.0, TOP + SIDE.1 + 36.0 + below), x, y };
        plot.canvas.text((4.0, 13.0), Anchor::Start, title);
        for tick in ticks(y) {
            let (_, at) = plot.place(x.0, tick);
            plot.canvas.line((LEFT, at), (LEFT + SIDE.0, at), Ink::Faint);
            plot.canvas.text((LEFT - 5.0, at + 4.0), Anchor::End, &number(tick));
        }
        for tick in ticks(x) {
            let (at, _) = plot.place(tick, y.0);
            plot.canvas.line((at, TOP), (at, TOP + SIDE.1), Ink::Faint);
            plot.canvas.text((at, TOP + SIDE.1 + 15.0), Anchor::Middle, &number(tick));
        }
        plot.canvas.text((LEFT + SIDE.0 / 2.0, TOP + SIDE.1 + 30.0), Anchor::Middle, x_name);
        plot
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let share = |value: f64, (from, to): (f64, f64)| (value - from) / (to - from).max(f64::MIN_POSITIVE);
        (LEFT + share(x, self.x) * SIDE.0, TOP + (1.0 - share(y, self.y)) * SIDE.1)
    }
}

/// Round values within a range: some four to eight.
fn ticks((from, to): (f64, f64)) -> Vec<f64> {
    let rough = (to - from) / 5.0;
    let power = 10_f64.powf(rough.abs().max(1e-12).log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(power);
    let first = (from / step).ceil() as i64;
    (first..).map(|index| index as f64 * step).take_while(|tick| *tick <= to + step * 1e-9).take(20).collect()
}

fn number(tick: f64) -> String {
    let text = format!("{tick:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The range of some values with room around it.
fn range(values: impl Iterator<Item = f64>, from_zero: bool) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * 0.08).max(high.abs() * 0.01).max(1e-6);
    (if from_zero { 0.0 } else { low - room }, high + room)
}

/// Error in per cent against some size.
pub(super) fn errors(title: &str, x_name: &str, points: &[Point]) -> String {
    let x = range(points.iter().map(|point| point.x), true);
    let y = range(points.iter().map(|point| point.y), false);
    let mut plot = Plot::new(title, x, y, x_name, 18.0);
    for point in points {
        let place = plot.place(point.x, point.y);
        let kind = if point.measured { "measured" } else { "published" };
        let title = format!("{}: {:.3} % {kind}, {x_name} {}", point.name, point.y, number(point.x));
        let look = if point.measured { (MEASURED, true) } else { (PUBLISHED, false) };
        plot.canvas.circle(place, 4.5, look, Some(title));
        if !point.measured {
            let short = point.name.trim_start_matches("densenet-");
            // On the side with room: inside the drawing, and away from a neighbour.
            let close = |other: &Point| {
                let (x, y) = plot.place(other.x, other.y);
                x > place.0 && x - place.0 < 40.0 && (y - place.1).abs() < 12.0
            };
            let left = place.0 > LEFT + SIDE.0 * 0.75 || points.iter().any(close);
            let (anchor, shift) = if left { (Anchor::End, -8.0) } else { (Anchor::Start, 8.0) };
            plot.canvas.text((place.0 + shift, place.1 + 4.0), anchor, short);
        }
    }
    let legend = TOP + SIDE.1 + 46.0;
    plot.canvas.circle((LEFT + 4.0, legend - 4.0), 4.5, (PUBLISHED, false), None);
    plot.canvas.text((LEFT + 14.0, legend), Anchor::Start, "published");
    plot.canvas.circle((LEFT + 104.0, legend - 4.0), 4.5, (MEASURED, true), None);
    plot.canvas.text((LEFT + 114.0, legend), Anchor::Start, "measured");
    plot.canvas.svg(false)
}

/// How often the network is right, against how sure it is; the diagonal would be perfect.
pub(super) fn calibration(bins: &[Bin]) -> String {
    let mut plot = Plot::new("share right, by confidence", (0.0, 1.0), (0.0, 1.0), "confidence", 0.0);
    let (from, to) = (plot.place(0.0, 0.0), plot.place(1.0, 1.0));
    plot.canvas.line(from, to, Ink::Text);
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or(1) as f64;
    let places: Vec<_> = bins.iter().map(|bin| plot.place(bin.confidence, bin.accuracy)).collect();
    for pair in places.windows(2) {
        plot.canvas.line(pair[0], pair[1], MEASURED);
    }
    for (bin, place) in bins.iter().zip(places) {
        let title = format!("{} images: confidence {:.3}, right {:.3}", bin.images, bin.confidence, bin.accuracy);
        plot.canvas.circle(place, 2.5 + 4.0 * (bin.images as f64 / most).sqrt(), (MEASURED, true), Some(title));
    }
    plot.canvas.svg(false)
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
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks((0.0, 1.0)), [0, 1, 2, 3, 4, 5].map(|index| f64::from(index) * 0.2));
        assert_eq!(ticks((20.1, 25.4)), [22.0, 24.0]);
        assert_eq!(ticks((0.0, 78.0)), [0.0, 20.0, 40.0, 60.0]);
        assert_eq!([number(3.0 * 0.2), number(20.0), number(0.25)], ["0.6", "20", "0.25"]);
        assert_eq!(range(std::iter::empty(), false), (0.0, 1.0));
    }

    #[test]
    fn points_lie_where_their_values_say() {
        let plot = Plot::new("", (0.0, 10.0), (20.0, 30.0), "", 0.0);
        assert_eq!(plot.place(5.0, 25.0), (LEFT + SIDE.0 / 2.0, TOP + SIDE.1 / 2.0));
        assert_eq!(plot.place(0.0, 30.0), (LEFT, TOP));
        let point = |name: &str, x, measured| Point { name: name.into(), x, y: 25.0, measured };
        let svg = errors("e", "params M", &[point("densenet-121", 7.98, false), point("mine & yours", 14.0, true)]);
        assert!(svg.contains("<title>densenet-121: 25.000 % published, params M 7.98</title>"), "{svg}");
        assert!(svg.contains("<title>mine &amp; yours: 25.000 % measured, params M 14</title>"));
        assert!(svg.contains(">121</text>"));
    }
}
