//! Products of rows with weights of few bits in blocks: weights become numbers in registers, for all rows of a tile.

use iced_x86::code_asm::{AsmRegister64, ecx, edx, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbp, rbx, rcx, rdx, rsi};

use crate::block_product::{Bits, BlockProductSpec, Input, Rows};
use crate::contraction::Element;
use crate::cpu::contraction::EmittedKernel;
use crate::cpu::formula::Formula;
use crate::cpu::isa::{CpuTarget, Listing};

use super::compute;
use super::units::for_each_unit;
use super::vector::{One, Part, Source, Two, Width, at};
use super::writer::{Unwritten, Writer, Written};

/// Registers of integers, by what they hold.
mod register {
    use super::*;

    /// The panel's weights, and the same while they are read.
    pub const PANEL: AsmRegister64 = rdx;
    pub const WEIGHTS: AsmRegister64 = rcx;
    pub const SCALES: AsmRegister64 = r9;
    /// The input of the tile's first row, and the same while it is read.
    pub const TILE: AsmRegister64 = r8;
    pub const INPUT: AsmRegister64 = r10;
    pub const OUTPUT: AsmRegister64 = rsi;
    pub const TURNS_LEFT: AsmRegister64 = r11;
    pub const BLOCKS_LEFT: AsmRegister64 = rbp;
    /// Further operands.
    pub const FURTHER: [AsmRegister64; 4] = [r12, r13, r14, r15];
}

/// Words of the stack behind those of units.
mod slot {
    use crate::cpu::x64::units;

    pub const PANEL_SCALES: usize = units::SLOTS;
    pub const TILES_LEFT: usize = units::SLOTS + 1;
    pub const ALL: usize = units::SLOTS + 2;
}

/// Places of the kernel's operands.
mod operand {
    pub const INPUT: usize = 0;
    pub const WEIGHTS: usize = 1;
    pub const SCALES: usize = 2;
    pub const OUTPUT: usize = 3;
}

/// Elements of one turn of the loop over a block.
const TURN: i64 = 4;
/// Sums that are added to in turn: as many multiply-adds are under way at a time.
const LEAST_SUMS: i64 = 4;

struct Product<'a> {
    spec: &'a BlockProductSpec,
    input: Rows,
    width: Width,
    formula: Formula,
    /// Further operands of the epilogue, by their numbers from 1.
    further: Vec<(u16, AsmRegister64)>,
}

/// Rows and vectors of channels of a tile, and sums of a block for each result.
#[derive(Clone, Copy)]
struct Tile {
    rows: i64,
    vectors: i64,
    parts: i64,
}

impl Tile {
    fn of(rows: i64, vectors: i64) -> Tile {
        Tile { rows, vectors, parts: (LEAST_SUMS / (rows * vectors)).max(1) }
    }

    fn results(self) -> i64 {
        self.rows * self.vectors
    }

    /// The register of a sum of the depth.
    fn sum(self, row: i64, vector: i64) -> usize {
        (row * self.vectors + vector) as usize
    }

    /// The register of a sum of a block.
    fn part(self, part: i64, result: usize) -> usize {
        ((1 + part) * self.results()) as usize + result
    }

    fn weights(self, vector: i64) -> usize {
        ((1 + self.parts) * self.results() + vector) as usize
    }

    /// The register of an input in every lane, where there is no operand of memory for that.
    fn spread(self) -> usize {
        self.weights(self.vectors)
    }
}

/// Whether processors with any vectors have the kernel.
pub fn knows_block_product(spec: &BlockProductSpec) -> bool {
    [Width::Eight, Width::Sixteen].into_iter().all(|width| emit(width, Listing::Off, spec).is_some())
}

/// Emits a product over numbers, where it has an epilogue that is written here.
pub fn emit_block_product(target: &CpuTarget, spec: &BlockProductSpec) -> Option<EmittedKernel> {
    emit(Width::of_target(target), target.listing, spec)
}

fn emit(width: Width, listing: Listing, spec: &BlockProductSpec) -> Option<EmittedKernel> {
    let product = Product::of(width, spec)?;
    let mut writer = Writer::new(product.width, slot::ALL).ok()?;
    for_each_unit(&mut writer, (edx, ecx), |w| product.panel(w)).ok()?;
    Some(EmittedKernel::new(writer.finish(listing).ok()?, spec.units(), spec.footprints()))
}

impl<'a> Product<'a> {
    fn of(width: Width, spec: &'a BlockProductSpec) -> Option<Self> {
        let Input::Numbers(input) = spec.input else { return None };
        let width = width.of_tail(spec.panel());
        let formula = Formula::of(Element::F32, &spec.epilogue)?;
        let mut pointers = register::FURTHER.into_iter();
        let further = formula.operands().into_iter().map(|number| Some((number, pointers.next()?)));
        let further = further.collect::<Option<Vec<_>>>()?;
        let matrices = [&input, &spec.output].into_iter().chain(&spec.operands);
        let are_near = matrices.into_iter().all(|rows| i32::try_from(rows.row * 4 * Self::most_rows(width)).is_ok());
        let is_whole = spec.panel() % width.lanes() == 0;
        (are_near && is_whole).then_some(Product { spec, input, width, formula, further })
    }

    /// Rows of a tile that leave registers for what is multiplied.
    const fn most_rows(width: Width) -> i64 {
        match width {
            Width::Eight => 2,
            Width::EightMasked | Width::Sixteen => 4,
        }
    }

    fn rows(&self, further: u16) -> &Rows {
        &self.spec.operands[usize::from(further) - 1]
    }

    /// All rows by the panel of the unit, whose number is in rax.
    fn panel(&self, w: &mut Writer) -> Written {
        let (spec, unit, scratch) = (self.spec, rbx, rax);
        let panel = spec.panel();
        w.a.mov(unit, rax)?;
        let mut placed = vec![
            (register::TILE, operand::INPUT, self.input.base, 0),
            (register::PANEL, operand::WEIGHTS, 0, panel * spec.channel_bytes()),
            (register::SCALES, operand::SCALES, 0, 4 * panel * spec.blocks()),
            (register::OUTPUT, operand::OUTPUT, spec.output.base, 4 * panel),
        ];
        for &(number, pointer) in &self.further {
            let rows = self.rows(number);
            placed.push((pointer, operand::OUTPUT + usize::from(number), rows.base, 4 * panel * rows.channel));
        }
        for (pointer, place, base, step) in placed {
            w.operand(pointer, place)?;
            w.add(pointer, 4 * base, scratch)?;
            w.add_product(pointer, unit, step, scratch)?;
        }
        w.a.mov(w.slot(slot::PANEL_SCALES), register::SCALES)?;
        let vectors = panel / self.width.lanes();
        let together = spec.rows.min(Self::most_rows(self.width));
        let (tiles, rest) = (spec.rows / together, spec.rows % together);
        w.a.mov(w.slot(slot::TILES_LEFT), tiles as i32)?;
        let mut head = w.a.create_label();
        w.a.set_label(&mut head)?;
        self.tile(w, Tile::of(together, vectors))?;
        w.a.dec(w.slot(slot::TILES_LEFT))?;
        w.a.jne(head)?;
        if rest > 0 {
            self.tile(w, Tile::of(rest, vectors))?;
        }
        Ok(())
    }

    fn tile(&self, w: &mut Writer, tile: Tile) -> Written {
        let spec = self.spec;
        w.a.mov(register::WEIGHTS, register::PANEL)?;
        w.a.mov(register::SCALES, w.slot(slot::PANEL_SCALES))?;
        w.a.mov(register::INPUT, register::TILE)?;
        (0..tile.results() as usize).try_for_each(|sum| w.zero(sum))?;
        w.constant(register::BLOCKS_LEFT, spec.blocks())?;
        let mut head = w.a.create_label();
        w.a.set_label(&mut head)?;
        self.block(w, tile)?;
        w.a.dec(register::BLOCKS_LEFT)?;
        w.a.jne(head)?;
        self.finish(w, tile)?;
        w.add(register::OUTPUT, tile.rows * spec.output.row * 4, rax)?;
        w.add(register::TILE, tile.rows * self.input.row * 4, rax)?;
        for &(number, pointer) in &self.further {
            w.add(pointer, tile.rows * self.rows(number).row * 4, rax)?;
        }
        Ok(())
    }

    /// Adds the products of a block: their sum times the scale.
    fn block(&self, w: &mut Writer, tile: Tile) -> Written {
        let spec = self.spec;
        let results = tile.results() as usize;
        (0..tile.parts).try_for_each(|part| (0..results).try_for_each(|result| w.zero(tile.part(part, result))))?;
        let elements = if spec.blocks() == 1 { spec.summed } else { spec.block };
        let (turns, rest) = (elements / TURN, elements % TURN);
        let weights_bytes = |elements: i64| elements * spec.panel() / spec.bits.of_byte();
        if turns > 0 {
            w.constant(register::TURNS_LEFT, turns)?;
            let mut head = w.a.create_label();
            w.a.set_label(&mut head)?;
            (0..TURN).try_for_each(|k| self.element(w, tile, k))?;
            w.a.add(register::INPUT, (TURN * 4) as i32)?;
            w.a.add(register::WEIGHTS, weights_bytes(TURN) as i32)?;
            w.a.dec(register::TURNS_LEFT)?;
            w.a.jne(head)?;
        }
        (0..rest).try_for_each(|k| self.element(w, tile, k))?;
        for (part, result) in (1..tile.parts).flat_map(|part| (0..results).map(move |result| (part, result))) {
            let whole = tile.part(0, result);
            w.two(Two::Add, whole, whole, Source::Register(tile.part(part, result)))?;
        }
        for (row, vector) in (0..tile.rows).flat_map(|row| (0..tile.vectors).map(move |vector| (row, vector))) {
            let sum = tile.sum(row, vector);
            let scale = Source::Memory(at(register::SCALES, vector * self.width.bytes()));
            w.two(Two::MultiplyAdd, sum, tile.part(0, sum), scale)?;
        }
        w.add(register::SCALES, 4 * spec.panel(), rax)
    }

    /// The products of one element of the depth.
    fn element(&self, w: &mut Writer, tile: Tile, k: i64) -> Written {
        let spec = self.spec;
        for vector in 0..tile.vectors {
            let weights = tile.weights(vector);
            let place = at(register::WEIGHTS, k / spec.bits.of_byte() * spec.panel() + vector * self.width.lanes());
            w.load_bytes(weights, place, Part::Whole, true)?;
            if spec.bits == Bits::Four {
                w.one(One::ShiftLeft(if k % 2 == 0 { 28 } else { 24 }), weights, weights)?;
                w.one(One::ShiftRight(28), weights, weights)?;
            }
            w.one(One::FromInteger, weights, weights)?;
        }
        for row in 0..tile.rows {
            let place = at(register::INPUT, 4 * (row * self.input.row + k));
            let input = match self.width {
                Width::Eight => {
                    w.spread(tile.spread(), place)?;
                    Source::Register(tile.spread())
                }
                Width::EightMasked | Width::Sixteen => Source::Spread(place),
            };
            for vector in 0..tile.vectors {
                let part = tile.part(k % tile.parts, tile.sum(row, vector));
                w.two(Two::MultiplyAdd, part, tile.weights(vector), input)?;
            }
        }
        Ok(())
    }

    /// The epilogue: each sum becomes a result, in place, and is stored.
    fn finish(&self, w: &mut Writer, tile: Tile) -> Written {
        for (row, vector) in (0..tile.rows).flat_map(|row| (0..tile.vectors).map(move |vector| (row, vector))) {
            let sum = tile.sum(row, vector);
            let mut free: Vec<usize> = (tile.results() as usize..self.width.registers()).collect();
            let mut operands = Vec::new();
            for &(number, pointer) in &self.further {
                let (rows, value) = (self.rows(number), free.pop().ok_or(Unwritten::Registers)?);
                let lanes = rows.channel * vector * self.width.lanes();
                let place = at(pointer, 4 * (row * rows.row + lanes));
                match rows.channel {
                    1 => w.load(value, place, Part::Whole)?,
                    _ => w.spread(value, place)?,
                }
                operands.push((number, value));
            }
            compute::emit(w, &self.formula, sum, &operands, free)?;
            let place = at(register::OUTPUT, 4 * (row * self.spec.output.row + vector * self.width.lanes()));
            w.store(place, sum, Part::Whole, None)?;
        }
        Ok(())
    }
}
