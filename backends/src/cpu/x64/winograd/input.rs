//! Inputs: along each row of the tile, then down each column of points. Cells of rows outside of the image stay zero.

use iced_x86::code_asm::{AsmRegister64, eax, ecx, edx, rax, rbx};

use crate::contraction::Element;
use crate::cpu::contraction::EmittedKernel;
use crate::cpu::isa::CpuTarget;
use crate::cpu::x64::units::for_each_unit;
use crate::cpu::x64::vector::{Part, Width, at};
use crate::cpu::x64::writer::{Writer, Written};
use crate::winograd::{Shape, Transform, WinogradInput};

use super::{Factors, Transforming, count_down, register, repeat, slot};

/// The image under a tile's row.
const PIXEL: AsmRegister64 = register::POOL[0];

mod image {
    use super::slot;

    /// The first existing row under the tile, at its first column.
    pub const TILE: usize = slot::IMAGES;
    /// Existing rows under the tile.
    pub const ROWS: usize = TILE + 1;
    /// The first cell of the first existing row.
    pub const FIRST_CELL: usize = TILE + 2;
    pub const COUNT: usize = 3;
}

struct Input<'a> {
    spec: &'a WinogradInput,
    common: Transforming,
}

/// Emits the transform of inputs of f32. Operands: 0 the input, 1 the numbers.
pub fn emit_winograd_input(target: &CpuTarget, spec: &WinogradInput) -> Option<EmittedKernel> {
    let form = (spec.tiling, spec.channels);
    // Beside the results, a mask for what is stored.
    let beside = (1, image::COUNT);
    let common = Transforming::of(Width::of_target(target), form, |outputs| spec.transforms(outputs), beside)?;
    let inputs = spec.tiling.axes.map(|axis| axis.inputs_of(axis.outputs()));
    let spans = [spec.input.row, inputs[1] * spec.input.column];
    let fits = spans.iter().all(|span| i32::try_from(span.saturating_mul(4)).is_ok());
    if spec.element != Element::F32 || !fits {
        return None;
    }
    let mut w = common.writer(inputs[0]).ok()?;
    Input { spec, common }.emit(&mut w).ok()?;
    let code = w.finish(target.listing).ok()?;
    Some(EmittedKernel::new(code, spec.tiling.units(), spec.footprints()))
}

impl Input<'_> {
    fn emit(&self, w: &mut Writer) -> Written {
        for_each_unit(w, (edx, ecx), |w| {
            self.common.locate_unit(w, 1)?;
            self.common.for_each_size(w, |w, outputs| {
                self.locate_rows(w, outputs)?;
                self.common.tiles(w, outputs, self.spec.inside(), |w, shape| self.tile(w, shape))
            })
        })
    }

    /// Finds the rows under a row of tiles of so many outputs, and clears the cells.
    fn locate_rows(&self, w: &mut Writer, outputs: i64) -> Written {
        let Input { spec, common } = self;
        let axis = spec.tiling.axes[0];
        let reach = axis.inputs_of(outputs);
        let [first, end, begin] = [register::POOL[1], register::POOL[2], register::POOL[5]];
        w.a.imul_3(first, register::ROW, axis.advance() as i32)?;
        w.add(first, -spec.pads[0], rax)?;
        w.a.mov(end, first)?;
        w.add(end, reach, rax)?;
        w.constant(rbx, spec.extents[0])?;
        w.a.cmp(end, rbx)?;
        w.a.cmovg(end, rbx)?;
        w.a.mov(begin, first)?;
        w.a.xor(eax, eax)?;
        w.a.cmp(begin, rax)?;
        w.a.cmovl(begin, rax)?;
        w.a.sub(end, begin)?;
        w.a.mov(w.slot(image::ROWS), end)?;
        w.operand(register::ADDRESS, 0)?;
        w.add(register::ADDRESS, (spec.input.base - spec.pads[1] * spec.input.column) * 4, rax)?;
        w.add_product(register::ADDRESS, register::IMAGE, spec.input.batch[0] * 4, rax)?;
        w.add_product(register::ADDRESS, begin, spec.input.row * 4, rax)?;
        w.a.mov(w.slot(image::TILE), register::ADDRESS)?;
        w.a.sub(begin, first)?;
        w.a.mov(register::CELL, w.slot(slot::CELLS))?;
        w.add_product(register::CELL, begin, common.cell_row(), rax)?;
        w.a.mov(w.slot(image::FIRST_CELL), register::CELL)?;
        if spec.has_rows_outside() { self.clear_cells(w, reach) } else { Ok(()) }
    }

    fn clear_cells(&self, w: &mut Writer, rows: i64) -> Written {
        w.zero(0)?;
        w.a.mov(register::CELL, w.slot(slot::CELLS))?;
        repeat(w, rows * self.spec.tiling.axes[1].points, |w| {
            w.store(at(register::CELL, 0), 0, Part::Whole, None)?;
            Ok(w.a.add(register::CELL, self.common.cell_bytes() as i32)?)
        })
    }

    fn tile(&self, w: &mut Writer, shape: Shape) -> Written {
        let Input { spec, common } = self;
        let both = spec.transforms(shape.outputs);
        let factors = common.load_factors(w, &both)?;
        let columns = spec.columns_of(shape);
        common.for_each_vector(w, |w, part| {
            self.along_rows(w, (&factors, &both[1]), &columns, part)?;
            common.columns_of_points(w, shape, |w, numbers| {
                for row in 0..both[0].operands {
                    w.load(row, at(register::CELL, row as i64 * common.cell_row()), Part::Whole)?;
                }
                factors.apply(w, &both[0])?;
                let points = both[0].results.iter().enumerate();
                points
                    .into_iter()
                    .try_for_each(|(point, &slot)| w.store(numbers(point), slot, part, Some(common.spare())))
            })
        })?;
        w.constant(rax, spec.tiling.axes[1].advance() * spec.input.column * 4)?;
        Ok(w.a.add(w.slot(image::TILE), rax)?)
    }

    /// Existing rows of the tile to cells; `columns` are those that exist.
    fn along_rows(
        &self,
        w: &mut Writer,
        (factors, transform): (&Factors, &Transform),
        columns: &[usize],
        part: Part,
    ) -> Written {
        let Input { spec, common } = self;
        w.a.mov(PIXEL, w.slot(image::TILE))?;
        w.a.add(PIXEL, register::CHANNEL)?;
        w.a.mov(register::CELL, w.slot(image::FIRST_CELL))?;
        w.a.mov(register::LEFT, w.slot(image::ROWS))?;
        count_down(w, |w| {
            for place in 0..transform.operands {
                if columns.contains(&place) {
                    w.load(place, at(PIXEL, place as i64 * spec.input.column * 4), part)?;
                } else {
                    w.zero(place)?;
                }
            }
            factors.apply(w, transform)?;
            for (point, &slot) in transform.results.iter().enumerate() {
                w.store(at(register::CELL, point as i64 * common.cell_bytes()), slot, Part::Whole, None)?;
            }
            w.add(register::CELL, common.cell_row(), rax)?;
            w.add(PIXEL, spec.input.row * 4, rax)
        })
    }
}
