//! What a frame header says, and the planes that its scans fill.

use super::super::MOST_PIXELS;
use super::JpegError;

/// The image's size, kind and components.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    /// The largest sampling factors.
    pub(super) most_h: usize,
    pub(super) most_v: usize,
}

/// One component: its samples, and in a progressive frame its coefficients until all scans are read.
#[derive(Clone, Debug)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors.
    pub(super) h: usize,
    pub(super) v: usize,
    /// Number of its quantisation table.
    pub(super) table: usize,
    /// The table as it was when the first scan of this component began.
    pub(super) quantisation: Option<[u16; 64]>,
    /// Samples across and down, edges not filled up.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks across and down, filled up to whole units of interleaved scans.
    pub(super) blocks_across: usize,
    blocks_down: usize,
    /// Rows of 8 * `blocks_across` samples.
    samples: Vec<u8>,
    coefficients: Vec<[i16; 64]>,
}

impl Frame {
    /// From the body of a frame header (T.81, B.2.2) of a file of so many bytes.
    pub(super) fn parse(body: &[u8], progressive: bool, at: usize, length: usize) -> Result<Self, JpegError> {
        let bad = |what| JpegError::Malformed { at, what };
        let [precision, y1, y2, x1, x2, count, specs @ ..] = body else { return Err(bad("the frame header is short")) };
        let (height, width) =
            (usize::from(u16::from_be_bytes([*y1, *y2])), usize::from(u16::from_be_bytes([*x1, *x2])));
        if *precision != 8 {
            return Err(JpegError::Unsupported("samples of other than 8 bits"));
        }
        if width == 0 || height == 0 {
            return Err(bad("the image has no pixels"));
        }
        if width * height > MOST_PIXELS {
            return Err(JpegError::Unsupported("more than 178,956,970 pixels"));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(JpegError::Unsupported("other than 1, 3 or 4 components"));
        }
        let (specs, rest) = specs.as_chunks::<3>();
        if specs.len() != usize::from(*count) || !rest.is_empty() {
            return Err(bad("the frame header has another length than its components need"));
        }
        let factors = |spec: &[u8; 3]| (usize::from(spec[1] >> 4), usize::from(spec[1] & 15));
        if specs.iter().map(factors).any(|(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(bad("a sampling factor is not from 1 to 4"));
        }
        let most = |part: fn((usize, usize)) -> usize| specs.iter().map(|spec| part(factors(spec))).max().unwrap_or(1);
        let (most_h, most_v) = (most(|(h, _)| h), most(|(_, v)| v));
        if specs.iter().map(factors).any(|(h, v)| most_h % h != 0 || most_v % v != 0) {
            return Err(JpegError::Unsupported("sampling factors that are no whole multiples of each other"));
        }
        // Every block takes a bit at least, so that the file bounds what is allocated.
        let units = width.div_ceil(8 * most_h) * height.div_ceil(8 * most_v);
        let blocks: usize = specs.iter().map(factors).map(|(h, v)| units * h * v).sum();
        if blocks / 8 > length {
            return Err(bad("more pixels than so short a file can hold"));
        }
        let components = specs.iter().map(|spec| {
            let (h, v) = factors(spec);
            let blocks_across = width.div_ceil(8 * most_h) * h;
            let blocks_down = height.div_ceil(8 * most_v) * v;
            let blocks = blocks_across * blocks_down;
            Component {
                id: spec[0],
                h,
                v,
                table: usize::from(spec[2]),
                quantisation: None,
                width: (width * h).div_ceil(most_h),
                height: (height * v).div_ceil(most_v),
                blocks_across,
                blocks_down,
                // What no scan fills is grey, as coefficients of 0 would make it.
                samples: vec![128; 64 * blocks],
                coefficients: if progressive { vec![[0; 64]; blocks] } else { Vec::new() },
            }
        });
        Ok(Self { width, height, progressive, components: components.collect(), most_h, most_v })
    }

    /// Turns a progressive frame's coefficients into samples.
    pub(super) fn finish(&mut self) {
        for component in &mut self.components {
            let Some(quantisation) = component.quantisation else { continue };
            for (index, coefficients) in std::mem::take(&mut component.coefficients).iter().enumerate() {
                let (down, across) = (index / component.blocks_across, index % component.blocks_across);
                component.put(down, across, coefficients, &quantisation);
            }
        }
    }
}

impl Component {
    /// A row of its samples.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        let start = y * 8 * self.blocks_across;
        &self.samples[start..start + self.width]
    }

    /// Writes the samples of one block.
    pub(super) fn put(&mut self, down: usize, across: usize, coefficients: &[i16; 64], quantisation: &[u16; 64]) {
        let stride = 8 * self.blocks_across;
        super::idct::inverse(coefficients, quantisation, &mut self.samples[8 * down * stride + 8 * across..], stride);
    }

    /// The coefficients of one block of a progressive frame.
    pub(super) fn block(&mut self, down: usize, across: usize) -> &mut [i16; 64] {
        &mut self.coefficients[down * self.blocks_across + across]
    }

    /// Blocks across and down in a scan of this component alone.
    pub(super) fn own_blocks(&self) -> (usize, usize) {
        (self.width.div_ceil(8), self.height.div_ceil(8))
    }

    /// Whether both directions hold whole units.
    pub(super) fn units(&self) -> (usize, usize) {
        (self.blocks_across / self.h, self.blocks_down / self.v)
    }
}
