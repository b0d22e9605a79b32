//! The entropy-coded bits between two markers, most significant first.

/// Reads bits, drops the zero that is stuffed behind each 255, and stops before a marker.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the top; zeros behind them.
    buffer: u64,
    /// How many of them are read already.
    count: u32,
    /// Bits were asked for beyond the marker: they were given as zeros, and what follows up to the next restart is left out.
    pub(super) short: bool,
    /// The file ended where bits or a marker should follow.
    pub(super) ended: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, count: 0, short: false, ended: false }
    }

    /// Where the next marker is searched.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// At least 32 bits into the buffer, if there are so many before the marker.
    fn fill(&mut self) {
        if let Some(word) = self.bytes.get(self.at..self.at + 8).and_then(|next| next.first_chunk()) {
            let word = u64::from_be_bytes(*word);
            // No byte is 255: no byte of the complement is 0.
            let (ones, tops) = (0x0101_0101_0101_0101, 0x8080_8080_8080_8080);
            if (!word).wrapping_sub(ones) & word & tops == 0 {
                let taken = (64 - self.count) / 8;
                // Bits beyond the taken bytes are cut off, so that they can be read again.
                self.buffer |= (word >> self.count) & (u64::MAX << (64 - self.count - 8 * taken));
                self.at += taken as usize;
                self.count += 8 * taken;
                return;
            }
        }
        while self.count <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            if byte == 0xff {
                match self.bytes.get(self.at + 1) {
                    Some(0) => self.at += 1,
                    _ => return,
                }
            }
            self.at += 1;
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Makes `wanted` (at most 32) bits readable, with zeros where the data ends.
    fn need(&mut self, wanted: u32) {
        if self.count >= wanted {
            return;
        }
        self.fill();
        if self.count < wanted {
            self.short = true;
            self.ended |= self.at >= self.bytes.len() || self.at + 1 == self.bytes.len();
            self.count = 64;
        }
    }

    fn drop(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// The next `bits` (at most 16) as a number.
    pub(super) fn take(&mut self, bits: u32) -> i32 {
        if bits == 0 {
            return 0;
        }
        self.need(bits);
        let value = (self.buffer >> (64 - bits)) as i32;
        self.drop(bits);
        value
    }

    /// The next `bits` as a difference (T.81, F.2.2.1, EXTEND).
    pub(super) fn extend(&mut self, bits: u32) -> i32 {
        let value = self.take(bits);
        extended(value, bits)
    }

    /// One symbol of a Huffman code. A code that is in no table counts as the symbol 0, as in libjpeg.
    pub(super) fn symbol(&mut self, table: &Huffman) -> u8 {
        // Near the end there may be fewer bits than the longest code has, and enough for this one.
        if self.count < 16 {
            self.fill();
        }
        let entry = table.short[(self.buffer >> (64 - SHORT)) as usize];
        let (length, symbol) =
            if entry == 0 { table.long((self.buffer >> 48) as u32) } else { (entry >> 8, entry as u8) };
        self.need(u32::from(length));
        self.drop(u32::from(length));
        symbol
    }

    /// A coefficient whose code and value lie within the next ten bits: how many zeros come before it, and its value.
    pub(super) fn quick(&mut self, table: &Huffman) -> Option<(usize, i16)> {
        if self.count < 32 {
            self.fill();
        }
        let Quick { run, bits, value } = table.quick[(self.buffer >> (64 - QUICK)) as usize];
        if bits == 0 || u32::from(bits) > self.count {
            return None;
        }
        self.drop(u32::from(bits));
        Some((usize::from(run), value))
    }

    /// Throws away what is left before the marker, and starts anew at `at`. Where another marker stands there (`blocked`), only
    /// zeros follow.
    pub(super) fn restart(&mut self, at: usize, blocked: bool) {
        (self.at, self.buffer, self.count) = (at, 0, 0);
        self.short &= blocked;
    }
}

/// Small numbers stand for negative ones.
fn extended(value: i32, bits: u32) -> i32 {
    if bits > 0 && value < 1 << (bits - 1) { value - (1 << bits) + 1 } else { value }
}

/// Codes of so many bits are looked up at once.
const SHORT: u32 = 9;

/// Coefficients of so many bits, code and value together, are looked up at once.
const QUICK: u32 = 10;

/// A coefficient that its bits tell at once; `bits` is 0 where they do not.
#[derive(Clone, Copy, Debug, Default)]
struct Quick {
    run: u8,
    bits: u8,
    value: i16,
}

/// A Huffman code (T.81, annex C).
#[derive(Clone, Debug)]
pub(super) struct Huffman {
    /// By the next nine bits: 256 * length + symbol; 0 where the code is longer.
    short: Vec<u16>,
    /// For each length from 1 to 16: the first code above those of this length, and what leads from a code to its symbol.
    beyond: [u32; 17],
    offset: [i32; 17],
    symbols: Vec<u8>,
    /// By the next ten bits, for tables of AC coefficients.
    quick: Vec<Quick>,
}

impl Huffman {
    /// From the number of codes of each length from 1 to 16, and the symbols in their order; `None` where they make no code.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            short: vec![0; 1 << SHORT],
            beyond: [0; 17],
            offset: [0; 17],
            symbols: symbols.to_vec(),
            quick: vec![Quick::default(); 1 << QUICK],
        };
        let (mut code, mut index) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            table.offset[length as usize] = index as i32 - code as i32;
            for _ in 0..count {
                let symbol = *symbols.get(index)?;
                if code >= 1 << length {
                    return None;
                }
                let size = u32::from(symbol & 15);
                if size > 0 && length + size <= QUICK {
                    let (bits, spare) = (length + size, QUICK - length - size);
                    for value in 0..1_i32 << size {
                        let first = (((code << size) + value as u32) << spare) as usize;
                        let entry = Quick { run: symbol >> 4, bits: bits as u8, value: extended(value, size) as i16 };
                        table.quick[first..first + (1 << spare)].fill(entry);
                    }
                }
                if length <= SHORT {
                    let first = (code << (SHORT - length)) as usize;
                    let entry = (length as u16) << 8 | u16::from(symbol);
                    table.short[first..first + (1 << (SHORT - length))].fill(entry);
                }
                (code, index) = (code + 1, index + 1);
            }
            table.beyond[length as usize] = code;
            code <<= 1;
        }
        (index == symbols.len()).then_some(table)
    }

    /// Whether its symbols are lengths of differences that fit 16 bits, as those of a DC table must be.
    pub(super) fn fits_dc(&self) -> bool {
        self.symbols.iter().all(|&symbol| symbol <= 15)
    }

    /// Length and symbol of the code at the head of 16 bits.
    fn long(&self, bits: u32) -> (u16, u8) {
        for length in SHORT as usize + 1..=16 {
            let code = bits >> (16 - length);
            if code < self.beyond[length] {
                let index = code as i32 + self.offset[length];
                return (
                    length as u16,
                    usize::try_from(index).ok().and_then(|at| self.symbols.get(at)).copied().unwrap_or(0),
                );
            }
        }
        // libjpeg looks one bit further before it gives up.
        (17, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuffed_zeros_are_dropped_and_a_marker_ends_the_bits() {
        let bytes = [0xff, 0x00, 0x12, 0xff, 0xd9, 0xff, 0xff];
        let mut bits = Bits::new(&bytes, 0);
        assert_eq!((bits.take(8), bits.take(4), bits.take(4), bits.short), (0xff, 1, 2, false));
        assert_eq!((bits.take(3), bits.short, bits.ended, bits.position()), (0, true, false, 3));
        let mut bits = Bits::new(&bytes[..1], 0);
        assert_eq!((bits.take(1), bits.ended), (0, true));
    }

    #[test]
    fn long_runs_without_255_are_read_word_by_word() {
        let bytes: Vec<u8> = (0..=254).collect();
        for width in [1_u32, 3, 7, 8, 13, 16] {
            let mut bits = Bits::new(&bytes, 0);
            let mut at = 0_usize;
            while at + width as usize <= 8 * bytes.len() {
                let expected = (at..at + width as usize)
                    .fold(0, |value, bit| value << 1 | i32::from(bytes[bit / 8] >> (7 - bit % 8) & 1));
                assert_eq!(bits.take(width), expected, "{width} bits at {at}");
                at += width as usize;
            }
            assert!(!bits.short);
        }
    }

    #[test]
    fn differences_are_extended() {
        // T.81, table F.1: three bits stand for -7 to -4 and 4 to 7.
        let mut bits = Bits::new(&[0b0000_1110, 0b0111_0000], 0);
        assert_eq!([bits.extend(3), bits.extend(3), bits.extend(3), bits.extend(0)], [-7, -4, 4, 0]);
    }

    #[test]
    fn codes_of_every_length() {
        // One code of each length: 0, 10, 110, …
        let symbols: Vec<u8> = (1..=16).collect();
        let table = Huffman::new(&[1; 16], &symbols).unwrap();
        for length in 1..=16_u32 {
            let bytes = (!(u16::MAX >> (length - 1))).to_be_bytes();
            // 255 would be a marker's first byte.
            let stuffed: Vec<u8> = bytes.iter().flat_map(|&b| if b == 255 { vec![255, 0] } else { vec![b] }).collect();
            assert_eq!(u32::from(Bits::new(&stuffed, 0).symbol(&table)), length);
        }
        // Too many codes of one length, and too few symbols.
        assert!(Huffman::new(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[1, 2, 3]).is_none());
        assert!(Huffman::new(&[1; 16], &symbols[..15]).is_none());
    }
}
