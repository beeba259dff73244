//! Contractions: panels of weights, lines of output pixels, tiles of a line, and inside of a tile runs of the depth. Tiles
//! never cross lines; where every operand's pixels follow each other at one distance, the whole image is one line.

mod bytes;
mod depth;
mod line;
mod packed;
mod pairs;
mod parts;
mod tile;
mod totals;
mod unit;

use crate::contraction::{ContractionSpec, Element, Footprint, Strides, divide_up};
use crate::cpu::contraction::geometry::Geometry;
use crate::cpu::contraction::{EmittedKernel, operand};
use crate::cpu::isa::{CpuTarget, Integers};
use crate::pack::PackedLayout;
use crate::schedule::Schedule;
use crate::schedule::aarch64::LineTiles;
use crate::schedule::bytes::{MOST_PLAIN_SUMS, MOST_ROWS_OF_TWO_PANELS, panels_at_once};
use edgecc_ir::DType;

use super::assembler::Assembler;
use super::instruction::{Access, Instruction, X, ZERO};
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
}
