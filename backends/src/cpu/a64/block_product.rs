//! Products of rows with weights of few bits in blocks: a panel of channels, tiles of rows, blocks of the depth, and inside of a block pieces
//! of sixteen elements, by dot products of digits or by products of numbers.

mod digits;
mod numbers;

use std::collections::BTreeMap;

use crate::block_product::{BlockProductSpec, DIGITS, Input, QUAD, Rows};
use crate::contraction::Element;
use crate::cpu::contraction::EmittedKernel;
use crate::cpu::formula::Formula;
use crate::cpu::isa::CpuTarget;

use super::assembler::Assembler;
use super::instruction::{Access, After, Arrangement, ByLane, Cond, Instruction, V, Width, X};
use super::units::{self, for_each_unit};
use super::vector::{Computation, Registers, RowRegisters};

/// Places of the kernel's operands.
mod operand {
    pub const INPUT: u16 = 0;
    pub const WEIGHTS: u16 = 1;
    pub const SCALES: u16 = 2;
    pub const OUTPUT: u16 = 3;
}

/// Registers of integers, by what they hold.
mod register {
    use super::X;

    /// The table of operands' addresses.
    pub const BASES: X = X(0);
    pub const UNIT: X = X(2);
    pub const END: X = X(3);
    pub const SCRATCH: X = X(1);
    /// The panel's weights and scales, and the same while they are read.
    pub const PANEL: X = X(4);
    pub const PANEL_SCALES: X = X(5);
    pub const WEIGHTS: X = X(6);
    pub const SCALES: X = X(7);
    /// The input of the tile's first row, and that of each row while it is read.
    pub const TILE: X = X(8);
    pub const INPUT: [X; 4] = [X(9), X(10), X(29), X(30)];
    pub const ROW_SCALES: X = X(11);
    pub const OUTPUT: X = X(12);
    pub const OUTPUT_STEP: X = X(13);
    pub const TILES_LEFT: X = X(14);
    pub const BLOCKS_LEFT: X = X(15);
    pub const PIECES_LEFT: X = X(16);
    /// For further operands.
    pub const POOL: [X; 11] = [X(17), X(19), X(20), X(21), X(22), X(23), X(24), X(25), X(26), X(27), X(28)];
}

/// A further operand of the epilogue.
struct Further<'a> {
    /// The number in the epilogue, from 1.
    number: u16,
    rows: &'a Rows,
    pointer: X,
    /// Bytes from one row to the next, where rows have values of their own.
    step: Option<X>,
}

struct Product<'a> {
    spec: &'a BlockProductSpec,
    formula: Formula,
    further: Vec<Further<'a>>,
}

/// Rows and vectors of channels of a tile. Its registers: sums of a block, in parts, then sums of the depth, then others.
#[derive(Clone, Copy)]
struct Tile {
    rows: i64,
    vectors: i64,
    /// Sums of a block for each vector of results: one for each digit.
    parts: i64,
}

impl Tile {
    /// A sum of a block.
    fn part(self, (row, vector): (i64, i64), part: i64) -> V {
        V(((row * self.vectors + vector) * self.parts + part) as u8)
    }

    /// A sum of the depth.
    fn sum(self, (row, vector): (i64, i64)) -> V {
        V((self.rows * self.vectors * self.parts + row * self.vectors + vector) as u8)
    }

    /// The register behind sums with this number.
    fn other(self, number: i64) -> V {
        V((self.rows * self.vectors * (self.parts + 1) + number) as u8)
    }

    /// Row and vector of each sum.
    fn places(self) -> impl Iterator<Item = (i64, i64)> + Clone {
        (0..self.rows).flat_map(move |row| (0..self.vectors).map(move |vector| (row, vector)))
    }
}

/// Whether an epilogue is one that is written here.
pub fn knows_block_epilogue(spec: &BlockProductSpec) -> bool {
    Product::of(spec).and_then(|product| product.panel(&mut Assembler::default())).is_some()
}

/// Emits a product, where it has an epilogue that is written here.
pub fn emit_block_product(target: &CpuTarget, spec: &BlockProductSpec) -> Option<EmittedKernel> {
    let product = Product::of(spec)?;
    let mut assembler = Assembler::new(target, units::SLOTS);
    assembler.reads_apart();
    let prepare = |a: &mut Assembler| {
        a.keep(register::OUTPUT_STEP, 4 * spec.output.row);
        for further in &product.further {
            if let Some(step) = further.step {
                a.keep(step, 4 * further.rows.row);
            }
        }
    };
    for_each_unit(&mut assembler, [register::UNIT, register::END], prepare, |a| product.panel(a))?;
    Some(EmittedKernel::new(assembler.finish(target.listing), spec.units(), spec.footprints()))
}

impl<'a> Product<'a> {
    fn of(spec: &'a BlockProductSpec) -> Option<Self> {
        let formula = Formula::of(Element::F32, &spec.epilogue)?;
        let mut pool = register::POOL.to_vec();
        let mut further = Vec::new();
        for number in formula.operands() {
            let rows = &spec.operands[usize::from(number) - 1];
            let step = if rows.row == 0 || spec.rows == 1 { None } else { Some(pool.pop()?) };
            further.push(Further { number, rows, pointer: pool.pop()?, step });
        }
        Some(Product { spec, formula, further })
    }

    /// All rows by the panel of the unit at work.
    fn panel(&self, a: &mut Assembler) -> Option<()> {
        let (spec, scratch) = (self.spec, register::SCRATCH);
        let panel = spec.panel();
        let load = |a: &mut Assembler, to: X, place: u16| {
            a.push(Instruction::Word(Access::Load, to, register::BASES, 8 * place));
        };
        load(a, register::TILE, operand::INPUT);
        match spec.input {
            Input::Digits => load(a, register::ROW_SCALES, operand::OUTPUT + spec.operands.len() as u16 + 1),
            Input::Numbers(rows) => a.add(register::TILE, register::TILE, 4 * rows.base, scratch),
        }
        let by_panel = [
            (register::PANEL, operand::WEIGHTS, panel * spec.channel_bytes(), 0),
            (register::PANEL_SCALES, operand::SCALES, 4 * panel * spec.blocks(), 0),
            (register::OUTPUT, operand::OUTPUT, 4 * panel, spec.output.base),
        ];
        let further = self.further.iter().map(|further| {
            (further.pointer, operand::OUTPUT + further.number, 4 * panel * further.rows.channel, further.rows.base)
        });
        for (pointer, place, step, base) in by_panel.into_iter().chain(further) {
            load(a, pointer, place);
            a.add(pointer, pointer, 4 * base, scratch);
            a.add_product(pointer, register::UNIT, step, pointer, scratch);
        }
        self.rows(a, panel / QUAD)
    }

    fn rows(&self, a: &mut Assembler, vectors: i64) -> Option<()> {
        let together = self.spec.tile_rows();
        let (tiles, rest) = (self.spec.rows / together, self.spec.rows % together);
        let tile = |rows: i64| {
            let parts = if self.spec.input == Input::Digits { DIGITS } else { 1 };
            Tile { rows, vectors, parts }
        };
        counted(a, register::TILES_LEFT, tiles, |a| self.tile(a, tile(together)))?;
        if rest > 0 {
            self.tile(a, tile(rest))?;
        }
        Some(())
    }

    fn tile(&self, a: &mut Assembler, tile: Tile) -> Option<()> {
        a.push(Instruction::Mov(register::WEIGHTS, register::PANEL));
        a.push(Instruction::Mov(register::SCALES, register::PANEL_SCALES));
        for row in 0..tile.rows {
            let bytes = row * self.input_step();
            a.add(register::INPUT[row as usize], register::TILE, bytes, register::SCRATCH);
        }
        tile.places().for_each(|place| a.push(Instruction::Zero(tile.sum(place))));
        if self.spec.input == Input::Digits {
            self.load_constants(a, tile);
        }
        counted(a, register::BLOCKS_LEFT, self.spec.blocks(), |a| {
            match self.spec.input {
                Input::Digits => self.block_of_digits(a, tile),
                Input::Numbers(_) => self.block_of_numbers(a, tile),
            }
            Some(())
        })?;
        a.add(register::TILE, register::TILE, tile.rows * self.input_step(), register::SCRATCH);
        self.finish(a, tile)
    }

    /// Bytes from one row of the input to the next.
    fn input_step(&self) -> i64 {
        match self.spec.input {
            Input::Digits => self.spec.row_bytes(),
            Input::Numbers(rows) => 4 * rows.row,
        }
    }

    /// Loads the scales of a block.
    fn load_scales(&self, a: &mut Assembler, tile: Tile, scales: V) {
        a.push(Instruction::Multiple(Access::Load, scales, tile.vectors as u8, register::SCALES, After::Past));
    }

    /// The rows' scales, and the epilogue: sums become results, in place, and are stored.
    fn finish(&self, a: &mut Assembler, tile: Tile) -> Option<()> {
        let (of, vectors) = (Arrangement::S4, tile.vectors as u8);
        let mut free = Registers::without(tile.sum((0, 0)).0, (tile.rows * tile.vectors) as u8);
        let scale = free.take_first()?;
        let mut operands: BTreeMap<u16, Vec<V>> = BTreeMap::new();
        for further in &self.further {
            let count = if further.rows.channel == 1 { vectors } else { 1 };
            let first = free.take_run(count)?;
            operands.insert(further.number, (0..count).map(|n| V(first.0 + n)).collect());
        }
        let kept: Vec<u16> =
            self.further.iter().filter(|further| further.step.is_none()).map(|further| further.number).collect();
        let rows: Vec<Vec<V>> =
            (0..tile.rows).map(|row| (0..tile.vectors).map(|vector| tile.sum((row, vector))).collect()).collect();
        let row_registers = |sums| RowRegisters { sums, operands: &operands, kept: &kept };
        let computation = Computation::plan(&self.formula, free, &row_registers(&rows[0]))?;
        computation.emit_constants(a);
        let load = |a: &mut Assembler, further: &Further<'_>, after: After| {
            let first = operands[&further.number][0];
            a.push(match further.rows.channel {
                1 => Instruction::Multiple(Access::Load, first, vectors, further.pointer, after),
                _ => Instruction::LoadSpread(of, first, further.pointer, after),
            });
        };
        let (shared, own): (Vec<_>, Vec<_>) = self.further.iter().partition(|further| further.step.is_none());
        shared.into_iter().for_each(|further| load(a, further, After::Stay));
        for sums in &rows {
            if self.spec.input == Input::Digits {
                a.push(Instruction::VectorPost(Access::Load, Width::S, scale, register::ROW_SCALES, 4));
                sums.iter().for_each(|&sum| a.push(Instruction::ByLane(ByLane::Multiply, of, sum, sum, scale, 0)));
            }
            for further in &own {
                load(a, further, further.step.map_or(After::Stay, After::By));
            }
            computation.emit_row(a, &row_registers(sums))?;
            let after = After::By(register::OUTPUT_STEP);
            a.push(Instruction::Multiple(Access::Store, sums[0], vectors, register::OUTPUT, after));
        }
        Some(())
    }
}

/// Emits `body` once, where it runs at all; it runs `count` times.
fn counted(a: &mut Assembler, left: X, count: i64, body: impl FnOnce(&mut Assembler) -> Option<()>) -> Option<()> {
    if count == 0 {
        return Some(());
    }
    if count == 1 {
        return body(a);
    }
    a.constant(left, count);
    let head = a.here();
    body(a)?;
    a.push(Instruction::SubsImmediate(left, left, 1));
    a.push(Instruction::BranchIf(Cond::NotEqual, head));
    Some(())
}
