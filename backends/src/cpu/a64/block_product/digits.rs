//! Blocks by dot products: a sum for each digit, which is exact.

use crate::block_product::{Bits, DIGITS, PIECE, QUAD};
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, Arrangement, Instruction, Lanes, LanesOne, V, Width};
use crate::cpu::a64::integer::Integer;

use super::{Product, Tile, register};

/// Registers of weights under way.
const WEIGHTS: i64 = 8;
/// Elements of a block that stand one behind the other without a loop.
const UNROLLED: i64 = 64;

impl Tile {
    /// How many times the lower digit the higher one is worth.
    fn worth(self) -> V {
        self.other(0)
    }

    fn digit(self, row: i64, digit: i64) -> V {
        self.other(1 + row * DIGITS + digit)
    }

    fn weights(self, number: i64) -> V {
        self.other(1 + self.rows * DIGITS + number)
    }

    /// The mask of the upper halves of bytes.
    fn mask(self) -> V {
        self.weights(WEIGHTS)
    }
}

impl Product<'_> {
    /// Loads what stays in registers during a tile's sums.
    pub(super) fn load_constants(&self, a: &mut Assembler, tile: Tile) {
        a.literal(tile.worth(), [256f32.to_bits(); 4]);
        if self.spec.bits == Bits::Four {
            a.literal(tile.mask(), [0xf0f0_f0f0; 4]);
        }
    }

    /// Adds the products of a block: its sums of digits, then what they are together times the scale.
    pub(super) fn block_of_digits(&self, a: &mut Assembler, tile: Tile) {
        let digits = 0..DIGITS;
        for place in tile.places() {
            digits.clone().for_each(|digit| a.push(Instruction::Zero(tile.part(place, digit))));
        }
        let pieces = self.spec.block / PIECE;
        if self.spec.block <= UNROLLED {
            (0..pieces).for_each(|_| self.piece_of_digits(a, tile));
        } else {
            a.turns(register::PIECES_LEFT, pieces, |a| self.piece_of_digits(a, tile));
        }
        let of = Arrangement::S4;
        self.load_scales(a, tile, tile.weights(0));
        for (digit, place) in digits.flat_map(|digit| tile.places().map(move |place| (digit, place))) {
            let part = tile.part(place, digit);
            a.push(Instruction::LanesOne(LanesOne::FromInteger, of, part, part));
        }
        for (digit, place) in (1..DIGITS).flat_map(|digit| tile.places().map(move |place| (digit, place))) {
            let [higher, lower] = [digit - 1, digit].map(|digit| tile.part(place, digit));
            a.push(Instruction::Lanes(Lanes::MultiplyAdd, of, lower, higher, tile.worth()));
        }
        for place in tile.places() {
            let (whole, scale) = (tile.part(place, DIGITS - 1), tile.weights(place.1));
            a.push(Instruction::Lanes(Lanes::MultiplyAdd, of, tile.sum(place), whole, scale));
        }
    }

    /// Sixteen elements of the depth.
    fn piece_of_digits(&self, a: &mut Assembler, tile: Tile) {
        let spec = self.spec;
        for row in 0..tile.rows {
            let pointer = register::INPUT[row as usize];
            for digit in (1..DIGITS).rev() {
                let offset = digit * spec.depth;
                a.push(Instruction::Vector(Access::Load, Width::Q, tile.digit(row, digit), pointer, offset));
            }
            a.push(Instruction::VectorPost(Access::Load, Width::Q, tile.digit(row, 0), pointer, PIECE as i16));
        }
        let steps = PIECE / QUAD / spec.bits.of_byte();
        let together = (4 / tile.vectors).min(steps);
        for first in (0..steps).step_by(together as usize) {
            let count = together.min(steps - first);
            // Upper halves of bytes take the registers of every second group.
            let group = if spec.bits == Bits::Four { 0 } else { first / together % 2 * (WEIGHTS / 2) };
            let registers = (count * tile.vectors) as u8;
            a.push(Instruction::Multiple(Access::Load, tile.weights(group), registers, register::WEIGHTS, After::Past));
            for (step, vector) in (0..count).flat_map(|step| (0..tile.vectors).map(move |vector| (step, vector))) {
                let number = step * tile.vectors + vector;
                let weights = tile.weights(group + number);
                match spec.bits {
                    Bits::Eight => self.quad_of_digits(a, tile, vector, (weights, first + step)),
                    Bits::Four => {
                        let lower = tile.weights(WEIGHTS / 2 + number);
                        a.push(Instruction::Integer(Integer::ShiftBytesLeft(lower, weights, 4)));
                        a.push(Instruction::Lanes(Lanes::And, Arrangement::S4, weights, weights, tile.mask()));
                        self.quad_of_digits(a, tile, vector, (lower, 2 * (first + step)));
                        self.quad_of_digits(a, tile, vector, (weights, 2 * (first + step) + 1));
                    }
                }
            }
        }
    }

    /// Four elements of the depth, for all rows.
    fn quad_of_digits(&self, a: &mut Assembler, tile: Tile, vector: i64, (weights, quad): (V, i64)) {
        for (row, digit) in (0..tile.rows).flat_map(|row| (0..DIGITS).map(move |digit| (row, digit))) {
            let (part, digits) = (tile.part((row, vector), digit), tile.digit(row, digit));
            a.push(Instruction::Integer(Integer::DotByLane(part, weights, digits, quad as u8)));
        }
    }
}
