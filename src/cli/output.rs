//! What all verbs print alike.

use std::io::{self, Write};
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use densenet_converters::Conversion;
use densenet_registry::Weight;
use densenet_zoo::data::resize::Rgb8;
use densenet_zoo::input::Input;
use densenet_zoo::{Error, Result, card, files, hf};
use serde_json::Value;

/// Prints on stdout; a closed pipe is an error that `main` takes for success.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(|source| Error::Io { action: "write", path: "stdout".into(), source })
}

pub(super) fn print_json(value: &Value) -> Result<()> {
    print(&format!("{value:#}"))
}

/// Writes a conversion as a folder of the Hugging Face form, and returns the weights' sha256.
pub(super) fn write_folder(
    folder: &Path,
    (path, input): (&Path, &Input),
    conversion: &Conversion,
    weight: Option<&Weight>,
) -> Result<String> {
    let labels = conversion.metadata.labels.as_deref();
    hf::write(
        folder,
        &hf::config_json(&conversion.config, &conversion.protocol, labels),
        |out| {
            let written = conversion.write(&mut input.releasing(out));
            written.map_err(|source| Error::Checkpoint { path: path.to_owned(), source })
        },
        |sha256| card::card(conversion, sha256, weight),
    )
}

/// What `--arch` says of a name that no network has.
pub(super) fn no_such_network(name: &str) -> Error {
    Error::Usage(format!("--arch {name}: no such network; `list` names them"))
}

/// Refuses to overwrite, unless that is wanted.
pub(super) fn may_write(path: &Path, force: bool) -> Result<()> {
    if path.exists() && !force { Err(Error::Exists { path: path.to_owned() }) } else { Ok(()) }
}

/// Refuses a name whose ending means another format of weights than the verb's own; `says` is what the verb writes.
pub(super) fn right_ending(path: &Path, own: &str, says: &str) -> Result<()> {
    const FORMATS: [&str; 12] =
        ["safetensors", "onnx", "pth", "pt", "tar", "bin", "t7", "h5", "keras", "caffemodel", "npz", "params"];
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if ending != own && FORMATS.contains(&ending.as_str()) {
        return Err(Error::Usage(format!("-o {}: {says}; name it .{own}", path.display())));
    }
    Ok(())
}

pub(super) fn write_png(path: &Path, picture: &Rgb8) -> Result<()> {
    let (width, height) = (picture.width() as u32, picture.height() as u32);
    let image = image::RgbImage::from_raw(width, height, picture.data().to_vec()).unwrap_or_default();
    files::write_image(path, &image)
}

/// Columns without lines between them; those in `right` are numbers.
pub(super) fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// 7978856 -> `7,978,856`
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!([0, 999, 1000, 7_978_856].map(thousands), ["0", "999", "1,000", "7,978,856"]);
    }
}
