//! Words of integers as bytes, saturated, within limits.

use edgecc_ir::DType;

use super::assembler::Assembler;
use super::instruction::{Arrangement, Half, Instruction, Lanes, LanesOne, V};
use super::integer::{Integer, Narrowing, Two, Widening};
use super::vector::Registers;
use crate::cpu::requantization::Bytes;

/// How words become bytes, with its constants in registers.
#[derive(Clone, Debug)]
pub(super) struct Narrow {
    bytes: Bytes,
    /// The zero point: of every half; where it is the least byte, of every byte.
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
            _ if starts_least(bytes) => Some(spread(0x8080_8080)?),
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

    /// Registers of the constants.
    pub fn constants(&self) -> impl Iterator<Item = V> {
        self.zero.into_iter().chain(self.limits.into_iter().flatten())
    }

    /// One or two registers of words as halves in the first, with the zero point.
    fn to_halves(&self, a: &mut Assembler, first: V, vectors: i64) {
        for (vector, half) in (0..vectors as u8).zip([Half::Lower, Half::Upper]) {
            a.push(Instruction::Integer(Integer::Narrow(Narrowing::Halves, first, V(first.0 + vector), half)));
        }
        if let Some(zero) = self.zero.filter(|_| !starts_least(self.bytes)) {
            a.push(Instruction::Integer(Integer::Two(Two::AddHalves, first, first, zero)));
        }
    }

    /// One or two registers of halves as bytes in the first, within the limits.
    fn to_bytes(&self, a: &mut Assembler, first: V, second: Option<V>) {
        let moves_sign = starts_least(self.bytes);
        let narrowing = if self.bytes.signed && !moves_sign { Narrowing::Bytes } else { Narrowing::UnsignedBytes };
        a.push(Instruction::Integer(Integer::Narrow(narrowing, first, first, Half::Lower)));
        if let Some(second) = second {
            a.push(Instruction::Integer(Integer::Narrow(narrowing, first, second, Half::Upper)));
        }
        if let Some(zero) = self.zero.filter(|_| moves_sign) {
            a.push(Instruction::Lanes(Lanes::ExclusiveOr, Arrangement::S4, first, first, zero));
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

/// Whether the zero point is the least byte: then bytes are those without sign of the number, less 128, which is another sign.
fn starts_least(bytes: Bytes) -> bool {
    bytes.signed && bytes.zero == -128
}

/// Makes numbers of the bytes in the lower half of the first register: four in each of one or two registers.
pub(super) fn widened(a: &mut Assembler, dtype: DType, first: V, vectors: i64) {
    let bytes = match dtype {
        DType::U8 => Widening::UnsignedBytes,
        _ => Widening::Bytes,
    };
    a.push(Instruction::Integer(Integer::Widen(bytes, first, first, Half::Lower)));
    let halves = [Half::Lower, Half::Upper];
    for vector in (0..vectors as usize).rev() {
        let register = V(first.0 + vector as u8);
        a.push(Instruction::Integer(Integer::Widen(Widening::Halves, register, first, halves[vector])));
        a.push(Instruction::LanesOne(LanesOne::FromInteger, Arrangement::S4, register, register));
    }
}

/// Bytes of a table that `look_up` reads at once: four registers.
pub(super) const GROUP: usize = 64;

/// For each byte of `index`, which is used up, the one of a table that has its number. `group(n)` tells the first of the four
/// registers that hold the bytes from [`GROUP`] times `n` on; `step` holds [`GROUP`] in every byte.
pub(super) fn look_up(
    a: &mut Assembler,
    [found, index, step]: [V; 3],
    mut group: impl FnMut(&mut Assembler, usize) -> V,
) {
    let groups = 256 / GROUP;
    for number in 0..groups {
        let first = group(a, number);
        a.push(Instruction::Integer(Integer::LookUp(number > 0, found, first, index)));
        if number + 1 < groups {
            a.push(Instruction::Integer(Integer::Two(Two::SubtractBytes, index, index, step)));
        }
    }
}

/// Loads what `look_up` subtracts.
pub(super) fn load_step(a: &mut Assembler, step: V) {
    a.literal(step, [GROUP as u32 * 0x101_0101; 4]);
}

/// Makes bytes of the words of one or two rows, one or two registers of each; those of the second row lie from byte 8 of the
/// first row's first register on.
pub(super) fn narrowed(a: &mut Assembler, narrow: &Narrow, rows: &[V], vectors: i64) {
    rows.iter().for_each(|&first| narrow.to_halves(a, first, vectors));
    narrow.to_bytes(a, rows[0], rows.get(1).copied());
}
