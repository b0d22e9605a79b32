//! The escapes in the text of protocol 0.

/// Of a Python 2 string, between its quotes: bytes.
pub(super) fn of_string(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match rest.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => u8::try_from(hexadecimal(&mut rest, 2)?).ok()?,
            quoted @ (b'\\' | b'\'' | b'"') => quoted,
            _ => return None,
        });
    }
    Some(out)
}

/// Of a unicode text ("raw-unicode-escape"): only `\\u` and `\\U` mean something; other bytes are characters. UTF-8 comes out.
pub(super) fn of_unicode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = String::new();
    let mut rest = text.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        let digits = match (byte, rest.peek()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                out.push(char::from(byte));
                continue;
            }
        };
        rest.next();
        out.push(char::from_u32(hexadecimal(&mut rest, digits)?)?);
    }
    Some(out.into_bytes())
}

fn hexadecimal(rest: &mut impl Iterator<Item = u8>, digits: usize) -> Option<u32> {
    (0..digits).try_fold(0, |number, _| Some(number * 16 + char::from(rest.next()?).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_unicode_are_read_as_python_writes_them() {
        assert_eq!(of_string(br"a\\x00\xffb\n\'").unwrap(), b"a\\x00\xffb\n'");
        assert_eq!(of_string(br"\q"), None);
        assert_eq!(of_string(br"\x0"), None);
        assert_eq!(of_unicode(br"\u0000\u00e9\U0001F600x").unwrap(), "\0é😀x".as_bytes());
        // A byte beyond ASCII is the character of that number.
        assert_eq!(of_unicode(b"\xe9\\").unwrap(), "é\\".as_bytes());
        assert_eq!(of_unicode(br"\ud800"), None);
    }
}
