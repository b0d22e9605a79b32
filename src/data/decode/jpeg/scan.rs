//! The entropy-coded data of one scan (T.81, F.2 and G.2), read with libjpeg's patience: where the data ends before a marker,
//! the blocks up to the next restart stay as they are.

use super::JpegError;
use super::bits::{Bits, Huffman};
use super::frame::Frame;
use super::marker;

/// Where a coefficient of the zigzag order lies in a block. A damaged file may count beyond the last.
const ZIGZAG: [u8; 80] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
];

/// The place in a block of the `k`th coefficient of the zigzag order.
pub(super) fn place(k: usize) -> usize {
    usize::from(ZIGZAG[k])
}

/// What a scan header says.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// Index in the frame, DC table, AC table.
    pub(super) components: Vec<(usize, usize, usize)>,
    /// First and last coefficient of the zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Bits that earlier scans brought already; 0 in the first.
    pub(super) high: u32,
    /// Bits that later scans will bring.
    pub(super) low: u32,
}

/// Everything that is defined before a scan.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    pub(super) quantisation: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Huffman>; 4],
    pub(super) ac: [Option<Huffman>; 4],
    /// Units between restart markers; 0: none.
    pub(super) restart: usize,
}

/// What is carried from one block to the next.
struct State<'a> {
    bits: Bits<'a>,
    /// Of each component of the scan.
    last_dc: [i32; 4],
    /// Blocks whose band ended together (G.1.2.2).
    end_of_band: u32,
}

/// Reads the scan behind its header at `at`; returns where the next marker is to be searched.
pub(super) fn read(
    bytes: &[u8],
    at: usize,
    frame: &mut Frame,
    scan: &Scan,
    tables: &Tables,
) -> Result<usize, JpegError> {
    let malformed = |what| JpegError::Malformed { at, what };
    for &(index, ..) in &scan.components {
        let component = &mut frame.components[index];
        if component.quantisation.is_none() {
            let table = tables.quantisation.get(component.table).copied().flatten();
            component.quantisation = Some(table.ok_or_else(|| malformed("a quantisation table is missing"))?);
        }
    }
    let coder = Coder::of(scan, tables, frame.progressive).ok_or_else(|| malformed("a Huffman table is missing"))?;
    let mut state = State { bits: Bits::new(bytes, at), last_dc: [0; 4], end_of_band: 0 };
    // A single component is scanned block by block, without filling up; several by units of all their blocks.
    let single = scan.components.len() == 1;
    let first = &frame.components[scan.components[0].0];
    let (across, down) = if single { first.own_blocks() } else { first.units() };
    let (mut togo, mut next) = (tables.restart, 0_u8);
    for unit in 0..across * down {
        if tables.restart > 0 && togo == 0 {
            let resumed = marker::restart(bytes, state.bits.position(), next).ok_or(JpegError::Truncated)?;
            state.bits.restart(resumed.at, resumed.blocked);
            (state.last_dc, state.end_of_band, togo, next) = ([0; 4], 0, tables.restart, (next + 1) % 8);
        }
        togo = togo.wrapping_sub(1);
        if !state.bits.short {
            let (row, column) = (unit / across, unit % across);
            for (number, &(index, ..)) in scan.components.iter().enumerate() {
                let component = &mut frame.components[index];
                let (h, v) = if single { (1, 1) } else { (component.h, component.v) };
                for (y, x) in (0..v).flat_map(|y| (0..h).map(move |x| (y, x))) {
                    coder.block(&mut state, component, number, (row * v + y, column * h + x));
                }
            }
            if state.bits.ended {
                return Err(JpegError::Truncated);
            }
        }
    }
    Ok(state.bits.position())
}

/// How the blocks of a scan are coded.
enum Coder<'t> {
    /// All of a block at once. DC and AC tables of each component.
    Sequential(Vec<(&'t Huffman, &'t Huffman)>),
    DcFirst(Vec<&'t Huffman>, u32),
    DcRefine(u32),
    AcFirst(&'t Huffman, &'t Scan),
    AcRefine(&'t Huffman, &'t Scan),
}

impl<'t> Coder<'t> {
    fn of(scan: &'t Scan, tables: &'t Tables, progressive: bool) -> Option<Self> {
        let dc = |at: usize| tables.dc.get(at)?.as_ref();
        let ac = |at: usize| tables.ac.get(at)?.as_ref();
        let components = || scan.components.iter();
        Some(match (progressive, scan.first, scan.high) {
            (false, ..) => {
                Self::Sequential(components().map(|&(_, d, a)| Some((dc(d)?, ac(a)?))).collect::<Option<_>>()?)
            }
            (true, 0, 0) => Self::DcFirst(components().map(|&(_, d, _)| dc(d)).collect::<Option<_>>()?, scan.low),
            (true, 0, _) => Self::DcRefine(scan.low),
            (true, _, 0) => Self::AcFirst(ac(scan.components[0].2)?, scan),
            (true, ..) => Self::AcRefine(ac(scan.components[0].2)?, scan),
        })
    }

    /// Reads one block of the scan's component `number`.
    fn block(
        &self,
        state: &mut State,
        component: &mut super::frame::Component,
        number: usize,
        (down, across): (usize, usize),
    ) {
        match self {
            Self::Sequential(tables) => {
                let mut block = [0; 64];
                let (dc, ac) = tables[number];
                sequential(&mut state.bits, &mut state.last_dc[number], dc, ac, &mut block);
                if let Some(quantisation) = component.quantisation {
                    component.put(down, across, &block, &quantisation);
                }
            }
            Self::DcFirst(tables, low) => {
                let bits = u32::from(state.bits.symbol(tables[number]));
                let last = &mut state.last_dc[number];
                *last = last.wrapping_add(state.bits.extend(bits));
                component.block(down, across)[0] = last.wrapping_shl(*low) as i16;
            }
            Self::DcRefine(low) => {
                if state.bits.take(1) == 1 {
                    component.block(down, across)[0] |= 1 << low;
                }
            }
            Self::AcFirst(table, scan) => ac_first(state, table, scan, component.block(down, across)),
            Self::AcRefine(table, scan) => ac_refine(state, table, scan, component.block(down, across)),
        }
    }
}

fn sequential(bits: &mut Bits, last_dc: &mut i32, dc: &Huffman, ac: &Huffman, block: &mut [i16; 64]) {
    let length = u32::from(bits.symbol(dc));
    *last_dc = last_dc.wrapping_add(bits.extend(length));
    block[0] = *last_dc as i16;
    let mut k = 1;
    while k < 64 {
        if let Some((run, value)) = bits.quick(ac) {
            k += run;
            block[place(k)] = value;
            k += 1;
            continue;
        }
        let symbol = bits.symbol(ac);
        let (run, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if length == 0 {
            if run < 15 {
                break;
            }
            k += 16;
            continue;
        }
        k += run;
        block[place(k)] = bits.extend(length) as i16;
        k += 1;
    }
}

fn ac_first(state: &mut State, table: &Huffman, scan: &Scan, block: &mut [i16; 64]) {
    if state.end_of_band > 0 {
        state.end_of_band -= 1;
        return;
    }
    let mut k = scan.first;
    while k <= scan.last {
        let symbol = state.bits.symbol(table);
        let (run, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if length > 0 {
            k += run;
            block[place(k)] = (state.bits.extend(length) << scan.low) as i16;
            k += 1;
        } else if run == 15 {
            k += 16;
        } else {
            state.end_of_band = (1 << run) + state.bits.take(run as u32) as u32 - 1;
            break;
        }
    }
}

fn ac_refine(state: &mut State, table: &Huffman, scan: &Scan, block: &mut [i16; 64]) {
    let one = 1_i16 << scan.low;
    // One more bit of a coefficient that is not 0.
    let refine = |bits: &mut Bits, value: &mut i16| {
        if bits.take(1) == 1 && *value & one == 0 {
            *value = if *value >= 0 { value.wrapping_add(one) } else { value.wrapping_sub(one) };
        }
    };
    let mut k = scan.first;
    if state.end_of_band == 0 {
        while k <= scan.last {
            let symbol = state.bits.symbol(table);
            let (mut run, length) = (usize::from(symbol >> 4), symbol & 15);
            let mut new = 0;
            if length > 0 {
                new = if state.bits.take(1) == 1 { one } else { -one };
            } else if run < 15 {
                state.end_of_band = (1 << run) + state.bits.take(run as u32) as u32;
                break;
            }
            // Past `run` coefficients that are 0, refining the others on the way.
            while k <= scan.last {
                let value = &mut block[place(k)];
                if *value != 0 {
                    refine(&mut state.bits, value);
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            if new != 0 {
                block[place(k)] = new;
            }
            k += 1;
        }
    }
    if state.end_of_band > 0 {
        for k in k..=scan.last {
            let value = &mut block[place(k)];
            if *value != 0 {
                refine(&mut state.bits, value);
            }
        }
        state.end_of_band -= 1;
    }
}
