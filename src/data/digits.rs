//! The embedded digits: Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, UCI, CC BY 4.0), its test
//! partition as scikit-learn ships it.

use std::io::Read;
use std::path::Path;

use super::resize::Rgb8;
use super::{Dataset, Image, Sample};
use crate::error::{Error, Result};

const CSV: &[u8] = include_bytes!("digits.csv.gz");
/// Rows for training; the rest validates.
const TRAINING: usize = 1437;
/// Pixels of a side in the source.
const SIDE: usize = 8;
/// Each source pixel becomes a square of this side.
const ZOOM: usize = 4;

/// The first 1437 images, 32x32, in file order; ids are the row numbers from 1.
pub fn training() -> Result<Dataset> {
    let mut samples = all()?;
    samples.truncate(TRAINING);
    Ok(dataset("digits-train", samples))
}

/// The last 360 images.
pub fn validation() -> Result<Dataset> {
    Ok(dataset("digits-val", all()?.split_off(TRAINING)))
}

fn dataset(kind: &'static str, samples: Vec<Sample>) -> Dataset {
    Dataset { kind, samples, classes: (0..10).map(|digit| digit.to_string()).collect() }
}

fn all() -> Result<Vec<Sample>> {
    read().map_err(|reason| Error::data(Path::new("digits.csv.gz"), reason))
}

fn read() -> Result<Vec<Sample>, String> {
    let mut csv = String::new();
    flate2::read::GzDecoder::new(CSV).read_to_string(&mut csv).map_err(|error| error.to_string())?;
    csv.lines().enumerate().map(|(index, line)| sample(index + 1, line)).collect()
}

fn sample(row: usize, line: &str) -> Result<Sample, String> {
    let values: Vec<usize> = line
        .split(',')
        .map(|value| value.trim().parse::<usize>().ok().filter(|&value| value <= 16))
        .collect::<Option<_>>()
        .filter(|values: &Vec<usize>| values.len() == SIDE * SIDE + 1)
        .ok_or_else(|| format!("row {row} is not 64 values from 0 to 16 and a digit"))?;
    let (pixels, label) = (&values[..SIDE * SIDE], values[SIDE * SIDE]);
    let side = SIDE * ZOOM;
    let data = (0..side * side)
        .flat_map(|index| {
            let (y, x) = (index / side / ZOOM, index % side / ZOOM);
            [((pixels[y * SIDE + x] * 255 + 8) / 16) as u8; 3]
        })
        .collect();
    let image = Rgb8::new(side, side, data).map_err(|error| error.to_string())?;
    Ok(Sample { id: format!("row {row}"), labels: vec![label], image: Image::Pixels(image) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_validation_images_are_the_last_360() {
        let digits = validation().unwrap();
        assert_eq!(digits.samples.len(), 360);
        // results.json of the Torch7 run: val_labels.
        let first: Vec<_> = digits.samples[..12].iter().map(|sample| sample.labels[0]).collect();
        assert_eq!(first, [2, 3, 4, 5, 6, 7, 8, 9, 0, 9, 5, 5]);
        assert_eq!(digits.samples[0].id, "row 1438");
    }

    #[test]
    fn the_training_images_are_the_others_with_the_moments_of_the_protocol() {
        let digits = training().unwrap();
        assert_eq!((digits.samples.len(), digits.samples[1436].id.as_str()), (1437, "row 1437"));
        let bytes: Vec<f64> = digits
            .samples
            .iter()
            .flat_map(|sample| {
                sample.image.pixels().unwrap().data().iter().map(|&byte| f64::from(byte)).collect::<Vec<_>>()
            })
            .collect();
        let mean = bytes.iter().sum::<f64>() / bytes.len() as f64;
        let square = bytes.iter().map(|byte| (byte - mean).powi(2)).sum::<f64>() / bytes.len() as f64;
        // results.json of the Torch7 run: mean_exact and std_exact_population.
        assert!(
            (mean - 77.885_840_727).abs() < 1e-6 && (square.sqrt() - 95.712_253_724).abs() < 1e-6,
            "{mean} {square}"
        );
    }

    #[test]
    fn a_value_becomes_a_square_of_equal_bytes() {
        let mut line = vec!["0"; 65];
        line[1] = "16";
        line[8] = "3";
        line[64] = "7";
        let Sample { labels, image: Image::Pixels(image), .. } = sample(1, &line.join(",")).unwrap() else { panic!() };
        assert_eq!(labels, [7]);
        let at = |x: usize, y: usize| image.data()[3 * (y * 32 + x)..][..3].to_vec();
        assert_eq!(at(4, 0), [255; 3]);
        assert_eq!(at(7, 3), [255; 3]);
        assert_eq!(at(8, 0), [0; 3]);
        // floor((3 * 255 + 8) / 16)
        assert_eq!(at(0, 4), [48; 3]);
        assert!(sample(1, "1,2,3").is_err());
    }
}
