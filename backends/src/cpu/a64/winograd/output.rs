//! Sums to results: down each column of points, then along each row of outputs, with the epilogue.

use std::collections::BTreeMap;

use crate::contraction::Strides;
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, Arrangement, Instruction, SP, V, X};
use crate::cpu::a64::units::for_each_unit;
use crate::cpu::a64::vector::{Computation, Registers, RowRegisters};
use crate::cpu::contraction::EmittedKernel;
use crate::cpu::formula::Formula;
use crate::cpu::isa::CpuTarget;
use crate::winograd::{Shape, Transform, WinogradOutput};

use super::{CELLS_SLOT, Factors, Slots, Transforming, register, repeat};

/// The output or an operand that differs by pixel.
#[derive(Clone, Copy)]
struct Plane<'a> {
    /// Place among the kernel's operands.
    index: usize,
    strides: &'a Strides,
    /// Its first pixel under the tile, and the pixel at work.
    tile: X,
    pixel: X,
    /// From one pixel to the next, and from behind a row of a whole tile to the next.
    step: X,
}

/// An operand that is the same for all pixels.
#[derive(Clone, Copy)]
struct Shared<'a> {
    index: usize,
    strides: &'a Strides,
    start: X,
}

struct Output<'a> {
    spec: &'a WinogradOutput,
    common: Transforming,
    formula: Formula,
    output: Plane<'a>,
    planes: Vec<Plane<'a>>,
    shared: Vec<Shared<'a>>,
}

/// Emits the transform of sums, where it has an epilogue that is written here. Operands: 0 the sums, 1 the output, 2.. the
/// further operands.
pub fn emit_winograd_output(target: &CpuTarget, spec: &WinogradOutput) -> Option<EmittedKernel> {
    let output = Output::of(spec)?;
    let mut assembler = Assembler::new(target, output.common.stack_words(spec.tiling.axes[0].outputs()));
    let [unit, end, ..] = register::SCRATCH;
    let prepare = |a: &mut Assembler| {
        output.common.prepare(a);
        for plane in output.all_planes() {
            a.constant(plane.step, plane.strides.column * spec.element.bytes());
        }
    };
    for_each_unit(&mut assembler, [unit, end], prepare, |a| {
        // Their other uses begin behind the unit's location.
        let (image, row) = (register::NUMBERS[0], register::NUMBERS[1]);
        output.common.locate_unit(a, unit, 0, (image, row));
        output.locate_planes(a, (image, row));
        output.common.for_each_size(a, row, |a, outputs| {
            let whole = spec.tiling.extents[1] / spec.tiling.axes[1].outputs();
            output.common.tiles(a, outputs, [0, whole], |a, shape| output.tile(a, shape))
        })
    })?;
    Some(EmittedKernel::new(assembler.finish(target.listing), spec.tiling.units(), spec.footprints()))
}

impl<'a> Output<'a> {
    fn of(spec: &'a WinogradOutput) -> Option<Self> {
        let formula = Formula::of(spec.element, &spec.epilogue)?;
        let form = (spec.element, spec.tiling, spec.channels);
        let common = Transforming::of(form, &|outputs| spec.transforms(outputs));
        let mut pool = register::POOL.to_vec();
        let output =
            Plane { index: 1, strides: &spec.output, tile: pool.pop()?, pixel: pool.pop()?, step: pool.pop()? };
        let (mut planes, mut shared) = (Vec::new(), Vec::new());
        for number in formula.operands() {
            let (index, strides) = (1 + number as usize, &spec.operands[number as usize - 1]);
            if strides.row == 0 && strides.column == 0 {
                shared.push(Shared { index, strides, start: pool.pop()? });
                continue;
            }
            if strides.channel != 1 {
                return None;
            }
            let (tile, pixel) = (pool.pop()?, pool.pop()?);
            let step = if strides.column == spec.output.column { output.step } else { pool.pop()? };
            planes.push(Plane { index, strides, tile, pixel, step });
        }
        Some(Output { spec, common, formula, output, planes, shared })
    }

    fn all_planes(&self) -> impl Iterator<Item = &Plane<'a>> {
        [&self.output].into_iter().chain(&self.planes)
    }

    fn size(&self) -> i64 {
        self.spec.element.bytes()
    }

    /// Finds the operands under a row of tiles.
    fn locate_planes(&self, a: &mut Assembler, (image, row): (X, X)) {
        let [.., scratch] = register::SCRATCH;
        let rows = self.spec.tiling.axes[0].outputs();
        let planes = self.all_planes().map(|plane| (plane.index, plane.strides, plane.tile, rows * plane.strides.row));
        let shared = self.shared.iter().map(|shared| (shared.index, shared.strides, shared.start, 0));
        for (index, strides, address, by_row) in planes.chain(shared) {
            a.push(Instruction::Word(Access::Load, address, register::BASES, 8 * index as u16));
            a.add(address, address, strides.base * self.size(), scratch);
            for (number, factor) in [(image, strides.batch[0]), (row, by_row)] {
                if factor != 0 {
                    a.add_product(address, number, factor * self.size(), address, scratch);
                }
            }
        }
    }

    fn tile(&self, a: &mut Assembler, shape: Shape) -> Option<()> {
        let [scratch, ..] = register::SCRATCH;
        let both = self.spec.transforms(shape.outputs);
        let factors = Factors::of(self.spec.element, &both);
        factors.load(a);
        self.common.groups(a, &factors, |a, slots| {
            self.common.columns_of_points(a, shape, |a, numbers| {
                for point in 0..both[0].operands {
                    let (address, after) = numbers(point);
                    slots.move_slot(a, Access::Load, point, address, after);
                }
                factors.apply(a, &both[0], slots);
                for &slot in &both[0].results {
                    slots.move_slot(a, Access::Store, slot, register::CELL, After::By(register::CELL_ROW));
                }
                let back = self.common.cell_bytes() * (1 - (both[0].results.len() * self.common.columns) as i64);
                a.add(register::CELL, register::CELL, back, scratch);
            });
            self.along_rows(a, (&factors, &both[1]), shape, slots)
        })?;
        let columns = self.spec.tiling.axes[1].outputs();
        for plane in self.all_planes() {
            a.add(plane.tile, plane.tile, columns * plane.strides.column * self.size(), scratch);
        }
        Some(())
    }

    /// Cells to stored results.
    fn along_rows(
        &self,
        a: &mut Assembler,
        (factors, transform): (&Factors, &Transform),
        shape: Shape,
        slots: Slots,
    ) -> Option<()> {
        let [scratch, ..] = register::SCRATCH;
        for plane in self.all_planes() {
            a.push(Instruction::Add(plane.pixel, plane.tile, register::CHANNEL));
        }
        a.add(register::CELL, SP, i64::from(Assembler::slot_offset(CELLS_SLOT)), scratch);
        let epilogue = self.epilogue(factors, transform, slots)?;
        let mut written = Some(());
        repeat(a, shape.outputs[0], |a| {
            for point in 0..transform.operands {
                slots.move_slot(a, Access::Load, point, register::CELL, self.common.after_cell(slots));
            }
            let behind = self.common.columns - transform.operands;
            a.add(register::CELL, register::CELL, behind as i64 * self.common.cell_bytes(), scratch);
            factors.apply(a, transform, slots);
            written = self.row(a, transform, &epilogue, slots);
            for plane in self.all_planes() {
                let step = plane.strides.column * transform.results.len() as i64;
                a.add(plane.pixel, plane.pixel, (plane.strides.row - step) * self.size(), scratch);
            }
        });
        written
    }

    /// The epilogue of a row of results, in registers beside those of factors and results.
    fn epilogue(&self, factors: &Factors, transform: &Transform, slots: Slots) -> Option<Epilogue> {
        let mut free = Registers::without(0, factors.registers() as u8);
        for &slot in &transform.results {
            free = free.common(Registers::without(slots.at(slot, 0).0, slots.vectors as u8));
        }
        let mut operands: BTreeMap<u16, Vec<V>> = BTreeMap::new();
        let shared = self.shared.iter().map(|shared| (shared.index, shared.strides.channel == 1));
        for (index, per_channel) in shared.chain(self.planes.iter().map(|plane| (plane.index, true))) {
            let count = if per_channel { slots.vectors } else { 1 } as u8;
            let first = free.take_run(count)?;
            operands.insert(index as u16 - 1, (0..count).map(|n| V(first.0 + n)).collect());
        }
        let kept: Vec<u16> = self.shared.iter().map(|shared| shared.index as u16 - 1).collect();
        let sums = sums_of(slots, transform.results[0]);
        let row = RowRegisters { sums: &sums, operands: &operands, kept: &kept };
        let computation = Computation::plan(&self.formula, free, &row)?;
        Some(Epilogue { computation, operands, kept })
    }

    /// The epilogue and the stores of a row of results.
    fn row(&self, a: &mut Assembler, transform: &Transform, epilogue: &Epilogue, slots: Slots) -> Option<()> {
        let [scratch, ..] = register::SCRATCH;
        let Epilogue { computation, operands, kept } = epilogue;
        for shared in &self.shared {
            let first = operands[&(shared.index as u16 - 1)][0];
            if shared.strides.channel == 1 {
                a.push(Instruction::Add(scratch, shared.start, register::CHANNEL));
                a.push(Instruction::Multiple(Access::Load, first, slots.vectors as u8, scratch, After::Stay));
            } else {
                a.push(Instruction::LoadSpread(Arrangement::of(self.spec.element), first, shared.start, After::Stay));
            }
        }
        computation.emit_constants(a);
        for &slot in &transform.results {
            for plane in &self.planes {
                let first = operands[&(plane.index as u16 - 1)][0];
                let after = After::By(plane.step);
                a.push(Instruction::Multiple(Access::Load, first, slots.vectors as u8, plane.pixel, after));
            }
            let sums = sums_of(slots, slot);
            computation.emit_row(a, &RowRegisters { sums: &sums, operands, kept })?;
            slots.move_slot(a, Access::Store, slot, self.output.pixel, After::By(self.output.step));
        }
        Some(())
    }
}

/// The epilogue of a row.
struct Epilogue {
    computation: Computation,
    operands: BTreeMap<u16, Vec<V>>,
    kept: Vec<u16>,
}

fn sums_of(slots: Slots, slot: usize) -> Vec<V> {
    (0..slots.vectors).map(|vector| slots.at(slot, vector)).collect()
}
