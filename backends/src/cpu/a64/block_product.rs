//! Products of rows with weights of few bits in blocks, by dot products of digits: a panel of channels, tiles of one or two rows, blocks of
//! the depth, and inside of a block pieces of sixteen elements.

use std::collections::BTreeMap;

use crate::block_product::{Bits, BlockProductSpec, DIGITS, PIECE, QUAD, Rows};
use crate::contraction::Element;
use crate::cpu::contraction::EmittedKernel;
use crate::cpu::formula::Formula;
use crate::cpu::isa::CpuTarget;

use super::assembler::Assembler;
use super::instruction::{Access, After, Arrangement, ByLane, Cond, Instruction, Lanes, LanesOne, V, Width, X};
use super::integer::Integer;
use super::units::{self, for_each_unit};
use super::vector::{Computation, Registers, RowRegisters};

/// Places of the kernel's operands.
mod operand {
    pub const DIGITS: u16 = 0;
    pub const ROW_SCALES: u16 = 1;
    pub const WEIGHTS: u16 = 2;
    pub const SCALES: u16 = 3;
    pub const OUTPUT: u16 = 4;
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
    /// The digits of the tile's first row, and those of each row while they are read.
    pub const TILE: X = X(8);
    pub const DIGITS: [X; 2] = [X(9), X(10)];
    pub const ROW_SCALES: X = X(11);
    pub const OUTPUT: X = X(12);
    pub const OUTPUT_STEP: X = X(13);
    pub const TILES_LEFT: X = X(14);
    pub const BLOCKS_LEFT: X = X(15);
    pub const PIECES_LEFT: X = X(16);
    /// For further operands.
    pub const POOL: [X; 11] = [X(17), X(19), X(20), X(21), X(22), X(23), X(24), X(25), X(26), X(27), X(28)];
}

/// Registers of weights under way.
const WEIGHTS: u8 = 8;
/// Elements of a block that stand one behind the other without a loop.
const UNROLLED: i64 = 64;

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

/// Rows and vectors of channels of a tile, with its registers: sums of digits, sums of the depth, what digits are worth, digits, weights.
#[derive(Clone, Copy)]
struct Tile {
    rows: i64,
    vectors: i64,
}

impl Tile {
    /// The sums of a row's digit, which begins with the highest.
    fn digit_sum(self, row: i64, vector: i64, digit: i64) -> V {
        V(((row * self.vectors + vector) * DIGITS + digit) as u8)
    }

    fn sum(self, row: i64, vector: i64) -> V {
        V(((self.rows * self.vectors) * DIGITS + row * self.vectors + vector) as u8)
    }

    fn sums(self, row: i64) -> Vec<V> {
        (0..self.vectors).map(|vector| self.sum(row, vector)).collect()
    }

    fn behind_sums(self) -> u8 {
        (self.rows * self.vectors * (DIGITS + 1)) as u8
    }

    /// How many times the lower digit the higher one is worth.
    fn worth(self) -> V {
        V(self.behind_sums())
    }

    fn digit(self, row: i64, digit: i64) -> V {
        V(self.behind_sums() + 1 + (row * DIGITS + digit) as u8)
    }

    fn weights(self) -> V {
        V(self.behind_sums() + 1 + (self.rows * DIGITS) as u8)
    }

    /// The mask of the upper halves of bytes.
    fn mask(self) -> V {
        V(self.weights().0 + WEIGHTS)
    }
}

/// Whether an epilogue is one that is written here.
pub fn knows_block_epilogue(spec: &BlockProductSpec) -> bool {
    Product::of(spec).is_some()
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
        load(a, register::TILE, operand::DIGITS);
        load(a, register::ROW_SCALES, operand::ROW_SCALES);
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
        let together = self.spec.rows.min(2);
        let (tiles, rest) = (self.spec.rows / together, self.spec.rows % together);
        if tiles > 1 {
            a.constant(register::TILES_LEFT, tiles);
        }
        let head = a.here();
        self.tile(a, Tile { rows: together, vectors })?;
        if tiles > 1 {
            a.push(Instruction::SubsImmediate(register::TILES_LEFT, register::TILES_LEFT, 1));
            a.push(Instruction::BranchIf(Cond::NotEqual, head));
        }
        if rest > 0 {
            self.tile(a, Tile { rows: rest, vectors })?;
        }
        Some(())
    }

    fn tile(&self, a: &mut Assembler, tile: Tile) -> Option<()> {
        let spec = self.spec;
        a.push(Instruction::Mov(register::WEIGHTS, register::PANEL));
        a.push(Instruction::Mov(register::SCALES, register::PANEL_SCALES));
        for row in 0..tile.rows {
            a.add(register::DIGITS[row as usize], register::TILE, row * spec.row_bytes(), register::SCRATCH);
            tile.sums(row).into_iter().for_each(|sum| a.push(Instruction::Zero(sum)));
        }
        a.literal(tile.worth(), [256f32.to_bits(); 4]);
        if spec.bits == Bits::Four {
            a.literal(tile.mask(), [0xf0f0_f0f0; 4]);
        }
        let blocks = spec.blocks();
        if blocks > 1 {
            a.constant(register::BLOCKS_LEFT, blocks);
        }
        let head = a.here();
        self.block(a, tile);
        if blocks > 1 {
            a.push(Instruction::SubsImmediate(register::BLOCKS_LEFT, register::BLOCKS_LEFT, 1));
            a.push(Instruction::BranchIf(Cond::NotEqual, head));
        }
        a.add(register::TILE, register::TILE, tile.rows * spec.row_bytes(), register::SCRATCH);
        self.finish(a, tile)
    }

    /// Adds the products of a block.
    fn block(&self, a: &mut Assembler, tile: Tile) {
        let places: Vec<(i64, i64)> =
            (0..tile.rows).flat_map(|row| (0..tile.vectors).map(move |vector| (row, vector))).collect();
        for &(row, vector) in &places {
            (0..DIGITS).for_each(|digit| a.push(Instruction::Zero(tile.digit_sum(row, vector, digit))));
        }
        let pieces = self.spec.block / PIECE;
        if self.spec.block <= UNROLLED {
            (0..pieces).for_each(|_| self.piece(a, tile));
        } else {
            a.turns(register::PIECES_LEFT, pieces, |a| self.piece(a, tile));
        }
        let of = Arrangement::S4;
        let scales = tile.weights();
        a.push(Instruction::Multiple(Access::Load, scales, tile.vectors as u8, register::SCALES, After::Past));
        for digit in 0..DIGITS {
            for &(row, vector) in &places {
                let sum = tile.digit_sum(row, vector, digit);
                a.push(Instruction::LanesOne(LanesOne::FromInteger, of, sum, sum));
            }
        }
        for digit in 1..DIGITS {
            for &(row, vector) in &places {
                let [higher, lower] = [digit - 1, digit].map(|digit| tile.digit_sum(row, vector, digit));
                a.push(Instruction::Lanes(Lanes::MultiplyAdd, of, lower, higher, tile.worth()));
            }
        }
        for &(row, vector) in &places {
            let (lowest, scale) = (tile.digit_sum(row, vector, DIGITS - 1), V(scales.0 + vector as u8));
            a.push(Instruction::Lanes(Lanes::MultiplyAdd, of, tile.sum(row, vector), lowest, scale));
        }
    }

    /// Sixteen elements of the depth.
    fn piece(&self, a: &mut Assembler, tile: Tile) {
        let spec = self.spec;
        for row in 0..tile.rows {
            let pointer = register::DIGITS[row as usize];
            for digit in (1..DIGITS).rev() {
                let offset = digit * spec.depth;
                a.push(Instruction::Vector(Access::Load, Width::Q, tile.digit(row, digit), pointer, offset));
            }
            a.push(Instruction::VectorPost(Access::Load, Width::Q, tile.digit(row, 0), pointer, PIECE as i16));
        }
        let steps = PIECE / QUAD / spec.bits.of_byte();
        let most = (4 / tile.vectors).min(steps);
        let halves = [0, i64::from(WEIGHTS) / 2];
        for (place, first) in (0..steps).step_by(most as usize).enumerate() {
            let count = most.min(steps - first);
            // Upper halves of bytes take the other registers.
            let group = if spec.bits == Bits::Four { 0 } else { place % 2 };
            let loaded = V(tile.weights().0 + halves[group] as u8);
            let registers = (count * tile.vectors) as u8;
            a.push(Instruction::Multiple(Access::Load, loaded, registers, register::WEIGHTS, After::Past));
            for (step, vector) in (0..count).flat_map(|step| (0..tile.vectors).map(move |vector| (step, vector))) {
                let weights = V(loaded.0 + (step * tile.vectors + vector) as u8);
                match spec.bits {
                    Bits::Eight => self.quad(a, tile, vector, (weights, first + step)),
                    Bits::Four => {
                        let lower = V(weights.0 + halves[1] as u8);
                        a.push(Instruction::Integer(Integer::ShiftBytesLeft(lower, weights, 4)));
                        a.push(Instruction::Lanes(Lanes::And, Arrangement::S4, weights, weights, tile.mask()));
                        self.quad(a, tile, vector, (lower, 2 * (first + step)));
                        self.quad(a, tile, vector, (weights, 2 * (first + step) + 1));
                    }
                }
            }
        }
    }

    /// Four elements of the depth, for all rows.
    fn quad(&self, a: &mut Assembler, tile: Tile, vector: i64, (weights, quad): (V, i64)) {
        for (row, digit) in (0..tile.rows).flat_map(|row| (0..DIGITS).map(move |digit| (row, digit))) {
            let (sum, digits) = (tile.digit_sum(row, vector, digit), tile.digit(row, digit));
            a.push(Instruction::Integer(Integer::DotByLane(sum, weights, digits, quad as u8)));
        }
    }

    /// The rows' scales, and the epilogue: sums become results, in place, and are stored.
    fn finish(&self, a: &mut Assembler, tile: Tile) -> Option<()> {
        let (of, vectors) = (Arrangement::S4, tile.vectors as u8);
        let mut free = Registers::without(tile.sum(0, 0).0, (tile.rows * tile.vectors) as u8);
        let scale = free.take_first()?;
        let mut operands: BTreeMap<u16, Vec<V>> = BTreeMap::new();
        for further in &self.further {
            let count = if further.rows.channel == 1 { vectors } else { 1 };
            let first = free.take_run(count)?;
            operands.insert(further.number, (0..count).map(|n| V(first.0 + n)).collect());
        }
        let kept: Vec<u16> =
            self.further.iter().filter(|further| further.step.is_none()).map(|further| further.number).collect();
        let rows: Vec<Vec<V>> = (0..tile.rows).map(|row| tile.sums(row)).collect();
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
            a.push(Instruction::VectorPost(Access::Load, Width::S, scale, register::ROW_SCALES, 4));
            sums.iter().for_each(|&sum| a.push(Instruction::ByLane(ByLane::Multiply, of, sum, sum, scale, 0)));
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
