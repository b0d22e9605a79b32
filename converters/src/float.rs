//! From one float type to another, rounded once: to the nearest, ties to even.

use half::{bf16, f16};

use crate::tensor::DType;

/// Appends the little-endian elements of `bytes` in another float type.
pub(crate) fn cast(bytes: &[u8], from: DType, to: DType, out: &mut Vec<u8>) {
    match from {
        DType::F64 => each(bytes, f64::from_le_bytes, to, out),
        DType::F32 => each(bytes, |bytes| f64::from(f32::from_le_bytes(bytes)), to, out),
        DType::F16 => each(bytes, |bytes| f16::from_le_bytes(bytes).to_f64(), to, out),
        DType::BF16 => each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f64(), to, out),
        // Weights are floats; others are never cast.
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U8 | DType::Bool => {}
    }
}

fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64, to: DType, out: &mut Vec<u8>) {
    let values = bytes.as_chunks().0.iter().map(|&bytes| read(bytes));
    match to {
        DType::F64 => out.extend(values.flat_map(f64::to_le_bytes)),
        DType::F32 => out.extend(values.flat_map(|value| (value as f32).to_le_bytes())),
        DType::F16 => out.extend(values.flat_map(|value| f16::from_f32(odd(value)).to_le_bytes())),
        DType::BF16 => out.extend(values.flat_map(|value| bf16::from_f32(odd(value)).to_le_bytes())),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U8 | DType::Bool => {}
    }
}

/// The f32 from which rounding to fewer bits gives what rounding the f64 at once would: inexact results get an odd last bit
/// (Boldo and Melquiond, "When double rounding is odd", 2005).
fn odd(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) == value || nearest.is_nan() || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    // An even last bit: the other neighbour of the value is odd.
    let beyond = f64::from(nearest).abs() > value.abs();
    f32::from_bits(if beyond { nearest.to_bits() - 1 } else { nearest.to_bits() + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: f64, to: DType) -> Vec<u8> {
        let mut out = Vec::new();
        cast(&value.to_le_bytes(), DType::F64, to, &mut out);
        out
    }

    #[test]
    fn halves_are_rounded_once_and_ties_go_to_even() {
        let half = |value| u16::from_le_bytes(one(value, DType::F16).try_into().unwrap());
        // 1 + 2^-11 lies between 1 and its successor 1 + 2^-10; a trace above it rounds up, also where f32 loses the trace.
        assert_eq!(half(1.0 + 2_f64.powi(-11)), 0x3c00);
        assert_eq!(half(1.0 + 2_f64.powi(-11) + 2_f64.powi(-40)), 0x3c01);
        assert_eq!(half(1.0 + 3.0 * 2_f64.powi(-11)), 0x3c02);
        assert_eq!(half(1.0 + 3.0 * 2_f64.powi(-11) - 2_f64.powi(-40)), 0x3c01);
        assert_eq!(half(-65520.0), 0xfc00);
        assert_eq!(half(2_f64.powi(-25)), 0);
        assert_eq!(half(2_f64.powi(-25) + 2_f64.powi(-60)), 1);
        assert_eq!(half(1e300), 0x7c00);
        let brain = |value| u16::from_le_bytes(one(value, DType::BF16).try_into().unwrap());
        assert_eq!(brain(1.0 + 2_f64.powi(-8)), 0x3f80);
        assert_eq!(brain(1.0 + 2_f64.powi(-8) + 2_f64.powi(-45)), 0x3f81);
        assert_eq!(brain(f64::NAN) & 0x7f80, 0x7f80);
        assert_eq!(one(1.0 + 2_f64.powi(-24), DType::F32), 1_f32.to_le_bytes());
        let mut wide = Vec::new();
        cast(&[0x01, 0x00, 0x00, 0x3c], DType::F16, DType::F64, &mut wide);
        assert_eq!(wide, [2_f64.powi(-24), 1.0].map(f64::to_le_bytes).concat());
    }
}
