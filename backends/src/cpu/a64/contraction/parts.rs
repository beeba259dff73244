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
use super::totals::Begin;
use super::{Contraction, register};

/// Elements of the depth that go together, in two blocks.
const WIDEST: i64 = 2 * BLOCK;
/// Products that are under way.
const TOGETHER: usize = 4;

/// A run from element `begin` on, in pieces of up to two blocks.
pub(super) fn pieces(begin: i64, depth: i64) -> Vec<Piece> {
    (begin..depth).step_by(WIDEST as usize).map(|at| Piece { at, size: WIDEST.min(depth - at) }).collect()
}

impl Contraction<'_> {
    /// Whether sums are in parts.
    pub(super) fn by_parts(&self, shape: Shape) -> bool {
        self.integers == Integers::Plain && shape.element == Element::I8
    }

    /// Zeros, but for what starts a sum in the first of its parts.
    pub(super) fn start_parts(&self, a: &mut Assembler, shape: Shape) {
        let channels = shape.columns.vectors * LANES;
        let existing = channels - LANES + shape.columns.last_lanes;
        for place in 0..parts(shape) {
            let (part, channel) = (V(place as u8), place % channels);
            a.push(match &self.start {
                Some(start) if channel < existing => {
                    Instruction::Vector(Access::Load, Width::S, part, start.pointer, 4 * channel)
                }
                _ => Instruction::Zero(part),
            });
        }
    }

    /// Loads a piece of each pixel, and adds its products, or begins the sums with them. Where two products may not fit a half, each
    /// is added by itself.
    pub(super) fn piece_of_parts(&self, a: &mut Assembler, shape: Shape, rows: &Rows, (piece, begin): (Piece, Begin)) {
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
            for block in 0..blocks {
                let to = V(first.0 + block as u8);
                let size = BLOCK.min(piece.size - block * BLOCK);
                // What repeats behind elements that are fewer meets weights of zero.
                if let Some(width) = Width::of_bytes(size) {
                    a.push(Instruction::Integer(Integer::SpreadPost(width, to, pointer)));
                } else {
                    Piece { at: piece.at + block * BLOCK, size }.load_and_move(a, to, pointer);
                    a.push(Instruction::Integer(Integer::Zip(Width::D, Half::Lower, to, to, to)));
                }
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
                let add = |a: &mut Assembler, begin: Begin| {
                    for (place, &channel) in together.iter().enumerate() {
                        let part = V((row as i64 * channels + channel) as u8);
                        let sums = V(products.0 + place as u8);
                        a.push(Instruction::Integer(Integer::PairsOfHalves(begin == Begin::Adding, part, sums)));
                    }
                };
                product(a, 0, false);
                let adds_apart = blocks > 1 && !self.spec.symmetric_weights;
                if adds_apart {
                    add(a, begin);
                }
                if blocks > 1 {
                    product(a, 1, !adds_apart);
                }
                add(a, if adds_apart { Begin::Adding } else { begin });
            }
        }
    }

    /// Joins the parts of each sum, in the sums' own places; where those began with products, what starts the sums is added then.
    pub(super) fn join_parts(&self, a: &mut Assembler, shape: Shape, begin: Begin) {
        let vectors = shape.columns.vectors;
        let start = V(parts(shape) as u8);
        let late = self.start.as_ref().filter(|_| begin == Begin::Multiplying);
        if let Some(late) = late {
            self.move_vectors(a, Access::Load, start, shape.columns, late.pointer, After::Stay);
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
            if late.is_some() {
                let start = V(start.0 + vector as u8);
                a.push(Instruction::Lanes(Lanes::AddIntegers, Arrangement::S4, sum, sum, start));
            }
        }
    }
}

/// Registers of parts: a vector of each channel.
fn parts(shape: Shape) -> i64 {
    shape.sums() * LANES
}
