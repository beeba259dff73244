//! The lines of a unit's block of pixels, each cut into tiles.

use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, Cond, Instruction, X, ZERO};
use crate::schedule::aarch64::LineTiles;

use super::tile::{Columns, Shape};
use super::{Contraction, register, slot};

impl Contraction<'_> {
    /// All lines of the block.
    pub(super) fn lines(&self, a: &mut Assembler, columns: Columns) -> Option<()> {
        if self.geometry.lines == 1 {
            self.begin_line(a, None, columns);
            return self.line(a, columns);
        }
        let [line, ..] = register::SCRATCH;
        a.slot(Access::Load, line, slot::FIRST);
        a.slot(Access::Store, line, slot::LINE);
        a.slot(Access::Load, register::LINES_LEFT, slot::COUNT);
        let head = a.here();
        a.slot(Access::Load, line, slot::LINE);
        self.begin_line(a, Some(line), columns);
        self.line(a, columns)?;
        a.slot(Access::Load, line, slot::LINE);
        a.push(Instruction::AddImmediate(line, line, 1, false));
        a.slot(Access::Store, line, slot::LINE);
        a.push(Instruction::SubsImmediate(register::LINES_LEFT, register::LINES_LEFT, 1));
        a.push(Instruction::BranchIf(Cond::NotEqual, head));
        Some(())
    }

    /// Addresses of a line, by its number; the only line has none.
    fn begin_line(&self, a: &mut Assembler, line: Option<X>, columns: Columns) {
        let [_, channel, part, scratch] = register::SCRATCH;
        let geometry = &self.geometry;
        a.slot(Access::Load, channel, slot::CHANNEL);
        a.slot(Access::Load, register::OUTPUT, slot::OUTPUT);
        // Channels are counted in bytes of the input.
        let channels = |size: i64| size / self.size();
        a.add_product(register::OUTPUT, channel, channels(self.output_size()), register::OUTPUT, scratch);
        if let Some(line) = line {
            a.add_product(register::OUTPUT, line, self.spec.output.row * self.output_size(), register::OUTPUT, scratch);
        }
        for further in self.all_further() {
            a.slot(Access::Load, further.pointer, slot::FURTHER + further.number - 1);
            if further.per_channel {
                a.add_product(further.pointer, channel, channels(self.size_of(further)), further.pointer, scratch);
            }
            if let Some(line) = line.filter(|_| further.per_pixel) {
                let row = self.strides(further).row * self.size_of(further);
                a.add_product(further.pointer, line, row, further.pointer, scratch);
            }
        }
        a.slot(Access::Load, register::PANEL, slot::WEIGHTS);
        a.slot(Access::Load, register::TILE, slot::INPUT);
        let input = &self.spec.input;
        let first = geometry.first_row * input.row + geometry.columns[0] * input.column;
        a.add(register::TILE, register::TILE, first * self.size(), scratch);
        if let Some(line) = line {
            a.add_product(register::TILE, line, geometry.step[0] * input.row * self.size(), register::TILE, scratch);
        }
        if !geometry.rows_inside {
            self.clip_rows(a, line, part, columns);
        }
    }

    /// Leaves out rows of taps above and below the input: moves the panel and the input to the first within, and counts.
    fn clip_rows(&self, a: &mut Assembler, line: Option<X>, top: X, columns: Columns) {
        let [_, bottom, _, scratch] = register::SCRATCH;
        let geometry = &self.geometry;
        match line {
            Some(line) => {
                a.constant(scratch, geometry.step[0]);
                a.push(Instruction::MultiplyAdd(top, line, scratch, ZERO));
            }
            None => a.constant(top, 0),
        }
        a.add(bottom, top, geometry.first_row + (geometry.tap_rows - 1) * geometry.row_step, scratch);
        a.add(top, top, geometry.first_row, scratch);
        a.constant(register::ROWS, geometry.tap_rows);
        let (above, below, within, exit) = (a.label(), a.label(), a.label(), a.label());
        a.place(above);
        a.push(Instruction::SubsImmediate(ZERO, top, 0));
        a.push(Instruction::BranchIf(Cond::GreaterEqual, below));
        a.add(top, top, geometry.row_step, scratch);
        a.add(register::TILE, register::TILE, geometry.row_step * self.spec.input.row * self.size(), scratch);
        a.add(register::PANEL, register::PANEL, self.tap_bytes(columns) * geometry.columns.len() as i64, scratch);
        a.push(Instruction::SubImmediate(register::ROWS, register::ROWS, 1, false));
        a.push(Instruction::Branch(above));
        a.place(below);
        a.constant(top, geometry.input_height);
        a.place(within);
        a.push(Instruction::Compare(bottom, top));
        a.push(Instruction::BranchIf(Cond::Less, exit));
        a.add(bottom, bottom, -geometry.row_step, scratch);
        a.push(Instruction::SubImmediate(register::ROWS, register::ROWS, 1, false));
        a.push(Instruction::Branch(within));
        a.place(exit);
    }

    /// The tiles of a line from left to right.
    fn line(&self, a: &mut Assembler, columns: Columns) -> Option<()> {
        let rows = self.schedule.tile.rows;
        if self.geometry.is_flat {
            return self.flat_line(a, columns);
        }
        let [begin, end] = self.geometry.inside.map(|tile| tile.min(self.tiles.whole));
        let shape = |rows: i64| self.shape(rows, columns);
        for tile in 0..begin {
            self.tile(a, shape(rows), Some(tile * rows))?;
        }
        match end - begin {
            0 => {}
            1 => self.tile(a, shape(rows), None)?,
            count => {
                a.constant(register::TILES_LEFT, count);
                let head = a.here();
                self.tile(a, shape(rows), None)?;
                a.push(Instruction::SubsImmediate(register::TILES_LEFT, register::TILES_LEFT, 1));
                a.push(Instruction::BranchIf(Cond::NotEqual, head));
            }
        }
        for tile in end..self.tiles.whole {
            self.tile(a, shape(rows), Some(tile * rows))?;
        }
        let mut first = self.tiles.whole * rows;
        for &rest in &self.tiles.rest {
            self.tile(a, shape(rest), Some(first))?;
            first += rest;
        }
        Some(())
    }

    /// The block's whole tiles, then the smaller one where the block holds it.
    fn flat_line(&self, a: &mut Assembler, columns: Columns) -> Option<()> {
        let (rows, LineTiles { whole, rest }) = (self.schedule.tile.rows, &self.tiles);
        if *whole > 0 {
            let (head, exit) = (a.label(), a.label());
            a.slot(Access::Load, register::TILES_LEFT, slot::COUNT);
            a.push(Instruction::SubsImmediate(ZERO, register::TILES_LEFT, 1));
            a.push(Instruction::BranchIf(Cond::Less, exit));
            if self.schedule.packs_rows {
                a.slot(Access::Load, register::TILE, slot::PACKED);
            }
            let shape = self.shape(rows, columns);
            if self.by_parts(shape) {
                self.tiles_by_two(a, shape)?;
            } else {
                a.place(head);
                self.tile(a, shape, None)?;
                a.push(Instruction::SubsImmediate(register::TILES_LEFT, register::TILES_LEFT, 1));
                a.push(Instruction::BranchIf(Cond::NotEqual, head));
            }
            a.place(exit);
        }
        if !rest.is_empty() {
            let exit = a.label();
            if self.blocks() > 1 {
                self.unless_beyond(a, slot::FIRST, self.block(), *whole, exit);
            }
            if self.schedule.packs_rows {
                self.rows_behind_packed(a);
            }
            for &rows in rest {
                self.tile(a, self.shape(rows, columns), None)?;
            }
            a.place(exit);
        }
        Some(())
    }

    /// As many tiles as are left, at least one, two at a turn: of small ones the ends of turns count.
    fn tiles_by_two(&self, a: &mut Assembler, shape: Shape) -> Option<()> {
        let (left, head, last, exit) = (register::TILES_LEFT, a.label(), a.label(), a.label());
        a.push(Instruction::SubsImmediate(left, left, 2));
        a.push(Instruction::BranchIf(Cond::Less, last));
        a.place(head);
        self.tile(a, shape, None)?;
        self.tile(a, shape, None)?;
        a.push(Instruction::SubsImmediate(left, left, 2));
        a.push(Instruction::BranchIf(Cond::GreaterEqual, head));
        a.place(last);
        a.push(Instruction::AddImmediate(left, left, 2, false));
        a.push(Instruction::BranchZero(left, exit));
        self.tile(a, shape, None)?;
        a.place(exit);
        Some(())
    }

    /// Bytes of the weights of one tap in a panel of this many columns.
    pub(super) fn tap_bytes(&self, columns: Columns) -> i64 {
        self.spec.depth * columns.vectors * 16
    }
}
