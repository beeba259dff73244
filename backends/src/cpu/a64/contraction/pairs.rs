//! Contractions of i8 by products of matrices: two pixels by two channels, of eight elements of the depth each. Sums of a pair
//! of pixels lie in a register for every two channels, `[pixel][channel]`, as many registers behind their places as a pixel has
//! vectors: so they are parted into pixels without another register. A single pixel goes by dot products.

use crate::contraction::Element;
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, Half, Instruction, V, Width};
use crate::cpu::a64::integer::{Integer, Two};
use crate::cpu::isa::Integers;

use super::bytes::{BLOCK, Piece, Rows};
use super::depth::Run;
use super::tile::Shape;
use super::{Contraction, register};

/// Elements of the depth of a pixel that are loaded at once.
pub(super) const WIDEST: i64 = 16;

/// Lanes of 64 bits of one half of two registers.
fn zip(a: &mut Assembler, half: Half, d: V, n: V, m: V) {
    a.push(Instruction::Integer(Integer::Zip(Width::D, half, d, n, m)));
}

impl Contraction<'_> {
    /// Whether a tile's pixels go in pairs; of an odd number the last is the second of its pair too.
    pub(super) fn by_pairs(&self, shape: Shape) -> bool {
        self.integers == Integers::Matrix && shape.element == Element::I8 && shape.rows > 1
    }

    /// Zeros, or what starts the sums.
    pub(super) fn start_pairs(&self, a: &mut Assembler, shape: Shape) {
        let vectors = shape.columns.vectors;
        let Some(start) = &self.start else {
            return (0..pairs(shape) * 2 * vectors).for_each(|place| a.push(Instruction::Zero(sum_at(shape, place))));
        };
        let first = V(first_other(shape) as u8);
        self.move_vectors(a, Access::Load, first, shape.columns, start.pointer, After::Stay);
        for pair in 0..pairs(shape) {
            for place in 0..2 * vectors {
                let (half, of) =
                    (if place % 2 == 0 { Half::Lower } else { Half::Upper }, V(first.0 + (place / 2) as u8));
                zip(a, half, sum_at(shape, pair * 2 * vectors + place), of, of);
            }
        }
    }

    /// Loads a piece of each pixel, and adds its products.
    pub(super) fn piece_of_pairs(&self, a: &mut Assembler, shape: Shape, run: Run, rows: &Rows, piece: Piece) {
        let (vectors, first) = (shape.columns.vectors, first_other(shape));
        // One register is free while pairs are made, and then behind them.
        let mut free = V(first as u8);
        let blocks = (piece.size + BLOCK - 1) / BLOCK;
        let mut inputs: Vec<[V; 2]> = Vec::new();
        for pair in 0..pairs(shape) {
            let [one, two] = [0, 1].map(|row| V((first + 1 + 2 * pair + row) as u8));
            let last = (2 * pair + 1).min(shape.rows - 1);
            piece.load_row(a, one, rows, (2 * pair, run.pixel_bytes));
            let other = if last > 2 * pair { two } else { one };
            if other == two {
                piece.load_row(a, two, rows, (last, run.pixel_bytes));
            }
            zip(a, Half::Lower, free, one, other);
            if blocks > 1 {
                zip(a, Half::Upper, two, one, other);
            }
            inputs.push([free, two]);
            free = one;
        }
        let weights = V((first + 1 + 2 * pairs(shape)) as u8);
        for block in 0..blocks {
            let count = 2 * vectors as u8;
            a.push(Instruction::Multiple(Access::Load, weights, count, register::WEIGHTS, After::Past));
            for place in 0..2 * vectors {
                for (pair, input) in (0..).zip(&inputs) {
                    let (sum, factors) = (sum_at(shape, pair * 2 * vectors + place), V(weights.0 + place as u8));
                    let product = Integer::Two(Two::MatrixProduct, sum, input[block as usize], factors);
                    a.push(Instruction::Integer(product));
                }
            }
        }
    }

    /// Puts the sums of each pixel into their places.
    pub(super) fn part_pairs(&self, a: &mut Assembler, shape: Shape) {
        let vectors = shape.columns.vectors;
        for pair in 0..pairs(shape) {
            for (row, half) in [(2 * pair, Half::Lower), (2 * pair + 1, Half::Upper)] {
                for vector in (0..vectors).filter(|_| row < shape.rows) {
                    let of = [0, 1].map(|place| sum_at(shape, pair * 2 * vectors + 2 * vector + place));
                    zip(a, half, shape.sum(row, vector), of[0], of[1]);
                }
            }
        }
    }
}

/// Pairs of a tile's pixels.
fn pairs(shape: Shape) -> i64 {
    (shape.rows + 1) / 2
}

/// The register of a pair's sums for two channels.
fn sum_at(shape: Shape, place: i64) -> V {
    V((shape.columns.vectors + place) as u8)
}

/// The first register behind sums.
fn first_other(shape: Shape) -> i64 {
    shape.columns.vectors * (1 + 2 * pairs(shape))
}
