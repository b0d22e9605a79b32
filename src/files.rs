//! Files that are replaced whole or not at all: written beside what stands there, synced, then renamed.

use std::io::Write;
use std::path::Path;

use image::{ImageFormat, RgbImage};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// A new file in the folder of `path`, which is made if need be. It is gone when dropped.
pub fn beside(path: &Path) -> Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    densenet_registry::temporary_in(folder).map_err(Error::io("write into", folder))
}

/// Puts such a file in the place of `path`.
pub fn place(file: NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_all().map_err(Error::io("write", path))?;
    file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    Ok(())
}

/// Replaces a file by what `write` writes, and returns what it returns.
pub fn replace<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    let mut file = beside(path)?;
    let written = write(&mut file)?;
    place(file, path)?;
    Ok(written)
}

/// Replaces a file by some bytes.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |out| out.write_all(bytes).map_err(Error::io("write", path)))
}

/// Replaces a file by an image, as PNG.
pub fn write_image(path: &Path, image: &RgbImage) -> Result<()> {
    let mut out = std::io::Cursor::new(Vec::new());
    image.write_to(&mut out, ImageFormat::Png).map_err(|error| Error::data(path, error.to_string()))?;
    write(path, out.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_as_it_was_where_its_replacement_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        write(&path, b"first").unwrap();
        let failed = replace(&path, |out| {
            out.write_all(b"second").unwrap();
            Err::<(), _>(Error::Usage("no".into()))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
        assert!(replace(&path, |out| Ok(out.write_all(b"third").is_ok())).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"third");
    }
}
