//! Drawings made of a few shapes, as SVG and as pixels.

use std::fmt::Write;
use std::path::Path;

use image::RgbImage;

use super::raster::Raster;
use crate::error::Result;
use crate::files;

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
    Path { points: Vec<(f64, f64)>, width: f64, ink: Ink },
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
        self.path(vec![from, to], 1.0, ink);
    }

    /// A line through points; through a single one, a dot.
    pub(super) fn path(&mut self, mut points: Vec<(f64, f64)>, width: f64, ink: Ink) {
        match points[..] {
            [] => return,
            [only] => points.push(only),
            _ => {}
        }
        self.shapes.push((Shape::Path { points, width, ink }, None));
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
                Shape::Path { points, width, ink } => {
                    let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
                    write!(
                        out,
                        "<polyline points=\"{}\" fill=\"none\" stroke-width=\"{width}\" stroke-linecap=\"round\" \
                         stroke-linejoin=\"round\" {}/>",
                        points.join(" "),
                        paint("stroke", *ink)
                    )
                }
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

    /// Into a file, as PNG if its name ends so, else as SVG.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        match path.extension() {
            Some(ending) if ending == "png" => files::write_image(path, &self.pixels()),
            _ => files::write(path, self.svg(true).as_bytes()),
        }
    }

    /// As pixels on white, two a unit.
    pub(super) fn pixels(&self) -> RgbImage {
        let mut raster = Raster::new(self.width, self.height);
        for (shape, _) in &self.shapes {
            match shape {
                Shape::Rect { x, y, width, height, ink } => raster.rect((*x, *y), (*width, *height), solid(*ink)),
                Shape::Path { points, width, ink } => raster.path(points, *width, solid(*ink)),
                Shape::Circle { x, y, radius, ink, filled } => raster.circle((*x, *y), *radius, *filled, solid(*ink)),
                Shape::Text { x, y, anchor, text } => raster.text((*x, *y), *anchor, text, solid(Ink::Text)),
            }
        }
        raster.image
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
        canvas.line((14.0, 2.0), (20.0, 2.0), Ink::Rgb([5, 5, 5]));
        let svg = canvas.svg(true);
        assert!(svg.contains(
            "<rect x=\"2.00\" y=\"3.00\" width=\"10.00\" height=\"5.00\" fill=\"#010203\"><title>a &lt; b</title>"
        ));
        assert!(svg.contains("<polyline points=\"14.00,2.00 20.00,2.00\" fill=\"none\" stroke-width=\"1\""));
        assert!(svg.contains(">i &amp; o</text>") && svg.contains("fill=\"#fff\""));
        assert!(!canvas.svg(false).contains("#fff\""));
        let pixels = canvas.pixels();
        assert_eq!(pixels.dimensions(), (80, 40));
        assert_eq!([(4, 6), (23, 15), (24, 16), (60, 20)].map(|(x, y)| pixels.get_pixel(x, y).0[0]), [1, 1, 255, 9]);
        // A unit is two pixels: the line fills the rows on both sides of its middle, and no other.
        assert_eq!([2, 3, 4, 5].map(|y| pixels.get_pixel(34, y).0[0]), [255, 5, 5, 255]);
        assert!(pixels.rows().skip(20).flatten().any(|pixel| pixel.0 == [30; 3]));
        assert_eq!([heat(-1.0), heat(0.5), heat(1.0)], [[240, 243, 247], [86, 150, 205], [10, 30, 84]]);
    }
}
