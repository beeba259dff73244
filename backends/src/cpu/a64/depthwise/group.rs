//! One group of channels of a tile: its sums begin, rows of the input meet the rows of taps that are held, and results are stored.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use half::f16;

use crate::contraction::{Combination, Element};
use crate::cpu::a64::assembler::{Assembler, Label};
use crate::cpu::a64::instruction::{Access, After, Arrangement, Instruction, Lanes, V, Width, X};
use crate::cpu::a64::vector::{Computation, Registers, RowRegisters};

use super::{Depthwise, Group, REGISTERS, Tile, register};

impl Depthwise<'_> {
    /// The registers of a tile's sums: of halves the last, since factors by lanes lie in the first 16.
    fn sums(&self, tile: Tile, group: Group) -> Sums {
        let (rows, columns, vectors) = (self.band.rows, tile.columns, group.vectors);
        let first = match self.spec.element {
            Element::F32 | Element::I8 => 0,
            Element::F16 => REGISTERS - rows * columns * vectors,
        };
        Sums { first, rows, columns, vectors }
    }

    /// One group of channels of a tile.
    pub(super) fn group(&self, a: &mut Assembler, tile: Tile, at_border: bool, group: Group) -> Option<()> {
        let shape = self.sums(tile, group);
        let mut free = shape.others();
        self.start_sums(a, shape, group);
        let positions = self.reached(tile);
        let rows = self.input_rows(self.band.rows);
        let mut weights: BTreeMap<usize, Vec<V>> = BTreeMap::new();
        for (number, &row) in rows.iter().enumerate() {
            let products = self.rows_met(row);
            for &(_, tap_row) in &products {
                if let Entry::Vacant(entry) = weights.entry(tap_row) {
                    entry.insert(self.load_weights(a, &mut free, group)?);
                }
            }
            let skip = unless_none(a, register::INPUT_ROWS[number], at_border);
            let inputs = input_registers(free, group);
            let met = RowsMet { products: &products, weights: &weights, inputs: &inputs };
            self.row(a, register::INPUT_ROWS[number], &positions, (tile, group, shape), &met)?;
            skip.into_iter().for_each(|skip| a.place(skip));
            let last_use = |tap: usize| self.tap_rows[tap] + (self.band.rows as i64 - 1) * self.spec.window.step[0];
            let over: Vec<usize> = weights.keys().copied().filter(|&tap| last_use(tap) <= row).collect();
            for tap in over {
                weights.remove(&tap).into_iter().flatten().for_each(|register| free.give(register));
            }
        }
        let [scratch, ..] = register::SCRATCH;
        if group.vectors == 2 && self.has_weights() {
            let taps = (self.tap_rows.len() * self.tap_columns.len()) as i64;
            a.add(register::WEIGHTS[0], register::WEIGHTS[0], taps * 16, scratch);
            a.add(register::WEIGHTS[1], register::WEIGHTS[1], taps * 16, scratch);
        }
        self.finish(a, at_border, group, shape)
    }

    fn start_sums(&self, a: &mut Assembler, shape: Sums, group: Group) {
        let [scratch, ..] = register::SCRATCH;
        for row in 0..self.band.rows {
            for column in 0..shape.columns {
                let first = shape.at(row, column, 0);
                if self.spec.combination == Combination::Maximum {
                    let least = match self.spec.element {
                        Element::F32 | Element::I8 => [f32::NEG_INFINITY.to_bits(); 4],
                        Element::F16 => [u32::from(f16::NEG_INFINITY.to_bits()) * 0x1_0001; 4],
                    };
                    (0..group.vectors).for_each(|vector| a.literal(shape.at(row, column, vector), least));
                    continue;
                }
                match (self.start, group.vectors) {
                    (None, vectors) => {
                        (0..vectors).for_each(|vector| a.push(Instruction::Zero(shape.at(row, column, vector))));
                    }
                    (Some(_), 2) => {
                        a.push(Instruction::Vectors(Access::Load, first, shape.at(row, column, 1), register::START, 0));
                    }
                    (Some(_), _) => a.push(Instruction::Vector(Access::Load, group.width, first, register::START, 0)),
                }
            }
        }
        if self.start.is_some() {
            a.add(register::START, register::START, group.bytes(), scratch);
        }
    }

    /// Output rows of the band, each with the row of taps, that an input row meets.
    fn rows_met(&self, row: i64) -> Vec<(usize, usize)> {
        let met = (0..self.band.rows).filter_map(|out| {
            let tap = row - out as i64 * self.spec.window.step[0];
            self.tap_rows.iter().position(|&other| other == tap).map(|tap| (out, tap))
        });
        met.collect()
    }

    /// The next row of taps: per vector its columns.
    fn load_weights(&self, a: &mut Assembler, free: &mut Registers, group: Group) -> Option<Vec<V>> {
        if !self.has_weights() {
            return Some(Vec::new());
        }
        let count = self.tap_columns.len();
        let mut registers = Vec::new();
        for pointer in register::WEIGHTS.into_iter().take(group.vectors) {
            let mut left = count;
            while left > 0 {
                let part = left.min(4);
                let first = free.take_run(part as u8)?;
                a.push(Instruction::Multiple(Access::Load, first, part as u8, pointer, After::Past));
                registers.extend((0..part as u8).map(|n| V(first.0 + n)));
                left -= part;
            }
        }
        Some(registers)
    }

    /// The products of one input row.
    fn row(
        &self,
        a: &mut Assembler,
        pointer: X,
        positions: &[i64],
        (tile, group, shape): (Tile, Group, Sums),
        met: &RowsMet<'_>,
    ) -> Option<()> {
        let (columns, of) = (self.tap_columns.len(), Arrangement::of(self.spec.element));
        let mut before = positions.first().copied()?;
        let [scratch, ..] = register::SCRATCH;
        for (number, &position) in positions.iter().enumerate() {
            let gap = position - before - i64::from(number > 0);
            a.add(pointer, pointer, gap * self.spec.input.column * self.size(), scratch);
            before = position;
            let input = met.inputs.get(number % met.inputs.len().max(1)).copied()?;
            if group.width == Width::Q {
                let after = After::By(register::INPUT_STEP);
                a.push(Instruction::Multiple(Access::Load, input, group.vectors as u8, pointer, after));
            } else {
                a.push(Instruction::Vector(Access::Load, group.width, input, pointer, 0));
                a.push(Instruction::Add(pointer, pointer, register::INPUT_STEP));
            }
            for column in 0..tile.columns {
                let tap = position - column as i64 * self.spec.window.step[1];
                let Some(tap) = self.tap_columns.iter().position(|&other| other == tap) else { continue };
                for &(out, tap_row) in met.products {
                    for vector in 0..group.vectors {
                        let sum = shape.at(out, column, vector);
                        let input = V(input.0 + vector as u8);
                        a.push(match self.spec.combination {
                            Combination::Products => {
                                let weight = met.weights.get(&tap_row)?[vector * columns + tap];
                                Instruction::Lanes(Lanes::MultiplyAdd, of, sum, input, weight)
                            }
                            Combination::Maximum => Instruction::Lanes(Lanes::Maximum, of, sum, sum, input),
                            Combination::Sum => Instruction::Lanes(Lanes::Add, of, sum, sum, input),
                        });
                    }
                }
            }
        }
        a.push(Instruction::Add(pointer, pointer, register::INPUT_BACK));
        Some(())
    }

    /// The epilogue of a group, in place, and its stores.
    fn finish(&self, a: &mut Assembler, at_border: bool, group: Group, shape: Sums) -> Option<()> {
        let free = shape.others();
        let sums = |row: usize, column: usize| -> Vec<V> {
            (0..group.vectors).map(|vector| shape.at(row, column, vector)).collect()
        };
        let none = BTreeMap::new();
        let first = sums(0, 0);
        let computation =
            Computation::plan(&self.formula, free, &RowRegisters { sums: &first, operands: &none, kept: &[] })?;
        computation.emit_constants(a);
        for row in 0..self.band.rows {
            let pointer = register::OUTPUT_ROWS[row];
            let skip = unless_none(a, pointer, at_border);
            for column in 0..shape.columns {
                let sums = sums(row, column);
                computation.emit_row(a, &RowRegisters { sums: &sums, operands: &none, kept: &[] })?;
                if group.width == Width::Q {
                    let after = After::By(register::OUTPUT_STEP);
                    a.push(Instruction::Multiple(Access::Store, sums[0], group.vectors as u8, pointer, after));
                } else {
                    a.push(Instruction::Vector(Access::Store, group.width, sums[0], pointer, 0));
                    a.push(Instruction::Add(pointer, pointer, register::OUTPUT_STEP));
                }
            }
            a.push(Instruction::Add(pointer, pointer, register::OUTPUT_BACK));
            skip.into_iter().for_each(|skip| a.place(skip));
        }
        Some(())
    }
}

/// Jumps, where rows may not exist, to the label behind what is done with one that does.
pub(super) fn unless_none(a: &mut Assembler, row: X, at_border: bool) -> Option<Label> {
    at_border.then(|| {
        let skip = a.label();
        a.push(Instruction::BranchZero(row, skip));
        skip
    })
}

/// The registers of a tile's sums: `[row][column][vector]`.
#[derive(Clone, Copy)]
struct Sums {
    first: usize,
    rows: usize,
    columns: usize,
    vectors: usize,
}

impl Sums {
    /// The registers that hold none.
    fn others(self) -> Registers {
        Registers::without(self.first as u8, (self.rows * self.columns * self.vectors) as u8)
    }

    fn at(self, row: usize, column: usize, vector: usize) -> V {
        V((self.first + (row * self.columns + column) * self.vectors + vector) as u8)
    }
}

/// What an input row meets.
struct RowsMet<'a> {
    /// Rows of the band, each with the row of taps.
    products: &'a [(usize, usize)],
    /// The registers of each row of taps: `[vector][column]`.
    weights: &'a BTreeMap<usize, Vec<V>>,
    /// First registers for inputs, in turn.
    inputs: &'a [V],
}

/// Up to four places for an input of all vectors of a group.
fn input_registers(mut free: Registers, group: Group) -> Vec<V> {
    std::iter::from_fn(|| free.take_run(group.vectors as u8)).take(4).collect()
}
