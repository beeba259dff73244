//! Sums of halves in two steps: products are added up in registers over a chunk of the depth, chunks in memory. The error of a
//! sum of n halves grows with n; so it grows with the chunk and the number of chunks (Higham 1993, "The accuracy of floating
//! point summation", section 5).

use crate::contraction::{Element, divide_up};
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, Arrangement, ByLane, Cond, Instruction, Lanes, SP, V, Width};

use super::tile::Shape;
use super::{Contraction, register, slot};

/// Elements of a chunk.
pub(super) const CHUNK: i64 = 64;
/// Fewest elements for which a fold is worth its instructions.
const FEWEST: i64 = CHUNK / 2;
/// Words of the stack that the most sums of a tile take.
pub(super) const SLOTS: u16 = 2 * 24;

/// How the first products of some elements reach the sums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begin {
    Adding,
    /// They become the sums, whatever those were.
    Multiplying,
}

impl Begin {
    /// The instruction for element `k`.
    pub fn of(self, k: i64) -> ByLane {
        if self == Begin::Multiplying && k == 0 { ByLane::Multiply } else { ByLane::MultiplyAdd }
    }
}

/// What a run of the depth finds in the sums, and in the totals where there are any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sums {
    /// Where its tile starts, and no totals: the run is all that the tile sums up.
    Whole(Begin),
    /// Totals of whole runs before; the sums are those of the chunk at work, if there is one.
    OfRows(Begin),
    /// Totals and sums of runs before, which may be of other pixels of the tile.
    OfParts,
}

/// Consecutive elements of a run of the depth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub first: i64,
    pub elements: i64,
    pub begin: Begin,
}

impl Contraction<'_> {
    /// A run of the depth by stretches: chunks, whose sums are added to totals, and what is left. Of a run that is all its tile
    /// sums up, the first chunk becomes the totals, and they are added in the end.
    pub(super) fn in_chunks(
        &self,
        a: &mut Assembler,
        shape: Shape,
        depth: i64,
        sums: Sums,
        mut stretch: impl FnMut(&mut Assembler, Stretch),
    ) {
        let folds = if self.folds_within(depth) { (depth - FEWEST) / CHUNK } else { 0 };
        let chunk = |first: i64, begin: Begin| Stretch { first, elements: CHUNK, begin };
        let left = folds * CHUNK;
        let rest = |begin: Begin| Stretch { first: left, elements: depth - left, begin };
        match sums {
            Sums::Whole(begin) | Sums::OfRows(begin) if folds == 0 => stretch(a, rest(begin)),
            Sums::Whole(begin) => {
                stretch(a, chunk(0, begin));
                self.store_totals(a, shape);
                self.repeat_chunks(a, folds - 1, |a| {
                    stretch(a, chunk(CHUNK, Begin::Multiplying));
                    self.fold(a, shape);
                });
                stretch(a, rest(Begin::Multiplying));
                self.add_totals(a, shape);
            }
            Sums::OfRows(_) => {
                self.repeat_chunks(a, folds, |a| {
                    stretch(a, chunk(0, Begin::Multiplying));
                    self.fold(a, shape);
                });
                stretch(a, rest(Begin::Multiplying));
            }
            Sums::OfParts => {
                self.repeat_chunks(a, folds, |a| {
                    stretch(a, chunk(0, Begin::Adding));
                    self.fold(a, shape);
                    self.clear_sums(a, shape);
                });
                stretch(a, rest(Begin::Adding));
            }
        }
    }

    /// A loop of so many turns, counted on the stack.
    fn repeat_chunks(&self, a: &mut Assembler, chunks: i64, body: impl FnOnce(&mut Assembler)) {
        if chunks < 2 {
            return if chunks == 1 {
                body(a)
            };
        }
        let [left, ..] = register::SCRATCH;
        a.constant(left, chunks);
        a.slot(Access::Store, left, slot::CHUNKS_LEFT);
        let head = a.here();
        body(a);
        a.slot(Access::Load, left, slot::CHUNKS_LEFT);
        a.push(Instruction::SubsImmediate(left, left, 1));
        a.slot(Access::Store, left, slot::CHUNKS_LEFT);
        a.push(Instruction::BranchIf(Cond::NotEqual, head));
    }

    /// Whether sums are folded into totals.
    pub(super) fn has_totals(&self) -> bool {
        self.folds_within(self.row_of_taps_depth()) || self.folds_rows()
    }

    /// Elements of a row of taps.
    fn row_of_taps_depth(&self) -> i64 {
        self.spec.depth * self.geometry.columns.len() as i64
    }

    /// Whether a run of the depth is cut into chunks.
    fn folds_within(&self, depth: i64) -> bool {
        self.spec.element == Element::F16 && depth >= CHUNK + FEWEST
    }

    /// Whether sums are folded behind rows of taps.
    pub(super) fn folds_rows(&self) -> bool {
        let tap_rows = self.geometry.tap_rows;
        self.spec.element == Element::F16 && self.row_of_taps_depth() * tap_rows >= CHUNK + FEWEST && tap_rows > 1
    }

    /// Rows of taps that one fold is for.
    pub(super) fn rows_of_fold(&self) -> i64 {
        if self.folds_rows() { divide_up(FEWEST, self.row_of_taps_depth()) } else { 1 }
    }

    /// Makes totals of the sums.
    pub(super) fn store_totals(&self, a: &mut Assembler, shape: Shape) {
        self.move_totals(a, Access::Store, shape.first_sum(), 0, shape.sums());
    }

    /// The sums begin anew.
    pub(super) fn clear_sums(&self, a: &mut Assembler, shape: Shape) {
        (0..shape.sums()).for_each(|sum| a.push(Instruction::Zero(V((shape.first_sum() + sum) as u8))));
    }

    /// Adds the sums to the totals, which they are then themselves. Other registers of vectors are used up.
    pub(super) fn fold(&self, a: &mut Assembler, shape: Shape) {
        self.add_totals(a, shape);
        self.store_totals(a, shape);
    }

    /// Adds the totals to the sums.
    pub(super) fn add_totals(&self, a: &mut Assembler, shape: Shape) {
        let others = 32 - shape.sums();
        for first in (0..shape.sums()).step_by(others as usize) {
            let count = others.min(shape.sums() - first);
            self.move_totals(a, Access::Load, shape.first_other(), first, count);
            for place in 0..count {
                let (sum, total) =
                    (V((shape.first_sum() + first + place) as u8), V((shape.first_other() + place) as u8));
                a.push(Instruction::Lanes(Lanes::Add, Arrangement::of(shape.element), sum, sum, total));
            }
        }
    }

    /// Moves `count` totals from place `first` on between the stack and consecutive registers.
    fn move_totals(&self, a: &mut Assembler, access: Access, register: i64, first: i64, count: i64) {
        let at = i64::from(Assembler::slot_offset(self.totals_slot()));
        for place in (0..count).step_by(2) {
            let (one, two) = (V((register + place) as u8), V((register + place + 1) as u8));
            let offset = at + 16 * (first + place);
            a.push(if place + 1 < count {
                Instruction::Vectors(access, one, two, SP, offset as i16)
            } else {
                Instruction::Vector(access, Width::Q, one, SP, offset)
            });
        }
    }

    /// The first word of the totals: behind everything else, at a multiple of 16 bytes.
    fn totals_slot(&self) -> u16 {
        (slot::FURTHER + self.spec.operands.len() as u16).next_multiple_of(2)
    }
}
