//! Max pools of i8, sixteen or eight channels at once. A unit of the range is an output row. Rows of the window beyond the image
//! are its outermost ones instead, which a window without gaps meets as well; columns beyond are left out.

use edgecc_ir::DType;

use crate::contraction::{Combination, DepthwiseSpec, Element, Footprint};
use crate::cpu::a64::address::{add_batch, split};
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, Cond, Instruction, V, Width, X, ZERO, fits_offset};
use crate::cpu::a64::integer::{Integer, Two};
use crate::cpu::a64::units::{self, for_each_unit};
use crate::cpu::contraction::{EmittedKernel, operand};
use crate::cpu::isa::CpuTarget;

mod register {
    use super::X;

    pub const BASES: X = X(0);
    pub const SCRATCH: [X; 4] = [X(1), X(2), X(16), X(17)];
    pub const OUTPUT: X = X(3);
    pub const GROUPS_LEFT: X = X(4);
    pub const COLUMNS_LEFT: X = X(5);
    /// The image, at the first column of the window of the first output column.
    pub const INPUT: X = X(6);
    pub const BATCH: X = X(7);
    pub const ROW: X = X(8);
    pub const LAST: X = X(9);
    pub const INPUT_ROWS: [X; 8] = [X(19), X(20), X(21), X(22), X(23), X(24), X(25), X(26)];
}

struct Pool<'a> {
    spec: &'a DepthwiseSpec,
    /// Rows and columns of the window.
    kernel: [i64; 2],
    /// A register of channels, of which the last ones may have been in part of those before.
    width: Width,
}

/// Emits a max pool of i8 whose window has no gaps and meets the image everywhere.
pub(super) fn emit(target: &CpuTarget, spec: &DepthwiseSpec, footprints: Vec<Footprint>) -> Option<EmittedKernel> {
    let pool = Pool::of(spec)?;
    let mut assembler = Assembler::new(target, units::SLOTS);
    assembler.reads_apart();
    pool.emit(&mut assembler)?;
    let units = spec.batch.iter().product::<i64>() * spec.window.height;
    Some(EmittedKernel::new(assembler.finish(target.listing), units, footprints))
}

impl<'a> Pool<'a> {
    fn of(spec: &'a DepthwiseSpec) -> Option<Self> {
        let window = &spec.window;
        let (first, last) = (window.taps.first()?, window.taps.last()?);
        let kernel = [last.row - first.row + 1, last.column - first.column + 1];
        let grid = (first.row..=last.row).flat_map(|row| (first.column..=last.column).map(move |column| (row, column)));
        let is_dense = window.taps.iter().map(|tap| (tap.row, tap.column)).eq(grid);
        let meets = |first: i64, last: i64, (outputs, step, inputs): (i64, i64, i64)| {
            last >= 0 && first + (outputs - 1) * step < inputs
        };
        let width = if spec.channels >= Width::Q.bytes() { Width::Q } else { Width::D };
        let is_known = is_dense
            && spec.combination == Combination::Maximum
            && spec.epilogue == Element::I8.plain_epilogue()
            && spec.types()[operand::OUTPUT] == DType::I8
            && kernel[0] <= register::INPUT_ROWS.len() as i64
            && spec.channels >= width.bytes()
            && window.pixels() > 0
            && meets(first.row, last.row, (window.height, window.step[0], window.input_height))
            && meets(first.column, last.column, (window.width, window.step[1], window.input_width))
            && (0..kernel[1]).all(|column| fits_offset(width, column * spec.input.column));
        is_known.then_some(Pool { spec, kernel, width })
    }

    fn emit(&self, a: &mut Assembler) -> Option<()> {
        let [unit, end, ..] = register::SCRATCH;
        for_each_unit(
            a,
            [unit, end],
            |_| {},
            |a| {
                self.locate_unit(a, unit);
                self.row(a);
                Some(())
            },
        )
    }

    /// Addresses of an output row and of the rows that its window meets.
    fn locate_unit(&self, a: &mut Assembler, unit: X) {
        let [_, _, _, scratch] = register::SCRATCH;
        let (spec, window) = (self.spec, &self.spec.window);
        split(a, unit, window.height, (register::BATCH, register::ROW), scratch);
        let first = window.taps[0];
        let places = [
            (register::INPUT, operand::INPUT, &spec.input, spec.input.base + first.column * spec.input.column),
            (register::OUTPUT, operand::OUTPUT, &spec.output, spec.output.base),
        ];
        for (pointer, index, strides, base) in places {
            a.push(Instruction::Word(Access::Load, pointer, register::BASES, 8 * index as u16));
            a.add(pointer, pointer, base, scratch);
            add_batch(a, pointer, register::BATCH, (&spec.batch, &strides.batch, 1), register::SCRATCH);
        }
        a.add_product(register::OUTPUT, register::ROW, spec.output.row, register::OUTPUT, scratch);
        a.constant(register::LAST, window.input_height - 1);
        for (row, &pointer) in (first.row..).zip(&register::INPUT_ROWS[..self.kernel[0] as usize]) {
            a.constant(pointer, row);
            a.add_product(pointer, register::ROW, window.step[0], pointer, scratch);
            a.push(Instruction::Compare(pointer, ZERO));
            a.push(Instruction::Choose(pointer, pointer, ZERO, Cond::GreaterEqual));
            a.push(Instruction::Compare(pointer, register::LAST));
            a.push(Instruction::Choose(pointer, pointer, register::LAST, Cond::Less));
            a.add_product(pointer, pointer, spec.input.row, register::INPUT, scratch);
        }
    }

    /// The columns of a row from left to right.
    fn row(&self, a: &mut Assembler) {
        let [begin, end] = self.spec.window.interior_columns();
        (0..begin).for_each(|column| self.column(a, column));
        if end > begin {
            a.constant(register::COLUMNS_LEFT, end - begin);
            let head = a.here();
            self.column(a, begin);
            a.push(Instruction::SubsImmediate(register::COLUMNS_LEFT, register::COLUMNS_LEFT, 1));
            a.push(Instruction::BranchIf(Cond::NotEqual, head));
        }
        (end.max(begin)..self.spec.window.width).for_each(|column| self.column(a, column));
    }

    fn input_rows(&self) -> &'static [X] {
        &register::INPUT_ROWS[..self.kernel[0] as usize]
    }

    /// All channels of a column; addresses move on to the next one.
    fn column(&self, a: &mut Assembler, column: i64) {
        let [scratch, ..] = register::SCRATCH;
        let (window, channels, lanes) = (&self.spec.window, self.spec.channels, self.width.bytes());
        let left = column * window.step[1] + window.taps[0].column;
        let within = |&tap: &i64| (0..window.input_width).contains(&(left + tap));
        let taps: Vec<i64> = (0..self.kernel[1]).filter(within).collect();
        let advance = |a: &mut Assembler, input: i64, output: i64| {
            self.input_rows().iter().for_each(|&row| a.add(row, row, input, scratch));
            a.add(register::OUTPUT, register::OUTPUT, output, scratch);
        };
        a.turns(register::GROUPS_LEFT, channels / lanes, |a| {
            self.group(a, &taps);
            advance(a, lanes, lanes);
        });
        let rest = channels % lanes;
        let mut moved = channels - rest;
        if rest > 0 {
            advance(a, rest - lanes, rest - lanes);
            self.group(a, &taps);
            moved += rest - lanes;
        }
        advance(a, window.step[1] * self.spec.input.column - moved, self.spec.output.column - moved);
    }

    /// The largest of each of a register of channels.
    fn group(&self, a: &mut Assembler, taps: &[i64]) {
        let largest = |a: &mut Assembler, d: V, n: V| a.push(Instruction::Integer(Integer::Two(Two::Maximum, d, d, n)));
        let of_row = |row: usize| V(row as u8);
        for (place, &tap) in taps.iter().enumerate() {
            for (row, &pointer) in self.input_rows().iter().enumerate() {
                let to = if place == 0 { of_row(row) } else { V(16 + row as u8) };
                let offset = tap * self.spec.input.column;
                a.push(Instruction::Vector(Access::Load, self.width, to, pointer, offset));
            }
            if place > 0 {
                (0..self.input_rows().len()).for_each(|row| largest(a, of_row(row), V(16 + row as u8)));
            }
        }
        (1..self.input_rows().len()).for_each(|row| largest(a, of_row(0), of_row(row)));
        a.push(Instruction::Vector(Access::Store, self.width, of_row(0), register::OUTPUT, 0));
    }
}
