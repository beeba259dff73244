//! Windows of i8 that cover a whole image, which averages over images are: sixteen channels at once, tap by tap. A unit of the
//! range is an image.

use std::collections::BTreeMap;

use crate::contraction::{Combination, DepthwiseSpec, Element, Footprint, Strides, divide_up};
use crate::cpu::a64::address::add_batch;
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::bytes::{Narrow, narrowed};
use crate::cpu::a64::instruction::{Access, After, Cond, Half, Instruction, V, Width, X};
use crate::cpu::a64::integer::{Integer, Widening};
use crate::cpu::a64::units::{self, for_each_unit};
use crate::cpu::a64::vector::{Computation, Registers, RowRegisters};
use crate::cpu::contraction::{EmittedKernel, operand};
use crate::cpu::isa::CpuTarget;
use crate::cpu::requantization::Requantization;

/// Channels of a group; the last ones may have been in part of those before.
const CHANNELS: i64 = 16;
/// Registers of a group's sums, from the first on.
const SUMS: u8 = 4;

mod register {
    use super::X;

    pub const BASES: X = X(0);
    pub const SCRATCH: [X; 4] = [X(1), X(2), X(16), X(17)];
    pub const WEIGHTS: X = X(3);
    pub const START: X = X(4);
    pub const INPUT: X = X(5);
    pub const OUTPUT: X = X(6);
    pub const BATCH: X = X(7);
    pub const GROUPS_LEFT: X = X(8);
    pub const ROWS_LEFT: X = X(9);
    pub const COLUMNS_LEFT: X = X(10);
    pub const ROW: X = X(11);
    pub const TAP: X = X(12);
    pub const INPUT_STEP: X = X(13);
    pub const TAP_STEP: X = X(14);
    pub const FURTHER: [X; 2] = [X(15), X(19)];
}

struct Whole<'a> {
    spec: &'a DepthwiseSpec,
    requantization: Requantization,
    /// Operands of the formula, a number for each channel, each with its address.
    further: Vec<(u16, X)>,
    rows: i64,
    columns: i64,
    output_size: i64,
}

/// Emits products over a window without gaps that one output pixel has, whose epilogue reads numbers for channels alone.
pub(super) fn emit(target: &CpuTarget, spec: &DepthwiseSpec, footprints: Vec<Footprint>) -> Option<EmittedKernel> {
    let whole = Whole::of(spec)?;
    let mut assembler = Assembler::new(target, units::SLOTS);
    assembler.reads_apart();
    whole.emit(&mut assembler)?;
    let units = spec.batch.iter().product::<i64>();
    Some(EmittedKernel::new(assembler.finish(target.listing), units, footprints))
}

impl<'a> Whole<'a> {
    fn of(spec: &'a DepthwiseSpec) -> Option<Self> {
        let window = &spec.window;
        let (first, last) = (window.taps.first()?, window.taps.last()?);
        let grid = (first.row..=last.row).flat_map(|row| (first.column..=last.column).map(move |column| (row, column)));
        let is_known = window.taps.iter().map(|tap| (tap.row, tap.column)).eq(grid)
            && window.is_interior()
            && window.pixels() == 1
            && spec.combination == Combination::Products
            && spec.channels >= CHANNELS;
        let requantization = Requantization::of(&spec.epilogue, &spec.operands)?;
        let types = spec.types();
        let numbers = requantization.formula.operands();
        let is_per_channel = |&number: &u16| {
            let (place, strides) = (number as usize - 1, &spec.operands[number as usize - 1]);
            (strides.row, strides.column, strides.channel) == (0, 0, 1) && types[operand::FURTHER + place].size() == 4
        };
        let reads_channels_alone = numbers.len() <= register::FURTHER.len() && numbers.iter().all(is_per_channel);
        let further = numbers.into_iter().zip(register::FURTHER).collect();
        let (rows, columns) = (last.row - first.row + 1, last.column - first.column + 1);
        let output_size = types[operand::OUTPUT].size() as i64;
        let fits = is_known && reads_channels_alone && requantization.table.is_none();
        fits.then_some(Whole { spec, requantization, further, rows, columns, output_size })
    }

    /// Bytes from one tap's weights to the next.
    fn tap_bytes(&self) -> i64 {
        let lanes = Element::I8.depthwise_lanes();
        divide_up(self.spec.channels, lanes) * lanes
    }

    fn emit(&self, a: &mut Assembler) -> Option<()> {
        let [unit, end, _, scratch] = register::SCRATCH;
        let prepare = |a: &mut Assembler| {
            a.keep(register::INPUT_STEP, self.spec.input.column);
            a.keep(register::TAP_STEP, self.tap_bytes());
        };
        for_each_unit(a, [unit, end], prepare, |a| {
            self.locate_unit(a, unit);
            let mut free = Registers::without(0, SUMS);
            let narrow = match self.requantization.bytes {
                Some(bytes) => Some(Narrow::prepare(a, bytes, &mut free)?),
                None => None,
            };
            let sums: Vec<V> = (0..SUMS).map(V).collect();
            let mut operands: BTreeMap<u16, Vec<V>> = BTreeMap::new();
            for &(number, _) in &self.further {
                let first = free.take_run(SUMS)?;
                operands.insert(number, (0..SUMS).map(|vector| V(first.0 + vector)).collect());
            }
            let row = RowRegisters { sums: &sums, operands: &operands, kept: &[] };
            // Registers of a tap's weights and inputs, and of their halves.
            let taps = free.take_run(6)?;
            let computation = Computation::plan(&self.requantization.formula, free, &row)?;
            computation.emit_constants(a);
            let group = |a: &mut Assembler| {
                self.sums(a, taps);
                for (number, pointer) in &self.further {
                    let first = operands.get(number)?[0];
                    a.push(Instruction::Multiple(Access::Load, first, SUMS, *pointer, After::Stay));
                }
                computation.emit_row(a, &row)?;
                self.store(a, narrow.as_ref());
                Some(())
            };
            a.constant(register::GROUPS_LEFT, self.spec.channels / CHANNELS);
            let head = a.here();
            group(a)?;
            self.advance(a, CHANNELS, scratch);
            a.push(Instruction::SubsImmediate(register::GROUPS_LEFT, register::GROUPS_LEFT, 1));
            a.push(Instruction::BranchIf(Cond::NotEqual, head));
            let rest = self.spec.channels % CHANNELS;
            if rest > 0 {
                self.advance(a, rest - CHANNELS, scratch);
                group(a)?;
            }
            Some(())
        })
    }

    fn locate_unit(&self, a: &mut Assembler, unit: X) {
        let [_, _, _, scratch] = register::SCRATCH;
        let (spec, first) = (self.spec, self.spec.window.taps[0]);
        a.push(Instruction::Mov(register::BATCH, unit));
        let origin = spec.input.base + first.row * spec.input.row + first.column * spec.input.column;
        let start = self.requantization.start.map(|number| (number, register::START));
        let further = self.further.iter().copied().chain(start).map(|(number, pointer)| {
            let strides: &Strides = &spec.operands[number as usize - 1];
            (pointer, operand::FURTHER + number as usize - 1, strides, strides.base, 4)
        });
        let placed = [
            (register::INPUT, operand::INPUT, &spec.input, origin, 1),
            (register::OUTPUT, operand::OUTPUT, &spec.output, spec.output.base, self.output_size),
        ];
        for (pointer, index, strides, base, size) in placed.into_iter().chain(further) {
            a.push(Instruction::Word(Access::Load, pointer, register::BASES, 8 * index as u16));
            a.add(pointer, pointer, base * size, scratch);
            add_batch(a, pointer, register::BATCH, (&spec.batch, &strides.batch, size), register::SCRATCH);
        }
        a.push(Instruction::Word(Access::Load, register::WEIGHTS, register::BASES, 8 * operand::WEIGHTS as u16));
    }

    /// Moves every address by channels.
    fn advance(&self, a: &mut Assembler, channels: i64, scratch: X) {
        let start = self.requantization.start.map(|_| (register::START, 4));
        let further = self.further.iter().map(|&(_, pointer)| (pointer, 4));
        let moved = [(register::WEIGHTS, 1), (register::INPUT, 1), (register::OUTPUT, self.output_size)];
        for (pointer, size) in moved.into_iter().chain(start).chain(further) {
            a.add(pointer, pointer, channels * size, scratch);
        }
    }

    /// The sums of a group over all taps.
    fn sums(&self, a: &mut Assembler, taps: V) {
        let [scratch, ..] = register::SCRATCH;
        match self.requantization.start {
            Some(_) => a.push(Instruction::Multiple(Access::Load, V(0), SUMS, register::START, After::Stay)),
            None => (0..SUMS).for_each(|sum| a.push(Instruction::Zero(V(sum)))),
        }
        a.push(Instruction::Mov(register::TAP, register::WEIGHTS));
        a.push(Instruction::Mov(register::ROW, register::INPUT));
        a.constant(register::ROWS_LEFT, self.rows);
        let head = a.here();
        a.turns(register::COLUMNS_LEFT, self.columns, |a| {
            self.tap(a, taps);
        });
        let next = self.spec.input.row - self.columns * self.spec.input.column;
        a.add(register::ROW, register::ROW, next, scratch);
        a.push(Instruction::SubsImmediate(register::ROWS_LEFT, register::ROWS_LEFT, 1));
        a.push(Instruction::BranchIf(Cond::NotEqual, head));
    }

    /// Adds the products of a tap: bytes become halves, and products of halves are words.
    fn tap(&self, a: &mut Assembler, taps: V) {
        let [weights, inputs] = [0, 3].map(|place| [0, 1, 2].map(|part| V(taps.0 + place + part)));
        let loads = [(weights, register::TAP, register::TAP_STEP), (inputs, register::ROW, register::INPUT_STEP)];
        for ([bytes, ..], pointer, step) in loads {
            a.push(Instruction::Multiple(Access::Load, bytes, 1, pointer, After::By(step)));
        }
        for [bytes, lower, upper] in [weights, inputs] {
            a.push(Instruction::Integer(Integer::Widen(Widening::Bytes, lower, bytes, Half::Lower)));
            a.push(Instruction::Integer(Integer::Widen(Widening::Bytes, upper, bytes, Half::Upper)));
        }
        for sum in 0..SUMS {
            let part = 1 + usize::from(sum / 2);
            let half = if sum % 2 == 0 { Half::Lower } else { Half::Upper };
            a.push(Instruction::Integer(Integer::AddProductOfHalves(V(sum), inputs[part], weights[part], half)));
        }
    }

    fn store(&self, a: &mut Assembler, narrow: Option<&Narrow>) {
        match narrow {
            None => a.push(Instruction::Multiple(Access::Store, V(0), SUMS, register::OUTPUT, After::Stay)),
            Some(narrow) => {
                narrowed(a, narrow, &[V(0), V(2)], 2);
                a.push(Instruction::Vector(Access::Store, Width::Q, V(0), register::OUTPUT, 0));
            }
        }
    }
}
