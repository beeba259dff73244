//! The innermost loops: multiply-adds of the rows of a tile with panels of weights, along a run of the depth.

use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, ByLane, Cond, Instruction, V, Width, X, fits_offset};
use crate::schedule::LANES;

use super::tile::Shape;
use super::{Contraction, register};

/// Elements of the depth that one vector of a row holds.
const BLOCK: i64 = LANES;
/// Blocks of a run that stand one behind the other without a loop.
const UNROLLED: i64 = 4;
/// Blocks of one turn of the loop.
const TURN: i64 = 2;

/// Elements that lie side by side in memory for each of some pixels of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    /// The tile's pixels, a half-open range.
    pub pixels: [i64; 2],
    /// Elements.
    pub depth: i64,
    /// Input bytes from one pixel to the next.
    pub pixel_bytes: i64,
}

/// How the rows of a run are addressed.
enum Rows {
    /// By offsets from one register, which has been moved by this many bytes.
    Offsets(X, i64),
    /// By a register each, which move as they are read.
    Each(Vec<X>),
}

impl Contraction<'_> {
    /// Adds the products of a run that begins `offset` bytes behind `base`; returns by how many bytes `base`, where it may
    /// be moved, has been.
    pub(super) fn run(
        &self,
        a: &mut Assembler,
        shape: Shape,
        run: Run,
        (base, offset, may_move): (X, i64, bool),
    ) -> Option<i64> {
        let count = run.pixels[1] - run.pixels[0];
        let loops = run.depth / BLOCK > UNROLLED;
        let [scratch, ..] = register::SCRATCH;
        let moves_base = may_move && offset == 0;
        if run.offsets_fit(loops) {
            let pointer = if moves_base || (!loops && offset == 0) { base } else { register::INPUT };
            if pointer != base {
                a.add(pointer, base, offset, scratch);
            }
            let mut rows = Rows::Offsets(pointer, 0);
            self.along_depth(a, shape, run, loops, &mut rows);
            return Some(match rows {
                Rows::Offsets(_, moved) if moves_base => moved,
                _ => 0,
            });
        }
        let pointers: Vec<X> =
            [register::INPUT].into_iter().chain(self.rows.iter().copied()).take(count as usize).collect();
        if pointers.len() < count as usize {
            return None;
        }
        a.add(pointers[0], base, offset, scratch);
        for pair in pointers.windows(2) {
            a.add(pair[1], pair[0], run.pixel_bytes, scratch);
        }
        self.along_depth(a, shape, run, loops, &mut Rows::Each(pointers));
        Some(0)
    }

    fn along_depth(&self, a: &mut Assembler, shape: Shape, run: Run, loops: bool, rows: &mut Rows) {
        let blocks = run.depth / BLOCK;
        let mut done = 0;
        if loops {
            let turns = blocks / TURN;
            a.constant(register::DEPTH_LEFT, turns);
            let head = a.here();
            (0..TURN).for_each(|block| self.part(a, shape, run, rows, (block * BLOCK * 4, Width::Q, block == 0)));
            a.push(Instruction::SubsImmediate(register::DEPTH_LEFT, register::DEPTH_LEFT, 1));
            a.push(Instruction::BranchIf(Cond::NotEqual, head));
            done = turns * TURN;
            if let Rows::Offsets(_, moved) = rows {
                *moved = done * BLOCK * 4;
            }
        }
        let mut place = done;
        while place < blocks {
            self.part(a, shape, run, rows, (place * BLOCK * 4, Width::Q, false));
            place += 1;
        }
        let mut at = blocks * BLOCK * 4;
        for (lanes, width) in [(2, Width::D), (1, Width::S)] {
            if run.depth % BLOCK & lanes != 0 {
                self.part(a, shape, run, rows, (at, width, false));
                at += width.bytes();
            }
        }
    }

    /// Some elements of the depth, which begin `at` bytes from the run's first: one load of each row, and their products.
    fn part(
        &self,
        a: &mut Assembler,
        shape: Shape,
        run: Run,
        rows: &mut Rows,
        (at, width, begins_turn): (i64, Width, bool),
    ) {
        let [begin, end] = run.pixels;
        let input = |pixel: i64| V((shape.sums() + pixel) as u8);
        for pixel in begin..end {
            let row = pixel - begin;
            match rows {
                Rows::Each(pointers) => {
                    let pointer = pointers[row as usize];
                    a.push(Instruction::VectorPost(Access::Load, width, input(pixel), pointer, width.bytes() as i16));
                }
                Rows::Offsets(pointer, moved) if begins_turn && row == 0 => {
                    *moved = TURN * BLOCK * 4;
                    a.push(Instruction::VectorPost(Access::Load, width, input(pixel), *pointer, *moved as i16));
                }
                Rows::Offsets(pointer, moved) => {
                    let offset = row * run.pixel_bytes + at - *moved;
                    a.push(Instruction::Vector(Access::Load, width, input(pixel), *pointer, offset));
                }
            }
        }
        let vectors = shape.columns.vectors;
        let total = width.bytes() / 4 * vectors;
        let first_free = shape.sums() + shape.rows;
        let chunk = (32 - first_free).clamp(1, 4);
        let groups = ((32 - first_free) / chunk).clamp(1, 2);
        for place in 0..total {
            let group = place / chunk % groups;
            let weights = V((first_free + group * chunk + place % chunk) as u8);
            if place % chunk == 0 {
                let count = chunk.min(total - place) as u8;
                a.push(Instruction::Multiple(Access::Load, weights, count, register::WEIGHTS, After::Past));
            }
            let (lane, vector) = ((place / vectors) as u8, place % vectors);
            for pixel in begin..end {
                let sum = shape.sum(pixel, vector);
                a.push(Instruction::ByLane(ByLane::MultiplyAdd, sum, weights, input(pixel), lane));
            }
        }
    }
}

impl Run {
    /// Whether every load of the run can be written as an offset from one register.
    fn offsets_fit(&self, loops: bool) -> bool {
        let (blocks, rest) = (self.depth / BLOCK, self.depth % BLOCK);
        let rows = self.pixels[1] - self.pixels[0];
        let turn = TURN * BLOCK * 4;
        let unrolled_from = if loops { blocks / TURN * TURN } else { 0 };
        let in_turn = (0..if loops { TURN } else { 0 }).map(|block| (block * BLOCK * 4 - turn, Width::Q));
        let behind = (unrolled_from..blocks).map(|block| ((block - unrolled_from) * BLOCK * 4, Width::Q));
        let end = (blocks - unrolled_from) * BLOCK * 4;
        let pair = (rest & 2 != 0).then_some((end, Width::D));
        let single = (rest & 1 != 0).then_some((end + (rest & 2) * 4, Width::S));
        let mut loads = in_turn.chain(behind).chain(pair).chain(single);
        loads.all(|(at, width)| {
            (0..rows).all(|row| (row == 0 && at == -turn) || fits_offset(width, row * self.pixel_bytes + at))
        })
    }
}
