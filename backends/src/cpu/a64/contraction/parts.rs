//! Contractions of i8 by products of the baseline: eight elements of the depth of a pixel meet those of a channel, products are
//! halves, and neighbouring halves are added to words. A sum is four parts, a register of each pixel and channel, until the
//! depth is over.

use crate::contraction::Element;
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, Arrangement, Half, Instruction, Lanes, V, Width};
use crate::cpu::a64::integer::{Integer, Two};
use crate::cpu::isa::Integers;
use crate::schedule::LANES;

use super::bytes::{BLOCK, Piece, Rows};
use super::tile::Shape;
use super::{Contraction, register};

/// Elements of the depth that go together, in two blocks.
pub(super) const WIDEST: i64 = 2 * BLOCK;
/// Products that are under way.
const TOGETHER: usize = 4;

impl Contraction<'_> {
    /// Whether sums are in parts.
    pub(super) fn by_parts(&self, shape: Shape) -> bool {
        self.integers == Integers::Plain && shape.element == Element::I8
    }

    pub(super) fn start_parts(&self, a: &mut Assembler, shape: Shape) {
        (0..parts(shape)).for_each(|place| a.push(Instruction::Zero(V(place as u8))));
    }

    /// Loads a piece of each pixel, and adds its products. Where two products may not fit a half, each is added by itself.
    pub(super) fn piece_of_parts(&self, a: &mut Assembler, shape: Shape, rows: &Rows, piece: Piece) {
        let Rows::Each(pointers) = rows else { return };
        let vectors = shape.columns.vectors;
        let (blocks, channels) = ((piece.size + BLOCK - 1) / BLOCK, vectors * LANES);
        let mut next = parts(shape) as u8;
        let mut take = |count: i64| {
            let first = next;
            next += count as u8;
            V(first)
        };
        let weights: Vec<V> = (0..blocks).map(|_| take(channels / 2)).collect();
        let inputs: Vec<V> = pointers.iter().map(|_| take(blocks)).collect();
        let products = take(TOGETHER as i64);
        for &first in &weights {
            let count = (channels / 2) as u8;
            a.push(Instruction::Multiple(Access::Load, first, count, register::WEIGHTS, After::Past));
        }
        for (&first, &pointer) in inputs.iter().zip(pointers) {
            if piece.size >= BLOCK {
                let spread = |block| Instruction::Integer(Integer::SpreadPost(V(first.0 + block as u8), pointer));
                (0..blocks).for_each(|block| a.push(spread(block)));
            } else {
                piece.load_and_move(a, first, pointer);
                a.push(Instruction::Integer(Integer::Zip(Width::D, Half::Lower, first, first, first)));
            }
        }
        for (row, &input) in inputs.iter().enumerate() {
            let all: Vec<i64> = (0..channels).collect();
            for together in all.chunks(TOGETHER) {
                let product = |a: &mut Assembler, block: i64, adds: bool| {
                    for (place, &channel) in together.iter().enumerate() {
                        let half = if channel % 2 == 0 { Half::Lower } else { Half::Upper };
                        let factors = V(weights[block as usize].0 + (channel / 2) as u8);
                        let (d, n) = (V(products.0 + place as u8), V(input.0 + block as u8));
                        a.push(Instruction::Integer(Integer::Product(adds, d, n, factors, half)));
                    }
                };
                let add = |a: &mut Assembler| {
                    for (place, &channel) in together.iter().enumerate() {
                        let part = V((row as i64 * channels + channel) as u8);
                        let sums = Integer::AddPairsOfHalves(part, V(products.0 + place as u8));
                        a.push(Instruction::Integer(sums));
                    }
                };
                product(a, 0, false);
                if blocks > 1 {
                    if !self.spec.symmetric_weights {
                        add(a);
                    }
                    product(a, 1, self.spec.symmetric_weights);
                }
                add(a);
            }
        }
    }

    /// Joins the parts of each sum, in the sums' own places, and adds what starts them.
    pub(super) fn join_parts(&self, a: &mut Assembler, shape: Shape) {
        let vectors = shape.columns.vectors;
        let first = V(parts(shape) as u8);
        if let Some(start) = &self.start {
            self.move_vectors(a, Access::Load, first, shape.columns, start.pointer, After::Stay);
        }
        let add_pairs = |a: &mut Assembler, d: V, n: V, m: V| {
            a.push(Instruction::Integer(Integer::Two(Two::AddPairs, d, n, m)));
        };
        for (row, vector) in (0..shape.rows).flat_map(|row| (0..vectors).map(move |vector| (row, vector))) {
            let [one, two, three, four] =
                [0, 1, 2, 3].map(|channel| V(((row * vectors + vector) * LANES + channel) as u8));
            add_pairs(a, one, one, two);
            add_pairs(a, three, three, four);
            let sum = shape.sum(row, vector);
            add_pairs(a, sum, one, three);
            if self.start.is_some() {
                let start = V(first.0 + vector as u8);
                a.push(Instruction::Lanes(Lanes::AddIntegers, Arrangement::S4, sum, sum, start));
            }
        }
    }
}

/// Registers of parts: a vector of each channel.
fn parts(shape: Shape) -> i64 {
    shape.sums() * LANES
}
