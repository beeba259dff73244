//! Contractions: panels of weights, lines of output pixels, tiles of a line, and inside of a tile runs of the depth. Tiles
//! never cross lines; where every operand's pixels follow each other at one distance, the whole image is one line.

mod bytes;
mod depth;
mod packed;
mod pairs;
mod parts;
mod tile;
mod totals;

use crate::contraction::{ContractionSpec, Element, Footprint, Strides, divide_up};
use crate::cpu::contraction::geometry::Geometry;
use crate::cpu::contraction::{EmittedKernel, operand};
use crate::cpu::isa::{CpuTarget, Integers};
use crate::pack::PackedLayout;
use crate::schedule::Schedule;
use crate::schedule::aarch64::LineTiles;
use crate::schedule::bytes::{MOST_PLAIN_SUMS, MOST_ROWS_OF_TWO_PANELS, panels_at_once};
use edgecc_ir::DType;

use super::address::{add_batch, split};
use super::assembler::Assembler;
use super::instruction::{Access, Cond, Instruction, X, ZERO};
use super::units::{self, for_each_unit};
use crate::cpu::formula::{Formula, is_per_channel, is_per_element};
use crate::cpu::requantization::{Bytes, Requantization};
use tile::{Columns, Shape};

/// Registers of integers, by what they hold.
mod register {
    use super::X;

    /// The table of operands' addresses.
    pub const BASES: X = X(0);
    pub const SCRATCH: [X; 4] = [X(1), X(2), X(16), X(17)];
    /// The panel of weights, where a tile of the line begins to read it.
    pub const PANEL: X = X(3);
    /// The weights while they are read.
    pub const WEIGHTS: X = X(4);
    /// The input under the tile's first pixel and the line's first tap.
    pub const TILE: X = X(5);
    /// The same in the row of taps at work.
    pub const ROW: X = X(6);
    /// The input while it is read.
    pub const INPUT: X = X(7);
    pub const DEPTH_LEFT: X = X(8);
    pub const ROWS_LEFT: X = X(9);
    pub const TILES_LEFT: X = X(10);
    pub const LINES_LEFT: X = X(11);
    /// Rows of taps of the line that lie within the input.
    pub const ROWS: X = X(13);
    pub const OUTPUT: X = X(14);
    /// Bytes from one output pixel to the next.
    pub const OUTPUT_STEP: X = X(15);
    /// For further operands, and for rows of a tile that have an address each.
    pub const POOL: [X; 12] = [X(30), X(29), X(12), X(28), X(27), X(26), X(25), X(24), X(23), X(22), X(21), X(20)];
}

/// Words of the stack, by what they hold.
mod slot {
    use super::units;

    /// The operands for the unit's batch; the input and whatever differs by pixel at the block's first pixel.
    pub const INPUT: u16 = units::SLOTS;
    pub const OUTPUT: u16 = 3;
    /// The panel at work, and the bytes of output channels before it.
    pub const WEIGHTS: u16 = 4;
    pub const CHANNEL: u16 = 5;
    pub const FIRST_PANEL: u16 = 6;
    pub const PANELS_LEFT: u16 = 7;
    /// First line of the block and number of its lines; whole tiles where there is one line.
    pub const FIRST: u16 = 8;
    pub const COUNT: u16 = 9;
    /// The line at work.
    pub const LINE: u16 = 10;
    /// Packed rows.
    pub const PACKED: u16 = 11;
    /// Chunks of a run of the depth.
    pub const CHUNKS_LEFT: u16 = 12;
    /// 0 once the call has packed rows.
    pub const FIRST_UNIT: u16 = 13;
    /// Further operands, from here on, and behind them totals.
    pub const FURTHER: u16 = 14;
}

/// Rows of a tile of i8 behind the whole ones: with as many vectors as any tile of more rows has, sums and inputs fit.
const MOST_REST_ROWS: i64 = 7;

/// How a further operand is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Further {
    /// The number in the epilogue, from 1.
    number: u16,
    /// Its own values for each pixel.
    per_pixel: bool,
    /// Its own values for each channel.
    per_channel: bool,
    /// The address while a line is at work.
    pointer: X,
    /// Bytes from one pixel to the next.
    step: X,
}

impl Further {
    /// Whether it has a value for each pixel and channel.
    fn is_whole(&self) -> bool {
        self.per_pixel && self.per_channel
    }
}

/// The kernel's operand that an argument of the epilogue reads.
fn further_operand(number: u16) -> usize {
    operand::FURTHER + usize::from(number) - 1
}

/// A contraction with everything that its emission asks.
struct Contraction<'a> {
    spec: &'a ContractionSpec,
    schedule: Schedule,
    integers: Integers,
    layout: PackedLayout,
    geometry: Geometry,
    /// How the pixels of a line are cut.
    tiles: LineTiles,
    /// The operands' types.
    types: Vec<DType>,
    formula: Formula,
    /// How results of the formula become bytes, where they do.
    bytes: Option<Bytes>,
    /// What becomes of bytes.
    table: Option<[u8; 256]>,
    /// The operand that starts the sums.
    start: Option<Further>,
    further: Vec<Further>,
    /// Registers for the rows of a tile that have an address each.
    rows: Vec<X>,
    /// Where tiles go over two panels: the weights of the second while they are read.
    second_weights: Option<X>,
}

/// How the pixels of a line are cut.
fn line_tiles(spec: &ContractionSpec, schedule: &Schedule, geometry: &Geometry, joins: bool) -> LineTiles {
    let (width, tile) = (geometry.width, schedule.tile);
    if spec.element == Element::I8 {
        let (whole, rest) = (width / tile.rows, width % tile.rows);
        let rest = (0..rest).step_by(MOST_REST_ROWS as usize).map(|first| MOST_REST_ROWS.min(rest - first)).collect();
        return LineTiles { whole, rest };
    }
    match geometry.is_flat {
        true => LineTiles::of_flat(width, tile, schedule.block_tiles, joins),
        false => LineTiles::of(width, tile, joins, true),
    }
}

/// Emits a contraction, where it has a shape and an epilogue that is written here.
pub fn emit_contraction(
    target: &CpuTarget,
    spec: &ContractionSpec,
    schedule: &Schedule,
    footprints: impl FnOnce(&PackedLayout) -> Vec<Footprint>,
) -> Option<EmittedKernel> {
    // An epilogue may ask for more registers than sums of two panels leave, or than tiles that are joined.
    let ways = (1..=panels_at_once(spec, schedule, target.integers)).rev();
    let emitted = ways.flat_map(|panels| [true, false].map(|joins| (panels, joins))).find_map(|(panels, joins)| {
        let contraction = Contraction::of(target, spec, schedule, panels, joins)?;
        let mut assembler = Assembler::new(target, contraction.slots());
        assembler.reads_apart();
        contraction.emit(&mut assembler)?;
        Some((contraction.units(), contraction.layout, assembler.finish(target.listing)))
    });
    let (units, layout, code) = emitted?;
    Some(EmittedKernel::new(code, units, footprints(&layout)))
}

impl<'a> Contraction<'a> {
    /// `panels`: those that a tile goes over at once, where there are as many. `joins`: whether a rest of few pixels joins the tile
    /// before it.
    fn of(
        target: &CpuTarget,
        spec: &'a ContractionSpec,
        schedule: &Schedule,
        panels: i64,
        joins: bool,
    ) -> Option<Self> {
        let schedule = match (spec.element, target.integers) {
            (Element::I8, Integers::Plain) => schedule.of_sums(MOST_PLAIN_SUMS),
            _ => *schedule,
        };
        let operand_channels_fit = spec.operands.iter().all(|strides| matches!(strides.channel, 0 | 1));
        let tile = schedule.tile;
        let inputs = if schedule.packs_rows { 4 } else { tile.rows };
        let registers = tile.rows * tile.vectors + inputs + 1;
        if schedule.lanes != spec.element.lanes()
            || spec.output.channel != 1
            || !operand_channels_fit
            || spec.operands.len() > 6
            || registers > 32
        {
            return None;
        }
        let geometry = Geometry::of(spec, schedule.tile.rows, schedule.packs_rows)?;
        let is_packable = match (spec.element, target.integers) {
            (Element::F32 | Element::F16, _) => tile.rows % spec.element.lanes() == 0,
            (Element::I8, Integers::Matrix) => tile.rows <= MOST_ROWS_OF_TWO_PANELS && tile.rows % 2 == 0,
            (Element::I8, Integers::Plain | Integers::Dot) => false,
        };
        if schedule.packs_rows && !(geometry.is_flat && is_packable) {
            return None;
        }
        let tiles = line_tiles(spec, &schedule, &geometry, joins);
        let Requantization { start, formula, bytes, table } = match spec.element {
            Element::F32 | Element::F16 => {
                // Halves begin with small sums, which are rounded to less.
                let kinds: &[fn(&Strides) -> bool] =
                    if spec.element == Element::F32 { &[is_per_element, is_per_channel] } else { &[is_per_channel] };
                let (start, formula) = Formula::with_start(spec.element, &spec.epilogue, &spec.operands, kinds)?;
                Requantization { start, formula, bytes: None, table: None }
            }
            Element::I8 if spec.window.is_interior() && bytes::knows_tail(spec) => {
                Requantization::of(&spec.epilogue, &spec.operands)?
            }
            Element::I8 => return None,
        };
        let types = spec.types();
        // Steps are in bytes.
        let output_step = spec.output.column * types[operand::OUTPUT].size() as i64;
        let mut pool = register::POOL.to_vec();
        let second_weights = if panels > 1 { Some(pool.pop()?) } else { None };
        let mut locate = |number: u16| {
            let strides = &spec.operands[number as usize - 1];
            let per_pixel = (strides.row != 0 && spec.window.height > 1) || (strides.column != 0 && geometry.width > 1);
            let pointer = pool.pop()?;
            let step = match per_pixel {
                true if strides.column * types[further_operand(number)].size() as i64 == output_step => {
                    register::OUTPUT_STEP
                }
                true => pool.pop()?,
                false => ZERO,
            };
            Some(Further { number, per_pixel, per_channel: strides.channel == 1, pointer, step })
        };
        let start = match start {
            Some(number) => Some(locate(number)?),
            None => None,
        };
        let further = formula.operands().into_iter().map(&mut locate).collect::<Option<Vec<_>>>()?;
        let layout = PackedLayout::of(spec, &schedule);
        // Tables take the registers from the sixteenth on.
        if panels > 1 && table.is_some() {
            return None;
        }
        if further.iter().any(|further| types[further_operand(further.number)].size() == 1 && !further.is_whole()) {
            return None;
        }
        let integers = target.integers;
        Some(Contraction {
            spec,
            schedule,
            integers,
            layout,
            geometry,
            tiles,
            types,
            formula,
            bytes,
            table,
            start,
            further,
            rows: pool,
            second_weights,
        })
    }

    /// Words of the stack.
    fn slots(&self) -> u16 {
        let without = slot::FURTHER + self.spec.operands.len() as u16;
        if self.has_totals() { without.next_multiple_of(2) + totals::SLOTS } else { without }
    }

    /// Bytes of an element.
    fn size(&self) -> i64 {
        self.spec.element.bytes()
    }

    /// Bytes of an element of the output.
    fn output_size(&self) -> i64 {
        self.types[operand::OUTPUT].size() as i64
    }

    /// Bytes of an element of a further operand.
    fn size_of(&self, further: &Further) -> i64 {
        self.types[further_operand(further.number)].size() as i64
    }

    /// Sums of a register.
    fn lanes(&self) -> i64 {
        self.spec.element.lanes()
    }

    /// The elements that are as wide as sums.
    fn wide_element(&self) -> Element {
        match self.spec.element {
            Element::F32 | Element::I8 => Element::F32,
            Element::F16 => Element::F16,
        }
    }

    fn shape(&self, rows: i64, columns: Columns) -> Shape {
        Shape { element: self.spec.element, rows, columns, first: 0 }
    }

    /// Every operand that is read beside input and weights.
    fn all_further(&self) -> impl Iterator<Item = &Further> {
        self.start.iter().chain(&self.further)
    }

    fn strides(&self, further: &Further) -> &Strides {
        &self.spec.operands[further.number as usize - 1]
    }

    /// Lines of one block, or tiles where all pixels are one line.
    fn block(&self) -> i64 {
        if self.geometry.is_flat {
            return self.schedule.block_tiles.max(1);
        }
        (self.schedule.block_tiles * self.schedule.tile.rows / self.geometry.width).clamp(1, self.geometry.lines)
    }

    fn blocks(&self) -> i64 {
        match self.geometry.is_flat {
            true => divide_up(divide_up(self.geometry.width, self.schedule.tile.rows), self.block()),
            false => divide_up(self.geometry.lines, self.block()),
        }
    }

    fn panel_blocks(&self) -> i64 {
        divide_up(self.layout.panels(), self.schedule.block_panels)
    }

    /// Length of the range: batches x blocks x blocks of panels.
    fn units(&self) -> i64 {
        self.spec.batch.iter().product::<i64>() * self.blocks() * self.panel_blocks()
    }

    fn emit(&self, a: &mut Assembler) -> Option<()> {
        let [unit, end, ..] = register::SCRATCH;
        let prepare = |a: &mut Assembler| {
            if self.schedule.packs_rows && self.panel_blocks() > 1 {
                // Any address is not 0.
                a.slot(Access::Store, register::BASES, slot::FIRST_UNIT);
            }
            a.keep(register::OUTPUT_STEP, self.spec.output.column * self.output_size());
            for further in self.all_further() {
                if further.per_pixel && further.step != register::OUTPUT_STEP {
                    a.keep(further.step, self.strides(further).column * self.size_of(further));
                }
            }
        };
        for_each_unit(a, [unit, end], prepare, |a| {
            self.locate_unit(a, unit);
            if self.schedule.packs_rows {
                self.pack_new_rows(a);
            }
            self.panels(a)
        })
    }

    /// Packs the rows of the unit's block, unless the call has packed them for another block of panels.
    fn pack_new_rows(&self, a: &mut Assembler) {
        if self.panel_blocks() == 1 {
            return self.pack_rows(a);
        }
        let [scratch, ..] = register::SCRATCH;
        let (pack, packed) = (a.label(), a.label());
        a.slot(Access::Load, scratch, slot::FIRST_PANEL);
        a.push(Instruction::BranchZero(scratch, pack));
        a.slot(Access::Load, scratch, slot::FIRST_UNIT);
        a.push(Instruction::BranchZero(scratch, packed));
        a.place(pack);
        self.pack_rows(a);
        a.slot(Access::Store, ZERO, slot::FIRST_UNIT);
        a.place(packed);
    }

    /// Fills the slots of a unit: its block of panels, block of pixels and batch.
    fn locate_unit(&self, a: &mut Assembler, unit: X) {
        let (panel, block, batch) = (X(8), X(9), X(10));
        let [_, rest, part, scratch] = register::SCRATCH;
        split(a, unit, self.panel_blocks(), (rest, panel), scratch);
        split(a, rest, self.blocks(), (batch, block), scratch);

        a.constant(part, self.schedule.block_panels);
        a.push(Instruction::MultiplyAdd(panel, panel, part, ZERO));
        a.slot(Access::Store, panel, slot::FIRST_PANEL);
        self.rest_of(a, (part, scratch), panel, self.layout.full_panels(), self.schedule.block_panels);
        a.slot(Access::Store, part, slot::PANELS_LEFT);
        a.constant(part, self.layout.panel * self.size());
        a.push(Instruction::MultiplyAdd(part, panel, part, ZERO));
        a.slot(Access::Store, part, slot::CHANNEL);

        a.constant(part, self.block());
        a.push(Instruction::MultiplyAdd(block, block, part, ZERO));
        a.slot(Access::Store, block, slot::FIRST);
        let whole = match self.geometry.is_flat {
            true => self.tiles.whole,
            false => self.geometry.lines,
        };
        self.rest_of(a, (part, scratch), block, whole, self.block());
        a.slot(Access::Store, part, slot::COUNT);

        let input = self.spec.window.stepped(&self.spec.input);
        let pixels =
            |strides: &Strides| if self.geometry.is_flat { strides.column * self.schedule.tile.rows } else { 0 };
        let matrix = self.layout.matrix_elements();
        let weights: Vec<i64> = self.spec.weight_batch.iter().map(|&stride| stride * matrix).collect();
        // The pixels of a grid are found where they are packed.
        let by_block = if self.geometry.grid_width.is_some() { 0 } else { pixels(&input) };
        let mut placed = vec![
            (operand::INPUT, slot::INPUT, input.base, input.batch.clone(), by_block, 0),
            (operand::WEIGHTS, slot::WEIGHTS, 0, weights, 0, self.layout.panel_elements()),
            (
                operand::OUTPUT,
                slot::OUTPUT,
                self.spec.output.base,
                self.spec.output.batch.clone(),
                pixels(&self.spec.output),
                0,
            ),
        ];
        for further in self.all_further() {
            let (strides, number) = (self.strides(further), further.number as usize - 1);
            let moved = if further.per_pixel { pixels(strides) } else { 0 };
            placed.push((
                further_operand(further.number),
                slot::FURTHER + number as u16,
                strides.base,
                strides.batch.clone(),
                moved,
                0,
            ));
        }
        let address = register::TILE;
        for (index, slot, base, strides, by_block, by_panel) in placed {
            let size = self.types[index].size() as i64;
            a.push(Instruction::Word(Access::Load, address, register::BASES, 8 * index as u16));
            a.add(address, address, base * size, scratch);
            a.add_product(address, block, by_block * size, address, scratch);
            a.add_product(address, panel, by_panel * size, address, scratch);
            add_batch(a, address, batch, (&self.spec.batch, &strides, size), register::SCRATCH);
            a.slot(Access::Store, address, slot);
        }
    }

    /// `part = min(whole - first, size)`.
    fn rest_of(&self, a: &mut Assembler, (part, scratch): (X, X), first: X, whole: i64, size: i64) {
        a.constant(part, whole);
        a.push(Instruction::Sub(part, part, first));
        a.constant(scratch, size);
        a.push(Instruction::Compare(part, scratch));
        a.push(Instruction::Choose(part, part, scratch, Cond::Less));
    }

    /// Jumps where the block that begins at the number in `slot` does not reach beyond `whole`.
    fn unless_beyond(&self, a: &mut Assembler, slot: u16, size: i64, whole: i64, otherwise: super::assembler::Label) {
        let [first, limit, ..] = register::SCRATCH;
        a.slot(Access::Load, first, slot);
        a.constant(limit, whole - size + 1);
        a.push(Instruction::Compare(first, limit));
        a.push(Instruction::BranchIf(Cond::Less, otherwise));
    }

    /// Full panels of the unit, then the narrower one where the unit holds it.
    fn panels(&self, a: &mut Assembler) -> Option<()> {
        let full = self.layout.full_panels();
        if self.second_weights.is_some() {
            self.full_panels(a, 2)?;
        }
        let pairs = full % 2 == 0 && (self.panel_blocks() == 1 || self.schedule.block_panels % 2 == 0);
        if full > 0 && !(self.second_weights.is_some() && pairs) {
            self.full_panels(a, 1)?;
        }
        let channels = self.layout.last_channels();
        if channels > 0 {
            let exit = a.label();
            if self.panel_blocks() > 1 {
                self.unless_beyond(a, slot::FIRST_PANEL, self.schedule.block_panels, full, exit);
            }
            let vectors = divide_up(channels, self.lanes());
            self.lines(a, Columns { panels: 1, vectors, last_lanes: channels - (vectors - 1) * self.lanes() })?;
            a.place(exit);
        }
        Some(())
    }

    /// As many full panels as the unit has left, `panels` at a time.
    fn full_panels(&self, a: &mut Assembler, panels: i64) -> Option<()> {
        let [left, scratch, ..] = register::SCRATCH;
        let (head, exit) = (a.here(), a.label());
        a.slot(Access::Load, left, slot::PANELS_LEFT);
        a.push(Instruction::SubsImmediate(left, left, panels as u16));
        a.push(Instruction::BranchIf(Cond::Less, exit));
        a.slot(Access::Store, left, slot::PANELS_LEFT);
        self.lines(a, Columns { panels, vectors: self.schedule.tile.vectors, last_lanes: self.lanes() })?;
        for (slot, bytes) in [
            (slot::WEIGHTS, panels * self.layout.panel_elements() * self.size()),
            (slot::CHANNEL, panels * self.layout.panel * self.size()),
        ] {
            a.slot(Access::Load, left, slot);
            a.add(left, left, bytes, scratch);
            a.slot(Access::Store, left, slot);
        }
        a.push(Instruction::Branch(head));
        a.place(exit);
        Some(())
    }

    /// All lines of the block.
    fn lines(&self, a: &mut Assembler, columns: Columns) -> Option<()> {
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
    fn tap_bytes(&self, columns: Columns) -> i64 {
        self.spec.depth * columns.vectors * 16
    }
}
