//! Words of integers as bytes, saturated, within limits.

use super::assembler::Assembler;
use super::instruction::{Half, Instruction, V};
use super::integer::{Integer, Narrowing, Two};
use super::vector::Registers;
use crate::cpu::requantization::Bytes;

/// How words become bytes, with its constants in registers.
pub(super) struct Narrow {
    bytes: Bytes,
    zero: Option<V>,
    limits: [Option<V>; 2],
}

impl Narrow {
    /// Loads the constants into free registers; `None` where there are none.
    pub fn prepare(a: &mut Assembler, bytes: Bytes, free: &mut Registers) -> Option<Narrow> {
        let mut spread = |word: u32| {
            let register = free.take_first()?;
            a.literal(register, [word; 4]);
            Some(register)
        };
        let zero = match bytes.zero {
            0 => None,
            zero => Some(spread(u32::from(zero as u16) * 0x1_0001)?),
        };
        let mut limits = [None; 2];
        for (limit, register) in bytes.limits.iter().zip(&mut limits) {
            if let Some(limit) = limit {
                *register = Some(spread(u32::from(*limit) * 0x101_0101)?);
            }
        }
        Some(Narrow { bytes, zero, limits })
    }

    /// One or two registers of words as halves in the first, with the zero point.
    fn to_halves(&self, a: &mut Assembler, first: V, vectors: i64) {
        for (vector, half) in (0..vectors as u8).zip([Half::Lower, Half::Upper]) {
            a.push(Instruction::Integer(Integer::Narrow(Narrowing::Halves, first, V(first.0 + vector), half)));
        }
        if let Some(zero) = self.zero {
            a.push(Instruction::Integer(Integer::Two(Two::AddHalves, first, first, zero)));
        }
    }

    /// One or two registers of halves as bytes in the first, within the limits.
    fn to_bytes(&self, a: &mut Assembler, first: V, second: Option<V>) {
        let narrowing = if self.bytes.signed { Narrowing::Bytes } else { Narrowing::UnsignedBytes };
        a.push(Instruction::Integer(Integer::Narrow(narrowing, first, first, Half::Lower)));
        if let Some(second) = second {
            a.push(Instruction::Integer(Integer::Narrow(narrowing, first, second, Half::Upper)));
        }
        let ops =
            if self.bytes.signed { [Two::Maximum, Two::Minimum] } else { [Two::MaximumUnsigned, Two::MinimumUnsigned] };
        for (op, limit) in ops.into_iter().zip(self.limits) {
            if let Some(limit) = limit {
                a.push(Instruction::Integer(Integer::Two(op, first, first, limit)));
            }
        }
    }
}

/// Makes bytes of the words of one or two rows, one or two registers of each; those of the second row lie from byte 8 of the
/// first row's first register on.
pub(super) fn narrowed(a: &mut Assembler, narrow: &Narrow, rows: &[V], vectors: i64) {
    rows.iter().for_each(|&first| narrow.to_halves(a, first, vectors));
    narrow.to_bytes(a, rows[0], rows.get(1).copied());
}
