//! Depthwise convolution: a unit of the range is a band of output rows, cut into tiles of columns; each tile runs over the
//! channels, eight at once. Every input of a tile is loaded once and meets all rows and columns of the tile; rows of taps
//! come and go in registers.

mod bytes;
mod group;
mod largest;
mod whole;

use std::collections::BTreeSet;

use crate::contraction::{Combination, DepthwiseSpec, Element, Footprint, Strides, divide_up, whole_parts};
use crate::cpu::contraction::{EmittedKernel, operand};
use crate::cpu::isa::CpuTarget;

use super::address::{add_batch, split};
use super::assembler::Assembler;
use super::instruction::{Access, Cond, Instruction, Width, X, ZERO};
use super::units::{self, for_each_unit};
use crate::cpu::formula::{Formula, is_per_channel};
use group::unless_none;

const REGISTERS: usize = 32;
/// Rows of the input that a band may meet: each has a register.
const MOST_INPUT_ROWS: usize = 8;
/// Tiles of a row that meet the border have code of their own: no more than this many.
const MOST_BORDER_TILES: i64 = 6;

mod register {
    use super::X;

    pub const BASES: X = X(0);
    pub const SCRATCH: [X; 4] = [X(1), X(2), X(16), X(17)];
    /// The weights of each of the two vectors of channels.
    pub const WEIGHTS: [X; 2] = [X(3), X(4)];
    pub const START: X = X(5);
    pub const GROUPS_LEFT: X = X(6);
    /// Bytes from one pixel to the next, and from behind the last one of a tile to the next channels of the first.
    pub const INPUT_STEP: X = X(7);
    pub const INPUT_BACK: X = X(8);
    pub const OUTPUT_STEP: X = X(9);
    pub const OUTPUT_BACK: X = X(10);
    pub const TILES_LEFT: X = X(11);
    /// Bytes of the input and output before the tile.
    pub const INPUT_AT: X = X(12);
    pub const OUTPUT_AT: X = X(13);
    pub const INPUT_ROWS: [X; 8] = [X(19), X(20), X(21), X(22), X(23), X(24), X(25), X(26)];
    pub const OUTPUT_ROWS: [X; 3] = [X(27), X(28), X(30)];
}

mod slot {
    use super::units;

    pub const WEIGHTS: u16 = units::SLOTS;
    pub const START: u16 = 3;
    /// The rows of the band; 0 where a row does not exist.
    pub const OUTPUT_ROWS: u16 = 4;
    pub const INPUT_ROWS: u16 = 7;
    pub const ALL: u16 = 15;
}

/// Channels that go through a tile together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Group {
    vectors: usize,
    /// What exists of the only vector.
    width: Width,
}

impl Group {
    fn bytes(self) -> i64 {
        self.vectors as i64 * self.width.bytes()
    }
}

/// The pixels of a tile: rows of the band by columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Band {
    rows: usize,
    columns: usize,
}

/// One tile: its first column where it meets the border, and its columns.
#[derive(Clone, Copy)]
struct Tile {
    first: Option<i64>,
    columns: usize,
}

struct Depthwise<'a> {
    spec: &'a DepthwiseSpec,
    band: Band,
    /// Row and column offsets of the taps.
    tap_rows: Vec<i64>,
    tap_columns: Vec<i64>,
    formula: Formula,
    start: Option<u16>,
}

/// Emits a depthwise convolution, where it has a shape and an epilogue that is written here.
pub fn emit_depthwise(target: &CpuTarget, spec: &DepthwiseSpec, footprints: Vec<Footprint>) -> Option<EmittedKernel> {
    if spec.element == Element::I8 {
        return match spec.combination {
            Combination::Products => {
                whole::emit(target, spec, footprints.clone()).or_else(|| bytes::emit(target, spec, footprints))
            }
            Combination::Maximum => largest::emit(target, spec, footprints),
            Combination::Sum => None,
        };
    }
    let depthwise = Depthwise::of(spec)?;
    let mut assembler = Assembler::new(target, slot::ALL);
    assembler.reads_apart();
    depthwise.emit(&mut assembler)?;
    let code = assembler.finish(target.listing);
    Some(EmittedKernel::new(code, depthwise.units(), footprints))
}

/// Output rows of a unit, where the kernel is written here.
pub fn depthwise_unit_rows(target: &CpuTarget, spec: &DepthwiseSpec) -> Option<i64> {
    emit_depthwise(target, spec, Vec::new())?;
    if spec.element == Element::I8 {
        return match spec.combination {
            Combination::Products if spec.window.pixels() == 1 => Some(1),
            Combination::Products => bytes::unit_rows(target, spec),
            Combination::Maximum => Some(1),
            Combination::Sum => None,
        };
    }
    Some(Depthwise::of(spec)?.band.rows as i64)
}

impl<'a> Depthwise<'a> {
    fn of(spec: &'a DepthwiseSpec) -> Option<Self> {
        let window = &spec.window;
        let tap_rows: BTreeSet<i64> = window.taps.iter().map(|tap| tap.row).collect();
        let tap_columns: BTreeSet<i64> = window.taps.iter().map(|tap| tap.column).collect();
        let grid = tap_rows.iter().flat_map(|&row| tap_columns.iter().map(move |&column| (row, column)));
        if !window.taps.iter().map(|tap| (tap.row, tap.column)).eq(grid) {
            return None;
        }
        let (start, formula) = Formula::with_start(spec.element, &spec.epilogue, &spec.operands, &[is_per_channel])?;
        // Each block of weights is read once, so that what is left behind the whole ones is one part of a register.
        let rest = spec.channels % spec.element.lanes();
        if rest.count_ones() > 1 || !formula.operands().is_empty() {
            return None;
        }
        let (tap_rows, tap_columns) = (Vec::from_iter(tap_rows), Vec::from_iter(tap_columns));
        let band = Band { rows: 1, columns: 1 };
        let depthwise = Depthwise { spec, band, tap_rows, tap_columns, formula, start };
        let band = depthwise.best_band()?;
        let depthwise = Depthwise { band, ..depthwise };
        let [begin, end] = depthwise.inside_tiles();
        let border = divide_up(spec.window.width, band.columns as i64) - (end - begin);
        (border <= MOST_BORDER_TILES).then_some(depthwise)
    }

    /// The band with the fewest loads and overhead that fits the registers.
    fn best_band(&self) -> Option<Band> {
        let (height, width) = (self.spec.window.height as usize, self.spec.window.width as usize);
        let bands = (1..=3).flat_map(|rows| (1..=8).map(move |columns| Band { rows, columns }));
        let fitting = bands.filter(|band| {
            band.rows <= height
                && band.columns <= width
                && self.input_rows(band.rows).len() <= MOST_INPUT_ROWS
                && self.registers(*band, self.vectors_at_once()) + 2 * self.vectors_at_once() <= REGISTERS
        });
        let cost = |band: &Band| -> usize {
            let of_tile = |columns: usize| match columns {
                0 => 0,
                _ => {
                    let (rows_in, rows_out) = (self.input_rows(band.rows).len(), band.rows);
                    let columns_in = self.input_columns(columns).len();
                    let taps = usize::from(self.has_weights())
                        * self.tap_rows.len()
                        * self.vectors_at_once()
                        * self.tap_columns.len().div_ceil(4);
                    rows_in * (columns_in + 1) + taps + rows_out * (2 * columns + 1) + 8
                }
            };
            let line = width / band.columns * of_tile(band.columns) + of_tile(width % band.columns);
            height.div_ceil(band.rows) * line
        };
        fitting.min_by_key(cost)
    }

    /// Bytes of an element.
    fn size(&self) -> i64 {
        self.spec.element.bytes()
    }

    /// Elements of a register.
    fn lanes(&self) -> i64 {
        self.spec.element.lanes()
    }

    fn has_weights(&self) -> bool {
        self.spec.combination == Combination::Products
    }

    fn vectors_at_once(&self) -> usize {
        if self.spec.channels >= 2 * self.lanes() { 2 } else { 1 }
    }

    /// Registers of sums and of the rows of taps that are held at once.
    fn registers(&self, band: Band, vectors: usize) -> usize {
        let rows = self.input_rows(band.rows);
        let live = |row: i64| {
            let is_live = |tap: &&i64| {
                let uses = || (0..band.rows as i64).map(|out| out * self.spec.window.step[0] + **tap);
                // Loaded at the first use, given back behind the last.
                uses().min() <= Some(row) && Some(row) <= uses().max()
            };
            self.tap_rows.iter().filter(is_live).count()
        };
        let most = rows.iter().map(|&row| live(row)).max().unwrap_or(0);
        let weights = if self.has_weights() { most * self.tap_columns.len() } else { 0 };
        (band.rows * band.columns + weights) * vectors
    }

    /// Input rows that a band meets, relative to its first row's position.
    fn input_rows(&self, rows: usize) -> Vec<i64> {
        positions(rows, self.spec.window.step[0], &self.tap_rows)
    }

    fn input_columns(&self, columns: usize) -> Vec<i64> {
        positions(columns, self.spec.window.step[1], &self.tap_columns)
    }

    fn units(&self) -> i64 {
        self.spec.batch.iter().product::<i64>() * self.bands()
    }

    fn bands(&self) -> i64 {
        divide_up(self.spec.window.height, self.band.rows as i64)
    }

    /// Bands whose rows all exist, of input and output, as a half-open range.
    fn inside_bands(&self) -> [i64; 2] {
        whole_parts(self.spec.window.interior_rows(), self.band.rows as i64)
    }

    fn inside_tiles(&self) -> [i64; 2] {
        whole_parts(self.spec.window.interior_columns(), self.band.columns as i64)
    }

    fn emit(&self, a: &mut Assembler) -> Option<()> {
        let [unit, end, ..] = register::SCRATCH;
        let prepare = |a: &mut Assembler| {
            a.keep(register::INPUT_STEP, self.spec.input.column * self.size());
            a.keep(register::OUTPUT_STEP, self.spec.output.column * self.size());
        };
        for_each_unit(a, [unit, end], prepare, |a| {
            let band = self.locate_unit(a, unit);
            self.band(a, band)
        })
    }

    /// The band of a number: those whose rows all exist have code of their own.
    fn band(&self, a: &mut Assembler, band: X) -> Option<()> {
        let (border, next) = (a.label(), a.label());
        let [first, last] = self.inside_bands();
        let all_inside = [first, last] == [0, self.bands()];
        if first < last {
            if !all_inside {
                let [moved, limit, ..] = register::SCRATCH;
                a.add(moved, band, -first, limit);
                a.constant(limit, last - first);
                a.push(Instruction::Compare(moved, limit));
                a.push(Instruction::BranchIf(Cond::HigherSame, border));
            }
            self.tiles(a, false)?;
            a.push(Instruction::Branch(next));
        }
        a.place(border);
        if !all_inside {
            self.tiles(a, true)?;
        }
        a.place(next);
        Some(())
    }

    /// Fills the slots of a unit, and returns the register of its band's number.
    fn locate_unit(&self, a: &mut Assembler, unit: X) -> X {
        let [_, _, part, scratch] = register::SCRATCH;
        let (band, batch, address, limit) = (X(14), X(15), X(3), X(4));
        split(a, unit, self.bands(), (batch, band), scratch);
        let (window, size) = (&self.spec.window, self.size());
        let place = |a: &mut Assembler, index: usize, strides: &Strides| {
            a.push(Instruction::Word(Access::Load, address, register::BASES, 8 * index as u16));
            a.add(address, address, strides.base * size, scratch);
            add_batch(a, address, batch, (&self.spec.batch, &strides.batch, size), register::SCRATCH);
        };
        a.push(Instruction::Word(Access::Load, address, register::BASES, 8 * operand::WEIGHTS as u16));
        a.slot(Access::Store, address, slot::WEIGHTS);
        if let Some(start) = self.start {
            let number = start as usize - 1;
            place(a, operand::FURTHER + number, &self.spec.operands[number]);
            a.slot(Access::Store, address, slot::START);
        }
        place(a, operand::OUTPUT, &self.spec.output);
        a.add_product(address, band, self.band.rows as i64 * self.spec.output.row * size, address, scratch);
        for row in 0..self.band.rows as i64 {
            // The last band may have fewer rows.
            a.add_product(part, band, self.band.rows as i64, ZERO, scratch);
            self.row_or_none(a, (part, limit), address, row, window.height);
            a.slot(Access::Store, part, slot::OUTPUT_ROWS + row as u16);
            a.add(address, address, self.spec.output.row * size, scratch);
        }
        place(a, operand::INPUT, &self.spec.input);
        let step = self.band.rows as i64 * window.step[0];
        a.add_product(address, band, step * self.spec.input.row * size, address, scratch);
        let mut before = 0;
        for (number, &row) in self.input_rows(self.band.rows).iter().enumerate() {
            a.add(address, address, (row - before) * self.spec.input.row * size, scratch);
            before = row;
            a.add_product(part, band, step, ZERO, scratch);
            self.row_or_none(a, (part, limit), address, row, window.input_height);
            a.slot(Access::Store, part, slot::INPUT_ROWS + number as u16);
        }
        band
    }

    /// `part = part + row` lies within `0..rows` as a row's number ? `address` : 0.
    fn row_or_none(&self, a: &mut Assembler, (part, limit): (X, X), address: X, row: i64, rows: i64) {
        a.add(part, part, row, limit);
        a.constant(limit, rows);
        a.push(Instruction::Compare(part, limit));
        a.push(Instruction::Choose(part, address, ZERO, Cond::Lower));
    }

    /// The tiles of a band from left to right; `at_border` where rows of it may not exist.
    fn tiles(&self, a: &mut Assembler, at_border: bool) -> Option<()> {
        let (width, columns) = (self.spec.window.width, self.band.columns as i64);
        let [begin, end] = self.inside_tiles();
        a.constant(register::INPUT_AT, 0);
        a.constant(register::OUTPUT_AT, 0);
        let known =
            |tile: i64| Tile { first: Some(tile * columns), columns: columns.min(width - tile * columns) as usize };
        (0..begin).try_for_each(|tile| self.tile(a, known(tile), at_border))?;
        let inside = Tile { first: None, columns: columns as usize };
        if end - begin == 1 {
            self.tile(a, inside, at_border)?;
        } else if begin < end {
            a.constant(register::TILES_LEFT, end - begin);
            let head = a.here();
            self.tile(a, inside, at_border)?;
            a.push(Instruction::SubsImmediate(register::TILES_LEFT, register::TILES_LEFT, 1));
            a.push(Instruction::BranchIf(Cond::NotEqual, head));
        }
        (end..divide_up(width, columns)).try_for_each(|tile| self.tile(a, known(tile), at_border))
    }

    /// All channels of a tile.
    fn tile(&self, a: &mut Assembler, tile: Tile, at_border: bool) -> Option<()> {
        let [scratch, ..] = register::SCRATCH;
        let positions = self.reached(tile);
        let first = positions.first().copied().unwrap_or(0);
        a.slot(Access::Load, register::WEIGHTS[0], slot::WEIGHTS);
        if self.start.is_some() {
            a.slot(Access::Load, register::START, slot::START);
        }
        for (number, &pointer) in register::OUTPUT_ROWS.iter().enumerate().take(self.band.rows) {
            self.enter_row(a, pointer, slot::OUTPUT_ROWS + number as u16, register::OUTPUT_AT, 0, at_border);
        }
        let rows = self.input_rows(self.band.rows).len();
        for (number, &pointer) in register::INPUT_ROWS.iter().enumerate().take(rows) {
            let offset = first * self.spec.input.column * self.size();
            self.enter_row(a, pointer, slot::INPUT_ROWS + number as u16, register::INPUT_AT, offset, at_border);
        }
        let lanes = self.lanes();
        let pairs = self.spec.channels / (2 * lanes);
        let mut rest = self.spec.channels % (2 * lanes);
        self.groups(a, tile, at_border, Group { vectors: 2, width: Width::Q }, pairs)?;
        for width in [Width::Q, Width::D, Width::S, Width::H] {
            let channels = width.bytes() / self.size();
            if channels > 0 {
                self.groups(a, tile, at_border, Group { vectors: 1, width }, rest / channels)?;
                rest %= channels;
            }
        }
        let window = &self.spec.window;
        let columns = tile.columns as i64;
        a.add(
            register::INPUT_AT,
            register::INPUT_AT,
            columns * window.step[1] * self.spec.input.column * self.size(),
            scratch,
        );
        a.add(register::OUTPUT_AT, register::OUTPUT_AT, columns * self.spec.output.column * self.size(), scratch);
        Some(())
    }

    /// The address of a tile in a row; a row that does not exist keeps 0.
    fn enter_row(&self, a: &mut Assembler, pointer: X, slot: u16, at: X, offset: i64, at_border: bool) {
        let [scratch, ..] = register::SCRATCH;
        a.slot(Access::Load, pointer, slot);
        let skip = unless_none(a, pointer, at_border);
        a.push(Instruction::Add(pointer, pointer, at));
        a.add(pointer, pointer, offset, scratch);
        skip.into_iter().for_each(|skip| a.place(skip));
    }

    /// Input columns of a tile that lie within the input, relative to its first column's position.
    fn reached(&self, tile: Tile) -> Vec<i64> {
        let all = self.input_columns(tile.columns);
        match tile.first {
            None => all,
            Some(first) => {
                let at = first * self.spec.window.step[1];
                all.into_iter().filter(|column| (0..self.spec.window.input_width).contains(&(at + column))).collect()
            }
        }
    }

    /// `count` groups of channels of a tile, one after the other.
    fn groups(&self, a: &mut Assembler, tile: Tile, at_border: bool, group: Group, count: i64) -> Option<()> {
        if count == 0 {
            return Some(());
        }
        let positions = self.reached(tile);
        let back = |pixels: i64, step: i64| group.bytes() - pixels * step * self.size();
        // Loads go over the positions without a gap.
        let span = positions.last().zip(positions.first()).map_or(0, |(last, first)| last - first + 1);
        a.constant(register::INPUT_BACK, back(span, self.spec.input.column));
        a.constant(register::OUTPUT_BACK, back(tile.columns as i64, self.spec.output.column));
        let taps = (self.tap_rows.len() * self.tap_columns.len()) as i64;
        if group.vectors == 2 {
            let [scratch, ..] = register::SCRATCH;
            a.add(register::WEIGHTS[1], register::WEIGHTS[0], taps * 16, scratch);
        }
        if count == 1 {
            return self.group(a, tile, at_border, group);
        }
        let mut emitted = None;
        if !at_border {
            a.turns(register::GROUPS_LEFT, count, |a| emitted = self.group(a, tile, at_border, group));
            return emitted;
        }
        a.constant(register::GROUPS_LEFT, count);
        let head = a.here();
        self.group(a, tile, at_border, group)?;
        a.push(Instruction::SubsImmediate(register::GROUPS_LEFT, register::GROUPS_LEFT, 1));
        a.push(Instruction::BranchIf(Cond::NotEqual, head));
        Some(())
    }
}

/// Where `count` outputs meet their taps, ascending.
fn positions(count: usize, step: i64, taps: &[i64]) -> Vec<i64> {
    let met = (0..count as i64).flat_map(|out| taps.iter().map(move |tap| out * step + tap));
    Vec::from_iter(met.collect::<BTreeSet<i64>>())
}
