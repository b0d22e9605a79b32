//! What all verbs print alike.

use std::io::{self, Write};
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use densenet_converters::Conversion;
use densenet_registry::Weight;
use densenet_zoo::data::resize::Rgb8;
use densenet_zoo::{Error, Result, card, hf};
use serde_json::Value;
use tempfile::NamedTempFile;

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

/// Writes a file whole or not at all.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { action: "write", path, source }
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = densenet_registry::temporary_in(folder).map_err(io(folder))?;
    file.write_all(bytes).map_err(io(path))?;
    file.persist(path).map_err(|error| io(path)(error.error))?;
    Ok(())
}

/// Writes what stands beside the weights in a folder of the Hugging Face form.
pub(super) fn write_descriptions(
    folder: &Path,
    conversion: &Conversion,
    sha256: &str,
    weight: Option<&Weight>,
) -> Result<()> {
    let labels = conversion.metadata.labels.as_deref();
    let description = hf::config_json(&conversion.config, &conversion.protocol, labels);
    write_file(&folder.join(hf::CONFIG), format!("{description:#}\n").as_bytes())?;
    write_file(&folder.join(hf::CARD), card::card(conversion, sha256, weight).as_bytes())
}

/// Refuses to overwrite, unless that is wanted.
pub(super) fn may_write(path: &Path, force: bool) -> Result<()> {
    if path.exists() && !force { Err(Error::Exists { path: path.to_owned() }) } else { Ok(()) }
}

pub(super) fn write_png(path: &Path, picture: &Rgb8) -> Result<()> {
    let (width, height) = (picture.width() as u32, picture.height() as u32);
    let image = image::RgbImage::from_raw(width, height, picture.data().to_vec()).unwrap_or_default();
    write_image(path, &image)
}

pub(super) fn write_image(path: &Path, image: &image::RgbImage) -> Result<()> {
    let mut out = std::io::Cursor::new(Vec::new());
    image
        .write_to(&mut out, image::ImageFormat::Png)
        .map_err(|error| Error::Data { path: path.to_owned(), reason: error.to_string() })?;
    write_file(path, out.get_ref())
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

/// A file in the folder of `path`, which is made if need be.
pub(super) fn beside(path: &Path) -> Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    densenet_registry::temporary_in(folder).map_err(io_error("write into", folder))
}

pub(super) fn persist(file: NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_all().map_err(io_error("write", path))?;
    file.persist(path).map_err(|error| io_error("write", path)(error.error))?;
    Ok(())
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
