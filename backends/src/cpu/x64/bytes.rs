//! Contractions of i8 by products of bytes, four to a word (AVX-512VNNI): eight elements of the depth of a pixel, in every 64 bits of
//! a register, meet those of each of eight channels, so that a sum is two neighbouring words until the depth is over. The
//! instruction takes the input without sign: it is moved up by 128, and sums begin as far below what that adds. Without it bytes
//! become halves (`halves.rs`).

use iced_x86::code_asm::{byte_ptr, dword_ptr, eax, ptr, qword_ptr, rax, word_ptr};

use crate::contraction::{ContractionSpec, Element, divide_up};
use crate::pack::PackedLayout;

use super::contraction::{Contraction, register, slot};
use super::tile::{Extent, Run};
use super::vector::{Part, Place, Source, Two, Width, at};
use super::writer::{Writer, Written};

/// Channels of a panel: a register of weights for each block of the depth.
pub(super) const PANEL: i64 = 8;
/// Panels that tiles go over at once, the most first.
const TOGETHER: [i64; 3] = [4, 2, 1];
/// Elements of the depth that weights of a channel hold side by side.
pub(super) const BLOCK: i64 = Element::I8.depth_block();
/// Blocks of one turn of the loop over the depth.
const TURN: i64 = 4;
/// Blocks of a run that stand one behind the other without a loop.
const UNROLLED: i64 = 8;

/// Registers of sums, as many as a tile may have.
const SUMS: usize = 24;
/// Weights of a block of each panel.
const WEIGHTS: usize = SUMS;
/// Inputs in turn.
const INPUTS: [usize; 2] = [28, 29];
/// 128 in every byte.
const SIGNS: usize = 30;
/// Whatever an instruction needs.
const SPARE: usize = 31;
/// Of sums that are joined: the order of their pairs, and one half of them.
const ORDER: usize = 29;
const HALF: usize = 28;
/// What is left to formulas meanwhile.
const EPILOGUE: [usize; 6] = [24, 25, 26, 27, SIGNS, SPARE];

/// Whether no tap misses the input, and what is left of a run behind whole blocks can be loaded without any beyond it.
pub(super) fn knows(spec: &ContractionSpec) -> bool {
    let run = PackedLayout::run_of(spec) * spec.depth;
    spec.window.is_interior() && (run >= BLOCK || [1, 2, 4].contains(&run))
}

impl Contraction<'_> {
    /// Whether sums of a tile leave registers for what is multiplied, and the epilogue needs no more than those.
    pub(super) fn bytes_fit_registers(&self) -> bool {
        match self.width {
            Width::Eight => self.halves_fit_registers(),
            Width::EightMasked | Width::Sixteen => {
                self.schedule.tile.rows <= SUMS as i64 && self.epilogue_registers <= EPILOGUE.len()
            }
        }
    }

    /// Panels that tiles of a unit go over at once, the most first.
    pub(super) fn together(&self) -> impl Iterator<Item = i64> {
        let registers = match self.width {
            Width::Eight => 1,
            Width::EightMasked | Width::Sixteen => SUMS as i64 / self.schedule.tile.rows,
        };
        let most = registers.min(self.layout.full_panels());
        TOGETHER.into_iter().filter(move |&panels| panels <= most)
    }

    /// Words of the stack that hold what sums begin with.
    pub(super) fn weight_sums_words(&self) -> usize {
        (TOGETHER[0] * self.width.bytes() / 8) as usize
    }

    /// The register of a panel's sums of a pixel.
    fn sum_of(&self, extent: Extent, row: i64, panel: i64) -> usize {
        (row * panels(extent) + panel) as usize
    }

    fn weight_sum(&self, w: &Writer, panel: i64) -> Place {
        w.stack(self.parked_slot()).moved(panel * self.width.bytes())
    }

    /// Bytes of a block of a panel.
    fn block_bytes(&self, extent: Extent) -> i64 {
        self.padded(extent.channels.min(PANEL)) * BLOCK
    }

    /// Loads a block of weights of a panel.
    fn load_weights(&self, w: &mut Writer, extent: Extent, panel: i64, block: i64) -> Written {
        let bytes = self.block_bytes(extent);
        let place = at(register::WEIGHTS, panel * self.layout.panel_elements() + block * bytes);
        match bytes == self.width.bytes() {
            true => w.load(WEIGHTS + panel as usize, place, Part::Whole),
            false => w.load_half(WEIGHTS + panel as usize, place),
        }
    }

    /// What the sums of each panel begin with: -128 times the sum of the weights.
    pub(super) fn sum_weights(&self, w: &mut Writer, channels: i64) -> Written {
        if self.width == Width::Eight {
            return Ok(());
        }
        let extent = Extent { rows: 1, channels };
        let all = 0..panels(extent);
        w.fill(SIGNS, 0x8080_8080)?;
        all.clone().try_for_each(|panel| w.zero(panel as usize))?;
        w.a.mov(register::WEIGHTS, w.slot(slot::WEIGHTS))?;
        w.constant(register::DEPTH_LEFT, self.layout.panel_elements() / (PANEL * BLOCK))?;
        let mut head = w.a.create_label();
        w.a.set_label(&mut head)?;
        for panel in all.clone() {
            self.load_weights(w, extent, panel, 0)?;
            w.two(Two::Dot, panel as usize, SIGNS, Source::Register(WEIGHTS + panel as usize))?;
        }
        w.add(register::WEIGHTS, self.block_bytes(extent), rax)?;
        w.a.dec(register::DEPTH_LEFT)?;
        w.a.jne(head)?;
        w.zero(SPARE)?;
        for panel in all {
            w.two(Two::SubtractIntegers, panel as usize, SPARE, Source::Register(panel as usize))?;
            let place = self.weight_sum(w, panel);
            w.store(place, panel as usize, Part::Whole, None)?;
        }
        Ok(())
    }

    /// The beginnings of the sums, and what the inputs are moved by.
    pub(super) fn start_sums_of_bytes(&self, w: &mut Writer, extent: Extent) -> Written {
        if self.width == Width::Eight {
            return self.start_sums_of_halves(w, extent);
        }
        w.fill(SIGNS, 0x8080_8080)?;
        for panel in 0..panels(extent) {
            let (first, place) = (self.sum_of(extent, 0, panel), self.weight_sum(w, panel));
            w.load(first, place, Part::Whole)?;
            (1..extent.rows).try_for_each(|row| w.copy(self.sum_of(extent, row, panel), first))?;
        }
        Ok(())
    }

    /// Adds the products of a run that begins `offset` bytes behind the row of taps.
    pub(super) fn run_of_bytes(&self, w: &mut Writer, extent: Extent, run: Run, offset: i64) -> Written {
        w.a.lea(register::INPUT, ptr(register::ROW + offset))?;
        let (blocks, tail) = (run.depth / BLOCK, run.depth % BLOCK);
        let mut done = 0;
        if blocks > UNROLLED {
            let turns = blocks / TURN;
            w.constant(register::DEPTH_LEFT, turns)?;
            let mut head = w.a.create_label();
            w.a.set_label(&mut head)?;
            (0..TURN).try_for_each(|block| self.whole_block(w, extent, run, block))?;
            w.a.add(register::INPUT, (TURN * BLOCK) as i32)?;
            w.a.add(register::WEIGHTS, (TURN * self.block_bytes(extent)) as i32)?;
            w.a.dec(register::DEPTH_LEFT)?;
            w.a.jne(head)?;
            done = turns * TURN;
        }
        let rest = blocks - done;
        (0..rest).try_for_each(|block| self.whole_block(w, extent, run, block))?;
        if tail > 0 {
            self.tail(w, extent, run, (rest, tail))?;
        }
        w.add(register::WEIGHTS, (rest + i64::from(tail > 0)) * self.block_bytes(extent), rax)
    }

    /// The products of a whole block of the depth.
    fn whole_block(&self, w: &mut Writer, extent: Extent, run: Run, block: i64) -> Written {
        if self.width == Width::Eight {
            return self.block_of_halves(w, extent, run, (block, None));
        }
        (0..panels(extent)).try_for_each(|panel| self.load_weights(w, extent, panel, block))?;
        for row in run.pixels[0]..run.pixels[1] {
            let input = INPUTS[row as usize % 2];
            let place = at(register::INPUT, (row - run.pixels[0]) * run.pixel_bytes + block * BLOCK);
            w.two(Two::ExclusiveOrLong, input, SIGNS, Source::Spread(place))?;
            self.products(w, extent, row, input)?;
        }
        Ok(())
    }

    /// The products of the elements behind the whole blocks.
    fn tail(&self, w: &mut Writer, extent: Extent, run: Run, (block, size): (i64, i64)) -> Written {
        if self.width == Width::Eight {
            return self.block_of_halves(w, extent, run, (block, Some(size)));
        }
        (0..panels(extent)).try_for_each(|panel| self.load_weights(w, extent, panel, block))?;
        for row in run.pixels[0]..run.pixels[1] {
            let input = INPUTS[row as usize % 2];
            self.load_tail(w, run, row, (block, size))?;
            w.spread_long(input, rax)?;
            w.two(Two::ExclusiveOrLong, input, input, Source::Register(SIGNS))?;
            self.products(w, extent, row, input)?;
        }
        Ok(())
    }

    /// Loads the elements of a pixel behind the whole blocks into rax. None beyond the run is loaded; what is loaded twice is shifted
    /// out.
    pub(super) fn load_tail(&self, w: &mut Writer, run: Run, row: i64, (block, size): (i64, i64)) -> Written {
        let from = register::INPUT + ((row - run.pixels[0]) * run.pixel_bytes + block * BLOCK);
        match (run.depth >= BLOCK, size) {
            (true, _) => {
                w.a.mov(rax, qword_ptr(from - (BLOCK - size)))?;
                w.a.shr(rax, (8 * (BLOCK - size)) as i32)?;
            }
            (false, 1) => w.a.movzx(eax, byte_ptr(from))?,
            (false, 2) => w.a.movzx(eax, word_ptr(from))?,
            (false, _) => w.a.mov(eax, dword_ptr(from))?,
        }
        Ok(())
    }

    fn products(&self, w: &mut Writer, extent: Extent, row: i64, input: usize) -> Written {
        (0..panels(extent)).try_for_each(|panel| {
            let weights = Source::Register(WEIGHTS + panel as usize);
            w.two(Two::Dot, self.sum_of(extent, row, panel), input, weights)
        })
    }

    /// The epilogue: the sums of two panels become a vector of sixteen channels, and that its results.
    pub(super) fn finish_bytes(&self, w: &mut Writer, extent: Extent) -> Written {
        if self.width == Width::Eight {
            return self.finish_halves(w, extent);
        }
        let order = w.literal(&[0, 0, 2, 0, 4, 0, 6, 0, 1, 0, 3, 0, 5, 0, 7, 0]);
        w.load(ORDER, order, Part::Whole)?;
        let free = EPILOGUE.to_vec();
        for row in 0..extent.rows {
            for vector in 0..self.vectors(extent.channels) {
                let first = self.sum_of(extent, row, 2 * vector);
                let second = if 2 * vector + 1 < panels(extent) { first + 1 } else { first };
                w.every_second(HALF, [first, second], true)?;
                w.every_second(first, [first, second], false)?;
                w.two(Two::AddIntegers, first, first, Source::Register(HALF))?;
                w.two(Two::Permute, first, ORDER, Source::Register(first))?;
                if let Some(start) = &self.start {
                    let part = self.part(extent.channels, vector, Part::Existing);
                    w.load(HALF, at(start.pointer, vector * self.width.bytes()), part)?;
                    w.two(Two::AddIntegers, first, first, Source::Register(HALF))?;
                }
                self.result(w, extent, (row, vector), first, free.clone())?;
            }
        }
        Ok(())
    }
}

/// Panels of a tile.
fn panels(extent: Extent) -> i64 {
    divide_up(extent.channels, PANEL)
}
