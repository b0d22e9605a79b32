//! `torch.save` since 1.6, and TorchScript: a zip of `ROOT/data.pkl` and one entry a storage, `ROOT/data/KEY`.

use std::borrow::Cow;

use super::File;
use crate::alloc::Budget;
use crate::checkpoint::Format;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::pickle;
use crate::source::Source;
use crate::storage::ByteOrder;
use crate::{npz, zip};

/// The only file in a zip that is no checkpoint itself. It may inflate to `most` bytes.
pub(crate) fn packed(bytes: &[u8], most: usize) -> Result<Option<zip::Entry<'_>>, Error> {
    let entries = zip::read(bytes, most)?;
    if entries.keys().any(|name| name.ends_with("data.pkl") || name.ends_with("model.json")) {
        return Ok(None);
    }
    let files: Vec<_> =
        entries.iter().filter(|(name, _)| !name.ends_with('/') && !name.starts_with("__MACOSX/")).collect();
    Ok(match files[..] {
        [(name, entry)] if !npz::is_array(name) => Some(*entry),
        _ => None,
    })
}

/// Reads the archive.
///
/// `packed`: whether the archive was itself inflated, and so must not inflate any further.
pub(crate) fn read<'a>(
    source: &'a Source,
    bytes: &'a [u8],
    packed: bool,
    budget: &mut Budget,
) -> Result<(Format, File<'a>), Error> {
    let entries = zip::read(bytes, if packed { 0 } else { zip::most_inflated(bytes) })?;
    let refuse = |reason: &str| Error::Malformed { format: zip::FORMAT, offset: 0, reason: reason.to_owned() };
    if entries.keys().any(|name| name.ends_with("model.json")) {
        return Err(refuse("a TorchScript archive of before torch 1.4, which is not read"));
    }
    let roots: Vec<&str> = entries.keys().filter_map(|name| name.strip_suffix("data.pkl")).collect();
    let root = match roots[..] {
        [root] => root,
        [] => return Err(refuse("there is no data.pkl in it; is it a checkpoint?")),
        _ => return Err(refuse("there are several data.pkl in it")),
    };
    let entry = |name: &str| entries.get(format!("{root}{name}").as_str());
    let content = |name: &str| entry(name).map(zip::Entry::content).transpose();
    let format = if entry("constants.pkl").is_some() { Format::TorchScript } else { Format::PytorchZip };
    let order = match content("byteorder")?.as_deref().map(<[u8]>::trim_ascii) {
        None | Some(b"little") => ByteOrder::Little,
        Some(b"big") => ByteOrder::Big,
        Some(_) => return Err(refuse("its byteorder is neither little nor big")),
    };
    let pickle = match content("data.pkl")?.unwrap_or_default() {
        Cow::Borrowed(bytes) => bytes,
        Cow::Owned(bytes) => source.keep_pickle(bytes),
    };
    let pickle = pickle::read(&mut Cursor::new(pickle, format.name()), budget, false)?;
    let folder = format!("{root}data/");
    let storages = entries
        .iter()
        .filter_map(|(name, entry)| Some((name.strip_prefix(&folder)?.as_bytes(), entry.storage().with_order(order))));
    let storages = storages.collect();
    super::declared(&pickle).map_err(|reason| refuse(&reason))?;
    Ok((format, File::new(format.name(), pickle, storages)))
}
