//! The messages of an object's header: shape, type, layout, link.

use super::LONGEST_NAME;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::storage::ByteOrder;
use crate::tensor::{DType, Tensor};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Type {
    Number(DType, ByteOrder),
    /// A text in that many bytes.
    Text(usize),
    /// A text in the heap.
    LongText,
    /// A number that no tensor is of, or anything else.
    Other,
}

pub(super) enum Data<'a> {
    Here(&'a [u8]),
    At(u64, u64),
}

/// A number of 1, 2, 4 or 8 bytes.
pub(super) fn small(cursor: &mut Cursor, log: u8) -> Result<usize, Error> {
    let value = match log {
        0 => u64::from(cursor.u8()?),
        1 => u64::from(cursor.u16()?),
        2 => u64::from(cursor.u32()?),
        _ => cursor.u64()?,
    };
    Ok(usize::try_from(value).unwrap_or(usize::MAX))
}

/// Up to the first zero.
pub(super) fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

pub(super) fn shape(m: &mut Cursor) -> Result<Vec<usize>, Error> {
    let (version, rank, _) = (m.u8()?, m.u8()?, m.u8()?);
    let kind = m.u8()?;
    match version {
        1 => {
            m.u32()?;
        }
        2 if kind == 2 => return Ok(vec![0]),
        2 => {}
        _ => return Err(m.error(format!("a shape of version {version}, which is not read"))),
    }
    if usize::from(rank) > Tensor::MOST_DIMENSIONS {
        return Err(m.error(format!("a shape of {rank} dimensions")));
    }
    (0..rank).map(|_| Ok(usize::try_from(m.u64()?).unwrap_or(usize::MAX))).collect()
}

pub(super) fn dtype(m: &mut Cursor) -> Result<Type, Error> {
    let class = m.u8()? & 15;
    let [bits, ..] = m.array::<3>()?;
    let size = m.u32()? as usize;
    let order = if bits & 1 == 0 { ByteOrder::Little } else { ByteOrder::Big };
    let number = |dtype| Type::Number(dtype, order);
    Ok(match (class, size) {
        (0, 1) => number(if bits & 8 == 0 { DType::U8 } else { DType::I8 }),
        (0, 2) if bits & 8 != 0 => number(DType::I16),
        (0, 4) if bits & 8 != 0 => number(DType::I32),
        (0, 8) if bits & 8 != 0 => number(DType::I64),
        (1, 2 | 4 | 8) => {
            // Offset, precision and where the exponent begins; then its bits.
            m.take(5)?;
            match (size, m.u8()?) {
                (2, 5) => number(DType::F16),
                (2, 8) => number(DType::BF16),
                (4, 8) => number(DType::F32),
                (8, 11) => number(DType::F64),
                _ => Type::Other,
            }
        }
        (3, _) => Type::Text(size),
        (9, _) if bits & 15 == 1 => Type::LongText,
        _ => Type::Other,
    })
}

pub(super) fn layout<'a>(m: &mut Cursor<'a>) -> Result<Data<'a>, Error> {
    let (version, class) = (m.u8()?, m.u8()?);
    if !matches!(version, 3 | 4) {
        return Err(m.error(format!("a layout of version {version}, which is not read")));
    }
    match class {
        0 => {
            let size = usize::from(m.u16()?);
            Ok(Data::Here(m.take(size)?))
        }
        1 => Ok(Data::At(m.u64()?, m.u64()?)),
        2 => Err(m.error("a chunked array, which is not read; h5repack -l CONTI -f NONE makes it whole")),
        3 => Err(m.error("a virtual array, whose data lie in other files; refused")),
        _ => Err(m.error(format!("a layout of class {class}, which is unknown"))),
    }
}

/// A member in a group's own header.
pub(super) fn link<'a>(m: &mut Cursor<'a>) -> Result<Option<(&'a str, u64)>, Error> {
    m.u8()?;
    let flags = m.u8()?;
    let kind = if flags & 8 == 0 { 0 } else { m.u8()? };
    // The order of its making, and the set of its characters.
    m.take(8 * usize::from(flags & 4 != 0) + usize::from(flags & 0x10 != 0))?;
    let len = small(m, flags & 3)?;
    let at = m.at();
    let name = m.take(len)?;
    let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= LONGEST_NAME);
    let name = name.ok_or_else(|| m.error_at(at, "a name that is no text, or too long"))?;
    match kind {
        0 => Ok(Some((name, m.u64()?))),
        1 => Ok(None),
        64 => Err(m.error_at(at, format!("{name:?} is a link into another file; refused"))),
        _ => Err(m.error_at(at, format!("{name:?} is a link of kind {kind}, which is unknown"))),
    }
}
