//! The axes of a drawing: where values lie in it, and which round values are written beside it.

use super::canvas::{Anchor, Canvas, Ink};

/// The least distance between two ticks, in units.
const ROOM: f64 = 18.0;

/// From the least value shown to the largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    from: f64,
    to: f64,
    scale: Scale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
    /// Linear, and values between whole numbers are none.
    Whole,
}

impl Axis {
    pub(super) fn new(from: f64, to: f64) -> Self {
        Self { from, to, scale: Scale::Linear }
    }

    /// Of what is counted.
    pub(super) fn whole(from: usize, to: usize) -> Self {
        Self { from: from as f64, to: to as f64, scale: Scale::Whole }
    }

    /// With some values in it, and room around them.
    pub(super) fn around(values: impl Iterator<Item = f64>) -> Self {
        let Some((low, high)) = extremes(values) else { return Self::new(0.0, 1.0) };
        let room = room(low, high);
        Self::new(low - room, high + room)
    }

    /// The same from zero on.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>) -> Self {
        let Some((low, high)) = extremes(values) else { return Self::new(0.0, 1.0) };
        Self::new(0.0, high + room(low, high))
    }

    /// Around values that are not negative; logarithmic where the largest is ten times the least above zero. Zero is then at
    /// its beginning.
    pub(super) fn fitting(values: &[f64]) -> Self {
        match extremes(values.iter().copied().filter(|&value| value > 0.0)) {
            Some((low, high)) if high >= 10.0 * low => {
                let room = (high / low).powf(0.05);
                Self { from: low / room, to: high * room, scale: Scale::Log }
            }
            _ => Self::around(values.iter().copied()),
        }
    }

    /// Where a value lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let share = |value: f64, from: f64, to: f64| (value - from) / (to - from).max(f64::MIN_POSITIVE);
        match self.scale {
            Scale::Log => share(value.max(self.from).ln(), self.from.ln(), self.to.ln()),
            Scale::Linear | Scale::Whole => share(value, self.from, self.to),
        }
    }

    /// Round values on it, with their text: on a length of so many units.
    fn ticks(&self, length: f64) -> Vec<(f64, String)> {
        let room = length / ROOM;
        if self.scale == Scale::Log {
            let [many, few] = [&[1.0, 2.0, 5.0][..], &[1.0]].map(|digits| self.powers(digits));
            return if many.len() as f64 > room { few } else { many };
        }
        let rough = (self.to - self.from) / room.min(6.0);
        let power = 10_f64.powf(rough.abs().max(1e-12).log10().floor());
        let round = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
        let step = round.unwrap_or(power).max(if self.scale == Scale::Whole { 1.0 } else { 0.0 });
        let decimals = (-(step * 1.01).log10().floor()).max(0.0) as usize;
        let first = (self.from / step).ceil() as i64;
        let ticks = (first..).map(|index| index as f64 * step).take_while(|tick| *tick <= self.to + step * 1e-9);
        ticks.take(20).map(|tick| (tick, format!("{tick:.decimals$}"))).collect()
    }

    /// Powers of ten times these digits.
    fn powers(&self, digits: &[f64]) -> Vec<(f64, String)> {
        let (first, last) = (self.from.log10().floor() as i32, self.to.log10().ceil() as i32);
        let all = (first..=last).flat_map(|power| digits.iter().map(move |digit| (*digit, power)));
        let ticks = all.map(|(digit, power)| (digit * 10_f64.powi(power), digit, power));
        let inside = ticks.filter(|(tick, ..)| (self.from..=self.to).contains(tick));
        let text = |digit: f64, power: i32| match power {
            ..-3 => format!("{digit}e{power}"),
            _ => format!("{:.*}", -power.min(0) as usize, digit * 10_f64.powi(power)),
        };
        inside.map(|(tick, digit, power)| (tick, text(digit, power))).collect()
    }
}

fn extremes(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.map(|value| (value, value)).reduce(|(low, high), (value, _)| (low.min(value), high.max(value)))
}

fn room(low: f64, high: f64) -> f64 {
    ((high - low) * 0.08).max(high.abs() * 0.01).max(1e-6)
}

/// A rectangle with an axis below and one on its left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Its upper left corner in the drawing, in units.
    pub(super) corner: (f64, f64),
    /// Width and height.
    pub(super) size: (f64, f64),
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl Frame {
    /// Where values lie in the drawing.
    pub(super) fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let ((left, top), (width, height)) = (self.corner, self.size);
        (left + self.x.share(x) * width, top + (1.0 - self.y.share(y)) * height)
    }

    /// Title, lines and numbers; those of the axis below only with its name.
    pub(super) fn draw(&self, canvas: &mut Canvas, title: &str, x_name: Option<&str>) {
        let ((left, top), (width, height)) = (self.corner, self.size);
        let (right, bottom) = (left + width, top + height);
        canvas.text((4.0, top - 13.0), Anchor::Start, title);
        for corner in [(left, top), (right, bottom)] {
            canvas.line((left, bottom), corner, Ink::Faint);
        }
        for (tick, text) in self.y.ticks(height) {
            let (_, at) = self.place(self.x.from, tick);
            canvas.line((left, at), (right, at), Ink::Faint);
            canvas.text((left - 5.0, at + 4.0), Anchor::End, &text);
        }
        for (tick, text) in self.x.ticks(width) {
            let (at, _) = self.place(tick, self.y.from);
            canvas.line((at, top), (at, bottom), Ink::Faint);
            if x_name.is_some() {
                canvas.text((at, bottom + 15.0), Anchor::Middle, &text);
            }
        }
        if let Some(name) = x_name {
            canvas.text((left + width / 2.0, bottom + 30.0), Anchor::Middle, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: Axis) -> Vec<String> {
        axis.ticks(200.0).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(texts(Axis::new(0.0, 1.0)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(Axis::new(20.1, 25.4)), ["21", "22", "23", "24", "25"]);
        assert_eq!(texts(Axis::new(0.0, 78.0)), ["0", "20", "40", "60"]);
        assert_eq!(texts(Axis::new(0.991, 0.9932)), ["0.9910", "0.9915", "0.9920", "0.9925", "0.9930"]);
        assert_eq!(texts(Axis::whole(1, 3)), ["1", "2", "3"]);
        assert_eq!(texts(Axis::whole(1, 300)), ["50", "100", "150", "200", "250", "300"]);
        assert_eq!(Axis::around(std::iter::empty()), Axis::new(0.0, 1.0));
    }

    #[test]
    fn what_ranges_over_a_decade_is_drawn_by_its_logarithm() {
        let axis = Axis::fitting(&[90.0, 2.5, 0.0]);
        assert_eq!(texts(axis), ["5", "10", "20", "50", "100"]);
        assert_eq!(axis.share(0.0), 0.0);
        assert_eq!(texts(Axis::fitting(&[0.1, 1e-5])), ["1e-5", "1e-4", "0.001", "0.01", "0.1"]);
        assert_eq!(texts(Axis::fitting(&[0.1, 0.01])), ["0.01", "0.02", "0.05", "0.1"]);
        let few: Vec<_> = Axis::fitting(&[0.1, 0.001]).ticks(70.0).into_iter().map(|(_, text)| text).collect();
        assert_eq!(few, ["0.001", "0.01", "0.1"]);
        // Half way between 0.1 and 0.001.
        assert!((Axis::fitting(&[0.1, 0.001]).share(0.01) - 0.5).abs() < 1e-12);
        assert_eq!(texts(Axis::fitting(&[24.0, 79.0])), ["20", "40", "60", "80"]);
        assert_eq!(Axis::fitting(&[0.0, 0.0]).share(0.0), 0.5);
    }

    #[test]
    fn points_lie_where_their_values_say() {
        let frame =
            Frame { corner: (40.0, 20.0), size: (300.0, 200.0), x: Axis::new(0.0, 10.0), y: Axis::new(20.0, 30.0) };
        assert_eq!((frame.place(5.0, 25.0), frame.place(0.0, 30.0)), ((190.0, 120.0), (40.0, 20.0)));
    }
}
