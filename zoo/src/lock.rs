//! Advisory locks: they save work where several processes want the same file. Whether the right bytes are kept never
//! depends on them.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::cache::disk;
use crate::{Error, Progress};

/// Held until it is dropped, or until the process ends however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    /// `None` where the file system has no locks.
    file: Option<File>,
}

impl Lock {
    /// Waits for the lock of that name and says who holds it meanwhile.
    pub(crate) fn wait(folder: &Path, name: &str, progress: &mut dyn Progress) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(disk("create", folder))?;
        let path = folder.join(format!("{name}.lock"));
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(disk("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.note(&format!("{name}: waiting for {}", holder(&mut file)));
                if file.lock().is_err() {
                    return Ok(Self { file: None });
                }
            }
            Err(TryLockError::Error(_)) => return Ok(Self { file: None }),
        }
        // Only for people; nothing reads it back but the note above.
        let _ = file.set_len(0);
        let _ = file.seek(SeekFrom::Start(0)).and_then(|_| write!(file, "process {}", std::process::id()));
        Ok(Self { file: Some(file) })
    }

    /// No lock, where the user wants none.
    pub(crate) fn none() -> Self {
        Self { file: None }
    }

    /// Whether no other process has it.
    pub(crate) fn is_held(&self) -> bool {
        self.file.is_some()
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(64).read_to_string(&mut text));
    if read.is_ok() && !text.is_empty() { text } else { "another process".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;

    #[test]
    fn one_holder_at_a_time_who_is_named_to_the_next() {
        struct Notes(std::sync::mpsc::Sender<String>);
        impl Progress for Notes {
            fn start(&mut self, _what: &str, _total: Option<u64>) {}
            fn advance(&mut self, _bytes: u64) {}
            fn finish(&mut self) {}
            fn note(&mut self, text: &str) {
                self.0.send(text.to_owned()).unwrap();
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::wait(folder.path(), "digits.torch", &mut Silent).unwrap();
        assert!(first.is_held());
        let (sender, notes) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Lock::wait(folder.path(), "digits.torch", &mut Notes(sender)).unwrap());
            // It waits, and says for whom; then the first lets go.
            let note = notes.recv().unwrap();
            assert_eq!(note, format!("digits.torch: waiting for process {}", std::process::id()));
            drop(first);
            assert!(second.join().unwrap().is_held());
        });
        assert!(!Lock::none().is_held());
    }
}
