//! Depthwise convolutions of i8. By dot products over rows of taps: of eight channels at a position of the input, up to four
//! rows are woven so that each word holds one channel's, and meet words of as many weights. On the baseline each row of a position
//! is widened to halves, and meets a tap's weights. A unit of the range is a band of output rows; for each eight channels it runs
//! along the columns and keeps the positions that a window meets in registers.

use std::collections::BTreeMap;

use edgecc_ir::DType;

use crate::contraction::{Combination, DepthwiseSpec, Element, Footprint, Strides, divide_up};
use crate::cpu::a64::address::{add_batch, split};
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::bytes::{Narrow, load_step, look_up, narrowed};
use crate::cpu::a64::instruction::{Access, After, Cond, Half, Instruction, SP, V, Width, X, ZERO, fits_offset};
use crate::cpu::a64::integer::{Integer, Two, Widening};
use crate::cpu::a64::units::{self, for_each_unit};
use crate::cpu::a64::vector::{Computation, Registers, RowRegisters};
use crate::cpu::contraction::{EmittedKernel, operand};
use crate::cpu::isa::{CpuTarget, Integers};
use crate::cpu::requantization::Requantization;

/// Channels of a group.
const CHANNELS: i64 = 8;
/// Rows that one word holds.
const QUAD: i64 = 4;
/// Weights that the stack holds within reach, of two registers each.
const MOST_WEIGHTS: usize = 25;

mod register {
    use super::X;

    pub const BASES: X = X(0);
    pub const SCRATCH: [X; 4] = [X(1), X(2), X(16), X(17)];
    pub const WEIGHTS: X = X(3);
    pub const START: X = X(5);
    pub const GROUPS_LEFT: X = X(6);
    pub const INPUT_STEP: X = X(7);
    /// The band's first rows at the group's channels.
    pub const INPUT: X = X(8);
    pub const OUTPUT_STEP: X = X(9);
    pub const OUTPUT: X = X(10);
    pub const TILES_LEFT: X = X(11);
    pub const FURTHER: [X; 4] = [X(12), X(13), X(14), X(15)];
    pub const INPUT_ROWS: [X; 8] = [X(19), X(20), X(21), X(22), X(23), X(24), X(25), X(26)];
    pub const OUTPUT_ROWS: [X; 2] = [X(27), X(28)];
}

/// The first word of the stack that holds weights: at a multiple of 16 bytes.
const WEIGHTS_SLOT: u16 = units::SLOTS.next_multiple_of(2);

struct Depthwise<'a> {
    spec: &'a DepthwiseSpec,
    /// Whether rows are woven for dot products.
    weaves: bool,
    types: Vec<DType>,
    requantization: Requantization,
    /// Further operands of the formula, each with its address.
    further: Vec<(u16, X)>,
    /// Rows and columns of taps.
    kernel: [i64; 2],
    /// Output rows of a band.
    rows: i64,
}

/// Weights of one column of taps. Woven: those that meet the words of a quad of rows for one output row, two registers. Widened:
/// those of the row of taps `quad`, for all output rows, one register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Weights {
    column: i64,
    quad: i64,
    row: i64,
}

/// The registers of a band.
struct Plan {
    /// Two of each row.
    sums: V,
    /// `[position][quad]`, two of each, or `[position][row]`.
    ring: V,
    /// Four that are free between instructions.
    scratch: V,
    operands: BTreeMap<u16, Vec<V>>,
    narrow: Option<Narrow>,
    /// What looking up in a table subtracts, where there is one.
    step: Option<V>,
    computation: Computation,
    /// Registers of weights; those without lie on the stack.
    held: BTreeMap<Weights, V>,
}

/// Emits a depthwise convolution of i8, where it has a shape and an epilogue that is written here.
pub(super) fn emit(target: &CpuTarget, spec: &DepthwiseSpec, footprints: Vec<Footprint>) -> Option<EmittedKernel> {
    let depthwise = Depthwise::of(target, spec)?;
    let mut assembler = Assembler::new(target, WEIGHTS_SLOT + 4 * MOST_WEIGHTS as u16);
    assembler.reads_apart();
    depthwise.emit(&mut assembler)?;
    let code = assembler.finish(target.listing);
    Some(EmittedKernel::new(code, depthwise.units(), footprints))
}

/// Output rows of a unit.
pub(super) fn unit_rows(target: &CpuTarget, spec: &DepthwiseSpec) -> Option<i64> {
    Some(Depthwise::of(target, spec)?.rows)
}

impl<'a> Depthwise<'a> {
    fn of(target: &CpuTarget, spec: &'a DepthwiseSpec) -> Option<Self> {
        let window = &spec.window;
        let first = window.taps.first()?;
        let columns = window.taps.iter().take_while(|tap| tap.row == first.row).count();
        let dense = window.taps.iter().enumerate().all(|(place, tap)| {
            let at = [place / columns, place % columns].map(|offset| offset as i64);
            [tap.row - first.row, tap.column - first.column] == at
        });
        let kernel = [(window.taps.len() / columns) as i64, columns as i64];
        let is_known = dense
            && window.taps.len().is_multiple_of(columns)
            && window.is_interior()
            && window.pixels() > 0
            && spec.combination == Combination::Products
            && spec.channels >= CHANNELS
            && window.step[1] <= kernel[1];
        if !is_known {
            return None;
        }
        let requantization = Requantization::of(&spec.epilogue, &spec.operands)?;
        let is_per_channel = |strides: &Strides| (strides.row, strides.column, strides.channel) == (0, 0, 1);
        let numbers = requantization.formula.operands();
        let types = spec.types();
        let fits = |&number: &u16| {
            let place = number as usize - 1;
            is_per_channel(&spec.operands[place]) && types[operand::FURTHER + place].size() == 4
        };
        if numbers.len() > register::FURTHER.len() || !numbers.iter().all(fits) {
            return None;
        }
        let weaves = target.integers != Integers::Plain;
        let further = numbers.into_iter().zip(register::FURTHER).collect();
        let depthwise = Depthwise { spec, weaves, types, requantization, further, kernel, rows: 1 };
        let reaches = fits_offset(Width::D, (window.taps.len() as i64 - 1) * depthwise.tap_bytes());
        // With rows side by side two rows of outputs meet the same words.
        let rows = if window.step[0] == 1 && window.height > 1 { [2, 1] } else { [1, 1] };
        let fits = |&rows: &i64| {
            depthwise.input_rows(rows) <= register::INPUT_ROWS.len() as i64
                && depthwise.weights(rows).len() <= MOST_WEIGHTS
                && depthwise.plan(&mut Assembler::default(), rows).is_some()
        };
        let rows = rows.into_iter().find(fits).filter(|_| reaches)?;
        Some(Depthwise { rows, ..depthwise })
    }

    /// Bytes from one tap's weights to the next.
    fn tap_bytes(&self) -> i64 {
        let lanes = Element::I8.depthwise_lanes();
        divide_up(self.spec.channels, lanes) * lanes
    }

    fn input_rows(&self, rows: i64) -> i64 {
        (rows - 1) * self.spec.window.step[0] + self.kernel[0]
    }

    fn quads(&self, rows: i64) -> i64 {
        divide_up(self.input_rows(rows), QUAD)
    }

    fn bands(&self) -> i64 {
        divide_up(self.spec.window.height, self.rows)
    }

    fn units(&self) -> i64 {
        self.spec.batch.iter().product::<i64>() * self.bands()
    }

    fn output_size(&self) -> i64 {
        self.types[operand::OUTPUT].size() as i64
    }

    /// The row of taps that meets each row of a quad for an output row.
    fn taps(&self, quad: i64, row: i64) -> [Option<i64>; 4] {
        [0, 1, 2, 3].map(|place| {
            let tap = quad * QUAD + place - row * self.spec.window.step[0];
            (0..self.kernel[0]).contains(&tap).then_some(tap)
        })
    }

    /// Registers that hold a position of the input.
    fn position_registers(&self, rows: i64) -> i64 {
        if self.weaves { 2 * self.quads(rows) } else { self.input_rows(rows) }
    }

    /// Registers of one of [`Self::weights`].
    fn weights_registers(&self) -> u8 {
        if self.weaves { 2 } else { 1 }
    }

    /// Every register or two of weights, in the order of their use.
    fn weights(&self, rows: i64) -> Vec<Weights> {
        let mut pairs = Vec::new();
        if !self.weaves {
            let taps = (0..self.kernel[1]).flat_map(|column| (0..self.kernel[0]).map(move |tap| (column, tap)));
            return taps.map(|(column, quad)| Weights { column, quad, row: 0 }).collect();
        }
        for column in 0..self.kernel[1] {
            for quad in 0..self.quads(rows) {
                let met = (0..rows).filter(|&row| self.taps(quad, row).iter().any(Option::is_some));
                pairs.extend(met.map(|row| Weights { column, quad, row }));
            }
        }
        pairs
    }

    fn plan(&self, a: &mut Assembler, rows: i64) -> Option<Plan> {
        let mut free = Registers::without(0, 0);
        let sums = free.take_run(2 * rows as u8)?;
        let ring = u8::try_from(self.kernel[1] * self.position_registers(rows)).ok().filter(|&count| count <= 32)?;
        let ring = free.take_run(ring)?;
        let scratch = free.take_run(4)?;
        let mut operands = BTreeMap::new();
        for &(number, _) in &self.further {
            let first = free.take_run(2)?;
            operands.insert(number, vec![first, V(first.0 + 1)]);
        }
        let narrow = match self.requantization.bytes {
            Some(bytes) => Some(Narrow::prepare(a, bytes, &mut free)?),
            None => None,
        };
        let step = match self.requantization.table {
            Some(_) => Some(free.take_run(1)?),
            None => None,
        };
        step.into_iter().for_each(|step| load_step(a, step));
        let kept: Vec<u16> = self.further.iter().map(|&(number, _)| number).collect();
        let of_row = [sums, V(sums.0 + 1)];
        let row = RowRegisters { sums: &of_row, operands: &operands, kept: &kept };
        let mut computation = Computation::plan(&self.requantization.formula, free, &row)?;
        let mut left = computation.free;
        computation.free = Registers(0b1111 << scratch.0);
        computation.emit_row(&mut Assembler::default(), &row)?;
        computation.emit_constants(a);
        let count = self.weights_registers();
        let weights = self.weights(rows).into_iter();
        let held = weights.map_while(|weights| left.take_run(count).map(|first| (weights, first))).collect();
        Some(Plan { sums, ring, scratch, operands, narrow, step, computation, held })
    }

    fn emit(&self, a: &mut Assembler) -> Option<()> {
        let [unit, end, ..] = register::SCRATCH;
        let prepare = |a: &mut Assembler| {
            a.keep(register::INPUT_STEP, self.spec.input.column);
            a.keep(register::OUTPUT_STEP, self.spec.output.column * self.output_size());
        };
        for_each_unit(a, [unit, end], prepare, |a| {
            let band = self.locate_unit(a, unit);
            let (whole, rest) = (self.spec.window.height / self.rows, self.spec.window.height % self.rows);
            let (last, next) = (a.label(), a.label());
            if rest > 0 {
                let [limit, ..] = register::SCRATCH;
                a.constant(limit, whole);
                a.push(Instruction::Compare(band, limit));
                a.push(Instruction::BranchIf(Cond::HigherSame, last));
            }
            self.groups(a, self.rows)?;
            if rest > 0 {
                a.push(Instruction::Branch(next));
                a.place(last);
                self.groups(a, rest)?;
            }
            a.place(next);
            Some(())
        })
    }

    /// Addresses of a unit's band, at the first channels; returns the register of the band's number.
    fn locate_unit(&self, a: &mut Assembler, unit: X) -> X {
        let [_, _, _, scratch] = register::SCRATCH;
        let (band, batch) = (register::INPUT_ROWS[0], register::INPUT_ROWS[1]);
        split(a, unit, self.bands(), (batch, band), scratch);
        let (window, spec) = (&self.spec.window, self.spec);
        let first = window.taps[0];
        let origin = spec.input.base + first.row * spec.input.row + first.column * spec.input.column;
        let mut placed = vec![
            (register::INPUT, operand::INPUT, &spec.input, origin, self.rows * window.step[0]),
            (register::OUTPUT, operand::OUTPUT, &spec.output, spec.output.base, self.rows),
        ];
        let start = self.requantization.start.map(|number| (number, register::START));
        for (number, pointer) in self.further.iter().copied().chain(start) {
            let strides = &spec.operands[number as usize - 1];
            placed.push((pointer, operand::FURTHER + number as usize - 1, strides, strides.base, 0));
        }
        for (pointer, index, strides, base, rows) in placed {
            let size = self.types[index].size() as i64;
            a.push(Instruction::Word(Access::Load, pointer, register::BASES, 8 * index as u16));
            a.add(pointer, pointer, base * size, scratch);
            a.add_product(pointer, band, rows * strides.row * size, pointer, scratch);
            add_batch(a, pointer, batch, (&spec.batch, &strides.batch, size), register::SCRATCH);
        }
        a.push(Instruction::Word(Access::Load, register::WEIGHTS, register::BASES, 8 * operand::WEIGHTS as u16));
        band
    }

    /// All channels of a band, eight at once; the last eight may have been in part of those before.
    fn groups(&self, a: &mut Assembler, rows: i64) -> Option<()> {
        let [scratch, ..] = register::SCRATCH;
        let plan = self.plan(a, rows)?;
        let (groups, rest) = (divide_up(self.spec.channels, CHANNELS), self.spec.channels % CHANNELS);
        a.constant(register::GROUPS_LEFT, groups);
        let (head, exit) = (a.here(), a.label());
        self.group(a, rows, &plan)?;
        a.push(Instruction::SubsImmediate(register::GROUPS_LEFT, register::GROUPS_LEFT, 1));
        a.push(Instruction::BranchIf(Cond::Equal, exit));
        let advance = |a: &mut Assembler, channels: i64| {
            let wide = self.further.iter().map(|&(_, pointer)| (pointer, 4));
            let start = self.requantization.start.map(|_| (register::START, 4));
            let moved = [(register::WEIGHTS, 1), (register::INPUT, 1), (register::OUTPUT, self.output_size())];
            for (pointer, size) in moved.into_iter().chain(wide).chain(start) {
                a.add(pointer, pointer, channels * size, scratch);
            }
        };
        advance(a, CHANNELS);
        if rest > 0 {
            a.push(Instruction::SubsImmediate(ZERO, register::GROUPS_LEFT, 1));
            a.push(Instruction::BranchIf(Cond::NotEqual, head));
            advance(a, rest - CHANNELS);
        }
        a.push(Instruction::Branch(head));
        a.place(exit);
        Some(())
    }

    /// The columns of a band for eight channels.
    fn group(&self, a: &mut Assembler, rows: i64, plan: &Plan) -> Option<()> {
        let [scratch, ..] = register::SCRATCH;
        for (number, pointer) in &self.further {
            a.push(Instruction::Multiple(Access::Load, plan.operands[number][0], 2, *pointer, After::Stay));
        }
        for (place, weights) in self.weights(rows).into_iter().enumerate() {
            self.load_weights(a, plan, weights, place);
        }
        let places = [
            (register::INPUT, &register::INPUT_ROWS[..self.input_rows(rows) as usize], self.spec.input.row),
            (register::OUTPUT, &register::OUTPUT_ROWS[..rows as usize], self.spec.output.row * self.output_size()),
        ];
        for (first, pointers, bytes) in places {
            let mut before = first;
            for (number, &pointer) in pointers.iter().enumerate() {
                a.add(pointer, before, if number == 0 { 0 } else { bytes }, scratch);
                before = pointer;
            }
        }
        let (width, step) = (self.spec.window.width, self.spec.window.step[1]);
        (0..self.kernel[1] - step).for_each(|position| self.load_position(a, plan, rows, position));
        // So many columns that positions come back to their registers.
        let tile = self.kernel[1] * divide_up(4, self.kernel[1]);
        let turns = if width >= 3 * tile { width / tile } else { 0 };
        if turns > 0 {
            let mut known = Some(());
            a.turns(register::TILES_LEFT, turns, |a| {
                known = (0..tile).try_for_each(|column| self.column(a, plan, rows, column));
            });
            known?;
        }
        (turns * tile..width).try_for_each(|column| self.column(a, plan, rows, column))
    }

    /// Weights of eight channels, woven or widened as rows of the input are.
    fn load_weights(&self, a: &mut Assembler, plan: &Plan, weights: Weights, place: usize) {
        let to = plan.held.get(&weights).copied();
        let tap_at = |tap: i64| (tap * self.kernel[1] + weights.column) * self.tap_bytes();
        if self.weaves {
            self.weave_weights(a, plan, weights, to.unwrap_or(plan.scratch), tap_at);
        } else {
            let first = to.unwrap_or(plan.scratch);
            let offset = tap_at(weights.quad);
            a.push(Instruction::Vector(Access::Load, Width::D, first, register::WEIGHTS, offset));
            widen(a, first);
        }
        if to.is_none() {
            self.move_weights(a, Access::Store, plan.scratch, place);
        }
    }

    fn weave_weights(&self, a: &mut Assembler, plan: &Plan, weights: Weights, to: V, tap_at: impl Fn(i64) -> i64) {
        let parts = [0, 1, 2, 3].map(|part| V(plan.scratch.0 + part));
        for (part, tap) in parts.into_iter().zip(self.taps(weights.quad, weights.row)) {
            a.push(match tap {
                Some(tap) => Instruction::Vector(Access::Load, Width::D, part, register::WEIGHTS, tap_at(tap)),
                None => Instruction::Zero(part),
            });
        }
        weave(a, &parts, to);
    }

    /// Moves weights between the stack and registers.
    fn move_weights(&self, a: &mut Assembler, access: Access, first: V, place: usize) {
        let at = Assembler::slot_offset(WEIGHTS_SLOT + 4 * place as u16);
        a.push(match self.weights_registers() {
            1 => Instruction::Vector(access, Width::Q, first, SP, at.into()),
            _ => Instruction::Vectors(access, first, V(first.0 + 1), SP, at as i16),
        });
    }

    /// The registers of the words of a quad of rows, or of a row, at a position.
    fn words(&self, plan: &Plan, rows: i64, position: i64, of: i64) -> V {
        let first = position % self.kernel[1] * self.position_registers(rows);
        V(plan.ring.0 + (first + of * i64::from(self.weights_registers())) as u8)
    }

    /// Loads the rows at the next position, and weaves or widens them.
    fn load_position(&self, a: &mut Assembler, plan: &Plan, rows: i64, position: i64) {
        let pointers = &register::INPUT_ROWS[..self.input_rows(rows) as usize];
        if !self.weaves {
            for (row, &pointer) in (0..).zip(pointers) {
                let to = self.words(plan, rows, position, row);
                let after = After::By(register::INPUT_STEP);
                a.push(Instruction::Integer(Integer::Part(Access::Load, Width::D, to, 0, pointer, after)));
            }
            (0..pointers.len() as i64).for_each(|row| widen(a, self.words(plan, rows, position, row)));
            return;
        }
        for (quad, pointers) in (0..).zip(pointers.chunks(QUAD as usize)) {
            let parts: Vec<V> = (0..pointers.len() as u8).map(|part| V(plan.scratch.0 + part)).collect();
            for (&part, &pointer) in parts.iter().zip(pointers) {
                let after = After::By(register::INPUT_STEP);
                a.push(Instruction::Integer(Integer::Part(Access::Load, Width::D, part, 0, pointer, after)));
            }
            weave(a, &parts, self.words(plan, rows, position, quad));
        }
    }

    /// The outputs of one column.
    fn column(&self, a: &mut Assembler, plan: &Plan, rows: i64, column: i64) -> Option<()> {
        let (first, step) = (column * self.spec.window.step[1], self.spec.window.step[1]);
        for position in first + self.kernel[1] - step..first + self.kernel[1] {
            self.load_position(a, plan, rows, position);
        }
        let sums = |row: i64| V(plan.sums.0 + 2 * row as u8);
        for row in 0..rows {
            match self.requantization.start {
                Some(_) => a.push(Instruction::Multiple(Access::Load, sums(row), 2, register::START, After::Stay)),
                None => (0..2).for_each(|vector| a.push(Instruction::Zero(V(sums(row).0 + vector)))),
            }
        }
        for (place, weights) in self.weights(rows).into_iter().enumerate() {
            let factors = plan.held.get(&weights).copied().unwrap_or_else(|| {
                let loaded = V(plan.scratch.0 + 2 * (place % 2) as u8);
                self.move_weights(a, Access::Load, loaded, place);
                loaded
            });
            let position = first + weights.column;
            if self.weaves {
                let words = self.words(plan, rows, position, weights.quad);
                for vector in 0..2 {
                    let [sum, words, factors] = [sums(weights.row), words, factors].map(|first| V(first.0 + vector));
                    a.push(Instruction::Integer(Integer::Two(Two::Dot, sum, words, factors)));
                }
                continue;
            }
            for row in 0..rows {
                let halves = self.words(plan, rows, position, row * self.spec.window.step[0] + weights.quad);
                for (vector, half) in [Half::Lower, Half::Upper].into_iter().enumerate() {
                    let sum = V(sums(row).0 + vector as u8);
                    a.push(Instruction::Integer(Integer::AddProductOfHalves(sum, halves, factors, half)));
                }
            }
        }
        let kept: Vec<u16> = self.further.iter().map(|&(number, _)| number).collect();
        for row in 0..rows {
            let of_row = [sums(row), V(sums(row).0 + 1)];
            let registers = RowRegisters { sums: &of_row, operands: &plan.operands, kept: &kept };
            plan.computation.emit_row(a, &registers)?;
        }
        let pointers = register::OUTPUT_ROWS;
        match &plan.narrow {
            None => (0..rows).for_each(|row| {
                let after = After::By(register::OUTPUT_STEP);
                a.push(Instruction::Multiple(Access::Store, sums(row), 2, pointers[row as usize], after));
            }),
            Some(narrow) => {
                let rows: Vec<V> = (0..rows).map(sums).collect();
                narrowed(a, narrow, &rows, 2);
                let bytes = self.looked_up(a, plan, rows[0]);
                for (lane, &pointer) in (0..rows.len() as u8).zip(&pointers) {
                    let after = After::By(register::OUTPUT_STEP);
                    let part = Integer::Part(Access::Store, Width::D, bytes, lane, pointer, after);
                    a.push(Instruction::Integer(part));
                }
            }
        }
        Some(())
    }

    /// The bytes that a table has for those of the first of the sums; the registers in which it lies are few, so that it is loaded part by part.
    fn looked_up(&self, a: &mut Assembler, plan: &Plan, bytes: V) -> V {
        let (Some(step), Some(table)) = (plan.step, &self.requantization.table) else { return bytes };
        let [address, ..] = register::SCRATCH;
        let found = V(bytes.0 + 1);
        let label = a.table(table);
        a.push(Instruction::Address(address, label));
        look_up(a, [found, bytes, step], |a, _| {
            a.push(Instruction::Multiple(Access::Load, plan.scratch, 4, address, After::Past));
            plan.scratch
        });
        found
    }
}

/// Eight bytes as halves, in place.
fn widen(a: &mut Assembler, register: V) {
    a.push(Instruction::Integer(Integer::Widen(Widening::Bytes, register, register, Half::Lower)));
}

/// Words of one byte of each of one to four registers, for eight channels: two registers from `to` on. The parts are used up;
/// what is beyond them is anything.
fn weave(a: &mut Assembler, parts: &[V], to: V) {
    let mut zip =
        |width: Width, half: Half, d: V, n: V, m: V| a.push(Instruction::Integer(Integer::Zip(width, half, d, n, m)));
    let part = |place: usize| parts[place.min(parts.len() - 1)];
    zip(Width::B, Half::Lower, part(0), part(0), part(1));
    let others = if parts.len() > 2 {
        zip(Width::B, Half::Lower, part(2), part(2), part(3));
        part(2)
    } else {
        part(0)
    };
    // The second result first, where the first lies on a source.
    let (first, second) = (to, V(to.0 + 1));
    zip(Width::H, Half::Upper, second, part(0), others);
    zip(Width::H, Half::Lower, first, part(0), others);
}
