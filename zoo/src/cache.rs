//! The cache: objects by their sha256, and a small record a name. An object is complete and right from the moment it
//! has its name.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::digest::{Hashed, Hashing};
use crate::{Error, partial};

/// A folder of verified files.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// A file in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// The file.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// All 64 digits.
    pub sha256: String,
}

/// What the cache holds under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The weight's name.
    pub name: String,
    /// The file as it was published; its sha256 is the pin.
    pub original: Object,
    /// The safetensors made from it.
    pub converted: Option<Object>,
    /// The URL or file that it came from.
    pub source: String,
    /// What it was verified against.
    pub digest_strength: String,
}

impl Cache {
    /// DENSENET_ZOO_CACHE, else `densenet-zoo` in XDG_CACHE_HOME, else in `~/.cache`.
    pub fn open_default() -> Result<Self, Error> {
        default_dir(|name| env::var_os(name).filter(|value| !value.is_empty())).map(Self::at).ok_or(Error::NoHome)
    }

    /// The cache in that folder, which need not exist yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is cached under that name; none where the files are gone.
    pub fn record(&self, name: &str) -> Result<Option<Record>, Error> {
        let Some(mut record) = self.pinned(name)? else { return Ok(None) };
        let there = |object: &Object| fs::metadata(&object.path).is_ok_and(|meta| meta.is_file());
        if !there(&record.original) {
            return Ok(None);
        }
        record.converted = record.converted.filter(there);
        Ok(Some(record))
    }

    /// Adds the converted form of what is cached under that name; `write` writes it.
    pub fn add_converted<E: Display>(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<Record, Error> {
        let mut record = self.record(name)?.ok_or_else(|| Error::NotCached { name: name.to_owned() })?;
        let mut out = Hashing::new(BufWriter::new(Advising(self.temporary()?)), None);
        write(&mut out).map_err(|error| Error::Converted { name: name.to_owned(), reason: error.to_string() })?;
        let failed = |reason: String| Error::Converted { name: name.to_owned(), reason };
        let (buffer, hashed) = out.finish().map_err(|error| failed(error.to_string()))?;
        let Advising(file) = buffer.into_inner().map_err(|error| failed(error.to_string()))?;
        file.as_file().sync_all().map_err(disk("write", file.path()))?;
        let file = file.into_temp_path();
        record.converted = Some(self.keep(&file, &hashed, &format!("{name}.safetensors"))?);
        // It has moved; there is nothing to remove.
        let _ = file.keep();
        self.save(&record)?;
        Ok(record)
    }

    /// Every record whose files are there, by name.
    pub fn records(&self) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        for path in below(&self.dir.join("names")) {
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
            if let Some(name) = name {
                records.extend(self.record(name)?);
            }
        }
        Ok(records)
    }

    /// Removes what no record refers to, or everything: how many files, and their bytes. Locks stay, which others may hold.
    pub fn prune(&self, all: bool, dry_run: bool) -> Result<(usize, u64), Error> {
        let mut used = Vec::new();
        if !all {
            for Record { original, converted, .. } in self.records()? {
                used.extend([Some(original), converted].into_iter().flatten().map(|object| object.path));
            }
        }
        let parts = ["objects", "partial"].map(|part| self.dir.join(part));
        let mut files: Vec<_> = parts.iter().flat_map(|part| below(part)).collect();
        // What another process is fetching stays, with what is known of it.
        files.retain(|file| {
            let described = file.extension().is_some_and(|ending| ending == "json").then(|| file.with_extension(""));
            let partial = described.as_ref().unwrap_or(file);
            !partial.starts_with(&parts[1]) || !partial.exists() || partial::is_idle(partial)
        });
        // What stands beside a file that is used belongs to it.
        files.retain(|file| !used.iter().any(|used| used.parent() == file.parent()));
        if all {
            files.extend(below(&self.dir.join("names")));
        }
        let mut bytes = 0;
        for file in &files {
            bytes += fs::metadata(file).map_or(0, |metadata| metadata.len());
            if !dry_run {
                fs::remove_file(file).map_err(disk("remove", file))?;
                if let Some(folder) = file.parent().filter(|folder| !parts.contains(&folder.to_path_buf())) {
                    // Only where it is empty now.
                    let _ = fs::remove_dir(folder);
                }
            }
        }
        Ok((files.len(), bytes))
    }

    /// Keeps a text beside an object, as where it came from.
    pub fn add_beside(&self, object: &Object, name: &str, text: &str) -> Result<(), Error> {
        let Some(folder) = object.path.parent() else { return Ok(()) };
        let path = folder.join(name);
        let mut file = temporary_in(folder).map_err(disk("write in", folder))?;
        file.write_all(text.as_bytes()).map_err(disk("write", &path))?;
        place(file, &path)
    }

    /// Drops a record with its original: for a file that nobody vouched for and that turned out to be no model.
    pub fn forget(&self, record: &Record) -> Result<(), Error> {
        let path = self.record_path(&record.name);
        fs::remove_file(&path).map_err(disk("remove", &path))?;
        let original = &record.original.path;
        fs::remove_file(original).map_err(disk("remove", original))?;
        if let Some(folder) = original.parent() {
            // Another weight's copy of the same bytes may stand beside it.
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }

    /// The record as it stands, whether its files are there or not.
    pub(crate) fn pinned(&self, name: &str) -> Result<Option<Record>, Error> {
        let path = self.record_path(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk("read", &path)(error)),
        };
        let mut record: Record = serde_json::from_slice(&text)
            .map_err(|error| Error::Malformed { file: path.display().to_string(), reason: error.to_string() })?;
        for object in [Some(&mut record.original), record.converted.as_mut()].into_iter().flatten() {
            object.path = self.dir.join(&object.path);
        }
        Ok(Some(record))
    }

    pub(crate) fn record_path(&self, name: &str) -> PathBuf {
        self.dir.join("names").join(format!("{name}.json"))
    }

    /// Where files on their way are.
    pub(crate) fn partials(&self) -> PathBuf {
        self.dir.join("partial")
    }

    /// Where locks are.
    pub(crate) fn locks(&self) -> PathBuf {
        self.dir.join("locks")
    }

    /// Whether the disk has room for a file of that size and its converted form, as far as the system can tell.
    pub(crate) fn room_for(&self, size: Option<u64>) -> Result<(), Error> {
        let Some(size) = size else { return Ok(()) };
        fs::create_dir_all(&self.dir).map_err(disk("create", &self.dir))?;
        let needed = size.saturating_mul(2);
        match free_space(&self.dir) {
            Some(free) if free < needed => Err(Error::NoSpace { dir: self.dir.clone(), free, needed }),
            _ => Ok(()),
        }
    }

    /// A file that is gone again unless it is kept.
    fn temporary(&self) -> Result<NamedTempFile, Error> {
        let folder = self.dir.join("objects");
        fs::create_dir_all(&folder).map_err(disk("create", &folder))?;
        temporary_in(&folder).map_err(disk("write in", &folder))
    }

    /// Gives a complete file, which is on the disk, its place for good.
    pub(crate) fn keep(&self, file: &Path, hashed: &Hashed, name: &str) -> Result<Object, Error> {
        let folder = self.dir.join("objects").join(&hashed.sha256);
        fs::create_dir_all(&folder).map_err(disk("create", &folder))?;
        let path = folder.join(name);
        let mut permissions = fs::metadata(file).map_err(disk("read", file))?.permissions();
        permissions.set_readonly(true);
        fs::set_permissions(file, permissions).map_err(disk("protect", file))?;
        fs::rename(file, &path).map_err(disk("write", &path))?;
        sync_folder(&folder)?;
        sync_folder(&self.dir.join("objects"))?;
        Ok(Object { path, size: hashed.bytes, sha256: hashed.sha256.clone() })
    }

    pub(crate) fn save(&self, record: &Record) -> Result<(), Error> {
        let path = self.record_path(&record.name);
        let folder = self.dir.join("names");
        fs::create_dir_all(&folder).map_err(disk("create", &folder))?;
        let mut stored = record.clone();
        for object in [Some(&mut stored.original), stored.converted.as_mut()].into_iter().flatten() {
            object.path = object.path.strip_prefix(&self.dir).map(Path::to_owned).unwrap_or(object.path.clone());
        }
        let mut file = temporary_in(&folder).map_err(disk("write in", &folder))?;
        let text = serde_json::to_string_pretty(&stored)
            .map_err(|error| Error::Malformed { file: path.display().to_string(), reason: error.to_string() })?;
        file.write_all(text.as_bytes()).map_err(disk("write", &path))?;
        place(file, &path)
    }
}

fn default_dir(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let own = var("DENSENET_ZOO_CACHE").map(PathBuf::from);
    let xdg = || var("XDG_CACHE_HOME").map(|dir| PathBuf::from(dir).join("densenet-zoo"));
    own.or_else(xdg).or_else(|| var("HOME").map(|home| PathBuf::from(home).join(".cache/densenet-zoo")))
}

/// An error of the cache's disk, which says what to do where that is known.
pub(crate) fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let error = Error::io(action, path);
    move |source| error(advised(source))
}

fn advised(source: io::Error) -> io::Error {
    let advice = match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room, or set DENSENET_ZOO_CACHE to a folder elsewhere"
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => "set DENSENET_ZOO_CACHE to a folder elsewhere",
        _ => return source,
    };
    io::Error::new(source.kind(), format!("{source}; {advice}"))
}

/// A file whose errors say what to do, for those who only pass them on.
struct Advising(NamedTempFile);

impl Write for Advising {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(advised)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(advised)
    }
}

/// Every file below a folder, in a fixed order; none where the folder is not there.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.into_iter().flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

/// A file that is gone again unless it is given its place; then others may read it, as the umask says.
pub fn temporary_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn place(file: NamedTempFile, path: &Path) -> Result<(), Error> {
    file.as_file().sync_all().map_err(disk("write", path))?;
    file.persist(path).map_err(|error| disk("write", path)(error.error))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// A rename lasts once its folder is on disk.
fn sync_folder(folder: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk("write", folder))?;
    }
    Ok(())
}

/// Bytes that the file system of `dir` has left, where the system says.
fn free_space(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        None
    }
}
