//! Blocks by products of numbers: weights become numbers in registers, for all rows of a tile.

use crate::block_product::{Bits, PIECE, QUAD};
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, Arrangement, ByLane, Instruction, Lanes, LanesOne, V, Width};
use crate::cpu::a64::integer::Integer;

use super::{Product, Tile, register};

/// Registers of numbers made of weights, in turn.
const NUMBERS: i64 = 4;
/// Bits of a word, and of one of its bytes.
const WORD: i64 = 32;
const BYTE: i64 = 8;

impl Tile {
    fn input(self, row: i64) -> V {
        self.other(row)
    }

    fn weights_of_numbers(self, vector: i64) -> V {
        self.other(self.rows + vector)
    }

    fn number(self, turn: i64) -> V {
        self.other(self.rows + self.vectors + turn % NUMBERS)
    }
}

impl Product<'_> {
    /// Adds the products of a block: their sum times the scale.
    pub(super) fn block_of_numbers(&self, a: &mut Assembler, tile: Tile) {
        let spec = self.spec;
        tile.places().for_each(|place| a.push(Instruction::Zero(tile.part(place, 0))));
        let elements = if spec.blocks() == 1 { spec.summed } else { spec.block };
        if elements >= PIECE {
            a.turns(register::PIECES_LEFT, elements / PIECE, |a| self.piece_of_numbers(a, tile, PIECE));
        }
        if elements % PIECE > 0 {
            self.piece_of_numbers(a, tile, elements % PIECE);
        }
        self.load_scales(a, tile, tile.weights_of_numbers(0));
        for place in tile.places() {
            let (part, scale) = (tile.part(place, 0), tile.weights_of_numbers(place.1));
            a.push(Instruction::Lanes(Lanes::MultiplyAdd, Arrangement::S4, tile.sum(place), part, scale));
        }
    }

    /// Up to sixteen elements of the depth; fewer are the last.
    fn piece_of_numbers(&self, a: &mut Assembler, tile: Tile, elements: i64) {
        let of_byte = self.spec.bits.of_byte();
        for first in (0..elements).step_by(QUAD as usize) {
            let half = first / QUAD % of_byte;
            if half == 0 {
                let (weights, count) = (tile.weights_of_numbers(0), tile.vectors as u8);
                a.push(Instruction::Multiple(Access::Load, weights, count, register::WEIGHTS, After::Past));
            }
            let count = QUAD.min(elements - first);
            (0..tile.rows).for_each(|row| self.load_numbers(a, tile, row, count));
            for (vector, k) in (0..tile.vectors).flat_map(|vector| (0..count).map(move |k| (vector, k))) {
                let number = tile.number(vector * QUAD + k);
                self.make_number(a, number, tile.weights_of_numbers(vector), (k, half));
                for row in 0..tile.rows {
                    let (part, input) = (tile.part((row, vector), 0), tile.input(row));
                    let add = ByLane::MultiplyAdd;
                    a.push(Instruction::ByLane(add, Arrangement::S4, part, number, input, k as u8));
                }
            }
        }
    }

    /// Loads up to four numbers of a row.
    fn load_numbers(&self, a: &mut Assembler, tile: Tile, row: i64, count: i64) {
        let (input, pointer) = (tile.input(row), register::INPUT[row as usize]);
        let mut load = |width: Width| {
            a.push(Instruction::VectorPost(Access::Load, width, input, pointer, width.bytes() as i16));
        };
        match count {
            1 => load(Width::S),
            2 => load(Width::D),
            3 => {
                load(Width::D);
                a.push(Instruction::Lane(Access::Load, Arrangement::S4, input, 2, pointer));
            }
            _ => load(Width::Q),
        }
    }

    /// One byte of each word of weights, or the lower or upper half of it, as a number.
    fn make_number(&self, a: &mut Assembler, number: V, weights: V, (byte, half): (i64, i64)) {
        let bits = match self.spec.bits {
            Bits::Eight => BYTE,
            Bits::Four => BYTE / 2,
        };
        let above = WORD - BYTE * byte - bits * (half + 1);
        let mut integer = weights;
        if above > 0 {
            a.push(Instruction::ShiftLeft(Arrangement::S4, number, integer, above as u8));
            integer = number;
        }
        a.push(Instruction::Integer(Integer::ShiftWordsRight(number, integer, (WORD - bits) as u8)));
        a.push(Instruction::LanesOne(LanesOne::FromInteger, Arrangement::S4, number, number));
    }
}
