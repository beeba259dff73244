//! Rows copied to scratch, `[tile][k][row]`, and tiles that read them there: a load brings up to four vectors of rows, where
//! the rows as they lie take a load each. Of bytes a k is a block of the depth: `[tile][block][row][8]`.

use crate::contraction::{Element, divide_up};
use crate::cpu::a64::address::split;
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, Arrangement, Cond, Instruction, V, Width, X, ZERO};
use crate::cpu::contraction::operand;

use super::tile::Shape;
use super::totals::{Begin, Stretch, Sums};
use super::{Contraction, register, slot};

/// Elements of one turn of the loop.
const TURN: i64 = 16;
/// Rows of numbers that are copied together.
const GROUP: i64 = 4;

/// Registers of the copy, whose other uses begin behind it.
mod copy {
    use super::{X, register};

    pub const SOURCES: [X; 4] = [register::PANEL, register::WEIGHTS, register::ROW, register::INPUT];
    pub const DEPTH_LEFT: X = register::DEPTH_LEFT;
    /// Bytes of one k of a tile.
    pub const STEP: X = register::ROWS_LEFT;
    pub const TILES_LEFT: X = register::TILES_LEFT;
    pub const PACKED: X = register::LINES_LEFT;
    pub const TILE_SOURCE: X = register::TILE;
    pub const TILE_PACKED: X = register::ROWS;
    /// Pixels left of a line of a grid.
    pub const LINE_LEFT: X = register::OUTPUT;
}

impl Contraction<'_> {
    /// Copies the rows of the block's whole tiles.
    pub(super) fn pack_rows(&self, a: &mut Assembler) {
        let [scratch, ..] = register::SCRATCH;
        let rows = self.schedule.tile.rows;
        let (pixel, group) = (self.pixel_bytes(), self.rows_together());
        let sources = &copy::SOURCES[..group as usize];
        let block = self.spec.element.depth_block();
        let (step, steps) = (block * self.size(), divide_up(self.spec.depth, block));
        let place = operand::FURTHER + self.spec.operands.len();
        a.push(Instruction::Word(Access::Load, copy::TILE_PACKED, register::BASES, 8 * place as u16));
        a.slot(Access::Store, copy::TILE_PACKED, slot::PACKED);
        a.slot(Access::Load, copy::TILE_SOURCE, slot::INPUT);
        a.add(copy::TILE_SOURCE, copy::TILE_SOURCE, self.first_tap_bytes(), scratch);
        if let Some(width) = self.geometry.grid_width {
            self.enter_grid(a, width);
        }
        a.slot(Access::Load, copy::TILES_LEFT, slot::COUNT);
        a.constant(copy::STEP, rows * step);
        let exit = a.label();
        a.push(Instruction::SubsImmediate(ZERO, copy::TILES_LEFT, 1));
        a.push(Instruction::BranchIf(Cond::Less, exit));
        let head = a.here();
        for first in (0..rows).step_by(group as usize) {
            match self.geometry.grid_width {
                Some(width) => sources.iter().for_each(|&source| self.next_of_grid(a, source, width)),
                None => {
                    a.add(sources[0], copy::TILE_SOURCE, first * pixel, scratch);
                    for pair in sources.windows(2) {
                        a.add(pair[1], pair[0], pixel, scratch);
                    }
                }
            }
            a.add(copy::PACKED, copy::TILE_PACKED, first * step, scratch);
            match self.spec.element {
                Element::F32 | Element::F16 => self.pack_group(a),
                Element::I8 => self.pack_pair(a, sources, copy::DEPTH_LEFT, (copy::PACKED, copy::STEP)),
            }
        }
        if self.geometry.grid_width.is_none() {
            a.add(copy::TILE_SOURCE, copy::TILE_SOURCE, rows * pixel, scratch);
        }
        a.add(copy::TILE_PACKED, copy::TILE_PACKED, rows * steps * step, scratch);
        a.push(Instruction::SubsImmediate(copy::TILES_LEFT, copy::TILES_LEFT, 1));
        a.push(Instruction::BranchIf(Cond::NotEqual, head));
        a.place(exit);
    }

    /// Rows that are copied together.
    fn rows_together(&self) -> i64 {
        match self.spec.element {
            Element::F32 | Element::F16 => GROUP,
            Element::I8 => 2,
        }
    }

    /// Moves the source to the block's first pixel, and counts the pixels that its line has left.
    fn enter_grid(&self, a: &mut Assembler, width: i64) {
        let [scratch, first, line, column] = register::SCRATCH;
        a.slot(Access::Load, first, slot::FIRST);
        a.add_product(first, first, self.schedule.tile.rows, ZERO, scratch);
        split(a, first, width, (line, column), scratch);
        a.add_product(copy::TILE_SOURCE, line, self.line_bytes(), copy::TILE_SOURCE, scratch);
        a.add_product(copy::TILE_SOURCE, column, self.pixel_bytes(), copy::TILE_SOURCE, scratch);
        a.constant(scratch, width);
        a.push(Instruction::Sub(copy::LINE_LEFT, scratch, column));
    }

    /// Gives the address of a pixel, and goes on to the next, which may lie in the next line.
    fn next_of_grid(&self, a: &mut Assembler, source: X, width: i64) {
        let [scratch, ..] = register::SCRATCH;
        let same_line = a.label();
        a.push(Instruction::Mov(source, copy::TILE_SOURCE));
        a.add(copy::TILE_SOURCE, copy::TILE_SOURCE, self.pixel_bytes(), scratch);
        a.push(Instruction::SubsImmediate(copy::LINE_LEFT, copy::LINE_LEFT, 1));
        a.push(Instruction::BranchIf(Cond::NotEqual, same_line));
        a.add(copy::TILE_SOURCE, copy::TILE_SOURCE, self.line_bytes() - width * self.pixel_bytes(), scratch);
        a.constant(copy::LINE_LEFT, width);
        a.place(same_line);
    }

    fn line_bytes(&self) -> i64 {
        self.geometry.step[0] * self.spec.input.row * self.size()
    }

    /// Four rows, two vectors of each at once, then one, then parts of one.
    fn pack_group(&self, a: &mut Assembler) {
        let (depth, mut count) = (self.spec.depth, 2 * self.lanes());
        if depth >= count {
            a.turns(copy::DEPTH_LEFT, depth / count, |a| self.pack_elements(a, count));
        }
        while count > 1 {
            count /= 2;
            if depth & count != 0 {
                self.pack_elements(a, count);
            }
        }
    }

    fn pack_elements(&self, a: &mut Assembler, count: i64) {
        let (lanes, of) = (self.lanes(), Arrangement::of(self.spec.element));
        let bytes = count * self.size();
        for (row, &source) in (0..).zip(&copy::SOURCES) {
            a.push(match Width::of_bytes(bytes) {
                Some(width) => Instruction::VectorPost(Access::Load, width, V(row), source, bytes as i16),
                None => Instruction::VectorsPost(Access::Load, V(row), V(row + GROUP as u8), source, bytes as i16),
            });
        }
        for k in 0..count {
            let (first, lane, after) = (V((GROUP * (k / lanes)) as u8), (k % lanes) as u8, After::By(copy::STEP));
            a.push(Instruction::StructureLane(Access::Store, of, first, GROUP as u8, lane, copy::PACKED, after));
        }
    }

    /// The input of the rows behind the block's whole tiles.
    pub(super) fn rows_behind_packed(&self, a: &mut Assembler) {
        let [scratch, count, ..] = register::SCRATCH;
        a.slot(Access::Load, register::TILE, slot::INPUT);
        a.slot(Access::Load, count, slot::COUNT);
        a.add_product(register::TILE, count, self.schedule.tile.rows * self.pixel_bytes(), register::TILE, scratch);
        a.add(register::TILE, register::TILE, self.first_tap_bytes(), scratch);
    }

    fn pixel_bytes(&self) -> i64 {
        self.geometry.step[1] * self.spec.input.column * self.size()
    }

    /// Bytes from an input pixel to the one under the only tap.
    fn first_tap_bytes(&self) -> i64 {
        let input = &self.spec.input;
        (self.geometry.first_row * input.row + self.geometry.columns[0] * input.column) * self.size()
    }

    /// Adds the products of a tile over packed rows; the first ones become the sums where nothing starts them.
    pub(super) fn packed_run(&self, a: &mut Assembler, shape: Shape) {
        let begin = if self.start.is_some() { Begin::Adding } else { Begin::Multiplying };
        let depth = self.spec.depth;
        self.in_chunks(a, shape, depth, Sums::Whole(begin), |a, stretch| self.packed_stretch(a, shape, stretch));
    }

    fn packed_stretch(&self, a: &mut Assembler, shape: Shape, Stretch { elements, begin, .. }: Stretch) {
        let mut left = elements;
        if begin == Begin::Multiplying {
            let first = left.min(TURN);
            self.packed_part(a, shape, first, begin);
            left -= first;
        }
        if left >= TURN {
            a.turns(register::DEPTH_LEFT, left / TURN, |a| self.packed_part(a, shape, TURN, Begin::Adding));
        }
        if left % TURN > 0 {
            self.packed_part(a, shape, left % TURN, Begin::Adding);
        }
    }

    /// `size` steps of k.
    fn packed_part(&self, a: &mut Assembler, shape: Shape, size: i64, begin: Begin) {
        let (lanes, of) = (self.lanes(), Arrangement::of(shape.element));
        let (groups, vectors) = (shape.rows / lanes, shape.columns.vectors);
        let row_chunk = if groups == 3 { 3 } else { 4 };
        let first_row = shape.first_other();
        let first_weight = first_row + row_chunk;
        let weight_chunk = (32 - shape.sums() - row_chunk).clamp(1, 4);
        let load = |a: &mut Assembler, first: i64, count: i64, base: X| {
            a.push(Instruction::Multiple(Access::Load, V(first as u8), count as u8, base, After::Past));
        };
        for k in 0..size {
            let at = k * groups;
            if at % row_chunk == 0 {
                load(a, first_row, row_chunk.min(size * groups - at), register::TILE);
            }
            for vector in 0..vectors {
                let place = k * vectors + vector;
                if place % weight_chunk == 0 {
                    load(a, first_weight, weight_chunk.min(size * vectors - place), register::WEIGHTS);
                }
                let weights = V((first_weight + place % weight_chunk) as u8);
                for row in 0..shape.rows {
                    let (sum, input) = (shape.sum(row, vector), V((first_row + at % row_chunk + row / lanes) as u8));
                    a.push(Instruction::ByLane(begin.of(k), of, sum, weights, input, (row % lanes) as u8));
                }
            }
        }
    }
}
