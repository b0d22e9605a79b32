//! The inverse transform as libjpeg's "slow" integer one has it (after Loeffler, Ligtenberg and Moschytz 1989): 13-bit
//! constants, two more bits kept between the passes.

const CONST_BITS: i32 = 13;
const PASS1_BITS: i32 = 2;

/// round(value * 2^13)
const fn fixed(value: f64) -> i32 {
    (value * (1 << CONST_BITS) as f64 + 0.5) as i32
}

/// One dimension of eight columns at once, which then lose `bits` of their fraction. Values have 16 bits; where damaged files
/// hold too much, libjpeg-turbo's vectors of 16 bits wrap around, and so do the sums here.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "the loop over lanes is what becomes vectors")]
fn pass(rows: &mut [[i32; 8]; 8], bits: i32) {
    let wrapped = |sum: i32| i32::from(sum as i16);
    let half = 1 << (bits - 1);
    for lane in 0..8 {
        let mut x = [0; 8];
        for row in 0..8 {
            x[row] = rows[row][lane];
        }
        // Even part.
        let z1 = (x[2] + x[6]) * fixed(0.541_196_100);
        let t2 = z1 - x[6] * fixed(1.847_759_065);
        let t3 = z1 + x[2] * fixed(0.765_366_865);
        let (t0, t1) = (wrapped(x[0] + x[4]) << CONST_BITS, wrapped(x[0] - x[4]) << CONST_BITS);
        let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
        // Odd part.
        let (z3, z4) = (wrapped(x[7] + x[3]), wrapped(x[5] + x[1]));
        let z5 = (z3 + z4) * fixed(1.175_875_602);
        let z1 = (x[7] + x[1]) * -fixed(0.899_976_223);
        let z2 = (x[5] + x[3]) * -fixed(2.562_915_447);
        let z3 = z3 * -fixed(1.961_570_560) + z5;
        let z4 = z4 * -fixed(0.390_180_644) + z5;
        let odd = [
            x[1] * fixed(1.501_321_110) + z1 + z4,
            x[3] * fixed(3.072_711_026) + z2 + z3,
            x[5] * fixed(2.053_119_869) + z2 + z4,
            x[7] * fixed(0.298_631_336) + z1 + z3,
        ];
        for row in 0..4 {
            rows[row][lane] = (even[row] + odd[row] + half) >> bits;
            rows[7 - row][lane] = (even[row] - odd[row] + half) >> bits;
        }
    }
}

#[inline(always)]
fn transposed(rows: &[[i32; 8]; 8]) -> [[i32; 8]; 8] {
    let mut columns = [[0; 8]; 8];
    for row in 0..8 {
        for column in 0..8 {
            columns[column][row] = rows[row][column];
        }
    }
    columns
}

/// From coefficients (row after row) and their quantisation to 8 x 8 samples, written at the head of rows of `stride`.
pub(super) fn inverse(coefficients: &[i16; 64], quantisation: &[u16; 64], out: &mut [u8], stride: usize) {
    if coefficients[1..].iter().all(|&coefficient| coefficient == 0) {
        let value = i32::from(coefficients[0].wrapping_mul(quantisation[0] as i16)) << PASS1_BITS;
        let sample = (((value + (1 << (PASS1_BITS + 2))) >> (PASS1_BITS + 3)) + 128).clamp(0, 255) as u8;
        out.chunks_mut(stride).take(8).for_each(|row| row[..8].fill(sample));
        return;
    }
    let samples = pulp::Arch::new().dispatch(Samples { coefficients, quantisation });
    for (row, samples) in out.chunks_mut(stride).zip(samples) {
        row[..8].copy_from_slice(&samples);
    }
}

/// Both passes, compiled for each kind of vectors.
struct Samples<'a> {
    coefficients: &'a [i16; 64],
    quantisation: &'a [u16; 64],
}

impl pulp::WithSimd for Samples<'_> {
    type Output = [[u8; 8]; 8];

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> [[u8; 8]; 8] {
        let mut rows = [[0_i32; 8]; 8];
        for (row, (values, factors)) in
            rows.iter_mut().zip(self.coefficients.as_chunks::<8>().0.iter().zip(self.quantisation.as_chunks::<8>().0))
        {
            for lane in 0..8 {
                row[lane] = i32::from(values[lane].wrapping_mul(factors[lane] as i16));
            }
        }
        pass(&mut rows, CONST_BITS - PASS1_BITS);
        for value in rows.as_flattened_mut() {
            *value = (*value).clamp(i16::MIN.into(), i16::MAX.into());
        }
        rows = transposed(&rows);
        pass(&mut rows, CONST_BITS + PASS1_BITS + 3);
        let mut samples = [[0; 8]; 8];
        for (sample, value) in samples.as_flattened_mut().iter_mut().zip(transposed(&rows).as_flattened()) {
            *sample = (value + 128).clamp(0, 255) as u8;
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T.81, A.3.3, in f64.
    fn exact(coefficients: &[i16; 64]) -> [f64; 64] {
        let scale = |k: usize| if k == 0 { 0.5_f64.sqrt() } else { 1.0 };
        let wave =
            |at: usize, k: usize| scale(k) * ((2 * at + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos();
        std::array::from_fn(|at| {
            let terms = (0..64).map(|k| f64::from(coefficients[k]) * wave(at % 8, k % 8) * wave(at / 8, k / 8));
            terms.sum::<f64>() / 4.0 + 128.0
        })
    }

    #[test]
    fn it_is_the_cosine_transform_to_one_level() {
        let mut state = 7_u32;
        let mut next = |bound: i32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as i32 % (2 * bound)) - bound
        };
        for round in 0..200 {
            let mut coefficients = [0_i16; 64];
            coefficients[0] = next(900) as i16;
            for _ in 0..round % 20 {
                coefficients[(next(32) + 32) as usize] = next(200) as i16;
            }
            let mut out = [0; 64];
            inverse(&coefficients, &[1; 64], &mut out, 8);
            for (got, want) in out.iter().zip(exact(&coefficients)) {
                assert!((f64::from(*got) - want.clamp(0.0, 255.0)).abs() <= 1.0, "round {round}: {got} {want}");
            }
        }
    }
}
