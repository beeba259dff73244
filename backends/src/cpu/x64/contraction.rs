//! Contractions: panels of weights, lines of output pixels, tiles of a line, and inside of a tile runs of the depth, in the
//! order of the kernels for aarch64.

use iced_x86::code_asm::{AsmRegister64, ecx, edx, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbp, rbx, rcx, rdx, rsi};

use crate::contraction::{ContractionSpec, Element, Footprint, Strides, divide_up};
use crate::cpu::contraction::geometry::Geometry;
use crate::cpu::contraction::{EmittedKernel, operand};
use crate::cpu::formula::{Formula, is_per_channel};
use crate::cpu::isa::{CpuTarget, Vectors};
use crate::cpu::requantization::{Bytes, Requantization};
use crate::pack::PackedLayout;
use crate::schedule::Schedule;
use edgecc_ir::DType;

use super::PANEL;
use super::bytes;
use super::compute;
use super::halves;
use super::tile::Extent;
use super::units::{RowClip, add_batch, clip_rows, for_each_unit};
use super::vector::Width;
use super::writer::{Writer, Written};

/// Registers of integers, by what they hold.
pub(super) mod register {
    use super::*;

    pub const OUTPUT: AsmRegister64 = rsi;
    /// The panel of weights, where a tile of the line begins to read it.
    pub const PANEL: AsmRegister64 = rdx;
    /// The weights while they are read.
    pub const WEIGHTS: AsmRegister64 = rcx;
    /// The input under the tile's first pixel and the line's first tap.
    pub const TILE: AsmRegister64 = r8;
    /// The same in the row of taps at work.
    pub const ROW: AsmRegister64 = r9;
    /// The input while it is read.
    pub const INPUT: AsmRegister64 = r10;
    pub const DEPTH_LEFT: AsmRegister64 = r11;
    pub const ROWS_LEFT: AsmRegister64 = rbp;
    /// Further operands.
    pub const FURTHER: [AsmRegister64; 4] = [r12, r13, r14, r15];
}

/// Words of the stack, by what they hold.
pub(super) mod slot {
    use crate::cpu::x64::units;

    /// The operands for the unit's batch; the input and whatever differs by pixel at the block's first pixel.
    pub const INPUT: usize = units::SLOTS;
    pub const OUTPUT: usize = units::SLOTS + 1;
    /// The panel at work, and the output channels before it.
    pub const WEIGHTS: usize = units::SLOTS + 2;
    pub const CHANNEL: usize = units::SLOTS + 3;
    pub const FIRST_PANEL: usize = units::SLOTS + 4;
    pub const PANELS_LEFT: usize = units::SLOTS + 5;
    /// First line of the block and number of its lines; whole tiles where there is one line.
    pub const FIRST: usize = units::SLOTS + 6;
    pub const COUNT: usize = units::SLOTS + 7;
    pub const LINE: usize = units::SLOTS + 8;
    pub const LINES_LEFT: usize = units::SLOTS + 9;
    pub const TILES_LEFT: usize = units::SLOTS + 10;
    /// Rows of taps of the line that lie within the input.
    pub const ROWS: usize = units::SLOTS + 11;
    pub const BATCH: usize = units::SLOTS + 12;
    /// Further operands, from here on.
    pub const FURTHER: usize = units::SLOTS + 13;
}

/// How a further operand is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Further {
    /// The number in the epilogue, from 1.
    pub number: u16,
    /// Its own values for each pixel.
    pub per_pixel: bool,
    /// Its own values for each channel.
    pub per_channel: bool,
    /// The address while a line is at work.
    pub pointer: AsmRegister64,
}

/// A contraction with everything that its emission asks.
pub(super) struct Contraction<'a> {
    pub width: Width,
    pub spec: &'a ContractionSpec,
    pub schedule: Schedule,
    pub layout: PackedLayout,
    pub geometry: Geometry,
    /// The operands' types.
    pub types: Vec<DType>,
    pub formula: Formula,
    /// How results of the formula become bytes, where they do.
    pub bytes: Option<Bytes>,
    /// The operand that starts the sums.
    pub start: Option<Further>,
    pub further: Vec<Further>,
    /// Registers that the epilogue takes beside sums.
    pub epilogue_registers: usize,
}

/// Emits a contraction, where it has a shape and an epilogue that is written here.
pub fn emit_contraction(
    target: &CpuTarget,
    spec: &ContractionSpec,
    schedule: &Schedule,
    footprints: impl FnOnce(&PackedLayout) -> Vec<Footprint>,
) -> Option<EmittedKernel> {
    let contraction = Contraction::of(target, spec, schedule)?;
    let mut writer = Writer::new(contraction.width, contraction.parked_slot() + contraction.parked_words()).ok()?;
    contraction.emit(&mut writer).ok()?;
    let code = writer.finish(target.listing).ok()?;
    Some(EmittedKernel::new(code, contraction.units(), footprints(&contraction.layout)))
}

impl<'a> Contraction<'a> {
    fn of(target: &CpuTarget, spec: &'a ContractionSpec, schedule: &Schedule) -> Option<Self> {
        let (width, schedule) = match (spec.element, target.vectors) {
            (Element::I8, Vectors::Baseline | Vectors::Avx512) => {
                (Width::Eight, schedule.of_sums(halves::MOST_ROWS * schedule.tile.vectors))
            }
            _ => (Width::of_target(target), *schedule),
        };
        let layout = PackedLayout::of(spec, &schedule);
        let operand_channels_fit = spec.operands.iter().all(|strides| matches!(strides.channel, 0 | 1));
        let panel = match spec.element {
            Element::F32 => PANEL,
            Element::I8 if bytes::knows(spec) => bytes::PANEL,
            Element::F16 | Element::I8 => return None,
        };
        let is_known = spec.output.channel == 1 && operand_channels_fit;
        if !is_known || layout.panel != panel || schedule.packs_rows || !spans_fit(spec, &schedule) {
            return None;
        }
        let geometry = Geometry::of(spec, schedule.tile.rows, false)?;
        let (start, formula, bytes) = match spec.element {
            Element::F32 | Element::F16 => {
                let (start, formula) =
                    Formula::with_start(spec.element, &spec.epilogue, &spec.operands, &[is_per_channel])?;
                (start, formula, None)
            }
            Element::I8 => Requantization::of(&spec.epilogue, &spec.operands)?.within_bounds()?,
        };
        let types = spec.types();
        let mut pointers = register::FURTHER.into_iter();
        let mut locate = |number: u16| {
            let strides = &spec.operands[number as usize - 1];
            let per_pixel = (strides.row != 0 && spec.window.height > 1) || (strides.column != 0 && geometry.width > 1);
            Some(Further { number, per_pixel, per_channel: strides.channel == 1, pointer: pointers.next()? })
        };
        let start = match start {
            Some(number) => Some(locate(number)?),
            None => None,
        };
        let further = formula.operands().into_iter().map(&mut locate).collect::<Option<Vec<_>>>()?;
        // Beside the formula's: a value of each operand, and a mask for what is stored.
        let epilogue_registers = compute::registers(width, &formula)? + further.len() + 1;
        let contraction = Contraction {
            width,
            spec,
            schedule,
            layout,
            geometry,
            types,
            formula,
            bytes,
            start,
            further,
            epilogue_registers,
        };
        contraction.fits_registers().then_some(contraction)
    }

    /// Every operand that is read beside input and weights.
    pub(super) fn all_further(&self) -> impl Iterator<Item = &Further> {
        self.start.iter().chain(&self.further)
    }

    pub(super) fn strides(&self, further: &Further) -> &Strides {
        &self.spec.operands[further.number as usize - 1]
    }

    /// Bytes of an element of input and weights.
    pub(super) fn size(&self) -> i64 {
        self.spec.element.bytes()
    }

    /// Bytes of an element of the output.
    pub(super) fn output_size(&self) -> i64 {
        self.types[operand::OUTPUT].size() as i64
    }

    /// The type of a further operand.
    pub(super) fn type_of(&self, further: &Further) -> DType {
        self.types[operand::FURTHER + further.number as usize - 1]
    }

    /// Bytes of an element of a further operand.
    pub(super) fn size_of(&self, further: &Further) -> i64 {
        self.type_of(further).size() as i64
    }

    /// Lines of one block, or tiles where all pixels are one line.
    fn block(&self) -> i64 {
        if self.geometry.is_flat {
            return self.schedule.block_tiles.max(1);
        }
        (self.schedule.block_tiles * self.schedule.tile.rows / self.geometry.width).clamp(1, self.geometry.lines)
    }

    fn blocks(&self) -> i64 {
        match self.geometry.is_flat {
            true => divide_up(divide_up(self.geometry.width, self.schedule.tile.rows), self.block()),
            false => divide_up(self.geometry.lines, self.block()),
        }
    }

    fn panel_blocks(&self) -> i64 {
        divide_up(self.layout.panels(), self.schedule.block_panels)
    }

    /// Length of the range: batches x blocks x blocks of panels.
    fn units(&self) -> i64 {
        self.spec.batch.iter().product::<i64>() * self.blocks() * self.panel_blocks()
    }

    fn emit(&self, w: &mut Writer) -> Written {
        for_each_unit(w, (edx, ecx), |w| {
            self.locate_unit(w)?;
            self.panels(w)
        })
    }

    /// Fills the slots of a unit, whose number is in rax: its block of panels, block of pixels and batch.
    fn locate_unit(&self, w: &mut Writer) -> Written {
        let (panel, block) = (r8, r9);
        w.split(self.panel_blocks())?;
        w.a.mov(panel, rdx)?;
        w.split(self.blocks())?;
        w.a.mov(block, rdx)?;
        w.a.mov(w.slot(slot::BATCH), rax)?;
        w.constant(rax, self.schedule.block_panels)?;
        w.a.imul_2(panel, rax)?;
        w.a.mov(w.slot(slot::FIRST_PANEL), panel)?;
        self.rest_of(w, panel, self.layout.full_panels(), self.schedule.block_panels, slot::PANELS_LEFT)?;
        w.a.imul_3(rax, panel, self.layout.panel as i32)?;
        w.a.mov(w.slot(slot::CHANNEL), rax)?;
        w.constant(rax, self.block())?;
        w.a.imul_2(block, rax)?;
        w.a.mov(w.slot(slot::FIRST), block)?;
        let whole = match self.geometry.is_flat {
            true => self.geometry.width / self.schedule.tile.rows,
            false => self.geometry.lines,
        };
        self.rest_of(w, block, whole, self.block(), slot::COUNT)?;

        let input = self.spec.window.stepped(&self.spec.input);
        let pixels =
            |strides: &Strides| if self.geometry.is_flat { strides.column * self.schedule.tile.rows } else { 0 };
        let matrix = self.layout.matrix_elements();
        let weights: Vec<i64> = self.spec.weight_batch.iter().map(|&stride| stride * matrix).collect();
        let output = &self.spec.output;
        let mut placed = vec![
            (operand::INPUT, slot::INPUT, input.base, input.batch.clone(), pixels(&input), 0),
            (operand::WEIGHTS, slot::WEIGHTS, 0, weights, 0, self.layout.panel_elements()),
            (operand::OUTPUT, slot::OUTPUT, output.base, output.batch.clone(), pixels(output), 0),
        ];
        for further in self.all_further() {
            let (strides, number) = (self.strides(further), further.number as usize - 1);
            let moved = if further.per_pixel { pixels(strides) } else { 0 };
            let batch = strides.batch.clone();
            placed.push((operand::FURTHER + number, slot::FURTHER + number, strides.base, batch, moved, 0));
        }
        let address = r10;
        for (index, slot, base, strides, by_block, by_panel) in placed {
            let size = self.types[index].size() as i64;
            w.operand(address, index)?;
            w.add(address, base * size, rax)?;
            w.add_product(address, block, by_block * size, rax)?;
            w.add_product(address, panel, by_panel * size, rax)?;
            let strides: Vec<i64> = strides.iter().map(|stride| stride * size).collect();
            add_batch(w, address, slot::BATCH, &self.spec.batch, &strides)?;
            w.a.mov(w.slot(slot), address)?;
        }
        Ok(())
    }

    /// `slot = min(whole - first, size)`.
    fn rest_of(&self, w: &mut Writer, first: AsmRegister64, whole: i64, size: i64, slot: usize) -> Written {
        w.constant(rax, whole)?;
        w.a.sub(rax, first)?;
        w.constant(rbx, size)?;
        w.a.cmp(rax, rbx)?;
        w.a.cmovg(rax, rbx)?;
        Ok(w.a.mov(w.slot(slot), rax)?)
    }

    /// Jumps where the block that begins at the number in `slot` does not reach beyond `whole`.
    fn unless_beyond(
        &self,
        w: &mut Writer,
        slot: usize,
        (size, whole): (i64, i64),
        otherwise: iced_x86::code_asm::CodeLabel,
    ) -> Written {
        w.a.mov(rax, w.slot(slot))?;
        w.constant(rbx, whole - size + 1)?;
        w.a.cmp(rax, rbx)?;
        Ok(w.a.jl(otherwise)?)
    }

    /// Full panels of the unit, then the narrower one where the unit holds it.
    fn panels(&self, w: &mut Writer) -> Written {
        let full = self.layout.full_panels();
        match self.spec.element {
            Element::I8 => self.together().try_for_each(|panels| self.full_panels(w, panels))?,
            Element::F32 | Element::F16 if full > 0 => self.full_panels(w, 1)?,
            Element::F32 | Element::F16 => {}
        }
        let channels = self.layout.last_channels();
        if channels > 0 {
            let mut exit = w.a.create_label();
            if self.panel_blocks() > 1 {
                self.unless_beyond(w, slot::FIRST_PANEL, (self.schedule.block_panels, full), exit)?;
            }
            if self.spec.element == Element::F32 {
                w.width = self.width.of_tail(channels);
            }
            self.lines(w, channels)?;
            w.width = self.width;
            w.a.set_label(&mut exit)?;
            w.a.nop()?;
        }
        Ok(())
    }

    /// As many full panels as the unit has left, so many at a time.
    fn full_panels(&self, w: &mut Writer, panels: i64) -> Written {
        let (mut head, mut exit) = (w.a.create_label(), w.a.create_label());
        w.a.set_label(&mut head)?;
        w.a.cmp(w.slot(slot::PANELS_LEFT), panels as i32)?;
        w.a.jl(exit)?;
        w.a.sub(w.slot(slot::PANELS_LEFT), panels as i32)?;
        self.lines(w, panels * self.layout.panel)?;
        let moves = [
            (slot::WEIGHTS, panels * self.layout.panel_elements() * self.size()),
            (slot::CHANNEL, panels * self.layout.panel),
        ];
        for (slot, by) in moves {
            w.constant(rax, by)?;
            w.a.add(w.slot(slot), rax)?;
        }
        w.a.jmp(head)?;
        w.a.set_label(&mut exit)?;
        Ok(w.a.nop()?)
    }

    /// All lines of the block, for so many channels of a panel.
    fn lines(&self, w: &mut Writer, channels: i64) -> Written {
        self.set_masks(w, channels)?;
        if self.spec.element == Element::I8 {
            self.sum_weights(w, channels)?;
        }
        if self.geometry.lines == 1 {
            self.begin_line(w, false, channels)?;
            return self.line(w, channels);
        }
        w.a.mov(rax, w.slot(slot::FIRST))?;
        w.a.mov(w.slot(slot::LINE), rax)?;
        w.a.mov(rax, w.slot(slot::COUNT))?;
        w.a.mov(w.slot(slot::LINES_LEFT), rax)?;
        let mut head = w.a.create_label();
        w.a.set_label(&mut head)?;
        self.begin_line(w, true, channels)?;
        self.line(w, channels)?;
        w.a.inc(w.slot(slot::LINE))?;
        w.a.dec(w.slot(slot::LINES_LEFT))?;
        Ok(w.a.jne(head)?)
    }

    /// Addresses of a line, whose number is in its slot; the only line has none.
    fn begin_line(&self, w: &mut Writer, has_number: bool, channels: i64) -> Written {
        let (geometry, channel, line) = (&self.geometry, rbx, r11);
        if has_number {
            w.a.mov(line, w.slot(slot::LINE))?;
        }
        let by_line = |w: &mut Writer, address: AsmRegister64, bytes: i64| {
            if has_number { w.add_product(address, line, bytes, rax) } else { Ok(()) }
        };
        w.a.mov(channel, w.slot(slot::CHANNEL))?;
        w.a.mov(register::OUTPUT, w.slot(slot::OUTPUT))?;
        w.add_product(register::OUTPUT, channel, self.output_size(), rax)?;
        by_line(w, register::OUTPUT, self.spec.output.row * self.output_size())?;
        for further in self.all_further() {
            w.a.mov(further.pointer, w.slot(slot::FURTHER + further.number as usize - 1))?;
            if further.per_channel {
                w.add_product(further.pointer, channel, self.size_of(further), rax)?;
            }
            if further.per_pixel {
                by_line(w, further.pointer, self.strides(further).row * self.size_of(further))?;
            }
        }
        w.a.mov(register::PANEL, w.slot(slot::WEIGHTS))?;
        w.a.mov(register::TILE, w.slot(slot::INPUT))?;
        let input = &self.spec.input;
        let first = geometry.first_row * input.row + geometry.columns[0] * input.column;
        w.add(register::TILE, first * self.size(), rax)?;
        by_line(w, register::TILE, geometry.step[0] * input.row * self.size())?;
        if !geometry.rows_inside {
            self.clip_rows(w, has_number, channels)?;
        }
        Ok(())
    }

    /// Leaves out rows of taps above and below the input: moves the panel and the input to the first within, and counts.
    fn clip_rows(&self, w: &mut Writer, has_number: bool, channels: i64) -> Written {
        let geometry = &self.geometry;
        let clip = RowClip {
            first: geometry.first_row,
            rows: geometry.tap_rows,
            row_step: geometry.row_step,
            step: geometry.step[0],
            input_height: geometry.input_height,
        };
        let moves = [
            (register::TILE, geometry.row_step * self.spec.input.row * self.size()),
            (register::PANEL, self.tap_bytes(channels) * geometry.columns.len() as i64),
        ];
        clip_rows(w, &clip, has_number.then_some(r11), moves, slot::ROWS)
    }

    /// The tiles of a line from left to right.
    fn line(&self, w: &mut Writer, channels: i64) -> Written {
        let (width, rows) = (self.geometry.width, self.schedule.tile.rows);
        if self.geometry.is_flat {
            return self.flat_line(w, channels);
        }
        let [begin, end] = self.geometry.inside;
        let of = |tile: i64| rows.min(width - tile * rows);
        (0..begin).try_for_each(|tile| self.tile(w, Extent { rows: of(tile), channels }, Some(tile * rows)))?;
        if end - begin == 1 {
            self.tile(w, Extent { rows: of(begin), channels }, None)?;
        } else if begin < end {
            w.a.mov(w.slot(slot::TILES_LEFT), (end - begin) as i32)?;
            let mut head = w.a.create_label();
            w.a.set_label(&mut head)?;
            self.tile(w, Extent { rows: of(begin), channels }, None)?;
            w.a.dec(w.slot(slot::TILES_LEFT))?;
            w.a.jne(head)?;
        }
        (end..divide_up(width, rows))
            .try_for_each(|tile| self.tile(w, Extent { rows: of(tile), channels }, Some(tile * rows)))
    }

    /// The block's whole tiles, then the smaller one where the block holds it.
    fn flat_line(&self, w: &mut Writer, channels: i64) -> Written {
        let (width, rows) = (self.geometry.width, self.schedule.tile.rows);
        let (whole, rest) = (width / rows, width % rows);
        if whole > 0 {
            let (mut head, mut exit) = (w.a.create_label(), w.a.create_label());
            w.a.mov(rax, w.slot(slot::COUNT))?;
            w.a.mov(w.slot(slot::TILES_LEFT), rax)?;
            w.a.cmp(rax, 1)?;
            w.a.jl(exit)?;
            w.a.set_label(&mut head)?;
            self.tile(w, Extent { rows, channels }, None)?;
            w.a.dec(w.slot(slot::TILES_LEFT))?;
            w.a.jne(head)?;
            w.a.set_label(&mut exit)?;
            w.a.nop()?;
        }
        if rest > 0 {
            let mut exit = w.a.create_label();
            if self.blocks() > 1 {
                self.unless_beyond(w, slot::FIRST, (self.block(), whole), exit)?;
            }
            self.tile(w, Extent { rows: rest, channels }, None)?;
            w.a.set_label(&mut exit)?;
            w.a.nop()?;
        }
        Ok(())
    }

    /// Bytes of the weights of one tap in a panel of this many channels.
    pub(super) fn tap_bytes(&self, channels: i64) -> i64 {
        self.spec.depth * self.padded(channels) * self.size()
    }

    /// Channels of a panel with the padding behind them.
    pub(super) fn padded(&self, channels: i64) -> i64 {
        divide_up(channels, self.spec.element.lanes()) * self.spec.element.lanes()
    }
}

/// Whether offsets within a tile and a line are encoded in 32 bits.
fn spans_fit(spec: &ContractionSpec, schedule: &Schedule) -> bool {
    let near = |elements: i64| i32::try_from(elements.saturating_mul(4 * schedule.tile.rows)).is_ok();
    let all = [&spec.input, &spec.output].into_iter().chain(&spec.operands);
    all.into_iter().all(|strides| near(strides.column.saturating_mul(spec.window.step[1])))
        && near(spec.input.column * (spec.window.input_width + 64))
}
