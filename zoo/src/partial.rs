//! A file on its way: what has arrived so far, kept across runs. Nothing in it is trusted: what is there is hashed again
//! before more is added, and what it becomes is judged by its digest alone.

use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::disk;
use crate::digest::{Hashed, Hashing};
use crate::{Digest, Error};

/// Where the bytes came from, so that the rest can be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) url: String,
    /// A strong ETag or a Last-Modified date, for If-Range.
    pub(crate) validator: Option<String>,
}

/// A file that this process alone writes to.
pub(crate) struct Partial {
    path: PathBuf,
    /// Where the next run looks for it.
    shelf: PathBuf,
    sink: Hashing<File>,
    expected: Option<Digest>,
    origin: Origin,
    kept: bool,
}

impl Partial {
    /// Takes up what an earlier run left of that name, or begins anew. `alone`: no other process can be at work on the same
    /// name, so that what a killed one left may be taken too.
    pub(crate) fn open(folder: &Path, name: &str, expected: Option<&Digest>, alone: bool) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(disk("create", folder))?;
        let shelf = folder.join(name);
        let (path, taken, file) = loop {
            let path = folder.join(format!("{name}.{}-{:x}", std::process::id(), unique()));
            // A rename takes it for this process: of several, one succeeds.
            let taken = Self::left(folder, name, alone).iter().any(|left| is_idle(left) && take(left, &path));
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let file = options.open(&path).map_err(disk("write", &path))?;
            // Whoever looks for what is left sees by the lock that this is at work. One who looked before has it.
            if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                break (path, taken, file);
            }
        };
        let origin = if taken {
            fs::read(origin_of(&path)).ok().and_then(|text| serde_json::from_slice(&text).ok())
        } else {
            None
        };
        let sink = Hashing::new(file, expected);
        let expected = expected.cloned();
        let mut partial = Self { path, shelf, sink, expected, origin: origin.unwrap_or_default(), kept: false };
        partial.rehash()?;
        Ok(partial)
    }

    /// What earlier runs left, the longest first.
    fn left(folder: &Path, name: &str, alone: bool) -> Vec<PathBuf> {
        if !alone {
            return vec![folder.join(name)];
        }
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut left: Vec<_> = entries
            .filter_map(|entry| {
                let file = entry.file_name().into_string().ok()?;
                let rest = file.strip_prefix(name)?;
                // The name itself, or with `.PROCESS-NUMBER`; another weight's name goes on otherwise.
                let number = |c: char| c.is_ascii_hexdigit() || c == '-';
                let is_ours = rest.is_empty() || rest.strip_prefix('.').is_some_and(|rest| rest.chars().all(number));
                is_ours.then_some(())?;
                Some((entry.metadata().ok()?.len(), entry.path()))
            })
            .collect();
        left.sort_by(|a, b| b.cmp(a));
        left.into_iter().map(|(_, path)| path).collect()
    }

    fn rehash(&mut self) -> Result<(), Error> {
        let failed = disk("read", &self.path);
        self.sink.restart(self.expected.as_ref());
        let mut file = self.sink.inner();
        let hashed = file.seek(SeekFrom::Start(0)).and_then(|_| {
            let mut buffer = vec![0; 1 << 16];
            loop {
                match self.sink.inner().read(&mut buffer)? {
                    0 => return Ok(()),
                    count => self.sink.absorb(buffer.get(..count).unwrap_or_default()),
                }
            }
        });
        hashed.map_err(failed)
    }

    /// Bytes that are there.
    pub(crate) fn len(&self) -> u64 {
        self.sink.bytes()
    }

    /// Where they came from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Notes where the bytes to come are from.
    pub(crate) fn set_origin(&mut self, origin: Origin) -> Result<(), Error> {
        let path = origin_of(&self.path);
        let text = serde_json::to_vec(&origin).unwrap_or_default();
        fs::write(&path, text).map_err(disk("write", &path))?;
        self.origin = origin;
        Ok(())
    }

    /// Throws away what is there.
    pub(crate) fn clear(&mut self) -> Result<(), Error> {
        let failed = disk("write", &self.path);
        let mut file = self.sink.inner();
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(failed)?;
        self.sink.restart(self.expected.as_ref());
        Ok(())
    }

    /// Adds bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let failed = disk("write", &self.path);
        self.sink.write_all(bytes).map_err(failed)
    }

    /// The digests of what is there.
    pub(crate) fn hashed(&self) -> Hashed {
        self.sink.hashed()
    }

    /// Gives the file up to whoever gives it its place: complete, and on the disk.
    pub(crate) fn complete(mut self) -> Result<PathBuf, Error> {
        self.sink.inner().sync_all().map_err(disk("write", &self.path))?;
        let _ = fs::remove_file(origin_of(&self.path));
        self.kept = true;
        Ok(self.path.clone())
    }

    /// Throws the file away: nothing of it is right.
    pub(crate) fn discard(mut self) {
        self.kept = true;
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(origin_of(&self.path));
    }
}

/// What has arrived is kept for the next run.
impl Drop for Partial {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if self.sink.bytes() == 0 {
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(origin_of(&self.path));
        } else {
            take(&self.path, &self.shelf);
        }
    }
}

/// Whether no living process writes to it, be it one that waits for no lock.
pub(crate) fn is_idle(path: &Path) -> bool {
    // To be locked it must be open for writing on some file systems.
    let file = File::options().write(true).open(path);
    file.is_ok_and(|file| !matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Moves a partial file with what is known of it.
fn take(from: &Path, to: &Path) -> bool {
    if fs::rename(from, to).is_err() {
        return false;
    }
    if fs::rename(origin_of(from), origin_of(to)).is_err() {
        let _ = fs::remove_file(origin_of(to));
    }
    true
}

fn origin_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}

/// Another number at every call in any process: in containers, processes have the same numbers.
fn unique() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_is_there_in_the_next_run_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = |alone| Partial::open(folder.path(), "a.b", None, alone).unwrap();
        let mut first = open(true);
        first.append(b"ab").unwrap();
        let origin = Origin { url: "http://x/".into(), validator: Some("\"1\"".into()) };
        first.set_origin(origin.clone()).unwrap();
        drop(first);
        // Someone spoils it; the hash is of what is there.
        fs::write(folder.path().join("a.b"), b"abc").unwrap();
        let second = open(false);
        assert_eq!((second.len(), second.origin()), (3, &origin));
        assert_eq!(second.hashed().sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let mut second = second;
        second.clear().unwrap();
        assert_eq!(second.len(), 0);
        drop(second);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_living_process_writes_to_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let mut living = Partial::open(folder.path(), "a.b", None, false).unwrap();
        living.append(b"ab").unwrap();
        let alone = Partial::open(folder.path(), "a.b", None, true).unwrap();
        assert_eq!(alone.len(), 0);
        drop(living);
        let alone = Partial::open(folder.path(), "a.b", None, true).unwrap();
        assert_eq!(alone.len(), 2);
    }

    #[test]
    fn pruning_leaves_what_is_being_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let cache = crate::Cache::at(folder.path());
        let mut partial = Partial::open(&cache.partials(), "a.b", None, true).unwrap();
        partial.append(b"ab").unwrap();
        partial.set_origin(Origin { url: "http://x/".into(), validator: None }).unwrap();
        fs::write(cache.partials().join("c.d"), b"left").unwrap();
        assert_eq!(cache.prune(true, false).unwrap(), (1, 4));
        drop(partial);
        // Nobody is at work on it any more: the bytes and where they came from.
        assert_eq!(cache.prune(false, false).unwrap().0, 2);
    }

    #[test]
    fn what_a_killed_process_left_is_taken_only_when_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.b.4711-0"), b"longer").unwrap();
        fs::write(folder.path().join("a.b"), b"short").unwrap();
        fs::write(folder.path().join("a.bc"), b"of another weight").unwrap();
        let among = Partial::open(folder.path(), "a.b", None, false).unwrap();
        assert_eq!(among.len(), 5);
        let alone = Partial::open(folder.path(), "a.b", None, true).unwrap();
        assert_eq!(alone.len(), 6);
        alone.discard();
        among.discard();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
