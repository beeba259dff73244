//! One register tile: where the sums start, rows of taps, runs of the depth, and from sums to stored results.

use iced_x86::code_asm::{byte_ptr, ptr, rax};

use crate::contraction::{Element, divide_up};

use edgecc_ir::DType;

use super::contraction::{Contraction, Further, register, slot};
use super::vector::{One, Part, Place, Source, Two, Width, at};
use super::writer::{Unwritten, Writer, Written};
use super::{PANEL, compute};

/// Elements of one turn of the loop over the depth.
const TURN: i64 = 4;
/// Bytes by which weights are asked for before they are read: they come once from memory, and lie in more pages than the
/// processor foresees.
const AHEAD: i64 = 4096;
/// Elements of a run that stand one behind the other without a loop.
const UNROLLED: i64 = 8;
/// Sums that a tile adds to in turn: as many multiply-adds are under way at a time.
const LEAST_SUMS: i64 = 8;

/// Pixels by channels.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub rows: i64,
    pub channels: i64,
}

/// Elements that lie side by side in memory for each of some pixels of a tile.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// The tile's pixels, a half-open range.
    pub pixels: [i64; 2],
    pub depth: i64,
    /// Input bytes from one pixel to the next.
    pub pixel_bytes: i64,
}

impl Width {
    /// Registers of weights for one element of the depth; sixteen lanes take two in turn.
    fn weights(self, at: i64) -> usize {
        match self {
            Width::Eight => 14,
            Width::EightMasked | Width::Sixteen => 30 + at as usize % 2,
        }
    }

    /// The registers that hold an input in every lane, where there is no operand of memory for that.
    const SPREAD: [usize; 2] = [13, 12];

    /// Registers that sums leave free while products are added.
    const fn beside_sums(self) -> usize {
        match self {
            Width::Eight => 4,
            Width::EightMasked | Width::Sixteen => 2,
        }
    }
}

impl Contraction<'_> {
    /// Whether the sums of a tile leave registers for what is multiplied, and some of them for the epilogue.
    pub(super) fn fits_registers(&self) -> bool {
        if self.spec.element == Element::I8 {
            return self.bytes_fit_registers();
        }
        let sums = (self.schedule.tile.rows * self.vectors(PANEL)) as usize;
        let all = self.width.registers();
        sums + self.width.beside_sums() <= all && self.epilogue_registers < all
    }

    /// Vectors of so many channels.
    pub(super) fn vectors(&self, channels: i64) -> i64 {
        divide_up(channels, self.width.lanes())
    }

    /// Sums that the epilogue of a tile begins by putting aside, for want of registers.
    fn parked(&self, extent: Extent) -> usize {
        let sums = (extent.rows * self.vectors(extent.channels)) as usize;
        (sums + self.epilogue_registers).saturating_sub(self.width.registers())
    }

    /// The words of the stack where they lie.
    pub(super) fn parked_slot(&self) -> usize {
        slot::FURTHER + self.spec.operands.len()
    }

    /// The number of those words.
    pub(super) fn parked_words(&self) -> usize {
        if self.spec.element == Element::I8 {
            return self.weight_sums_words();
        }
        self.parked(Extent { rows: self.schedule.tile.rows, channels: PANEL }) * self.width.bytes() as usize / 8
    }

    /// Says which lanes of the last vector of a narrower panel are there.
    pub(super) fn set_masks(&self, w: &mut Writer, channels: i64) -> Written {
        let before = (self.vectors(channels) - 1) * self.width.lanes();
        w.set_tail(channels - before, self.padded(channels) - before)
    }

    /// The lanes of a vector of the panel: of operands and results, or of weights.
    pub(super) fn part(&self, channels: i64, vector: i64, otherwise: Part) -> Part {
        let reached = if otherwise == Part::Padded { self.padded(channels) } else { channels };
        if (vector + 1) * self.width.lanes() <= reached { Part::Whole } else { otherwise }
    }

    /// Sums of a tile that go in turn, so that one need not wait for the product before.
    fn turns(&self, extent: Extent) -> i64 {
        let sums = extent.rows * self.vectors(extent.channels);
        [TURN, 2].into_iter().find(|turns| sums * turns <= LEAST_SUMS).unwrap_or(1)
    }

    /// The register of a sum.
    fn sum(&self, extent: Extent, (turn, row, vector): (i64, i64, i64)) -> usize {
        ((turn * extent.rows + row) * self.vectors(extent.channels) + vector) as usize
    }

    /// A tile; `first` is its first pixel where the tile meets the border.
    pub(super) fn tile(&self, w: &mut Writer, extent: Extent, first: Option<i64>) -> Written {
        let geometry = &self.geometry;
        let pixel_bytes = geometry.step[1] * self.spec.input.column * self.size();
        w.a.mov(register::WEIGHTS, register::PANEL)?;
        match self.spec.element {
            Element::F32 | Element::F16 => self.start_sums(w, extent)?,
            Element::I8 => self.start_sums_of_bytes(w, extent)?,
        }
        if geometry.tap_rows == 1 && geometry.rows_inside {
            w.a.mov(register::ROW, register::TILE)?;
            self.row_of_taps(w, extent, first)?;
        } else {
            let mut exit = w.a.create_label();
            w.a.mov(register::ROW, register::TILE)?;
            if geometry.rows_inside {
                w.constant(register::ROWS_LEFT, geometry.tap_rows)?;
            } else {
                w.a.mov(register::ROWS_LEFT, w.slot(slot::ROWS))?;
                w.a.cmp(register::ROWS_LEFT, 1)?;
                w.a.jl(exit)?;
            }
            let mut head = w.a.create_label();
            w.a.set_label(&mut head)?;
            self.row_of_taps(w, extent, first)?;
            w.add(register::ROW, geometry.row_step * self.spec.input.row * self.size(), rax)?;
            w.a.dec(register::ROWS_LEFT)?;
            w.a.jne(head)?;
            w.a.set_label(&mut exit)?;
            w.a.nop()?;
        }
        match self.spec.element {
            Element::F32 | Element::F16 => {
                self.join_turns(w, extent)?;
                self.finish(w, extent)?;
            }
            Element::I8 => self.finish_bytes(w, extent)?,
        }
        w.add(register::OUTPUT, extent.rows * self.spec.output.column * self.output_size(), rax)?;
        for further in self.further.iter().filter(|further| further.per_pixel) {
            w.add(further.pointer, extent.rows * self.strides(further).column * self.size_of(further), rax)?;
        }
        w.add(register::TILE, extent.rows * pixel_bytes, rax)
    }

    /// Zeros, or the operand that starts the sums.
    fn start_sums(&self, w: &mut Writer, extent: Extent) -> Written {
        for vector in 0..self.vectors(extent.channels) {
            let part = self.part(extent.channels, vector, Part::Existing);
            for row in 0..extent.rows {
                let sum = self.sum(extent, (0, row, vector));
                match &self.start {
                    None => w.zero(sum)?,
                    Some(_) if row > 0 => w.copy(sum, self.sum(extent, (0, 0, vector)))?,
                    Some(start) => w.load(sum, at(start.pointer, vector * self.width.bytes()), part)?,
                }
            }
        }
        let all = extent.rows * self.vectors(extent.channels);
        (all..all * self.turns(extent)).try_for_each(|sum| w.zero(sum as usize))
    }

    /// Adds up the sums that went in turn.
    fn join_turns(&self, w: &mut Writer, extent: Extent) -> Written {
        let mut turns = self.turns(extent);
        let all = extent.rows * self.vectors(extent.channels);
        while turns > 1 {
            turns /= 2;
            for sum in 0..all * turns {
                let other = Source::Register((sum + all * turns) as usize);
                w.two(Two::Add, sum as usize, sum as usize, other)?;
            }
        }
        Ok(())
    }

    /// Adds the products of one row of taps.
    fn row_of_taps(&self, w: &mut Writer, extent: Extent, first: Option<i64>) -> Written {
        let Extent { rows, channels } = extent;
        let geometry = &self.geometry;
        let pixel_bytes = geometry.step[1] * self.spec.input.column * self.size();
        let reached = |column: i64| first.map_or([0, rows], |first| geometry.reached(first, rows, column));
        let is_whole = geometry.columns.iter().all(|&column| reached(column) == [0, rows]);
        if is_whole && (geometry.merges_columns || geometry.columns.len() == 1) {
            let depth = self.spec.depth * geometry.columns.len() as i64;
            return self.run(w, extent, Run { pixels: [0, rows], depth, pixel_bytes }, 0);
        }
        for &column in &geometry.columns {
            let pixels = reached(column);
            if pixels[0] == pixels[1] {
                w.add(register::WEIGHTS, self.tap_bytes(channels), rax)?;
                continue;
            }
            let offset =
                (column - geometry.columns[0]) * self.spec.input.column * self.size() + pixels[0] * pixel_bytes;
            self.run(w, extent, Run { pixels, depth: self.spec.depth, pixel_bytes }, offset)?;
        }
        Ok(())
    }

    /// Adds the products of a run that begins `offset` bytes behind the row of taps.
    fn run(&self, w: &mut Writer, extent: Extent, run: Run, offset: i64) -> Written {
        if self.spec.element == Element::I8 {
            return self.run_of_bytes(w, extent, run, offset);
        }
        w.a.lea(register::INPUT, ptr(register::ROW + offset))?;
        let weights_bytes = self.padded(extent.channels) * 4;
        let mut done = 0;
        if run.depth > UNROLLED {
            let turns = run.depth / TURN;
            w.constant(register::DEPTH_LEFT, turns)?;
            let mut head = w.a.create_label();
            w.a.set_label(&mut head)?;
            (0..TURN).try_for_each(|at| self.element(w, extent, run, at))?;
            w.a.add(register::INPUT, (TURN * 4) as i32)?;
            w.a.add(register::WEIGHTS, (TURN * weights_bytes) as i32)?;
            w.a.dec(register::DEPTH_LEFT)?;
            w.a.jne(head)?;
            done = turns * TURN;
        }
        let rest = run.depth - done;
        (0..rest).try_for_each(|at| self.element(w, extent, run, at))?;
        w.add(register::WEIGHTS, rest * weights_bytes, rax)
    }

    /// The products of one element of the depth.
    fn element(&self, w: &mut Writer, extent: Extent, run: Run, k: i64) -> Written {
        let (first, weights_bytes) = (self.width.weights(k), self.padded(extent.channels) * 4);
        let vectors = self.vectors(extent.channels);
        for vector in 0..vectors {
            let place = at(register::WEIGHTS, k * weights_bytes + vector * self.width.bytes());
            w.load(first + vector as usize, place, self.part(extent.channels, vector, Part::Padded))?;
        }
        w.a.prefetcht0(byte_ptr(register::WEIGHTS + k * weights_bytes + AHEAD))?;
        let turn = k % self.turns(extent);
        for pixel in run.pixels[0]..run.pixels[1] {
            let place = at(register::INPUT, (pixel - run.pixels[0]) * run.pixel_bytes + k * 4);
            let input = match self.width {
                Width::Eight => {
                    let spread = Width::SPREAD[pixel as usize % 2];
                    w.spread(spread, place)?;
                    Source::Register(spread)
                }
                Width::EightMasked | Width::Sixteen => Source::Spread(place),
            };
            for vector in 0..vectors {
                let sum = self.sum(extent, (turn, pixel, vector));
                w.two(Two::MultiplyAdd, sum, first + vector as usize, input)?;
            }
        }
        Ok(())
    }

    /// The epilogue: each sum becomes a result, in place, and is stored.
    fn finish(&self, w: &mut Writer, extent: Extent) -> Written {
        let sums = extent.rows as usize * self.vectors(extent.channels) as usize;
        let kept = sums.checked_sub(self.parked(extent)).filter(|&kept| kept > 0).ok_or(Unwritten::Registers)?;
        let aside = |w: &mut Writer, sum: usize| -> Place {
            w.stack(self.parked_slot()).moved((sum - kept) as i64 * self.width.bytes())
        };
        for sum in kept..sums {
            let place = aside(w, sum);
            w.store(place, sum, Part::Whole, None)?;
        }
        let mut free: Vec<usize> = (kept..self.width.registers()).collect();
        let in_order = (0..self.vectors(extent.channels)).flat_map(|vector| {
            let register = move |row| self.sum(extent, (0, row, vector));
            (0..extent.rows).map(move |row| (row, vector, register(row)))
        });
        // Those put aside come last, when sums that are done have left their registers.
        let (first, last): (Vec<_>, Vec<_>) = in_order.partition(|&(_, _, sum)| sum < kept);
        for (row, vector, sum) in first.into_iter().chain(last) {
            let is_aside = sum >= kept;
            let register = if is_aside { free.pop().ok_or(Unwritten::Registers)? } else { sum };
            if is_aside {
                let place = aside(w, sum);
                w.load(register, place, Part::Whole)?;
            }
            self.result(w, extent, (row, vector), register, free.clone())?;
            free.push(register);
        }
        Ok(())
    }

    /// One vector of results from the sums in a register.
    pub(super) fn result(
        &self,
        w: &mut Writer,
        extent: Extent,
        (row, vector): (i64, i64),
        register: usize,
        mut free: Vec<usize>,
    ) -> Written {
        let part = self.part(extent.channels, vector, Part::Existing);
        let spare = free.pop().ok_or(Unwritten::Registers)?;
        let mut operands = Vec::new();
        for further in &self.further {
            let value = free.pop().ok_or(Unwritten::Registers)?;
            self.load_further(w, further, (row, vector), value, part)?;
            operands.push((further.number, value));
        }
        compute::emit(w, &self.formula, register, &operands, free)?;
        let size = self.output_size();
        let place = at(register::OUTPUT, (row * self.spec.output.column + vector * self.width.lanes()) * size);
        match self.bytes {
            Some(bytes) => w.requantized(place, register, (part, spare), bytes),
            None => w.store(place, register, part, Some(spare)),
        }
    }

    fn load_further(
        &self,
        w: &mut Writer,
        further: &Further,
        (row, vector): (i64, i64),
        value: usize,
        part: Part,
    ) -> Written {
        let pixel = if further.per_pixel { row * self.strides(further).column } else { 0 };
        let place = |element: i64| at(further.pointer, element * self.size_of(further));
        match (further.per_channel, self.type_of(further)) {
            (true, dtype @ (DType::I8 | DType::U8)) => {
                w.load_bytes(value, place(pixel + vector * self.width.lanes()), part, dtype == DType::I8)?;
                w.one(One::FromInteger, value, value)
            }
            (true, _) => w.load(value, place(pixel + vector * self.width.lanes()), part),
            (false, DType::I8 | DType::U8) => Err(Unwritten::Encoding),
            (false, _) => w.spread(value, place(pixel)),
        }
    }
}
