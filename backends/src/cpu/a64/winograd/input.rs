//! Inputs: along each row of the tile, then down each column of points. Cells of rows outside of the image stay zero.

use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, Cond, Instruction, SP, V, X, ZERO};
use crate::cpu::a64::units::for_each_unit;
use crate::cpu::contraction::EmittedKernel;
use crate::cpu::isa::CpuTarget;
use crate::winograd::{Shape, Transform, WinogradInput};

use super::{CELLS_SLOT, Factors, Slots, Transforming, register};

/// The image while a unit is at work.
mod image {
    use super::{X, register};

    /// The first existing row under the tile, at its first column.
    pub const TILE: X = register::POOL[0];
    pub const PIXEL: X = register::POOL[1];
    /// From one pixel to the next, and from behind a row of the tile to the next.
    pub const STEP: X = register::POOL[2];
    pub const BACK: X = register::POOL[3];
    /// Existing rows under the tile, and the bytes of the cells above them.
    pub const ROWS: X = register::POOL[4];
    pub const ABOVE: X = register::POOL[5];
}

/// Emits the transform of inputs. Operands: 0 the input, 1 the numbers.
pub fn emit_winograd_input(target: &CpuTarget, spec: &WinogradInput) -> Option<EmittedKernel> {
    let form = (spec.element, spec.tiling, spec.channels);
    let input = Input { spec, common: Transforming::of(form, &|outputs| spec.transforms(outputs)) };
    let axis = spec.tiling.axes[0];
    let rows = axis.inputs_of(axis.outputs());
    let mut assembler = Assembler::new(target, input.common.stack_words(rows));
    let [unit, end, ..] = register::SCRATCH;
    let prepare = |a: &mut Assembler| {
        input.common.prepare(a);
        a.constant(image::STEP, spec.input.column * spec.element.bytes());
    };
    for_each_unit(&mut assembler, [unit, end], prepare, |a| {
        // Their other uses begin behind the unit's location.
        let (image, row) = (register::NUMBERS[0], register::NUMBERS[1]);
        input.common.locate_unit(a, unit, 1, (image, row));
        input.common.for_each_size(a, row, |a, outputs| {
            input.locate_rows(a, outputs, (image, row));
            input.common.tiles(a, outputs, spec.inside(), |a, shape| input.tile(a, shape))
        })
    })?;
    Some(EmittedKernel::new(assembler.finish(target.listing), spec.tiling.units(), spec.footprints()))
}

struct Input<'a> {
    spec: &'a WinogradInput,
    common: Transforming,
}

impl Input<'_> {
    fn size(&self) -> i64 {
        self.spec.element.bytes()
    }

    /// Finds the rows under a row of tiles of so many outputs, and clears the cells.
    fn locate_rows(&self, a: &mut Assembler, outputs: i64, (image, row): (X, X)) {
        let [first, end, limit, scratch] = register::SCRATCH;
        let Input { spec, common } = self;
        let axis = spec.tiling.axes[0];
        let reach = axis.inputs_of(outputs);
        a.add_product(first, row, axis.advance(), ZERO, scratch);
        a.add(first, first, -spec.pads[0], scratch);
        a.add(end, first, reach, scratch);
        a.constant(limit, spec.extents[0]);
        a.push(Instruction::Compare(end, limit));
        a.push(Instruction::Choose(end, end, limit, Cond::Less));
        a.push(Instruction::Compare(first, ZERO));
        a.push(Instruction::Choose(limit, first, ZERO, Cond::GreaterEqual));
        a.push(Instruction::Sub(image::ROWS, end, limit));
        a.push(Instruction::Sub(first, limit, first));
        a.add_product(image::ABOVE, first, common.columns as i64 * common.cell_bytes(), ZERO, scratch);
        a.push(Instruction::Word(Access::Load, image::TILE, register::BASES, 0));
        let start = spec.input.base - spec.pads[1] * spec.input.column;
        a.add(image::TILE, image::TILE, start * self.size(), scratch);
        a.add_product(image::TILE, image, spec.input.batch[0] * self.size(), image::TILE, scratch);
        a.add_product(image::TILE, limit, spec.input.row * self.size(), image::TILE, scratch);
        if spec.has_rows_outside() {
            self.clear_cells(a, reach);
        }
    }

    fn clear_cells(&self, a: &mut Assembler, rows: i64) {
        let vectors = self.common.vectors as u8;
        (0..vectors).for_each(|vector| a.push(Instruction::Zero(V(vector))));
        self.first_cell(a);
        super::repeat(a, rows * self.common.columns as i64, |a| {
            a.push(Instruction::Multiple(Access::Store, V(0), vectors, register::CELL, After::Past));
        });
    }

    fn first_cell(&self, a: &mut Assembler) {
        let at = i64::from(Assembler::slot_offset(CELLS_SLOT));
        a.add(register::CELL, SP, at, register::SCRATCH[0]);
    }

    fn tile(&self, a: &mut Assembler, shape: Shape) -> Option<()> {
        let spec = self.spec;
        let both = spec.transforms(shape.outputs);
        let factors = Factors::of(spec.element, &both);
        factors.load(a);
        let columns = spec.columns_of(shape);
        let step = spec.input.column * self.size();
        a.constant(image::BACK, spec.input.row * self.size() - columns.len() as i64 * step);
        self.common.groups(a, &factors, |a, slots| {
            self.along_rows(a, (&factors, &both[1]), &columns, slots);
            self.common.columns_of_points(a, shape, |a, numbers| {
                for row in 0..both[0].operands {
                    slots.move_slot(a, Access::Load, row, register::CELL, After::By(register::CELL_ROW));
                }
                let back = self.common.cell_bytes() * (1 - (both[0].operands * self.common.columns) as i64);
                a.add(register::CELL, register::CELL, back, register::SCRATCH[0]);
                factors.apply(a, &both[0], slots);
                for (point, &slot) in both[0].results.iter().enumerate() {
                    let (address, after) = numbers(point);
                    slots.move_slot(a, Access::Store, slot, address, after);
                }
            });
            Some(())
        })?;
        let columns = spec.tiling.axes[1].advance();
        a.add(image::TILE, image::TILE, columns * step, register::SCRATCH[0]);
        Some(())
    }

    /// Existing rows of the tile to cells; `columns` are those that exist.
    fn along_rows(
        &self,
        a: &mut Assembler,
        (factors, transform): (&Factors, &Transform),
        columns: &[usize],
        slots: Slots,
    ) {
        let [scratch, ..] = register::SCRATCH;
        a.push(Instruction::Add(image::PIXEL, image::TILE, register::CHANNEL));
        let first = columns.first().map_or(0, |&first| first as i64);
        a.add(image::PIXEL, image::PIXEL, first * self.spec.input.column * self.size(), scratch);
        self.first_cell(a);
        a.push(Instruction::Add(register::CELL, register::CELL, image::ABOVE));
        a.push(Instruction::Mov(register::LEFT, image::ROWS));
        let head = a.here();
        for place in 0..transform.operands {
            if columns.contains(&place) {
                slots.move_slot(a, Access::Load, place, image::PIXEL, After::By(image::STEP));
            } else {
                (0..slots.vectors).for_each(|vector| a.push(Instruction::Zero(slots.at(place, vector))));
            }
        }
        factors.apply(a, transform, slots);
        for &slot in &transform.results {
            slots.move_slot(a, Access::Store, slot, register::CELL, self.common.after_cell(slots));
        }
        let behind = self.common.columns - transform.results.len();
        a.add(register::CELL, register::CELL, behind as i64 * self.common.cell_bytes(), scratch);
        a.push(Instruction::Add(image::PIXEL, image::PIXEL, image::BACK));
        a.push(Instruction::SubsImmediate(register::LEFT, register::LEFT, 1));
        a.push(Instruction::BranchIf(Cond::NotEqual, head));
    }
}
