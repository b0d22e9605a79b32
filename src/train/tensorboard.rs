//! Event files, as TensorBoard reads them: records of TensorFlow's TFRecord format that hold `Event` messages in the wire
//! format of protocol buffers (tensorflow/core/lib/io/record_writer.h, tensorboard/compat/proto/event.proto and
//! summary.proto).

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What names of event files begin with.
const PREFIX: &str = "events.out.tfevents.";

/// An event file that is being written. Each event is in the file as soon as it is added.
#[derive(Debug)]
pub(super) struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins a file of its own in the folder, named by the time, in seconds since 1970, and the machine.
    /// TensorBoard reads a folder's files in the order of their names, as one run, and forgets what earlier files hold of
    /// steps from `first` on.
    pub(super) fn create(folder: &Path, seconds: f64, host: &str, first: u64) -> Result<Self> {
        // Where two begin in one second, the later gets the next.
        let names = (seconds as u64..).map(|second| folder.join(format!("{PREFIX}{second}.{host}")));
        let mut found = names.map(|path| (File::create_new(&path), path));
        let taken = |found: &(std::io::Result<File>, _)| {
            found.0.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists)
        };
        let Some((file, path)) = found.find(|found| !taken(found)) else {
            return Err(Error::data(folder, "no name is left for an event file"));
        };
        let mut events = Self { file: file.map_err(Error::io("create", &path))?, path };
        events.write(&[version(seconds), restart(seconds, first)].concat())?;
        Ok(events)
    }

    /// Adds an event: what some quantities are after a step.
    pub(super) fn add(&mut self, seconds: f64, step: u64, scalars: &[(&str, f32)]) -> Result<()> {
        self.write(&summary(seconds, step, scalars))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))
    }
}

/// All event files of a folder; none where it cannot be read, which is said when it is made.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let paths = entries.map(|entry| Ok(entry.map_err(Error::io("read", folder))?.path()));
    let paths = paths.collect::<Result<Vec<_>>>()?.into_iter();
    Ok(paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))).collect())
}

/// Removes them.
pub(super) fn remove(folder: &Path) -> Result<()> {
    files(folder)?.iter().try_for_each(|path| std::fs::remove_file(path).map_err(Error::io("remove", path)))
}

/// The first event of a file.
fn version(seconds: f64) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, seconds);
    event.bytes(3, b"brain.Event:2");
    event.record()
}

/// A session that starts at a step: what was written of it and later ones before is void.
fn restart(seconds: f64, step: u64) -> Vec<u8> {
    let mut session = Message::default();
    session.number(1, 1);
    let mut event = Message::default();
    event.double(1, seconds);
    event.number(2, step);
    event.bytes(7, &session.0);
    event.record()
}

fn summary(seconds: f64, step: u64, scalars: &[(&str, f32)]) -> Vec<u8> {
    let mut summary = Message::default();
    for (tag, scalar) in scalars {
        let mut value = Message::default();
        value.bytes(1, tag.as_bytes());
        value.float(2, *scalar);
        summary.bytes(1, &value.0);
    }
    let mut event = Message::default();
    event.double(1, seconds);
    event.number(2, step);
    event.bytes(5, &summary.0);
    event.record()
}

/// A message of protocol buffers, field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    /// As a record: length and data, each with its checksum.
    fn record(&self) -> Vec<u8> {
        let length = (self.0.len() as u64).to_le_bytes();
        [&length[..], &masked(crc32c(&length)), &self.0, &masked(crc32c(&self.0))].concat()
    }
}

/// CRC-32C (RFC 3720, appendix B.4), bit by bit: a record is some hundred bytes, once an epoch.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
    })
}

/// A checksum as records hold it (tensorflow/core/lib/hash/crc32c.h).
fn masked(crc: u32) -> [u8; 4] {
    crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_those_of_tensorboard_s_own_writer() {
        // tensorboard 2.21.0: RecordWriter over Event(…).SerializeToString()
        assert_eq!(
            version(1_700_000_000.25),
            b"\x18\0\0\0\0\0\0\0\xa3\x7fK\"\t\0\0\x10@\xfcT\xd9A\x1a\rbrain.Event:23\x8d/\xe9"
        );
        assert_eq!(
            restart(1_700_000_000.25, 12),
            b"\x0f\0\0\0\0\0\0\0mS+\t\t\0\0\x10@\xfcT\xd9A\x10\x0c:\x02\x08\x01v7\xa8D"
        );
        assert_eq!(
            summary(1_700_000_001.5, 300, &[("loss/train", 0.1), ("lr", 0.0)]),
            b",\0\0\0\0\0\0\0\xf4\xae\xccE\t\0\0`@\xfcT\xd9A\x10\xac\x02*\x1e\n\x11\n\nloss/train\x15\xcd\xcc\xcc=\
              \n\t\n\x02lr\x15\0\0\0\0\xfe\x94\xd99"
        );
        // RFC 3720, appendix B.4: 32 bytes of zeroes.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_second_file_is_read_after_the_first_and_all_can_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = || {
            let entries = std::fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let mut first = Events::create(folder.path(), 1_700_000_000.25, "here", 1).unwrap();
        first.add(1_700_000_001.5, 1, &[("lr", 0.1)]).unwrap();
        Events::create(folder.path(), 1_700_000_000.75, "here", 2).unwrap();
        assert_eq!(files(), ["events.out.tfevents.1700000000.here", "events.out.tfevents.1700000001.here"]);
        let bytes = std::fs::read(folder.path().join(&files()[0])).unwrap();
        let events =
            [version(1_700_000_000.25), restart(1_700_000_000.25, 1), summary(1_700_000_001.5, 1, &[("lr", 0.1)])];
        assert_eq!(bytes, events.concat());
        std::fs::write(folder.path().join("mine"), "").unwrap();
        remove(folder.path()).unwrap();
        assert_eq!(files(), ["mine"]);
        let missing = Events::create(&folder.path().join("none"), 0.0, "here", 1).unwrap_err().to_string();
        assert!(missing.contains("cannot create"), "{missing}");
    }
}
