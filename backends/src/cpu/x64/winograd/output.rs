//! Sums to results: down each column of points, then along each row of outputs, with the epilogue.

use iced_x86::code_asm::{AsmRegister64, ecx, edx, rax};

use crate::contraction::{Element, Strides};
use crate::cpu::contraction::EmittedKernel;
use crate::cpu::formula::Formula;
use crate::cpu::isa::CpuTarget;
use crate::cpu::x64::compute;
use crate::cpu::x64::units::for_each_unit;
use crate::cpu::x64::vector::{Part, Place, Width, at};
use crate::cpu::x64::writer::{Unwritten, Writer, Written};
use crate::winograd::{Shape, Transform, WinogradOutput};

use super::{Factors, Transforming, register, repeat, slot};

/// The output or a further operand.
#[derive(Clone, Copy)]
struct Plane<'a> {
    /// Its number in the epilogue; 0 is the output.
    number: u16,
    strides: &'a Strides,
    /// The word of the stack for its first pixel under the tile.
    tile: usize,
    /// The row of pixels at work; `None` where it is the same for all pixels.
    pixel: Option<AsmRegister64>,
}

struct Output<'a> {
    spec: &'a WinogradOutput,
    common: Transforming,
    formula: Formula,
    output: Plane<'a>,
    further: Vec<Plane<'a>>,
}

/// Emits the transform of sums of f32, where it has an epilogue that is written here. Operands: 0 the sums, 1 the output, 2.. the
/// further operands.
pub fn emit_winograd_output(target: &CpuTarget, spec: &WinogradOutput) -> Option<EmittedKernel> {
    let output = Output::of(Width::of_target(target), spec)?;
    let mut w = output.common.writer(spec.tiling.axes[0].outputs()).ok()?;
    output.emit(&mut w).ok()?;
    let code = w.finish(target.listing).ok()?;
    Some(EmittedKernel::new(code, spec.tiling.units(), spec.footprints()))
}

impl<'a> Output<'a> {
    fn of(width: Width, spec: &'a WinogradOutput) -> Option<Self> {
        let formula = Formula::of(spec.element, &spec.epilogue).filter(|_| spec.element == Element::F32)?;
        let mut pool = register::POOL.into_iter();
        let output = Plane { number: 0, strides: &spec.output, tile: slot::IMAGES, pixel: Some(pool.next()?) };
        let mut further = Vec::new();
        for number in formula.operands() {
            let strides = &spec.operands[number as usize - 1];
            let moves = strides.row != 0 || strides.column != 0;
            let pixel = if moves { Some(pool.next()?) } else { None };
            further.push(Plane { number, strides, tile: output.tile + 1 + further.len(), pixel });
        }
        let axis = spec.tiling.axes[1];
        let spans = [&output]
            .into_iter()
            .chain(&further)
            .flat_map(|plane| [plane.strides.row, axis.outputs() * plane.strides.column]);
        let fits = spans.into_iter().all(|span| i32::try_from(span.saturating_mul(4)).is_ok());
        // Beside the results: what the formula takes, each operand, and a mask for what is stored.
        let beside = compute::registers(width, &formula)? + further.len() + 1;
        let form = (spec.tiling, spec.channels);
        let images = 1 + further.len();
        let common = Transforming::of(width, form, |outputs| spec.transforms(outputs), (beside, images))?;
        fits.then_some(Output { spec, common, formula, output, further })
    }

    fn planes(&self) -> impl Iterator<Item = &Plane<'a>> {
        [&self.output].into_iter().chain(&self.further)
    }

    fn emit(&self, w: &mut Writer) -> Written {
        let whole = self.spec.tiling.extents[1] / self.spec.tiling.axes[1].outputs();
        for_each_unit(w, (edx, ecx), |w| {
            self.common.locate_unit(w, 0)?;
            self.locate_planes(w)?;
            self.common.for_each_size(w, |w, outputs| {
                self.common.tiles(w, outputs, [0, whole], |w, shape| self.tile(w, shape))
            })
        })
    }

    /// Finds the output and the operands under a row of tiles.
    fn locate_planes(&self, w: &mut Writer) -> Written {
        let rows = self.spec.tiling.axes[0].outputs();
        for plane in self.planes() {
            w.operand(register::ADDRESS, 1 + plane.number as usize)?;
            w.add(register::ADDRESS, plane.strides.base * 4, rax)?;
            w.add_product(register::ADDRESS, register::IMAGE, plane.strides.batch[0] * 4, rax)?;
            w.add_product(register::ADDRESS, register::ROW, rows * plane.strides.row * 4, rax)?;
            w.a.mov(w.slot(plane.tile), register::ADDRESS)?;
        }
        Ok(())
    }

    fn tile(&self, w: &mut Writer, shape: Shape) -> Written {
        let common = &self.common;
        let both = self.spec.transforms(shape.outputs);
        let factors = common.load_factors(w, &both)?;
        common.for_each_vector(w, |w, part| {
            common.columns_of_points(w, shape, |w, numbers| {
                (0..both[0].operands).try_for_each(|point| w.load(point, numbers(point), part))?;
                factors.apply(w, &both[0])?;
                let results = both[0].results.iter().enumerate();
                results.into_iter().try_for_each(|(row, &slot)| {
                    let cell = at(register::CELL, row as i64 * common.cell_row());
                    w.store(cell, slot, Part::Whole, None)
                })
            })?;
            self.along_rows(w, (&factors, &both[1]), shape, part)
        })?;
        let columns = self.spec.tiling.axes[1].outputs();
        for plane in self.planes().filter(|plane| plane.strides.column != 0) {
            w.constant(rax, columns * plane.strides.column * 4)?;
            w.a.add(w.slot(plane.tile), rax)?;
        }
        Ok(())
    }

    /// Cells to stored results.
    fn along_rows(
        &self,
        w: &mut Writer,
        (factors, transform): (&Factors, &Transform),
        shape: Shape,
        part: Part,
    ) -> Written {
        for plane in self.planes() {
            if let Some(pixel) = plane.pixel {
                w.a.mov(pixel, w.slot(plane.tile))?;
                if plane.strides.channel == 1 {
                    w.a.add(pixel, register::CHANNEL)?;
                }
            }
        }
        w.a.mov(register::CELL, w.slot(slot::CELLS))?;
        repeat(w, shape.outputs[0], |w| {
            for point in 0..transform.operands {
                w.load(point, at(register::CELL, point as i64 * self.common.cell_bytes()), Part::Whole)?;
            }
            factors.apply(w, transform)?;
            self.row(w, &transform.results, part)?;
            w.add(register::CELL, self.common.cell_row(), rax)?;
            self.planes().try_for_each(|plane| match plane.pixel {
                Some(pixel) => w.add(pixel, plane.strides.row * 4, rax),
                None => Ok(()),
            })
        })
    }

    /// The epilogue and the stores of a row of results.
    fn row(&self, w: &mut Writer, results: &[usize], part: Part) -> Written {
        let last = w.width.registers() - self.common.factors;
        let mut free: Vec<usize> = (0..last).filter(|register| !results.contains(register)).collect();
        let spare = free.pop();
        let mut operands = Vec::new();
        for plane in &self.further {
            let value = free.pop().ok_or(Unwritten::Registers)?;
            operands.push((plane.number, value));
            if plane.pixel.is_none() {
                w.a.mov(rax, w.slot(plane.tile))?;
                let place = if plane.strides.channel == 1 { at(rax, 0).indexed(register::CHANNEL) } else { at(rax, 0) };
                load_operand(w, plane, (value, place), part)?;
            }
        }
        for (column, &result) in results.iter().enumerate() {
            for (plane, &(_, value)) in self.further.iter().zip(&operands) {
                if let Some(pixel) = plane.pixel {
                    let place = at(pixel, column as i64 * plane.strides.column * 4);
                    load_operand(w, plane, (value, place), part)?;
                }
            }
            compute::emit(w, &self.formula, result, &operands, free.clone())?;
            if let Some(pixel) = self.output.pixel {
                w.store(at(pixel, column as i64 * self.output.strides.column * 4), result, part, spare)?;
            }
        }
        Ok(())
    }
}

fn load_operand(w: &mut Writer, plane: &Plane<'_>, (value, place): (usize, Place), part: Part) -> Written {
    if plane.strides.channel == 1 { w.load(value, place, part) } else { w.spread(value, place) }
}
