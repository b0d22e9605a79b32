//! Drawings made of a few shapes, as SVG and as pixels.

use std::fmt::Write;

use font8x8::UnicodeFonts;
use image::{Rgb, RgbImage};

/// A colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// The text's own, which follows a page's light or dark mode.
    Text,
    /// The text's own, weakened.
    Faint,
    /// Always this one.
    Rgb([u8; 3]),
}

/// Where a text's point lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone, Debug)]
enum Shape {
    Rect { x: f64, y: f64, width: f64, height: f64, ink: Ink },
    Line { from: (f64, f64), to: (f64, f64), ink: Ink },
    Circle { x: f64, y: f64, radius: f64, ink: Ink, filled: bool },
    Text { x: f64, y: f64, anchor: Anchor, text: String },
}

/// Size of all text, in units.
const TEXT: f64 = 11.0;

/// A drawing of so many units, y from the top.
#[derive(Clone, Debug)]
pub(super) struct Canvas {
    width: f64,
    height: f64,
    shapes: Vec<(Shape, Option<String>)>,
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    /// `title` is shown where a pointer rests on it.
    pub(super) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), ink: Ink, title: Option<String>) {
        self.shapes.push((Shape::Rect { x, y, width, height, ink }, title));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink) {
        self.shapes.push((Shape::Line { from, to, ink }, None));
    }

    pub(super) fn circle(
        &mut self,
        (x, y): (f64, f64),
        radius: f64,
        (ink, filled): (Ink, bool),
        title: Option<String>,
    ) {
        self.shapes.push((Shape::Circle { x, y, radius, ink, filled }, title));
    }

    /// `y` is the baseline.
    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        self.shapes.push((Shape::Text { x, y, anchor, text: text.to_owned() }, None));
    }

    /// As SVG; `paper` puts white under it, for where it stands alone.
    pub(super) fn svg(&self, paper: bool) -> String {
        let (width, height) = (self.width, self.height);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"{TEXT}\">"
        );
        if paper {
            out.push_str("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>");
        }
        for (shape, title) in &self.shapes {
            let title = title.as_ref().map_or_else(String::new, |title| format!("<title>{}</title>", escaped(title)));
            let _ = match shape {
                Shape::Rect { x, y, width, height, ink } => write!(
                    out,
                    "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" {}>{title}</rect>",
                    paint("fill", *ink)
                ),
                Shape::Line { from, to, ink } => write!(
                    out,
                    "<line x1=\"{:.2}\" y1=\"{:.2}\" x2=\"{:.2}\" y2=\"{:.2}\" {}/>",
                    from.0,
                    from.1,
                    to.0,
                    to.1,
                    paint("stroke", *ink)
                ),
                Shape::Circle { x, y, radius, ink, filled } => {
                    let fill = if *filled { paint("fill", *ink) } else { "fill=\"none\"".to_owned() };
                    let stroke = paint("stroke", *ink);
                    write!(
                        out,
                        "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius}\" {fill} {stroke} stroke-width=\"1.5\">{title}</circle>"
                    )
                }
                Shape::Text { x, y, anchor, text } => {
                    let anchor = match anchor {
                        Anchor::Start => "start",
                        Anchor::Middle => "middle",
                        Anchor::End => "end",
                    };
                    let text = escaped(text);
                    write!(
                        out,
                        "<text x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\" fill=\"currentColor\">{text}</text>"
                    )
                }
            };
        }
        out.push_str("</svg>\n");
        out
    }

    /// As pixels on white, two a unit.
    pub(super) fn pixels(&self) -> RgbImage {
        const SCALE: f64 = 2.0;
        let size = |units: f64| (units * SCALE).ceil().max(1.0) as u32;
        let mut image = RgbImage::from_pixel(size(self.width), size(self.height), Rgb([255; 3]));
        let mut dot = |x: f64, y: f64, ink: Ink| {
            if x >= 0.0 && y >= 0.0 && x < f64::from(image.width()) && y < f64::from(image.height()) {
                image.put_pixel(x as u32, y as u32, Rgb(solid(ink)));
            }
        };
        for (shape, _) in &self.shapes {
            match shape {
                Shape::Rect { x, y, width, height, ink } => {
                    let steps = |from: f64, length: f64| {
                        let (first, last) = ((from * SCALE).round() as i64, ((from + length) * SCALE).round() as i64);
                        first..last.max(first + 1)
                    };
                    for row in steps(*y, *height) {
                        for column in steps(*x, *width) {
                            dot(column as f64, row as f64, *ink);
                        }
                    }
                }
                Shape::Line { from, to, ink } => {
                    let steps = ((to.0 - from.0).abs().max((to.1 - from.1).abs()) * SCALE).ceil().max(1.0);
                    for step in 0..=steps as i64 {
                        let at = |from: f64, to: f64| (from + (to - from) * step as f64 / steps) * SCALE;
                        dot(at(from.0, to.0), at(from.1, to.1), *ink);
                    }
                }
                Shape::Circle { x, y, radius, ink, filled } => {
                    let (outer, inner) = (radius * SCALE, if *filled { 0.0 } else { (radius - 1.5) * SCALE });
                    let reach = outer.ceil() as i64;
                    for dy in -reach..=reach {
                        for dx in -reach..=reach {
                            let distance = (dx as f64).hypot(dy as f64);
                            if distance <= outer && distance >= inner {
                                dot(x * SCALE + dx as f64, y * SCALE + dy as f64, *ink);
                            }
                        }
                    }
                }
                Shape::Text { x, y, anchor, text } => {
                    // Cells of eight pixels, twice as high and wide.
                    let length = 16.0 * text.chars().count() as f64;
                    let start = x * SCALE
                        - match anchor {
                            Anchor::Start => 0.0,
                            Anchor::Middle => length / 2.0,
                            Anchor::End => length,
                        };
                    for (number, character) in text.chars().enumerate() {
                        let glyph = font8x8::BASIC_FONTS.get(character).or_else(|| font8x8::BASIC_FONTS.get('?'));
                        for (row, bits) in glyph.unwrap_or_default().into_iter().enumerate() {
                            for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                                for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                                    let across = 16 * number + 2 * column + dx;
                                    dot(start + across as f64, y * SCALE - 16.0 + (2 * row + dy) as f64, Ink::Text);
                                }
                            }
                        }
                    }
                }
            }
        }
        image
    }
}

fn solid(ink: Ink) -> [u8; 3] {
    match ink {
        Ink::Text => [30; 3],
        Ink::Faint => [205; 3],
        Ink::Rgb(colour) => colour,
    }
}

fn paint(what: &str, ink: Ink) -> String {
    match ink {
        Ink::Text => format!("{what}=\"currentColor\""),
        Ink::Faint => format!("{what}=\"currentColor\" {what}-opacity=\"0.2\""),
        Ink::Rgb([r, g, b]) => format!("{what}=\"#{r:02x}{g:02x}{b:02x}\""),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// From pale to dark blue, for shares from 0 to 1.
pub(super) fn heat(share: f64) -> [u8; 3] {
    const STOPS: [[f64; 3]; 3] = [[240.0, 243.0, 247.0], [86.0, 150.0, 205.0], [10.0, 30.0, 84.0]];
    let place = share.clamp(0.0, 1.0) * 2.0;
    let (first, part) = if place < 1.0 { (0, place) } else { (1, place - 1.0) };
    std::array::from_fn(|channel| {
        let (from, to) = (STOPS[first][channel], STOPS[first + 1][channel]);
        (from + (to - from) * part).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_show_the_same_shapes() {
        let mut canvas = Canvas::new(40.0, 20.0);
        canvas.rect((2.0, 3.0), (10.0, 5.0), Ink::Rgb([1, 2, 3]), Some("a < b".into()));
        canvas.circle((30.0, 10.0), 4.0, (Ink::Rgb([9, 9, 9]), true), None);
        canvas.text((20.0, 18.0), Anchor::Middle, "i & o");
        let svg = canvas.svg(true);
        assert!(svg.contains(
            "<rect x=\"2.00\" y=\"3.00\" width=\"10.00\" height=\"5.00\" fill=\"#010203\"><title>a &lt; b</title>"
        ));
        assert!(svg.contains(">i &amp; o</text>") && svg.contains("fill=\"#fff\""));
        assert!(!canvas.svg(false).contains("#fff\""));
        let pixels = canvas.pixels();
        assert_eq!(pixels.dimensions(), (80, 40));
        assert_eq!([(4, 6), (23, 15), (24, 16), (60, 20)].map(|(x, y)| pixels.get_pixel(x, y).0[0]), [1, 1, 255, 9]);
        assert!(pixels.rows().skip(20).flatten().any(|pixel| pixel.0 == [30; 3]));
        assert_eq!([heat(-1.0), heat(0.5), heat(1.0)], [[240, 243, 247], [86, 150, 205], [10, 30, 84]]);
    }
}
