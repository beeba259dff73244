//! The transforms of Winograd's convolution. A unit of the range is one row of tiles of one image. A tile's numbers go through
//! the stack between columns and rows. Inputs outside of the image are zero; results outside of it are written where a result
//! of the image lies, which is written later.

use iced_x86::code_asm::{AsmRegister64, ecx, edx, r8, r9, r10, r11, r12, r13, r14, rax, rbx, rcx, rdx, rsi};

use crate::contraction::{Element, Strides};
use crate::cpu::contraction::EmittedKernel;
use crate::cpu::formula::Formula;
use crate::cpu::isa::CpuTarget;
use crate::winograd::{INPUTS, MATRICES, OUTPUTS, WinogradInput, WinogradOutput};

use super::compute;
use super::units::{self, for_each_unit};
use super::vector::{Part, Place, Source, Two, Width, at};
use super::writer::{Unwritten, Writer, Written};

/// The rows of the tile's input, at the tile's first column; 0 where a row lies outside.
const ROWS: [AsmRegister64; INPUTS as usize] = [r8, r9, r10, r11, r12, r13];
/// Bytes of channels that are done.
const CHANNEL: AsmRegister64 = rcx;
/// The tile's 36 numbers of each channel.
const NUMBERS: AsmRegister64 = rsi;
/// The tile's first row or column in the image.
const POSITION: AsmRegister64 = r14;

mod slot {
    use super::{INPUTS, OUTPUTS, units};

    /// The number of the tile in its row.
    pub const TILE: usize = units::SLOTS;
    pub const IMAGE: usize = TILE + 1;
    pub const ROW: usize = TILE + 2;
    pub const NUMBERS: usize = TILE + 3;
    /// Addresses of the input's rows, 0 outside; whether its columns are inside; the number of rows that are not.
    pub const INPUT_ROWS: usize = TILE + 4;
    pub const INPUT_COLUMNS: usize = INPUT_ROWS + INPUTS as usize;
    pub const ROWS_OUTSIDE: usize = INPUT_COLUMNS + INPUTS as usize;
    pub const INPUT_MIDDLE: usize = ROWS_OUTSIDE + 1;
    /// For the output and each further operand, addresses of rows, and bytes of columns from there.
    pub const PLANES: usize = TILE + 4;
    pub const PLANE: usize = 2 * OUTPUTS as usize;
}

/// Emits the transform of inputs. Operands: 0 the input, 1 the transformed input.
pub fn emit_winograd_input(target: &CpuTarget, spec: &WinogradInput) -> Option<EmittedKernel> {
    let width = Width::of_target(target);
    let fits = [spec.input.row, spec.input.column, MATRICES * spec.channels].into_iter().all(is_near);
    let mut w = Writer::new(width, slot::INPUT_MIDDLE + words(width, MATRICES)).ok().filter(|_| fits)?;
    InputTransform(spec).emit(&mut w).ok()?;
    let code = w.finish(target.listing).ok()?;
    Some(EmittedKernel::new(code, spec.images * spec.tiles[0], spec.footprints()))
}

/// Emits the transform of sums, with the epilogue. Operands: 0 the sums, 1 the output, 2.. the further operands.
pub fn emit_winograd_output(target: &CpuTarget, spec: &WinogradOutput) -> Option<EmittedKernel> {
    let width = Width::of_target(target);
    let formula = Formula::of(Element::F32, &spec.epilogue)?;
    let planes = 1 + spec.operands.len();
    let fits = [&spec.output].into_iter().chain(&spec.operands).all(|s| is_near(s.row) && is_near(s.column));
    let fits = fits && is_near(MATRICES * spec.channels);
    let middle = slot::PLANES + planes * slot::PLANE;
    let mut w = Writer::new(width, middle + words(width, OUTPUTS * INPUTS)).ok().filter(|_| fits)?;
    OutputTransform { spec, formula, middle }.emit(&mut w).ok()?;
    let code = w.finish(target.listing).ok()?;
    Some(EmittedKernel::new(code, spec.images * spec.tiles[0], spec.footprints()))
}

/// Words of the stack for so many vectors.
fn words(width: Width, vectors: i64) -> usize {
    (vectors * width.bytes() / 8) as usize
}

/// Whether a tile's distances over so many elements are encoded in 32 bits.
fn is_near(elements: i64) -> bool {
    i32::try_from(elements.saturating_mul(4 * MATRICES)).is_ok()
}

/// Fills the slots of a unit, whose number is in rax: image, row of tiles, and its numbers, operand `index`.
fn locate_unit(w: &mut Writer, index: usize, tiles: [i64; 2], channels: i64) -> Written {
    w.operand(NUMBERS, index)?;
    w.add_product(NUMBERS, rax, tiles[1] * MATRICES * channels * 4, rbx)?;
    w.a.mov(w.slot(slot::NUMBERS), NUMBERS)?;
    w.split(tiles[0])?;
    w.a.mov(w.slot(slot::IMAGE), rax)?;
    Ok(w.a.mov(w.slot(slot::ROW), rdx)?)
}

/// Runs the body for each of a row's tiles.
fn for_each_tile(w: &mut Writer, count: i64, body: impl FnOnce(&mut Writer) -> Written) -> Written {
    w.a.mov(w.slot(slot::TILE), 0)?;
    let mut head = w.a.create_label();
    w.a.set_label(&mut head)?;
    body(w)?;
    w.a.inc(w.slot(slot::TILE))?;
    w.constant(rax, count)?;
    w.a.cmp(w.slot(slot::TILE), rax)?;
    Ok(w.a.jl(head)?)
}

/// Runs the body for each vector of channels, at `CHANNEL`.
fn for_each_vector(w: &mut Writer, channels: i64, mut body: impl FnMut(&mut Writer, Part) -> Written) -> Written {
    let (vectors, rest) = (channels / w.width.lanes(), channels % w.width.lanes());
    w.constant(CHANNEL, 0)?;
    if vectors > 0 {
        let mut head = w.a.create_label();
        w.a.set_label(&mut head)?;
        body(w, Part::Whole)?;
        w.a.add(CHANNEL, w.width.bytes() as i32)?;
        w.constant(rax, vectors * w.width.bytes())?;
        w.a.cmp(CHANNEL, rax)?;
        w.a.jl(head)?;
    }
    if rest > 0 { body(w, Part::Existing) } else { Ok(()) }
}

/// `B' d` of the six vectors in registers 0..6; the registers of its six.
fn transform_input(w: &mut Writer) -> Written<[usize; INPUTS as usize]> {
    let number = |w: &mut Writer, value: f32| w.constant_lanes(value.to_bits());
    let [four, minus_five, minus_four] = [4.0, -5.0, -4.0].map(|value| number(w, value));
    let (first, even, odd, second, far_odd, fourth) = (6, 7, 8, 9, 10, 11);
    w.copy(first, 4)?;
    w.two(Two::MultiplyAdd, first, 0, four)?;
    w.two(Two::MultiplyAdd, first, 2, minus_five)?;
    w.two(Two::MultiplyAdd, 5, 1, four)?;
    w.two(Two::MultiplyAdd, 5, 3, minus_five)?;
    w.copy(even, 4)?;
    w.two(Two::MultiplyAdd, even, 2, minus_four)?;
    w.copy(odd, 3)?;
    w.two(Two::MultiplyAdd, odd, 1, minus_four)?;
    w.two(Two::Add, second, even, Source::Register(odd))?;
    let third = even;
    w.two(Two::Subtract, third, even, Source::Register(odd))?;
    let far_even = odd;
    w.two(Two::Subtract, far_even, 4, Source::Register(2))?;
    w.two(Two::Subtract, far_odd, 3, Source::Register(1))?;
    w.two(Two::Add, far_odd, far_odd, Source::Register(far_odd))?;
    w.two(Two::Add, fourth, far_even, Source::Register(far_odd))?;
    let fifth = far_even;
    w.two(Two::Subtract, fifth, far_even, Source::Register(far_odd))?;
    Ok([first, second, third, fourth, fifth, 5])
}

/// `A' m` of the six vectors in registers 0..6; the registers of its four.
fn transform_sums(w: &mut Writer) -> Written<[usize; OUTPUTS as usize]> {
    let number = |w: &mut Writer, value: f32| w.constant_lanes(value.to_bits());
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|value| number(w, value));
    let (even, odd, far_even, far_odd) = (6, 7, 8, 9);
    w.two(Two::Add, even, 1, Source::Register(2))?;
    w.two(Two::Subtract, odd, 1, Source::Register(2))?;
    w.two(Two::Add, far_even, 3, Source::Register(4))?;
    w.two(Two::Subtract, far_odd, 3, Source::Register(4))?;
    w.two(Two::Add, 0, 0, Source::Register(even))?;
    w.two(Two::Add, 0, 0, Source::Register(far_even))?;
    w.two(Two::MultiplyAdd, 5, far_odd, eight)?;
    w.two(Two::Add, 5, 5, Source::Register(odd))?;
    w.two(Two::MultiplyAdd, even, far_even, four)?;
    w.two(Two::MultiplyAdd, odd, far_odd, two)?;
    Ok([0, odd, even, 5])
}

struct InputTransform<'a>(&'a WinogradInput);

impl InputTransform<'_> {
    fn emit(&self, w: &mut Writer) -> Written {
        let spec = self.0;
        let rest = spec.channels % w.width.lanes();
        w.set_tail(rest, rest)?;
        for_each_unit(w, (edx, ecx), |w| {
            locate_unit(w, 1, spec.tiles, spec.channels)?;
            self.locate_rows(w)?;
            for_each_tile(w, spec.tiles[1], |w| self.tile(w))
        })
    }

    /// The rows of the unit's tiles, at the first tile's first column.
    fn locate_rows(&self, w: &mut Writer) -> Written {
        let Strides { base, batch, row, column, .. } = &self.0.input;
        let address = ROWS[0];
        w.operand(address, 0)?;
        w.add(address, (base - self.0.pads[0] * row - self.0.pads[1] * column) * 4, rax)?;
        w.a.mov(rbx, w.slot(slot::IMAGE))?;
        w.add_product(address, rbx, batch[0] * 4, rax)?;
        w.a.mov(POSITION, w.slot(slot::ROW))?;
        w.add_product(address, POSITION, OUTPUTS * row * 4, rax)?;
        w.a.shl(POSITION, 2)?;
        w.add(POSITION, -self.0.pads[0], rax)?;
        w.a.mov(w.slot(slot::ROWS_OUTSIDE), 0)?;
        w.constant(rdx, self.0.extents[0])?;
        for place in 0..INPUTS as usize {
            let (mut outside, mut next) = (w.a.create_label(), w.a.create_label());
            w.a.cmp(POSITION, rdx)?;
            w.a.jae(outside)?;
            w.a.mov(w.slot(slot::INPUT_ROWS + place), address)?;
            w.a.jmp(next)?;
            w.a.set_label(&mut outside)?;
            w.a.mov(w.slot(slot::INPUT_ROWS + place), 0)?;
            w.a.inc(w.slot(slot::ROWS_OUTSIDE))?;
            w.a.set_label(&mut next)?;
            w.a.inc(POSITION)?;
            w.add(address, row * 4, rax)?;
        }
        Ok(())
    }

    /// A tile inside of the input, or one whose rows and columns are tested.
    fn tile(&self, w: &mut Writer) -> Written {
        let spec = self.0;
        w.a.mov(POSITION, w.slot(slot::TILE))?;
        w.a.mov(NUMBERS, w.slot(slot::NUMBERS))?;
        w.add_product(NUMBERS, POSITION, MATRICES * spec.channels * 4, rax)?;
        w.constant(rbx, 0)?;
        w.add_product(rbx, POSITION, OUTPUTS * spec.input.column * 4, rax)?;
        w.a.shl(POSITION, 2)?;
        w.add(POSITION, -spec.pads[1], rax)?;
        for (place, row) in ROWS.into_iter().enumerate() {
            let mut outside = w.a.create_label();
            w.a.mov(row, w.slot(slot::INPUT_ROWS + place))?;
            w.a.test(row, row)?;
            w.a.je(outside)?;
            w.a.add(row, rbx)?;
            w.a.set_label(&mut outside)?;
            w.a.nop()?;
        }
        let (mut border, mut exit) = (w.a.create_label(), w.a.create_label());
        if spec.extents.iter().all(|&extent| extent >= INPUTS) {
            w.a.cmp(w.slot(slot::ROWS_OUTSIDE), 0)?;
            w.a.jne(border)?;
            w.constant(rax, spec.extents[1] - INPUTS + 1)?;
            w.a.cmp(POSITION, rax)?;
            w.a.jae(border)?;
            for_each_vector(w, spec.channels, |w, part| self.vector(w, part, true))?;
            w.a.jmp(exit)?;
        }
        w.a.set_label(&mut border)?;
        w.constant(rdx, spec.extents[1])?;
        for place in 0..INPUTS as usize {
            w.constant(rax, 0)?;
            w.a.cmp(POSITION, rdx)?;
            w.a.setb(iced_x86::code_asm::al)?;
            w.a.mov(w.slot(slot::INPUT_COLUMNS + place), rax)?;
            w.a.inc(POSITION)?;
        }
        for_each_vector(w, spec.channels, |w, part| self.vector(w, part, false))?;
        w.a.set_label(&mut exit)?;
        Ok(w.a.nop()?)
    }

    /// The numbers between columns and rows.
    fn middle(&self, w: &Writer, row: i64, column: i64) -> Place {
        w.stack(slot::INPUT_MIDDLE).moved((row * INPUTS + column) * w.width.bytes())
    }

    /// One vector of channels of a tile.
    fn vector(&self, w: &mut Writer, part: Part, is_inside: bool) -> Written {
        let spec = self.0;
        for column in 0..INPUTS {
            let (mut outside, mut next) = (w.a.create_label(), w.a.create_label());
            if !is_inside {
                w.a.cmp(w.slot(slot::INPUT_COLUMNS + column as usize), 0)?;
                w.a.je(outside)?;
            }
            for (place, row) in ROWS.into_iter().enumerate() {
                let input = at(row, column * spec.input.column * 4).indexed(CHANNEL);
                if is_inside {
                    w.load(place, input, part)?;
                    continue;
                }
                let mut skipped = w.a.create_label();
                w.zero(place)?;
                w.a.test(row, row)?;
                w.a.je(skipped)?;
                w.load(place, input, part)?;
                w.a.set_label(&mut skipped)?;
                w.a.nop()?;
            }
            for (row, register) in transform_input(w)?.into_iter().enumerate() {
                let place = self.middle(w, row as i64, column);
                w.store(place, register, Part::Whole, None)?;
            }
            if !is_inside {
                w.a.jmp(next)?;
                w.a.set_label(&mut outside)?;
                w.zero(0)?;
                for row in 0..INPUTS {
                    let place = self.middle(w, row, column);
                    w.store(place, 0, Part::Whole, None)?;
                }
                w.a.set_label(&mut next)?;
                w.a.nop()?;
            }
        }
        for row in 0..INPUTS {
            for column in 0..INPUTS {
                let place = self.middle(w, row, column);
                w.load(column as usize, place, Part::Whole)?;
            }
            for (column, register) in transform_input(w)?.into_iter().enumerate() {
                let matrix = row * INPUTS + column as i64;
                let place = at(NUMBERS, matrix * spec.channels * 4).indexed(CHANNEL);
                w.store(place, register, part, Some(15))?;
            }
        }
        Ok(())
    }
}

struct OutputTransform<'a> {
    spec: &'a WinogradOutput,
    formula: Formula,
    /// The first word of the numbers between columns and rows.
    middle: usize,
}

impl OutputTransform<'_> {
    fn emit(&self, w: &mut Writer) -> Written {
        let rest = self.spec.channels % w.width.lanes();
        w.set_tail(rest, rest)?;
        for_each_unit(w, (edx, ecx), |w| {
            locate_unit(w, 0, self.spec.tiles, self.spec.channels)?;
            self.locate_rows(w)?;
            for_each_tile(w, self.spec.tiles[1], |w| self.tile(w))
        })
    }

    /// The output and the further operands.
    fn planes(&self) -> impl Iterator<Item = (usize, &Strides)> {
        [&self.spec.output].into_iter().chain(&self.spec.operands).enumerate()
    }

    /// `rbx = min(4 number + place, extent - 1)` along an axis, where the number is in `POSITION`.
    fn clamped(&self, w: &mut Writer, axis: usize, place: i64) -> Written {
        w.a.mov(rbx, POSITION)?;
        w.a.shl(rbx, 2)?;
        w.add(rbx, place, rax)?;
        if self.spec.extents[axis] % OUTPUTS != 0 {
            w.constant(rax, self.spec.extents[axis] - 1)?;
            w.a.cmp(rbx, rax)?;
            w.a.cmovg(rbx, rax)?;
        }
        Ok(())
    }

    fn locate_rows(&self, w: &mut Writer) -> Written {
        w.a.mov(POSITION, w.slot(slot::ROW))?;
        let address = r8;
        for place in 0..OUTPUTS {
            self.clamped(w, 0, place)?;
            for (plane, strides) in self.planes() {
                w.operand(address, 1 + plane)?;
                w.add(address, strides.base * 4, rax)?;
                w.a.mov(r9, w.slot(slot::IMAGE))?;
                w.add_product(address, r9, strides.batch[0] * 4, rax)?;
                w.add_product(address, rbx, strides.row * 4, rax)?;
                w.a.mov(w.slot(slot::PLANES + plane * slot::PLANE + place as usize), address)?;
            }
        }
        Ok(())
    }

    fn tile(&self, w: &mut Writer) -> Written {
        w.a.mov(POSITION, w.slot(slot::TILE))?;
        w.a.mov(NUMBERS, w.slot(slot::NUMBERS))?;
        w.add_product(NUMBERS, POSITION, MATRICES * self.spec.channels * 4, rax)?;
        for place in 0..OUTPUTS {
            self.clamped(w, 1, place)?;
            for (plane, strides) in self.planes() {
                w.constant(r8, 0)?;
                w.add_product(r8, rbx, strides.column * 4, rax)?;
                w.a.mov(w.slot(slot::PLANES + plane * slot::PLANE + (OUTPUTS + place) as usize), r8)?;
            }
        }
        for_each_vector(w, self.spec.channels, |w, part| self.vector(w, part))
    }

    /// One vector of channels of a tile. Rows and columns are stored from the last to the first: those outside of the output
    /// are written onto its last, before that is.
    fn vector(&self, w: &mut Writer, part: Part) -> Written {
        let channels = self.spec.channels;
        let middle = |w: &Writer, row: i64, column: i64| -> Place {
            w.stack(self.middle).moved((row * INPUTS + column) * w.width.bytes())
        };
        for column in 0..INPUTS {
            for row in 0..INPUTS {
                let place = at(NUMBERS, (row * INPUTS + column) * channels * 4).indexed(CHANNEL);
                w.load(row as usize, place, part)?;
            }
            for (row, register) in transform_sums(w)?.into_iter().enumerate() {
                let place = middle(w, row as i64, column);
                w.store(place, register, Part::Whole, None)?;
            }
        }
        for row in (0..OUTPUTS).rev() {
            for column in 0..INPUTS {
                let place = middle(w, row, column);
                w.load(column as usize, place, Part::Whole)?;
            }
            let results = transform_sums(w)?;
            for column in (0..OUTPUTS as usize).rev() {
                self.result(w, (row as usize, column), &results, part)?;
            }
        }
        Ok(())
    }

    /// The epilogue of a column of a row, and its store.
    fn result(
        &self,
        w: &mut Writer,
        (row, column): (usize, usize),
        results: &[usize; OUTPUTS as usize],
        part: Part,
    ) -> Written {
        let waits = |register: &usize| !results[..=column].contains(register);
        let mut free: Vec<usize> = (0..w.width.registers()).filter(waits).collect();
        let spare = free.pop();
        let locate = |w: &mut Writer, plane: usize| -> Written {
            let first = slot::PLANES + plane * slot::PLANE;
            w.a.mov(rax, w.slot(first + row))?;
            Ok(w.a.add(rax, w.slot(first + OUTPUTS as usize + column))?)
        };
        let mut operands = Vec::new();
        for number in self.formula.operands() {
            let value = free.pop().ok_or(Unwritten::Registers)?;
            locate(w, number as usize)?;
            match self.spec.operands[number as usize - 1].channel {
                0 => w.spread(value, at(rax, 0))?,
                _ => w.load(value, at(rax, 0).indexed(CHANNEL), part)?,
            }
            operands.push((number, value));
        }
        compute::emit(w, &self.formula, results[column], &operands, free)?;
        locate(w, 0)?;
        w.store(at(rax, 0).indexed(CHANNEL), results[column], part, spare)
    }
}
