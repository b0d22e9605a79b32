//! protobuf's wire format, read in place: what Caffe and ONNX write.
//!
//! Our own reader, because prost copies every blob into memory of its own, needs schemas of two frameworks for the dozen
//! fields that are read here, and takes what it is told about lengths one allocation at a time. This one borrows, never
//! goes deeper than the caller asks, and knows the byte of every field.
//! (<https://protobuf.dev/programming-guides/encoding/>)

use crate::cursor::Cursor;
use crate::error::Error;

/// Numbers in a packed field; those of a network are shapes, windows and axes.
const MOST_NUMBERS: usize = 1 << 16;

/// A message: its fields in their order.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    cursor: Cursor<'a>,
    end: usize,
}

/// A field's value. Numbers are what the wire says; their type is the schema's.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64,
    /// A text, a message or packed numbers.
    Bytes(Message<'a>),
}

impl<'a> Message<'a> {
    /// A whole file.
    pub(crate) fn new(bytes: &'a [u8], format: &'static str) -> Self {
        Self { cursor: Cursor::new(bytes, format), end: bytes.len() }
    }

    /// Where its rest begins in the file.
    pub(crate) fn at(&self) -> usize {
        self.cursor.at()
    }

    /// An error at this place.
    pub(crate) fn error(&self, reason: impl Into<String>) -> Error {
        self.cursor.error(reason)
    }

    /// What is left of it, as it is.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.cursor.rest().get(..self.left()).unwrap_or_default()
    }

    /// As text.
    pub(crate) fn text(&self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()).map_err(|_| self.error("a name is no UTF-8"))
    }

    fn left(&self) -> usize {
        self.end.saturating_sub(self.cursor.at())
    }

    /// The next field and its number; `None` at the end.
    pub(crate) fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Error> {
        if self.left() == 0 {
            return Ok(None);
        }
        let start = self.at();
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let at = self.at();
                self.take(len)?;
                Value::Bytes(Self { cursor: self.cursor.clone().moved(at), end: at + len })
            }
            5 => Value::Fixed32(<[u8; 4]>::try_from(self.take(4)?).unwrap_or_default()),
            // Groups went out of use before either format was made.
            kind => return Err(self.cursor.error_at(start, format!("a field of wire type {kind}"))),
        };
        if key >> 3 == 0 {
            return Err(self.cursor.error_at(start, "a field of number 0"));
        }
        Ok(Some((key >> 3, value)))
    }

    /// All of it as numbers one behind the other.
    pub(crate) fn varints(mut self) -> Result<Vec<u64>, Error> {
        let mut values = Vec::new();
        while self.left() > 0 {
            if values.len() == MOST_NUMBERS {
                return Err(self.error(format!("more than {MOST_NUMBERS} numbers where sizes are expected")));
            }
            values.push(self.varint()?);
        }
        Ok(values)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        if len > self.left() {
            return Err(self.error(format!("{len} bytes are announced and {} are left", self.left())));
        }
        self.cursor.take(len)
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let start = self.at();
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.cursor.error_at(start, "a number of more than 64 bits"))
    }
}

impl Value<'_> {
    /// An `f32`.
    pub(crate) fn float(&self) -> Option<f32> {
        match self {
            Self::Fixed32(bytes) => Some(f32::from_le_bytes(*bytes)),
            _ => None,
        }
    }

    /// The numbers of a repeated field: packed, or one of them.
    pub(crate) fn numbers(self) -> Result<Vec<u64>, Error> {
        match self {
            Self::Varint(value) => Ok(vec![value]),
            Self::Bytes(packed) => packed.varints(),
            Self::Fixed32(_) | Self::Fixed64 => Ok(Vec::new()),
        }
    }
}

/// Writes messages.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A field that is a number.
    pub(crate) fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    /// A field that is an `f32`.
    pub(crate) fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    /// The beginning of a field of that many bytes.
    pub(crate) fn head(&mut self, field: u64, len: usize) {
        self.varint(field << 3 | 2);
        self.varint(len as u64);
    }

    /// A field of text or of a message.
    pub(crate) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.head(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// A field that is a message.
    pub(crate) fn message(&mut self, field: u64, message: Self) {
        self.bytes(field, &message.0);
    }
}

/// What was meant by a number that was stored as f32: 0.00001, and not 0.000009999999747378752.
pub(crate) fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, String)>, String> {
        let mut message = Message::new(bytes, "test");
        let mut fields = Vec::new();
        while let Some((number, value)) = message.field().map_err(|error| error.to_string())? {
            let shown = match value {
                Value::Varint(value) => value.to_string(),
                Value::Fixed32(_) => value.float().unwrap_or_default().to_string(),
                Value::Fixed64 => "fixed".into(),
                Value::Bytes(inner) => format!("{:?} at {}", inner.bytes(), inner.at()),
            };
            fields.push((number, shown));
        }
        Ok(fields)
    }

    #[test]
    fn fields_are_those_of_the_encoding_guide() {
        // 150 in field 1, "testing" in field 2, and a packed 3, 270, 86942 in field 6: the guide's own examples.
        let bytes =
            [&[8, 0x96, 1][..], b"\x12\x07testing", &[0x32, 6, 3, 0x8e, 2, 0x9e, 0xa7, 5], &[0x1d, 0, 0, 0x80, 0x3f]];
        let bytes = bytes.concat();
        let fields = read(&bytes).unwrap();
        assert_eq!(fields[0], (1, "150".into()));
        assert_eq!(fields[1], (2, format!("{:?} at 5", b"testing")));
        assert_eq!(fields[3], (3, "1".into()));
        let mut message = Message::new(&bytes[12..20], "test");
        let (_, packed) = message.field().unwrap().unwrap();
        assert_eq!(packed.numbers().unwrap(), [3, 270, 86942]);
    }

    #[test]
    fn lengths_and_numbers_that_lie_are_named_with_their_byte() {
        assert_eq!(read(&[8]).unwrap_err(), "test: byte 1: 1 bytes are announced and 0 are left");
        assert_eq!(read(&[0x12, 5, 1]).unwrap_err(), "test: byte 2: 5 bytes are announced and 1 are left");
        let huge = [&[0x12][..], &[0xff; 9], &[1]].concat();
        assert!(read(&huge).unwrap_err().contains(" bytes are announced and 0 are left"));
        assert_eq!(read(&[&[8][..], &[0xff; 11]].concat()).unwrap_err(), "test: byte 1: a number of more than 64 bits");
        assert_eq!(read(&[0x0b]).unwrap_err(), "test: byte 0: a field of wire type 3");
        assert_eq!(read(&[0]).unwrap_err(), "test: byte 1: 1 bytes are announced and 0 are left");
        assert_eq!(read(&[0, 0]).unwrap_err(), "test: byte 0: a field of number 0");
        // A message inside never leaves the one around it.
        let mut outer = Message::new(&[0x12, 2, 0x12, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0], "test");
        let (_, Value::Bytes(mut inner)) = outer.field().unwrap().unwrap() else { panic!("a message") };
        assert_eq!(inner.field().unwrap_err().to_string(), "test: byte 4: 9 bytes are announced and 0 are left");
    }

    #[test]
    fn eps_is_what_was_meant() {
        assert_eq!(decimal(1e-5), 1e-5);
        assert_eq!(decimal(1.001e-5), 1.001e-5);
    }
}
