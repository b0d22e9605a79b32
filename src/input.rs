//! A checkpoint's file as memory: mapped, so that reading a large one takes no more memory than what is made of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use densenet_converters::{Source, neighbours, packed, sha256_of};
use memmap2::{Mmap, UncheckedAdvice};

use crate::error::{Error, Result};

/// An open checkpoint.
pub struct Input<'m> {
    /// Its bytes and their sha256.
    pub source: Source<'m>,
    release: &'m dyn Fn(),
}

/// Opens a checkpoint, hashes it and hands it to `read`. What is no plain file, as a pipe, is read into memory.
pub fn open<T>(path: &Path, read: impl FnOnce(&Input) -> Result<T>) -> Result<T> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    if metadata.is_dir() {
        return Err(Error::io("read", path)(io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() || metadata.len() == 0 {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        return read(&Input { source: Source::new(&bytes), release: &|| {} });
    }
    // Read, not mapped: hashing would leave the whole file in memory.
    let sha256 = sha256_of(&mut file).map_err(Error::io("read", path))?;
    let outcome = mapped(&file, |bytes, release| {
        let source = Source::hashed(bytes, sha256);
        let wrap = |source| Error::Checkpoint { path: path.to_owned(), source };
        let most = bytes.len().saturating_mul(16).saturating_add(64 << 20);
        let Some(packed) = packed(bytes, most).map_err(wrap)? else {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let names = neighbours(bytes, &file).map_err(wrap)?;
            return with_neighbours(path, &names, |beside| {
                read(&Input { source: source.with_neighbours(beside).releasing(release), release })
            });
        };
        // What a zip inflates to goes to the disk, and is mapped as well.
        let folder = std::env::temp_dir();
        let mut member = tempfile::tempfile().map_err(Error::io("write into", &folder))?;
        packed.inflate(&mut releasing(&mut member, release)).map_err(wrap)?;
        let inner = mapped(&member, |inner, release_inner| {
            let both = || {
                release();
                release_inner();
            };
            read(&Input { source: source.releasing(&both).with_member(inner), release: &both })
        });
        inner.map_err(Error::io("map", &folder))?
    });
    outcome.map_err(Error::io("map", path))?
}

/// Maps the files beside one that belong to it, as far as they are there. None is taken from outside its folder, not through a
/// link either.
fn with_neighbours<T>(path: &Path, names: &[String], read: impl FnOnce(&[(String, &[u8])]) -> Result<T>) -> Result<T> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut maps = Vec::new();
    for name in names {
        let Some(inside) = beneath(folder, name)? else { continue };
        let file = File::open(&inside).map_err(Error::io("read", &inside))?;
        let metadata = file.metadata().map_err(Error::io("read", &inside))?;
        if !metadata.is_file() {
            return Err(Error::data(&inside, "it is no plain file"));
        }
        // An empty file cannot be mapped.
        let map = if metadata.len() > 0 { Some(map(&file).map_err(Error::io("map", &inside))?) } else { None };
        maps.push((name.clone(), map));
    }
    let files: Vec<_> = maps.iter().map(|(name, map)| (name.clone(), map.as_deref().unwrap_or_default())).collect();
    read(&files)
}

/// Where a file of that name lies; `None` if there is none, an error if it leads out of the folder.
fn beneath(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let path = folder.join(name);
    let inside = match path.canonicalize() {
        Ok(inside) => inside,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let folder = folder.canonicalize().map_err(Error::io("read", folder))?;
    if inside.starts_with(&folder) {
        Ok(Some(inside))
    } else {
        Err(Error::data(&path, "it is a link that leads out of the model's folder; refused"))
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is only read. That another process cuts the file short meanwhile cannot be ruled out; reading beyond its
    // new end then ends this process (SIGBUS) and gives no wrong values.
    unsafe { Mmap::map(file) }
}

/// Maps a file for reading. `release` gives the memory of what was read back; it comes again when it is needed again.
#[allow(unsafe_code)]
fn mapped<T>(file: &File, read: impl FnOnce(&[u8], &dyn Fn()) -> T) -> io::Result<T> {
    let map = map(file)?;
    let release = || {
        // SAFETY: the pages of a file mapped for reading come back from the file with the same bytes.
        let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
    };
    Ok(read(&map, &release))
}

impl Input<'_> {
    /// A writer that gives back the memory of what was read for it, every few megabytes.
    pub fn releasing<W: Write>(&self, out: W) -> Releasing<'_, W> {
        releasing(out, self.release)
    }
}

fn releasing<W: Write>(out: W, release: &dyn Fn()) -> Releasing<'_, W> {
    Releasing { out, written: 0, release }
}

/// See [`Input::releasing`].
pub struct Releasing<'m, W> {
    out: W,
    written: usize,
    release: &'m dyn Fn(),
}

impl<W> Releasing<'_, W> {
    /// The writer beneath.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write> Write for Releasing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const PIECE: usize = 8 << 20;
        let written = self.out.write(bytes.get(..PIECE).unwrap_or(bytes))?;
        self.written += written;
        if self.written >= PIECE {
            self.written = 0;
            (self.release)();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_holds_what_reading_it_gives_also_after_its_memory_was_released() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch/tiny_zip.pt");
        let bytes = std::fs::read(&path).unwrap();
        open(&path, |input| {
            assert!(input.source.bytes() == bytes);
            let mut out = input.releasing(Vec::new());
            for _ in 0..200 {
                out.write_all(input.source.bytes()).unwrap();
            }
            assert!(out.into_inner().ends_with(&bytes));
            assert!(input.source.bytes() == bytes);
            assert_eq!(input.source.sha256(), Source::new(&bytes).sha256());
            Ok(())
        })
        .unwrap();
        assert!(open(Path::new("missing.pth"), |_| Ok(())).is_err());
    }
}
