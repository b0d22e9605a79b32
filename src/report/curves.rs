//! What runs of a training came to, epoch by epoch: error, loss and learning rate.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::axes::{Axis, Frame};
use super::canvas::{Anchor, Canvas, Ink};
use crate::error::{Error, Result};

/// The name of the figures in a run's folder: a line that describes the run, then one an epoch.
pub const FIGURES: &str = "metrics.jsonl";

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What it is called.
    pub name: String,
    /// A line of its figures an epoch.
    pub epochs: Vec<Value>,
}

/// A run's best epoch, by the validation images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Best {
    /// From 1.
    pub epoch: usize,
    /// What it is the best by.
    pub measure: Measure,
    /// How good that is.
    pub value: f64,
}

/// What says which epoch is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The top-1 error in percent: the lowest is best.
    Error,
    /// The mean AUROC over the classes: the highest is best.
    Auroc,
}

impl Measure {
    const ALL: [Self; 2] = [Self::Error, Self::Auroc];

    /// Where it stands in an epoch's line.
    const fn place(self) -> &'static str {
        match self {
            Self::Error => "/error/percent",
            Self::Auroc => "/auroc/mean_auroc",
        }
    }

    /// In words, with the value: `top-1 error 2.500 %`.
    pub fn say(self, value: f64) -> String {
        match self {
            Self::Error => format!("top-1 error {value:.3} %"),
            Self::Auroc => format!("mean AUROC {value:.4}"),
        }
    }
}

/// One quantity over the epochs, and where it stands in their lines.
struct Panel {
    title: &'static str,
    height: f64,
    /// Over the training images: a thin line.
    training: Option<&'static str>,
    /// Over the validation images, or of the run: a thick one.
    validation: &'static str,
    /// Whether the best epoch is marked.
    marked: bool,
}

/// From the top. What no run has is left out.
static PANELS: [Panel; 4] = [
    Panel {
        title: "top-1 error, %",
        height: 190.0,
        training: Some("/train_error"),
        validation: Measure::Error.place(),
        marked: true,
    },
    Panel {
        title: "AUROC, mean over the classes",
        height: 190.0,
        training: None,
        validation: Measure::Auroc.place(),
        marked: true,
    },
    Panel { title: "loss", height: 150.0, training: Some("/loss"), validation: "/validation_loss", marked: true },
    Panel { title: "learning rate", height: 70.0, training: None, validation: "/rate", marked: false },
];

/// A colour a run.
const COLOURS: [[u8; 3]; 8] = [
    [214, 93, 40],
    [50, 110, 180],
    [50, 145, 85],
    [140, 80, 170],
    [190, 150, 20],
    [60, 165, 175],
    [205, 75, 130],
    [110, 90, 70],
];

impl Curve {
    /// A run that has these lines, one an epoch.
    pub fn new(name: impl Into<String>, epochs: &[Value]) -> Self {
        Self { name: name.into(), epochs: epochs.to_vec() }
    }

    /// Reads a run's folder, or its `metrics.jsonl`.
    ///
    /// # Errors
    ///
    /// What is no run's figures, and a run that has done no epoch.
    pub fn open(path: &Path) -> Result<Self> {
        let file = if path.is_dir() { path.join(FIGURES) } else { path.to_owned() };
        if path.is_dir() && !file.exists() {
            return Err(Error::data(path, format!("no run: there is no {FIGURES} in it")));
        }
        let bytes = std::fs::read(&file).map_err(Error::io("read", &file))?;
        let text = String::from_utf8_lossy(&bytes);
        let no_run = |line: usize| Error::data(&file, format!("line {line}: not the figures of a training run"));
        let line = |(number, line): (usize, &str)| match serde_json::from_str::<Value>(line) {
            Ok(value) if value.is_object() && (value["epoch"].is_u64() != (number == 1)) => Ok(value),
            _ => Err(no_run(number)),
        };
        let lines = (1..).zip(text.lines()).map(line).collect::<Result<Vec<_>>>()?;
        match lines.split_first() {
            None => Err(no_run(1)),
            Some((_, [])) => Err(Error::data(&file, "the run has done no epoch yet")),
            Some((_, epochs)) => Ok(Self::new(named(&file), epochs)),
        }
    }

    /// Reads several. Where folders have the same name, runs are called by their paths.
    pub fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>> {
        let mut curves = paths.iter().map(|path| Self::open(path)).collect::<Result<Vec<_>>>()?;
        let names: HashSet<_> = curves.iter().map(|curve| curve.name.clone()).collect();
        if names.len() < curves.len() {
            curves.iter_mut().zip(paths).for_each(|(curve, path)| curve.name = path.display().to_string());
        }
        Ok(curves)
    }

    /// The first of its best epochs.
    pub fn best(&self) -> Option<Best> {
        Measure::ALL.into_iter().find_map(|measure| {
            let points = self.points(measure.place());
            let better = |value: f64, than: f64| if measure == Measure::Error { value < than } else { value > than };
            let best = points.into_iter().reduce(|best, next| if better(next.1, best.1) { next } else { best });
            best.map(|(epoch, value)| Best { epoch: epoch as usize, measure, value })
        })
    }

    /// Epoch and value, where there is one.
    fn points(&self, at: &str) -> Vec<(f64, f64)> {
        let point = |line: &Value| Some((line["epoch"].as_f64()?, line.pointer(at)?.as_f64()?));
        self.epochs.iter().filter_map(point).collect()
    }

    fn last(&self) -> usize {
        self.epochs.iter().filter_map(|line| line["epoch"].as_u64()).max().unwrap_or(1) as usize
    }
}

/// The folder's name; the file's where that is not the one that runs leave.
fn named(file: &Path) -> String {
    let whole = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let named = if file.ends_with(FIGURES) { whole.parent().unwrap_or(&whole) } else { file };
    named.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

const LEFT: f64 = 52.0;
const WIDTH: f64 = 640.0;
const ROW: f64 = 16.0;
/// Characters of a name that the legend has room for.
const NAME: usize = 34;

/// The runs in one drawing, a panel a quantity, over the same epochs.
fn drawn(curves: &[Curve]) -> Canvas {
    const TITLE: f64 = 36.0;
    let values = |panel: &Panel| -> Vec<f64> {
        let ways = panel.training.into_iter().chain([panel.validation]);
        let points = ways.flat_map(|at| curves.iter().flat_map(move |curve| curve.points(at)));
        points.map(|(_, value)| value).collect()
    };
    let panels = PANELS.iter().map(|panel| (panel, values(panel))).filter(|(_, values)| !values.is_empty());
    let panels: Vec<_> = panels.collect();
    let heights: f64 = panels.iter().map(|(panel, _)| panel.height + TITLE).sum();
    let top = ROW * (curves.len() as f64 + 1.0) + 8.0;
    let mut canvas = Canvas::new(WIDTH, top + heights + 38.0);
    legend(&mut canvas, curves);
    let x = Axis::whole(1, curves.iter().map(Curve::last).max().unwrap_or(1));
    let mut y = top;
    for (index, (panel, values)) in panels.iter().enumerate() {
        y += TITLE;
        let size = (WIDTH - LEFT - 18.0, panel.height);
        let frame = Frame { corner: (LEFT, y), size, x, y: Axis::fitting(values) };
        frame.draw(&mut canvas, panel.title, (index + 1 == panels.len()).then_some("epoch"));
        for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            lines(&mut canvas, &frame, panel, curve, *colour);
        }
        y += panel.height;
    }
    canvas
}

/// What the lines mean, and a row a run.
fn legend(canvas: &mut Canvas, curves: &[Curve]) {
    let mut row = ROW;
    let (sample, text) = (26.0, 32.0);
    for (x, width, what) in [(4.0, THIN, "training"), (140.0, THICK, "validation")] {
        canvas.path(vec![(x, row - 4.0), (x + sample, row - 4.0)], width, Ink::Text);
        canvas.text((x + text, row), Anchor::Start, what);
    }
    canvas.circle((290.0, row - 4.0), 4.0, (Ink::Text, false), None);
    canvas.text((300.0, row), Anchor::Start, "best epoch");
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        row += ROW;
        canvas.path(vec![(4.0, row - 4.0), (4.0 + sample, row - 4.0)], THICK, Ink::Rgb(*colour));
        let length = curve.name.chars().count();
        // Of a long one the end, where paths differ.
        let name: String = curve.name.chars().skip(length.saturating_sub(NAME)).collect();
        let name = if length > NAME { format!("..{name}") } else { name };
        let best = curve.best().map_or_else(String::new, |Best { epoch, measure, value }| {
            format!(": {}, epoch {epoch}", measure.say(value))
        });
        canvas.text((4.0 + text, row), Anchor::Start, &format!("{name}{best}"));
    }
}

const THIN: f64 = 1.0;
const THICK: f64 = 2.0;

fn lines(canvas: &mut Canvas, frame: &Frame, panel: &Panel, curve: &Curve, colour: [u8; 3]) {
    let place = |points: Vec<(f64, f64)>| points.into_iter().map(|(x, y)| frame.place(x, y)).collect::<Vec<_>>();
    let (ink, points) = (Ink::Rgb(colour), curve.points(panel.validation));
    let training = panel.training.map(|at| curve.points(at)).unwrap_or_default();
    canvas.path(place(training), THIN, ink);
    canvas.path(place(points.clone()), THICK, ink);
    let Some(best) = curve.best().filter(|_| panel.marked) else { return };
    if let Some((epoch, value)) = points.into_iter().find(|(epoch, _)| *epoch as usize == best.epoch) {
        let title = format!("{}, epoch {}: {} {value:.4}", curve.name, best.epoch, panel.title);
        canvas.circle(frame.place(epoch, value), 4.0, (ink, false), Some(title));
    }
}

/// Draws runs into a file, as PNG if its name ends so, else as SVG.
pub fn save(path: &Path, curves: &[Curve]) -> Result<()> {
    drawn(curves).save(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn curve(name: &str, errors: &[f64]) -> Curve {
        let line = |(epoch, error): (usize, &f64)| json!({"epoch": epoch, "loss": 1.0, "error": {"percent": error}});
        Curve::new(name, &(1..).zip(errors).map(line).collect::<Vec<_>>())
    }

    #[test]
    fn the_best_epoch_is_the_first_of_the_lowest_error_or_the_highest_auroc() {
        let best = curve("a", &[9.0, 2.5, 4.0, 2.5]).best();
        assert_eq!(best, Some(Best { epoch: 2, measure: Measure::Error, value: 2.5 }));
        let findings = [0.7, 0.9, 0.8].iter().zip(1..);
        let findings: Vec<_> =
            findings.map(|(mean, epoch)| json!({"epoch": epoch, "auroc": {"mean_auroc": mean}})).collect();
        let curve = Curve::new("b", &findings);
        assert_eq!(curve.best().map(|best| (best.epoch, best.measure)), Some((2, Measure::Auroc)));
        let svg = drawn(&[curve]).svg(true);
        assert!(svg.contains(">b: mean AUROC 0.9000, epoch 2</text>"), "{svg}");
        assert!(svg.contains(">AUROC, mean over the classes</text>") && !svg.contains("top-1"));
    }

    #[test]
    fn runs_have_a_colour_and_a_row_each_over_the_same_epochs() {
        let svg = drawn(&[curve("one", &[20.0, 22.0, 24.0]), curve("two & <more>", &[25.0])]).svg(true);
        assert!(svg.contains(">one: top-1 error 20.000 %, epoch 1</text>"));
        assert!(svg.contains(">two &amp; &lt;more&gt;: top-1 error 25.000 %, epoch 1</text>"));
        for colour in ["#d65d28", "#326eb4"] {
            // A sample, error and loss, and a circle at the best error.
            assert_eq!(svg.matches(colour).count(), 4, "{colour}");
        }
        // From the first epoch at the left edge to the third at the right one, 20 % below 24 %.
        let lines = svg.split("<polyline points=\"").filter(|line| line.contains("#d65d28"));
        let mut points = lines.map(|line| line.split('"').next().unwrap().split(' ').collect::<Vec<_>>());
        let points: Vec<[f64; 2]> = points
            .find(|points| points.len() == 3)
            .unwrap()
            .into_iter()
            .map(|point| point.split_once(',').map(|(x, y)| [x, y].map(|text| text.parse().unwrap())).unwrap())
            .collect();
        assert_eq!((points[0][0], points[2][0]), (52.0, 622.0));
        let rises = [points[0][1] - points[1][1], points[1][1] - points[2][1]];
        assert!(rises[0] > 10.0 && (rises[0] - rises[1]).abs() < 0.02, "{points:?}");
    }
}
