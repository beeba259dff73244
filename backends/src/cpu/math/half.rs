//! binary16 and bfloat16, stored as integers and computed as f32.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value};
use edgecc_ir::DType;

use super::Floats;

impl Floats<'_, '_> {
    /// Stored bits, extended by zeros, as f32: exactly.
    pub fn widen(&mut self, dtype: DType, bits: &[Value]) -> Vec<Value> {
        if dtype == DType::BF16 {
            let high = self.shift_left(bits, 16);
            return self.with_bits(&high);
        }
        // Exponent and fraction in place, scaled by 2^112: subnormals come out right. Infinity and NaN get all of the
        // exponent.
        let magnitude = self.masked(bits, 0x7fff);
        let placed = self.shift_left(&magnitude, 13);
        let float = self.with_bits(&placed);
        let scaled = self.times(&float, 2f64.powi(112));
        let scaled = self.bits(&scaled);
        let full = self.integer(0x7f80_0000);
        let full = self.map(&placed, |b, placed| b.ins().bor(placed, full));
        let special = self.compare_integers(IntCC::SignedGreaterThanOrEqual, &magnitude, 0x7c00);
        let value = self.select_integers(&special, &full, &scaled);
        let sign = self.masked(bits, 0x8000);
        let sign = self.shift_left(&sign, 16);
        let value = self.zip(&value, &sign, |b, value, sign| b.ins().bor(value, sign));
        self.with_bits(&value)
    }

    /// The bits of the nearest number of a narrow type, ties to even, extended by zeros.
    pub fn narrow(&mut self, dtype: DType, x: &[Value]) -> Vec<Value> {
        let bits = self.bits(x);
        let magnitude = self.masked(&bits, 0x7fff_ffff);
        let (narrowed, quiet) = match dtype {
            DType::BF16 => (self.rounded_off(&magnitude, 16, 0), 0x7fc0),
            _ => (self.narrow_binary16(&magnitude), 0x7e00),
        };
        let quiet = vec![self.integer(quiet); x.len()];
        let nan = self.zip(x, x, |b, x, y| b.ins().fcmp(FloatCC::Unordered, x, y));
        let chosen = self.select_integers(&nan, &quiet, &narrowed);
        let sign = self.shift_in_zeros(&bits, 16);
        let sign = self.masked(&sign, 0x8000);
        self.zip(&chosen, &sign, |b, value, sign| b.ins().bor(value, sign))
    }

    /// Bits without the lowest `count`, rounded to nearest, ties to even, after adding `bias`.
    fn rounded_off(&mut self, bits: &[Value], count: i64, bias: i64) -> Vec<Value> {
        let odd = self.shift_in_zeros(bits, count);
        let odd = self.masked(&odd, 1);
        let rounded = self.plus_integer(bits, (1 << (count - 1)) - 1 + bias);
        let rounded = self.add_integers(&rounded, &odd);
        self.shift_in_zeros(&rounded, count)
    }

    fn narrow_binary16(&mut self, magnitude: &[Value]) -> Vec<Value> {
        let normal = self.rounded_off(magnitude, 13, -(112 << 23));
        // Subnormal numbers are multiples of 2^-24, which adding 1/2 leaves in the low bits.
        let float = self.with_bits(magnitude);
        let sum = self.plus(&float, 0.5);
        let sum = self.bits(&sum);
        let subnormal = self.plus_integer(&sum, -0x3f00_0000);
        let infinity = vec![self.integer(0x7c00); magnitude.len()];
        let tiny = self.compare_integers(IntCC::SignedLessThan, magnitude, 0x3880_0000);
        let huge = self.compare_integers(IntCC::SignedGreaterThanOrEqual, magnitude, 0x4780_0000);
        let finite = self.select_integers(&tiny, &subnormal, &normal);
        self.select_integers(&huge, &infinity, &finite)
    }

    fn compare_integers(&mut self, compare: IntCC, x: &[Value], value: i64) -> Vec<Value> {
        let value = self.integer(value);
        self.map(x, |b, x| b.ins().icmp(compare, x, value))
    }
}
