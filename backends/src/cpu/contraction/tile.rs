//! One register tile: sums over taps and depth, then the epilogue.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::cpu::function::{EmitError, access, branch, carried_loop, offset, operand_base, scale};
use crate::pack::TapTable;

use super::depth::{Depth, Sums, entry, zeros};
use super::epilogue::emit_epilogue;
use super::nest::{Nest, Unit};
use super::operand;
use super::pixels::{Pixels, Placed, addresses, coordinates, grid};

/// Bytes of one tap in the tap table.
const TAP_BYTES: i64 = 16;

/// The extent of a tile: pixels, vectors of weights and channels that exist of them.
#[derive(Clone, Copy)]
pub(super) struct TileShape {
    pub rows: i64,
    pub vectors: i64,
    pub channels: i64,
}

/// A tile while it is emitted.
pub(super) struct Tile<'a> {
    pub nest: &'a Nest<'a>,
    pub unit: &'a Unit,
    pub panel: Value,
    pub pixel: Value,
    pub shape: TileShape,
}

/// Emits a tile: one body where no pixel can miss the input, otherwise one for the inside and one for the border.
pub(super) fn emit_tile(
    nest: &Nest<'_>,
    b: &mut FunctionBuilder<'_>,
    unit: &Unit,
    panel: Value,
    pixel: Value,
    shape: TileShape,
) -> Result<(), EmitError> {
    let tile = Tile { nest, unit, panel, pixel, shape };
    let window = &nest.spec.window;
    if window.is_interior() {
        let pixels = if tile.is_flat() { Pixels::Flat } else { tile.grid(b) };
        return tile.inside(b, &pixels);
    }
    if tile.interior_width() < shape.rows || shape.rows != nest.schedule.tile.rows {
        let pixels = tile.grid(b);
        return tile.border(b, &pixels);
    }
    let first = coordinates(b, pixel, window.width);
    let within = tile.is_within(b, first);
    let (inside, border, exit) = (b.create_block(), b.create_block(), b.create_block());
    branch(b, within, inside, border);
    b.switch_to_block(inside);
    tile.inside(b, &Pixels::Row(first.0, first.1))?;
    b.ins().jump(exit, &[]);
    b.switch_to_block(border);
    let pixels = grid(b, first, shape.rows, window.width);
    tile.border(b, &pixels)?;
    b.ins().jump(exit, &[]);
    b.switch_to_block(exit);
    Ok(())
}

impl Tile<'_> {
    /// Whether every operand's pixels follow each other at one distance.
    fn is_flat(&self) -> bool {
        let spec = self.nest.spec;
        let (height, width) = (spec.window.height, spec.window.width);
        let input = spec.window.stepped(&spec.input);
        [&input, &spec.output].into_iter().chain(&spec.operands).all(|strides| strides.is_flat(height, width))
    }

    fn grid(&self, b: &mut FunctionBuilder<'_>) -> Pixels {
        let width = self.nest.spec.window.width;
        let first = coordinates(b, self.pixel, width);
        grid(b, first, self.shape.rows, width)
    }

    /// Pixels of a row that meet no tap outside of the input; 0 where no row is inside.
    fn interior_width(&self) -> i64 {
        let window = &self.nest.spec.window;
        let [rows, columns] = [window.interior_rows(), window.interior_columns()];
        if rows[0] < rows[1] { columns[1] - columns[0] } else { 0 }
    }

    /// Whether all pixels lie in one row and meet no tap outside of the input.
    fn is_within(&self, b: &mut FunctionBuilder<'_>, (row, column): (Value, Value)) -> Value {
        let window = &self.nest.spec.window;
        let [rows, columns] = [window.interior_rows(), window.interior_columns()];
        let row_in = is_between(b, row, rows[0], rows[1] - rows[0]);
        let column_in = is_between(b, column, columns[0], columns[1] - columns[0] - self.shape.rows + 1);
        b.ins().band(row_in, column_in)
    }

    /// Bytes of an element.
    fn bytes(&self) -> i64 {
        self.nest.spec.element.bytes()
    }

    fn depth(&self, depth: i64) -> Depth {
        Depth {
            architecture: self.nest.architecture,
            element: self.nest.spec.element,
            vectors: self.shape.vectors,
            depth,
        }
    }

    fn start(&self, b: &mut FunctionBuilder<'_>) -> Sums {
        let base = self.unit.address(b, operand::WEIGHTS);
        let panel = scale(b, self.panel, self.nest.layout.panel_elements() * self.bytes());
        let weights = b.ins().iadd(base, panel);
        Sums { weights, values: zeros(b, self.nest.spec.element, self.shape.rows * self.shape.vectors) }
    }

    fn input(&self, b: &mut FunctionBuilder<'_>, pixels: &Pixels, moved: i64) -> Vec<Value> {
        let spec = self.nest.spec;
        let base = self.unit.address(b, operand::INPUT);
        let strides = spec.window.stepped(&spec.input);
        let extents = [spec.window.height, spec.window.width];
        let operand = Placed { strides: &strides, size: self.bytes(), extents };
        addresses(b, base, &operand, pixels, (self.pixel, self.shape.rows), moved)
    }

    /// No pixel misses the input: the depth runs along runs of taps.
    fn inside(&self, b: &mut FunctionBuilder<'_>, pixels: &Pixels) -> Result<(), EmitError> {
        let taps = &self.nest.taps;
        let depth = self.depth(taps.run_depth);
        let sums = self.start(b);
        let sums = if taps.runs == 1 {
            let tap = self.nest.spec.window.taps[0];
            let input = &self.nest.spec.input;
            let first = (tap.row * input.row + tap.column * input.column) * self.bytes();
            let rows = self.input(b, pixels, first + depth.block_bytes());
            depth.emit(b, &rows, sums)
        } else {
            let rows = self.input(b, pixels, depth.block_bytes());
            self.over_table(b, sums, (taps.runs_at, 8, taps.runs), |b, record, sums| {
                let run = entry(b, record);
                let rows: Vec<Value> = rows.iter().map(|&row| b.ins().iadd(row, run)).collect();
                depth.emit(b, &rows, sums)
            })
        };
        emit_epilogue(self, b, pixels, &sums.values)
    }

    /// Pixels may miss the input: per tap, those that do read the row of zeros.
    fn border(&self, b: &mut FunctionBuilder<'_>, pixels: &Pixels) -> Result<(), EmitError> {
        let taps: &TapTable = &self.nest.taps;
        let depth = self.depth(self.nest.spec.depth);
        let sums = self.start(b);
        let rows = self.input(b, pixels, depth.block_bytes());
        let corners = self.corners(b, pixels);
        let sums = self.over_table(b, sums, (taps.taps_at, TAP_BYTES, self.nest.layout.taps), |b, record, sums| {
            let rows = self.rows_of_tap(b, record, &rows, &corners, depth.block_bytes());
            depth.emit(b, &rows, sums)
        });
        emit_epilogue(self, b, pixels, &sums.values)
    }

    /// Input coordinates of each pixel under a tap without offset.
    fn corners(&self, b: &mut FunctionBuilder<'_>, pixels: &Pixels) -> Vec<(Value, Value)> {
        let [row_step, column_step] = self.nest.spec.window.step;
        match pixels {
            Pixels::Grid(pixels) => {
                pixels.iter().map(|&(row, column)| (scale(b, row, row_step), scale(b, column, column_step))).collect()
            }
            Pixels::Flat | Pixels::Row(..) => Vec::new(),
        }
    }

    fn rows_of_tap(
        &self,
        b: &mut FunctionBuilder<'_>,
        record: Value,
        rows: &[Value],
        corners: &[(Value, Value)],
        moved: i64,
    ) -> Vec<Value> {
        let window = &self.nest.spec.window;
        let bytes = entry(b, record);
        let row_offset = b.ins().sload32(access(), record, 8);
        let column_offset = b.ins().sload32(access(), record, 12);
        let table = operand_base(b, self.unit.bases, self.nest.table_operand());
        let zeros = offset(b, table, moved);
        let mut reached = Vec::with_capacity(rows.len());
        for (&address, &(row, column)) in rows.iter().zip(corners) {
            let row = b.ins().iadd(row, row_offset);
            let column = b.ins().iadd(column, column_offset);
            let row_in = is_between(b, row, 0, window.input_height);
            let column_in = is_between(b, column, 0, window.input_width);
            let within = b.ins().band(row_in, column_in);
            let address = b.ins().iadd(address, bytes);
            reached.push(b.ins().select(within, address, zeros));
        }
        reached
    }

    /// Visits `count` records of the tap table, carrying the sums.
    fn over_table(
        &self,
        b: &mut FunctionBuilder<'_>,
        sums: Sums,
        (begin, size, count): (i64, i64, i64),
        body: impl FnOnce(&mut FunctionBuilder<'_>, Value, Sums) -> Sums,
    ) -> Sums {
        let table = operand_base(b, self.unit.bases, self.nest.table_operand());
        let first = offset(b, table, begin);
        let mut carried = vec![first, sums.weights];
        carried.extend(&sums.values);
        let carried = carried_loop(b, count, &carried, |b, values| {
            let sums = body(b, values[0], Sums { weights: values[1], values: values[2..].to_vec() });
            let mut next = vec![b.ins().iadd_imm_s(values[0], size), sums.weights];
            next.extend(&sums.values);
            next
        });
        Sums { weights: carried[1], values: carried[2..].to_vec() }
    }
}

/// Whether `begin <= value < begin + count`, by one unsigned comparison.
fn is_between(b: &mut FunctionBuilder<'_>, value: Value, begin: i64, count: i64) -> Value {
    let moved = offset(b, value, -begin);
    let limit = b.ins().iconst(types::I64, count);
    b.ins().icmp(IntCC::UnsignedLessThan, moved, limit)
}
