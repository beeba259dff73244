//! One register tile: where the sums start, rows of taps, and from sums to stored results.

use std::collections::BTreeMap;

use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, Cond, Instruction, Lanes, V, Width, X, ZERO};
use crate::cpu::a64::vector::{Computation, Registers, RowRegisters};
use crate::schedule::LANES;

use super::depth::Run;
use super::{Contraction, Further, register};

/// Output channels of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Columns {
    /// Vectors of weights.
    pub vectors: i64,
    /// Channels that exist of the last.
    pub last_lanes: i64,
}

/// The extent of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// Output pixels.
    pub rows: i64,
    pub columns: Columns,
}

impl Shape {
    /// The register of a sum.
    pub fn sum(&self, row: i64, vector: i64) -> V {
        V((row * self.columns.vectors + vector) as u8)
    }

    /// Registers of sums.
    pub fn sums(&self) -> i64 {
        self.rows * self.columns.vectors
    }
}

impl Contraction<'_> {
    /// A tile; `first` is its first pixel where the tile meets the border.
    pub(super) fn tile(&self, a: &mut Assembler, shape: Shape, first: Option<i64>) -> Option<()> {
        let geometry = &self.geometry;
        let pixel_bytes = geometry.step[1] * self.spec.input.column * 4;
        a.push(Instruction::Mov(register::WEIGHTS, register::PANEL));
        if self.schedule.packs_rows && shape.rows == self.schedule.tile.rows {
            if self.start.is_some() {
                self.start_sums(a, shape);
            }
            self.packed_run(a, shape);
            return self.finish(a, shape);
        }
        self.start_sums(a, shape);
        let mut moved = 0;
        if geometry.tap_rows == 1 && geometry.rows_inside {
            moved = self.row_of_taps(a, shape, first, (register::TILE, true))?;
        } else {
            let exit = a.label();
            a.push(Instruction::Mov(register::ROW, register::TILE));
            if geometry.rows_inside {
                a.constant(register::ROWS_LEFT, geometry.tap_rows);
            } else {
                a.push(Instruction::SubsImmediate(ZERO, register::ROWS, 1));
                a.push(Instruction::BranchIf(Cond::Less, exit));
                a.push(Instruction::Mov(register::ROWS_LEFT, register::ROWS));
            }
            let head = a.here();
            let moved = self.row_of_taps(a, shape, first, (register::ROW, true))?;
            let next = geometry.row_step * self.spec.input.row * 4 - moved;
            a.add(register::ROW, register::ROW, next, register::SCRATCH[0]);
            a.push(Instruction::SubsImmediate(register::ROWS_LEFT, register::ROWS_LEFT, 1));
            a.push(Instruction::BranchIf(Cond::NotEqual, head));
            a.place(exit);
        }
        self.finish(a, shape)?;
        a.add(register::TILE, register::TILE, shape.rows * pixel_bytes - moved, register::SCRATCH[0]);
        Some(())
    }

    /// Zeros, or the operand that starts the sums.
    fn start_sums(&self, a: &mut Assembler, shape: Shape) {
        let Some(start) = &self.start else {
            (0..shape.sums()).for_each(|sum| a.push(Instruction::Zero(V(sum as u8))));
            return;
        };
        let Columns { vectors, last_lanes } = shape.columns;
        move_vectors(a, Access::Load, shape.sum(0, 0), shape.columns, start.pointer, After::Stay);
        for row in 1..shape.rows {
            let whole = if last_lanes == LANES { vectors } else { vectors - 1 };
            if whole > 0 {
                let columns = Columns { vectors: whole, last_lanes: LANES };
                move_vectors(a, Access::Load, shape.sum(row, 0), columns, start.pointer, After::Stay);
            }
            if whole < vectors {
                let (from, to) = (shape.sum(0, whole), shape.sum(row, whole));
                a.push(Instruction::Lanes(Lanes::Or, to, from, from));
            }
        }
    }

    /// Adds the products of one row of taps; returns by how many bytes it has moved `base`.
    fn row_of_taps(
        &self,
        a: &mut Assembler,
        shape: Shape,
        first: Option<i64>,
        (base, may_move): (X, bool),
    ) -> Option<i64> {
        let geometry = &self.geometry;
        let pixel = geometry.step[1] * self.spec.input.column * 4;
        let reached = |column: i64| first.map_or([0, shape.rows], |first| geometry.reached(first, shape.rows, column));
        let is_whole = geometry.columns.iter().all(|&column| reached(column) == [0, shape.rows]);
        let run = |pixels: [i64; 2], depth: i64| Run { pixels, depth, pixel_bytes: pixel };
        if is_whole && (geometry.merges_columns || geometry.columns.len() == 1) {
            let depth = self.spec.depth * geometry.columns.len() as i64;
            return self.run(a, shape, run([0, shape.rows], depth), (base, 0, may_move));
        }
        for &column in &geometry.columns {
            let pixels = reached(column);
            if pixels[0] == pixels[1] {
                a.add(register::WEIGHTS, register::WEIGHTS, self.tap_bytes(shape.columns), register::SCRATCH[0]);
                continue;
            }
            let offset = (column - geometry.columns[0]) * self.spec.input.column * 4 + pixels[0] * pixel;
            self.run(a, shape, run(pixels, self.spec.depth), (base, offset, false))?;
        }
        Some(0)
    }

    /// The epilogue: each row of sums becomes results, in place, and is stored.
    fn finish(&self, a: &mut Assembler, shape: Shape) -> Option<()> {
        let vectors = shape.columns.vectors;
        let mut free = Registers::all_from(shape.sums() as u8);
        let mut operands: BTreeMap<u16, Vec<V>> = BTreeMap::new();
        let mut kept = Vec::new();
        for further in &self.further {
            let count = if further.per_channel { vectors } else { 1 };
            let first = free.take_run(count as u8)?;
            operands.insert(further.number, (0..count).map(|n| V(first.0 + n as u8)).collect());
            if !further.per_pixel || !further.per_channel {
                kept.push(further.number);
            }
            if !further.per_pixel {
                load_operand(a, further, first, shape.columns);
            }
        }
        let sums = |row: i64| (0..vectors).map(|vector| shape.sum(row, vector)).collect::<Vec<V>>();
        let row = RowRegisters { sums: &sums(0), operands: &operands, kept: &kept };
        let computation = Computation::plan(&self.formula, free, &row)?;
        computation.emit_constants(a);
        let dense = self.spec.output.column == vectors * LANES && shape.columns.last_lanes == LANES;
        let after = if dense { After::Past } else { After::By(register::OUTPUT_STEP) };
        for row in 0..shape.rows {
            for further in self.further.iter().filter(|further| further.per_pixel) {
                load_operand(a, further, operands[&further.number][0], shape.columns);
            }
            computation.emit_row(a, &RowRegisters { sums: &sums(row), operands: &operands, kept: &kept })?;
            move_vectors(a, Access::Store, shape.sum(row, 0), shape.columns, register::OUTPUT, after);
        }
        Some(())
    }
}

/// Loads an operand of the epilogue; one that differs by pixel moves on to the next.
fn load_operand(a: &mut Assembler, further: &Further, first: V, columns: Columns) {
    let after = if further.per_pixel { After::By(further.step) } else { After::Stay };
    if further.per_channel {
        move_vectors(a, Access::Load, first, columns, further.pointer, after);
    } else {
        a.push(Instruction::LoadSpread(first, further.pointer, after));
    }
}

/// Loads or stores consecutive registers, the last one in part where not all of its channels exist.
fn move_vectors(a: &mut Assembler, access: Access, first: V, columns: Columns, base: X, after: After) {
    let Columns { vectors, last_lanes } = columns;
    let whole = if last_lanes == LANES { vectors } else { vectors - 1 };
    let register = |place: i64| V(first.0 + place as u8);
    if whole == vectors && vectors <= 4 {
        return a.push(Instruction::Multiple(access, first, vectors as u8, base, after));
    }
    let mut place = 0;
    while place + 1 < whole {
        a.push(Instruction::Vectors(access, register(place), register(place + 1), base, 16 * place as i16));
        place += 2;
    }
    if place < whole {
        a.push(Instruction::Vector(access, Width::Q, register(place), base, 16 * place));
    }
    if whole < vectors {
        move_lanes(a, access, register(whole), last_lanes, (base, 16 * whole));
    }
    match after {
        After::Stay => {}
        After::Past => a.add(base, base, 16 * vectors, register::SCRATCH[0]),
        After::By(step) => a.push(Instruction::Add(base, base, step)),
    }
}

/// The first one to three lanes of a register.
fn move_lanes(a: &mut Assembler, access: Access, register: V, lanes: i64, (base, offset): (X, i64)) {
    let width = if lanes == 1 { Width::S } else { Width::D };
    a.push(Instruction::Vector(access, width, register, base, offset));
    if lanes == 3 {
        let [scratch, ..] = register::SCRATCH;
        a.add(scratch, base, offset + 8, scratch);
        a.push(Instruction::Lane(access, register, 2, scratch));
    }
}
