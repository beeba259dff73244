//! One register tile: where the sums start, rows of taps, runs of the depth, and from sums to stored results.

use iced_x86::code_asm::{AsmMemoryOperand, dword_bcst, eax, k1, k2, rax, zmmword_ptr};

use super::contraction::{Contraction, register, slot};
use super::writer::{Writer, Written, zmm};
use super::{PANEL, compute};

/// Elements of one turn of the loop over the depth.
const TURN: i64 = 4;
/// Elements of a run that stand one behind the other without a loop.
const UNROLLED: i64 = 8;
/// The vector of weights at work, of two in turn, from the last register down.
const WEIGHTS: [usize; 2] = [31, 30];

/// Which lanes of a narrower panel are there: k1 and k2.
#[derive(Clone, Copy)]
enum Channels {
    /// Those of operands and results.
    Existing,
    /// Those of weights, padded to whole vectors of four.
    Padded,
}

/// Elements that lie side by side in memory for each of some pixels of a tile.
#[derive(Clone, Copy)]
struct Run {
    /// The tile's pixels, a half-open range.
    pixels: [i64; 2],
    depth: i64,
    /// Input bytes from one pixel to the next.
    pixel_bytes: i64,
}

impl Contraction<'_> {
    /// Whether the sums of a tile leave registers for weights and for the epilogue.
    pub(super) fn fits_registers(&self) -> bool {
        self.schedule.tile.rows as usize + compute::registers(&self.formula) <= 32 && self.schedule.tile.rows <= 28
    }

    /// The masks of the channels that exist, and of those that weights are padded to.
    pub(super) fn set_masks(&self, w: &mut Writer, channels: i64) -> Written {
        for (mask, channels) in [(k1, channels), (k2, self.padded(channels))] {
            w.a.mov(eax, ((1i64 << channels) - 1) as i32)?;
            w.a.kmovw(mask, eax)?;
        }
        Ok(())
    }

    /// A tile; `first` is its first pixel where the tile meets the border.
    pub(super) fn tile(&self, w: &mut Writer, (rows, channels): (i64, i64), first: Option<i64>) -> Written {
        let geometry = &self.geometry;
        let pixel_bytes = geometry.step[1] * self.spec.input.column * 4;
        w.a.mov(register::WEIGHTS, register::PANEL)?;
        self.start_sums(w, rows, channels)?;
        if geometry.tap_rows == 1 && geometry.rows_inside {
            w.a.mov(register::ROW, register::TILE)?;
            self.row_of_taps(w, (rows, channels), first)?;
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
            self.row_of_taps(w, (rows, channels), first)?;
            w.add(register::ROW, geometry.row_step * self.spec.input.row * 4, rax)?;
            w.a.dec(register::ROWS_LEFT)?;
            w.a.jne(head)?;
            w.a.set_label(&mut exit)?;
            w.a.nop()?;
        }
        self.finish(w, rows, channels)?;
        w.add(register::TILE, rows * pixel_bytes, rax)
    }

    /// Zeros, or the operand that starts the sums.
    fn start_sums(&self, w: &mut Writer, rows: i64, channels: i64) -> Written {
        for row in 0..rows as usize {
            match &self.start {
                None => w.a.vpxord(zmm(row), zmm(row), zmm(row))?,
                Some(_) if row > 0 => w.a.vmovaps(zmm(row), zmm(0))?,
                Some(start) => load(w, row, zmmword_ptr(start.pointer), Channels::Existing, channels == PANEL)?,
            }
        }
        Ok(())
    }

    /// Adds the products of one row of taps.
    fn row_of_taps(&self, w: &mut Writer, (rows, channels): (i64, i64), first: Option<i64>) -> Written {
        let geometry = &self.geometry;
        let pixel_bytes = geometry.step[1] * self.spec.input.column * 4;
        let reached = |column: i64| first.map_or([0, rows], |first| geometry.reached(first, rows, column));
        let is_whole = geometry.columns.iter().all(|&column| reached(column) == [0, rows]);
        if is_whole && (geometry.merges_columns || geometry.columns.len() == 1) {
            let depth = self.spec.depth * geometry.columns.len() as i64;
            return self.run(w, channels, Run { pixels: [0, rows], depth, pixel_bytes }, 0);
        }
        for &column in &geometry.columns {
            let pixels = reached(column);
            if pixels[0] == pixels[1] {
                w.add(register::WEIGHTS, self.tap_bytes(channels), rax)?;
                continue;
            }
            let offset = (column - geometry.columns[0]) * self.spec.input.column * 4 + pixels[0] * pixel_bytes;
            self.run(w, channels, Run { pixels, depth: self.spec.depth, pixel_bytes }, offset)?;
        }
        Ok(())
    }

    /// Adds the products of a run that begins `offset` bytes behind the row of taps.
    fn run(&self, w: &mut Writer, channels: i64, run: Run, offset: i64) -> Written {
        w.a.lea(register::INPUT, zmmword_ptr(register::ROW + offset))?;
        let mut done = 0;
        if run.depth > UNROLLED {
            let turns = run.depth / TURN;
            w.constant(register::DEPTH_LEFT, turns)?;
            let mut head = w.a.create_label();
            w.a.set_label(&mut head)?;
            (0..TURN).try_for_each(|at| self.element(w, channels, run, at))?;
            w.a.add(register::INPUT, (TURN * 4) as i32)?;
            w.a.add(register::WEIGHTS, (TURN * self.padded(channels) * 4) as i32)?;
            w.a.dec(register::DEPTH_LEFT)?;
            w.a.jne(head)?;
            done = turns * TURN;
        }
        let rest = run.depth - done;
        (0..rest).try_for_each(|at| self.element(w, channels, run, at))?;
        w.add(register::WEIGHTS, rest * self.padded(channels) * 4, rax)
    }

    /// The products of one element of the depth.
    fn element(&self, w: &mut Writer, channels: i64, run: Run, at: i64) -> Written {
        let weights = WEIGHTS[at as usize % 2];
        let place = zmmword_ptr(register::WEIGHTS + at * self.padded(channels) * 4);
        load(w, weights, place, Channels::Padded, self.padded(channels) == PANEL)?;
        for pixel in run.pixels[0]..run.pixels[1] {
            let input = dword_bcst(register::INPUT + ((pixel - run.pixels[0]) * run.pixel_bytes + at * 4));
            w.a.vfmadd231ps(zmm(pixel as usize), zmm(weights), input)?;
        }
        Ok(())
    }

    /// The epilogue: each row of sums becomes results, in place, and is stored.
    fn finish(&self, w: &mut Writer, rows: i64, channels: i64) -> Written {
        let is_whole = channels == PANEL;
        let mut shared = Vec::new();
        let mut free: Vec<usize> = (rows as usize..32).collect();
        for further in self.further.iter().filter(|further| !further.per_pixel) {
            let Some(register) = free.pop() else { continue };
            if further.per_channel {
                load(w, register, zmmword_ptr(further.pointer), Channels::Existing, is_whole)?;
            } else {
                w.a.vbroadcastss(zmm(register), iced_x86::code_asm::dword_ptr(further.pointer))?;
            }
            shared.push((further.number, register));
        }
        for row in 0..rows {
            let (mut free, mut operands) = (free.clone(), shared.clone());
            for further in self.further.iter().filter(|further| further.per_pixel) {
                let Some(register) = free.pop() else { continue };
                let place = further.pointer + row * self.strides(further).column * 4;
                if further.per_channel {
                    load(w, register, zmmword_ptr(place), Channels::Existing, is_whole)?;
                } else {
                    w.a.vbroadcastss(zmm(register), iced_x86::code_asm::dword_ptr(place))?;
                }
                operands.push((further.number, register));
            }
            compute::emit(w, &self.formula, row as usize, &operands, free)?;
            let place = zmmword_ptr(register::OUTPUT + row * self.spec.output.column * 4);
            if is_whole {
                w.a.vmovups(place, zmm(row as usize))?;
            } else {
                w.a.vmovups(place.k1(), zmm(row as usize))?;
            }
        }
        w.add(register::OUTPUT, rows * self.spec.output.column * 4, rax)?;
        for further in self.further.iter().filter(|further| further.per_pixel) {
            w.add(further.pointer, rows * self.strides(further).column * 4, rax)?;
        }
        Ok(())
    }
}

/// Loads a vector of a panel with so many channels.
fn load(w: &mut Writer, register: usize, place: AsmMemoryOperand, of: Channels, is_whole: bool) -> Written {
    let register = zmm(register);
    match of {
        _ if is_whole => w.a.vmovups(register, place)?,
        Channels::Existing => w.a.vmovups(register.k1().z(), place)?,
        Channels::Padded => w.a.vmovups(register.k2().z(), place)?,
    }
    Ok(())
}
