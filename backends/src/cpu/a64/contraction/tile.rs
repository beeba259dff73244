//! One register tile: where the sums start, rows of taps, and from sums to stored results.

use std::collections::BTreeMap;

use crate::contraction::Element;
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::bytes::Narrow;
use crate::cpu::a64::instruction::{Access, After, Arrangement, Cond, Instruction, V, Width, X, ZERO};
use crate::cpu::a64::vector::{Computation, Registers, RowRegisters, move_register};
use crate::schedule::MOST_TOGETHER;

use super::depth::Run;
use super::totals::{Begin, Sums};
use super::{Contraction, Further, register};

/// Rows of taps that stand one behind the other without a loop.
const MOST_UNROLLED_ROWS: i64 = 4;

/// Output channels of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Columns {
    /// Panels side by side: of several each is whole.
    pub panels: i64,
    /// Vectors of weights of a panel.
    pub vectors: i64,
    /// Channels that exist of the last.
    pub last_lanes: i64,
}

/// The extent of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub element: Element,
    /// Output pixels.
    pub rows: i64,
    pub columns: Columns,
    /// The first of the registers that sums of singles and bytes take.
    pub first: i64,
}

impl Shape {
    /// The register of a sum, in the first panel.
    pub fn sum(&self, row: i64, vector: i64) -> V {
        V((self.first_sum() + row * self.columns.vectors + vector) as u8)
    }

    /// Sums come first; of halves last, since factors by lanes lie in the first 16 registers.
    pub fn first_sum(&self) -> i64 {
        match self.element {
            Element::F32 | Element::I8 => self.first,
            Element::F16 => 32 - self.sums(),
        }
    }

    /// The first of the registers that hold no sums, as many as are left.
    pub fn first_other(&self) -> i64 {
        match self.element {
            Element::F32 | Element::I8 => self.sums(),
            Element::F16 => 0,
        }
    }

    /// Registers of a panel's sums.
    pub fn sums(&self) -> i64 {
        self.rows * self.columns.vectors
    }
}

impl Contraction<'_> {
    /// A tile; `first` is its first pixel where the tile meets the border.
    pub(super) fn tile(&self, a: &mut Assembler, shape: Shape, first: Option<i64>) -> Option<()> {
        let geometry = &self.geometry;
        let pixel_bytes = geometry.step[1] * self.spec.input.column * self.size();
        a.push(Instruction::Mov(register::WEIGHTS, register::PANEL));
        if let Some(second) = self.second_weights.filter(|_| shape.columns.panels > 1) {
            a.add(second, register::PANEL, self.layout.panel_elements(), register::SCRATCH[0]);
        }
        if self.schedule.packs_rows && shape.rows == self.schedule.tile.rows {
            if shape.element == Element::I8 {
                self.start_pairs(a, shape);
                self.packed_pairs(a, shape);
                return self.finish_pairs(a, shape);
            }
            if self.start.is_some() {
                self.start_sums(a, shape);
            }
            self.packed_run(a, shape);
            return self.finish(a, shape);
        }
        let is_one_row = geometry.tap_rows == 1 && geometry.rows_inside;
        let is_one_run = self.is_one_run(shape, first);
        let few_rows = geometry.rows_inside && geometry.tap_rows <= MOST_UNROLLED_ROWS;
        let begin = match is_one_run && few_rows && self.by_parts(shape) {
            true => Begin::Multiplying,
            false => Begin::Adding,
        };
        if begin == Begin::Adding {
            self.start_sums(a, shape);
        }
        let mut moved = 0;
        if is_one_row && is_one_run {
            moved = self.row_of_taps(a, shape, first, (register::TILE, Sums::Whole(begin)))?;
        } else if begin == Begin::Multiplying {
            self.rows_from_first(a, shape, first)?;
        } else if !is_one_row && is_one_run && self.folds_rows() {
            self.store_totals(a, shape);
            self.rows_of_taps(a, shape, first, true)?;
        } else {
            if self.has_totals() {
                self.store_totals(a, shape);
                self.clear_sums(a, shape);
            }
            match is_one_row {
                true => _ = self.row_of_taps(a, shape, first, (register::TILE, Sums::OfParts))?,
                false => self.rows_of_taps(a, shape, first, false)?,
            }
            if self.has_totals() {
                self.add_totals(a, shape);
            }
        }
        if self.by_parts(shape) {
            self.join_parts(a, shape, begin);
        }
        match self.by_pairs(shape) {
            true => self.finish_pairs(a, shape)?,
            false => self.finish(a, shape)?,
        }
        a.add(register::TILE, register::TILE, shape.rows * pixel_bytes - moved, register::SCRATCH[0]);
        Some(())
    }

    /// A few rows of taps, all within the input and each one run; products of the first begin the sums.
    fn rows_from_first(&self, a: &mut Assembler, shape: Shape, first: Option<i64>) -> Option<()> {
        a.push(Instruction::Mov(register::ROW, register::TILE));
        for row in 0..self.geometry.tap_rows {
            let begin = if row == 0 { Begin::Multiplying } else { Begin::Adding };
            let moved = self.row_of_taps(a, shape, first, (register::ROW, Sums::Whole(begin)))?;
            if row + 1 < self.geometry.tap_rows {
                let next = self.geometry.row_step * self.spec.input.row * self.size() - moved;
                a.add(register::ROW, register::ROW, next, register::SCRATCH[0]);
            }
        }
        Some(())
    }

    /// All rows of taps that lie within the input. `whole`: each is one run, sums are folded, and in the end they are the totals.
    fn rows_of_taps(&self, a: &mut Assembler, shape: Shape, first: Option<i64>, whole: bool) -> Option<()> {
        let geometry = &self.geometry;
        let (exit, in_chunk) = (a.label(), a.label());
        a.push(Instruction::Mov(register::ROW, register::TILE));
        if geometry.rows_inside {
            a.constant(register::ROWS_LEFT, geometry.tap_rows);
        } else {
            a.push(Instruction::SubsImmediate(ZERO, register::ROWS, 1));
            a.push(Instruction::BranchIf(Cond::Less, exit));
            a.push(Instruction::Mov(register::ROWS_LEFT, register::ROWS));
        }
        let head = a.here();
        let rows = self.rows_of_fold();
        for row in 1..=rows {
            let sums = match whole {
                true if row == 1 => Sums::OfRows(Begin::Multiplying),
                true => Sums::OfRows(Begin::Adding),
                false => Sums::OfParts,
            };
            let moved = self.row_of_taps(a, shape, first, (register::ROW, sums))?;
            let next = geometry.row_step * self.spec.input.row * self.size() - moved;
            a.add(register::ROW, register::ROW, next, register::SCRATCH[0]);
            if row == rows && self.folds_rows() {
                self.fold(a, shape);
                if !whole {
                    self.clear_sums(a, shape);
                }
            }
            a.push(Instruction::SubsImmediate(register::ROWS_LEFT, register::ROWS_LEFT, 1));
            a.push(match row == rows {
                true => Instruction::BranchIf(Cond::NotEqual, head),
                false => Instruction::BranchIf(Cond::Equal, if whole { in_chunk } else { exit }),
            });
        }
        if whole && rows > 1 {
            a.push(Instruction::Branch(exit));
            a.place(in_chunk);
            self.add_totals(a, shape);
        }
        a.place(exit);
        Some(())
    }

    /// Zeros, or the operand that starts the sums.
    fn start_sums(&self, a: &mut Assembler, shape: Shape) {
        if self.by_parts(shape) {
            return self.start_parts(a, shape);
        }
        if self.by_pairs(shape) {
            return self.start_pairs(a, shape);
        }
        let Some(start) = &self.start else {
            (0..shape.sums()).for_each(|sum| a.push(Instruction::Zero(V((shape.first_sum() + sum) as u8))));
            return;
        };
        let Columns { vectors, last_lanes, .. } = shape.columns;
        if start.per_pixel {
            let after = After::By(start.step);
            return (0..shape.rows).for_each(|row| {
                self.move_vectors(a, Access::Load, shape.sum(row, 0), shape.columns, start.pointer, after);
            });
        }
        self.move_vectors(a, Access::Load, shape.sum(0, 0), shape.columns, start.pointer, After::Stay);
        for row in 1..shape.rows {
            let whole = if last_lanes == self.lanes() { vectors } else { vectors - 1 };
            if whole > 0 {
                let columns = Columns { panels: 1, vectors: whole, last_lanes: self.lanes() };
                self.move_vectors(a, Access::Load, shape.sum(row, 0), columns, start.pointer, After::Stay);
            }
            if whole < vectors {
                move_register(a, shape.sum(row, whole), shape.sum(0, whole));
            }
        }
    }

    /// The pixels of a tile that meet a column of taps within the input, a half-open range.
    fn reached(&self, shape: Shape, first: Option<i64>, column: i64) -> [i64; 2] {
        first.map_or([0, shape.rows], |first| self.geometry.reached(first, shape.rows, column))
    }

    /// Whether a row of taps is one run of the depth, for every pixel of a tile.
    fn is_one_run(&self, shape: Shape, first: Option<i64>) -> bool {
        let columns = &self.geometry.columns;
        (self.geometry.merges_columns || columns.len() == 1)
            && columns.iter().all(|&column| self.reached(shape, first, column) == [0, shape.rows])
    }

    /// Adds the products of one row of taps; returns by how many bytes it has moved `base`.
    fn row_of_taps(&self, a: &mut Assembler, shape: Shape, first: Option<i64>, (base, sums): (X, Sums)) -> Option<i64> {
        let geometry = &self.geometry;
        let pixel = geometry.step[1] * self.spec.input.column * self.size();
        let run = |pixels: [i64; 2], depth: i64| Run { element: self.spec.element, pixels, depth, pixel_bytes: pixel };
        if self.is_one_run(shape, first) {
            let depth = self.spec.depth * geometry.columns.len() as i64;
            return self.run(a, shape, (run([0, shape.rows], depth), sums), (base, 0, true));
        }
        for &column in &geometry.columns {
            let pixels = self.reached(shape, first, column);
            if pixels[0] == pixels[1] {
                a.add(register::WEIGHTS, register::WEIGHTS, self.tap_bytes(shape.columns), register::SCRATCH[0]);
                continue;
            }
            let offset = (column - geometry.columns[0]) * self.spec.input.column * self.size() + pixels[0] * pixel;
            self.run(a, shape, (run(pixels, self.spec.depth), Sums::OfParts), (base, offset, false))?;
        }
        Some(0)
    }

    /// The epilogue of a panel: each row of sums becomes results, in place, and is stored.
    fn finish(&self, a: &mut Assembler, shape: Shape) -> Option<()> {
        self.finish_panel(a, shape, 0, Registers::without(shape.first_sum() as u8, shape.sums() as u8))
    }

    /// The epilogue of the panel with this number of a tile's. A row of more vectors than there are registers for operands, of which
    /// a tile has one, goes portion by portion.
    pub(super) fn finish_panel(&self, a: &mut Assembler, shape: Shape, panel: i64, mut free: Registers) -> Option<()> {
        let portions = portions(shape);
        let (first, is_whole) = (portions[0].columns, portions.len() == 1);
        let mut operands: BTreeMap<u16, Vec<V>> = BTreeMap::new();
        let mut kept = Vec::new();
        let is_kept = |further: &Further| !further.per_channel || is_whole && !further.per_pixel;
        for further in &self.further {
            let count = if further.per_channel { first.vectors } else { 1 };
            let register = free.take_run(count as u8)?;
            operands.insert(further.number, (0..count).map(|n| V(register.0 + n as u8)).collect());
            if is_kept(further) {
                kept.push(further.number);
            }
            if is_kept(further) && !further.per_pixel {
                let pointer = self.in_panel(a, further, panel);
                self.load_operand(a, further, register, (first, pointer), After::Stay);
            }
        }
        let narrowing = match self.bytes {
            Some(bytes) => Some(Narrow::prepare(a, bytes, &mut free)?),
            None => None,
        };
        let sums = |row: i64, portion: &Portion| -> Vec<V> {
            (0..portion.columns.vectors).map(|vector| shape.sum(row, portion.first + vector)).collect()
        };
        let row = RowRegisters { sums: &sums(0, &portions[0]), operands: &operands, kept: &kept };
        let computation = Computation::plan(&self.formula, free, &row)?;
        computation.emit_constants(a);
        let dense = self.spec.output.column == first.vectors * self.lanes() && first.last_lanes == self.lanes();
        let after = if dense || !is_whole { After::Past } else { After::By(register::OUTPUT_STEP) };
        for (row, portion) in (0..shape.rows).flat_map(|row| portions.iter().map(move |portion| (row, portion))) {
            for further in &self.further {
                let (register, place) = (operands[&further.number][0], (portion.columns, further.pointer));
                if further.per_pixel {
                    self.load_operand(a, further, register, place, After::By(further.step));
                } else if !is_kept(further) {
                    self.load_operand(a, further, register, place, After::Past);
                }
            }
            computation.emit_row(a, &RowRegisters { sums: &sums(row, portion), operands: &operands, kept: &kept })?;
            let sum = shape.sum(row, portion.first);
            match &narrowing {
                Some(narrowing) => self.finish_bytes(a, shape, row, narrowing),
                None => self.move_vectors(a, Access::Store, sum, portion.columns, register::OUTPUT, after),
            }
        }
        match &self.table {
            Some(table) => self.look_up_bytes(a, shape, table),
            None => Some(()),
        }
    }

    /// Loads an operand of the epilogue.
    fn load_operand(
        &self,
        a: &mut Assembler,
        further: &Further,
        first: V,
        (columns, pointer): (Columns, X),
        after: After,
    ) {
        if self.size_of(further) == 1 {
            return self.load_bytes(a, further, first, columns);
        }
        if further.per_channel {
            self.move_vectors(a, Access::Load, first, columns, pointer, after);
        } else {
            a.push(Instruction::LoadSpread(Arrangement::of(self.wide_element()), first, pointer, after));
        }
    }

    /// The address of an operand that is the same for every pixel, in the panel with this number of a tile's.
    pub(super) fn in_panel(&self, a: &mut Assembler, further: &Further, panel: i64) -> X {
        let bytes = panel * self.panel_step(further.per_channel, self.size_of(further));
        if bytes == 0 {
            return further.pointer;
        }
        let [scratch, address, ..] = register::SCRATCH;
        a.add(address, further.pointer, bytes, scratch);
        address
    }

    /// Moves the addresses of results and of operands that differ by pixel from behind a tile of one panel to the same pixels of
    /// the next of a tile's panels, or behind the last to the next pixels of the first.
    pub(super) fn next_panel(&self, a: &mut Assembler, shape: Shape, panel: i64) {
        let mut move_on = |pointer: X, (pixel, channels): (i64, i64)| {
            let by = match panel + 1 < shape.columns.panels {
                true => channels - shape.rows * pixel,
                false => -panel * channels,
            };
            a.add(pointer, pointer, by, register::SCRATCH[0]);
        };
        let output = (self.spec.output.column * self.output_size(), self.panel_step(true, self.output_size()));
        move_on(register::OUTPUT, output);
        for further in self.all_further().filter(|further| further.per_pixel) {
            let size = self.size_of(further);
            move_on(further.pointer, (self.strides(further).column * size, self.panel_step(further.per_channel, size)));
        }
    }

    /// Bytes of an operand from one panel to the next.
    fn panel_step(&self, per_channel: bool, size: i64) -> i64 {
        if per_channel { self.layout.panel * size } else { 0 }
    }

    /// Loads or stores consecutive registers, the last one in part where not all of its channels exist.
    pub(super) fn move_vectors(
        &self,
        a: &mut Assembler,
        access: Access,
        first: V,
        columns: Columns,
        base: X,
        after: After,
    ) {
        let Columns { vectors, last_lanes, .. } = columns;
        let whole = if last_lanes == self.lanes() { vectors } else { vectors - 1 };
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
            move_lanes(a, access, self.wide_element(), register(whole), last_lanes, (base, 16 * whole));
        }
        match after {
            After::Stay => {}
            After::Past => a.add(base, base, 16 * vectors, register::SCRATCH[0]),
            After::By(step) => a.push(Instruction::Add(base, base, step)),
        }
    }
}

/// Vectors of a portion of a row that has more than are finished together.
const PORTION: i64 = 4;

/// Vectors of a row that are finished together.
struct Portion {
    /// The first vector.
    first: i64,
    columns: Columns,
}

fn portions(shape: Shape) -> Vec<Portion> {
    let Columns { vectors, last_lanes, .. } = shape.columns;
    let size = if vectors > MOST_TOGETHER { PORTION } else { vectors };
    let portion = |first: i64| {
        let count = size.min(vectors - first);
        let is_last = first + count == vectors;
        let last_lanes = if is_last { last_lanes } else { shape.element.lanes() };
        Portion { first, columns: Columns { vectors: count, last_lanes, ..shape.columns } }
    };
    (0..vectors).step_by(size as usize).map(portion).collect()
}

/// The first lanes of a register, fewer than all: the largest power of two at once, what is left by ones and twos.
fn move_lanes(a: &mut Assembler, access: Access, element: Element, register: V, lanes: i64, (base, offset): (X, i64)) {
    let size = element.bytes();
    let whole = 1 << lanes.ilog2();
    let Some(width) = Width::of_bytes(whole * size) else { return };
    a.push(Instruction::Vector(access, width, register, base, offset));
    let [scratch, ..] = register::SCRATCH;
    let mut done = whole;
    while done < lanes {
        // Two halves at an even place are one lane of 32 bits.
        let pairs = element == Element::F16 && lanes - done >= 2;
        let (of, count) = if pairs { (Arrangement::S4, 2) } else { (Arrangement::of(element), 1) };
        a.add(scratch, base, offset + done * size, scratch);
        a.push(Instruction::Lane(access, of, register, (done / count) as u8, scratch));
        done += count;
    }
}
