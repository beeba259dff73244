//! Depthwise convolutions, and pools as windows without weights. A unit of the range is one output row; it is cut into tiles
//! of columns, and each tile runs over the channels, a vector at a time. Of a row of taps the weights stay in registers while
//! each input position is loaded once. Bytes are multiplied as singles, whose sums are exact below 2^24.

use iced_x86::code_asm::{AsmRegister64, ecx, edx, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbp, rcx, rdx, rsi};

use crate::contraction::{Combination, DepthwiseSpec, Element, Footprint, Strides, divide_up, whole_parts};
use crate::cpu::contraction::geometry::{MOST_BORDER_TILES, TapGrid};
use crate::cpu::contraction::{EmittedKernel, operand};
use crate::cpu::formula::{Formula, is_per_channel};
use crate::cpu::isa::CpuTarget;
use crate::cpu::requantization::{Bytes, Requantization};
use crate::schedule::LANES;
use edgecc_ir::{DType, ExprNode};

use super::compute;
use super::units::{RowClip, add_batch, clip_rows, for_each_unit};
use super::vector::{One, Part, Place, Source, Two, Width, at};
use super::writer::{Unwritten, Writer, Written};

/// Columns of a tile, at most.
const MOST_COLUMNS: i64 = 8;
/// Registers that input positions take in turn.
const INPUTS: i64 = 3;
/// Taps whose products of bytes singles sum exactly: each is at most 2^14.
const MOST_EXACT_TAPS: usize = 1 << 10;

/// Registers of integers, by what they hold.
mod register {
    use super::*;

    pub const OUTPUT: AsmRegister64 = rsi;
    /// The weights of the first row of taps within the input, and those of the row at work.
    pub const WEIGHTS: AsmRegister64 = rdx;
    pub const TAPS: AsmRegister64 = rcx;
    /// The input under the tile's first column and the first row of taps within it, and under the row at work.
    pub const INPUT: AsmRegister64 = r8;
    pub const ROW: AsmRegister64 = r9;
    pub const VECTORS_LEFT: AsmRegister64 = r11;
    pub const ROWS_LEFT: AsmRegister64 = rbp;
    pub const FURTHER: [AsmRegister64; 4] = [r12, r13, r14, r15];
    /// The number of the output row, while a unit is located.
    pub const NUMBER: AsmRegister64 = r10;
}

/// Words of the stack, by what they hold.
mod slot {
    use crate::cpu::x64::units;

    pub const BATCH: usize = units::SLOTS;
    pub const ROWS: usize = BATCH + 1;
    pub const TILES_LEFT: usize = BATCH + 2;
    pub const WEIGHTS: usize = BATCH + 3;
    /// Input, output and further operands at the tile.
    pub const INPUT: usize = BATCH + 4;
    pub const OUTPUT: usize = BATCH + 5;
    pub const FURTHER: usize = BATCH + 6;
}

/// Output columns `first .. first + count` of a row, all inside where `first` is not known.
#[derive(Clone, Copy)]
struct Columns {
    first: Option<i64>,
    count: i64,
}

struct Depthwise<'a> {
    width: Width,
    spec: &'a DepthwiseSpec,
    /// Elements from the weights of one tap to those of the next.
    block: i64,
    taps: TapGrid,
    /// Output columns of a tile.
    columns: i64,
    /// The operands' types.
    types: Vec<DType>,
    formula: Formula,
    /// How results of the formula become bytes, where they do.
    bytes: Option<Bytes>,
    /// The operand that starts the sums, by its number from 1.
    start: Option<u16>,
    /// The operands of the formula, by their numbers, and their addresses.
    further: Vec<(u16, AsmRegister64)>,
}

/// Emits a depthwise convolution whose packed weights are one block, where it has a form that is written here.
pub fn emit_depthwise(
    target: &CpuTarget,
    spec: &DepthwiseSpec,
    block: i64,
    footprints: Vec<Footprint>,
) -> Option<EmittedKernel> {
    let emission = Depthwise::of(Width::of_target(target), spec, block)?;
    let mut writer = Writer::new(emission.width, slot::FURTHER + spec.operands.len()).ok()?;
    emission.emit(&mut writer).ok()?;
    let code = writer.finish(target.listing).ok()?;
    let units = spec.batch.iter().product::<i64>() * spec.window.height;
    Some(EmittedKernel::new(code, units, footprints))
}

impl<'a> Depthwise<'a> {
    fn of(width: Width, spec: &'a DepthwiseSpec, block: i64) -> Option<Self> {
        let is_known = block >= spec.channels && spec.window.width > 0;
        let taps = TapGrid::of(&spec.window).filter(|_| is_known)?;
        let (start, formula, bytes) = match (spec.element, spec.combination) {
            (Element::F16, _) => return None,
            (Element::F32, Combination::Products) => {
                let (start, formula) =
                    Formula::with_start(spec.element, &spec.epilogue, &spec.operands, &[is_per_channel])?;
                (start, formula, None)
            }
            (Element::F32, Combination::Maximum | Combination::Sum) => {
                (None, Formula::of(spec.element, &spec.epilogue)?, None)
            }
            (Element::I8, Combination::Products) if spec.window.taps.len() <= MOST_EXACT_TAPS => {
                Requantization::of(&spec.epilogue, &spec.operands)?.within_bounds()?
            }
            (Element::I8, Combination::Maximum) if spec.epilogue == Element::I8.plain_epilogue() => {
                let ExprNode::Cast(_, largest) = spec.epilogue.node(spec.epilogue.root()) else { return None };
                (None, Formula::of_integers(&spec.epilogue, largest)?, Some(Bytes::PLAIN))
            }
            (Element::I8, _) => return None,
        };
        let is_bytes = |dtype: &DType| matches!(dtype, DType::I8 | DType::U8);
        let types = spec.types();
        // AVX2 has no parts of vectors of bytes.
        let has_parts = width != Width::Eight || spec.channels % width.lanes() == 0;
        if types.iter().any(is_bytes) && !has_parts {
            return None;
        }
        let numbers = formula.operands();
        if numbers.len() + usize::from(start.is_some()) > register::FURTHER.len() {
            return None;
        }
        // Beside the formula's: a value of each operand, and a mask for what is stored.
        let for_epilogue = compute::registers(width, &formula)? + numbers.len() + 1;
        let for_weights = if spec.combination == Combination::Products { taps.columns.len() as i64 } else { 0 };
        let beside = (for_epilogue as i64).max(for_weights + INPUTS);
        let most = (width.registers() as i64 - beside).min(MOST_COLUMNS);
        if most < 1 || !spans_fit(spec, &taps) {
            return None;
        }
        let columns = divide_up(spec.window.width, divide_up(spec.window.width, most));
        let further = numbers.into_iter().chain(start).zip(register::FURTHER).collect();
        let emission = Depthwise { width, spec, block, taps, columns, types, formula, bytes, start, further };
        let inside = emission.inside();
        let border = divide_up(spec.window.width, columns) - (inside[1] - inside[0]);
        (border <= MOST_BORDER_TILES).then_some(emission)
    }

    /// Tiles whose taps all lie within the input's columns, as a half-open range.
    fn inside(&self) -> [i64; 2] {
        whole_parts(self.spec.window.interior_columns(), self.columns)
    }

    fn strides(&self, number: u16) -> &Strides {
        &self.spec.operands[number as usize - 1]
    }

    /// Bytes of an element of input and weights.
    fn size(&self) -> i64 {
        self.spec.element.bytes()
    }

    /// Bytes of an element of an operand of the kernel.
    fn size_of(&self, operand: usize) -> i64 {
        self.types[operand].size() as i64
    }

    fn emit(&self, w: &mut Writer) -> Written {
        let rest = self.spec.channels % self.width.lanes();
        if rest > 0 {
            w.set_tail(rest, divide_up(rest, LANES) * LANES)?;
        }
        for_each_unit(w, (edx, ecx), |w| {
            self.locate_unit(w)?;
            self.tiles(w)
        })
    }

    /// Fills the slots of a unit, whose number is in rax: an output row of a batch.
    fn locate_unit(&self, w: &mut Writer) -> Written {
        let spec = self.spec;
        w.split(spec.window.height)?;
        w.a.mov(register::NUMBER, rdx)?;
        w.a.mov(w.slot(slot::BATCH), rax)?;
        let input = Strides { base: spec.input.base + self.first_position(), ..spec.window.stepped(&spec.input) };
        let mut placed = vec![(operand::INPUT, slot::INPUT, &input), (operand::OUTPUT, slot::OUTPUT, &spec.output)];
        for &(number, _) in &self.further {
            let place = number as usize - 1;
            placed.push((operand::FURTHER + place, slot::FURTHER + place, self.strides(number)));
        }
        let address = register::INPUT;
        for (index, slot, strides) in placed.into_iter().rev() {
            let size = self.size_of(index);
            w.operand(address, index)?;
            w.add(address, strides.base * size, rax)?;
            w.add_product(address, register::NUMBER, strides.row * size, rax)?;
            let batch: Vec<i64> = strides.batch.iter().map(|stride| stride * size).collect();
            add_batch(w, address, slot::BATCH, &spec.batch, &batch)?;
            w.a.mov(w.slot(slot), address)?;
        }
        w.operand(register::WEIGHTS, operand::WEIGHTS)?;
        if !self.rows_inside() {
            let clip = RowClip {
                first: self.taps.first_row,
                rows: self.taps.rows,
                row_step: self.taps.row_step,
                step: spec.window.step[0],
                input_height: spec.window.input_height,
            };
            let row_bytes = self.taps.row_step * spec.input.row * self.size();
            let moves = [(register::INPUT, row_bytes), (register::WEIGHTS, self.row_of_weights())];
            clip_rows(w, &clip, Some(register::NUMBER), moves, slot::ROWS)?;
            w.a.mov(w.slot(slot::INPUT), register::INPUT)?;
        }
        Ok(w.a.mov(w.slot(slot::WEIGHTS), register::WEIGHTS)?)
    }

    /// Elements from an output pixel's own input to the first tap.
    fn first_position(&self) -> i64 {
        self.taps.first_row * self.spec.input.row + self.taps.columns[0] * self.spec.input.column
    }

    fn rows_inside(&self) -> bool {
        self.spec.window.interior_rows() == [0, self.spec.window.height]
    }

    /// Bytes of the weights of one row of taps.
    fn row_of_weights(&self) -> i64 {
        self.taps.columns.len() as i64 * self.block * self.size()
    }

    /// Tiles from the left: those that meet the border at known columns, those inside in a loop.
    fn tiles(&self, w: &mut Writer) -> Written {
        let (width, size) = (self.spec.window.width, self.columns);
        let known = |tile: i64| Columns { first: Some(tile * size), count: size.min(width - tile * size) };
        let [begin, end] = self.inside();
        (0..begin).try_for_each(|tile| self.tile(w, known(tile)))?;
        if begin < end {
            w.a.mov(w.slot(slot::TILES_LEFT), (end - begin) as i32)?;
            let mut head = w.a.create_label();
            w.a.set_label(&mut head)?;
            self.tile(w, Columns { first: None, count: size })?;
            w.a.dec(w.slot(slot::TILES_LEFT))?;
            w.a.jne(head)?;
        }
        (end..divide_up(width, size)).try_for_each(|tile| self.tile(w, known(tile)))
    }

    /// All channels of a tile.
    fn tile(&self, w: &mut Writer, columns: Columns) -> Written {
        let spec = self.spec;
        let pixel = spec.window.step[1] * spec.input.column;
        let output_size = self.size_of(operand::OUTPUT);
        let mut moving = vec![
            (register::INPUT, slot::INPUT, pixel * self.size(), self.size()),
            (register::OUTPUT, slot::OUTPUT, spec.output.column * output_size, output_size),
        ];
        for &(number, pointer) in &self.further {
            let (strides, size) = (self.strides(number), self.size_of(operand::FURTHER + number as usize - 1));
            moving.push((pointer, slot::FURTHER + number as usize - 1, strides.column * size, strides.channel * size));
        }
        w.a.mov(register::WEIGHTS, w.slot(slot::WEIGHTS))?;
        for &(pointer, slot, pixel, _) in &moving {
            w.a.mov(pointer, w.slot(slot))?;
            if pixel != 0 {
                w.constant(rax, pixel * columns.count)?;
                w.a.add(w.slot(slot), rax)?;
            }
        }
        let (vectors, rest) = (spec.channels / self.width.lanes(), spec.channels % self.width.lanes());
        if vectors > 0 {
            w.constant(register::VECTORS_LEFT, vectors)?;
            let mut head = w.a.create_label();
            w.a.set_label(&mut head)?;
            self.vector(w, columns, Part::Whole)?;
            w.a.add(register::WEIGHTS, (self.width.lanes() * self.size()) as i32)?;
            for &(pointer, _, _, channel) in &moving {
                w.add(pointer, channel * self.width.lanes(), rax)?;
            }
            w.a.dec(register::VECTORS_LEFT)?;
            w.a.jne(head)?;
        }
        if rest > 0 { self.vector(w, columns, Part::Existing) } else { Ok(()) }
    }

    /// A vector of channels of a tile.
    fn vector(&self, w: &mut Writer, columns: Columns, part: Part) -> Written {
        self.start_sums(w, columns, part)?;
        w.a.mov(register::ROW, register::INPUT)?;
        w.a.mov(register::TAPS, register::WEIGHTS)?;
        let mut exit = w.a.create_label();
        if self.rows_inside() {
            w.constant(register::ROWS_LEFT, self.taps.rows)?;
        } else {
            w.a.mov(register::ROWS_LEFT, w.slot(slot::ROWS))?;
            w.a.cmp(register::ROWS_LEFT, 1)?;
            w.a.jl(exit)?;
        }
        let mut head = w.a.create_label();
        w.a.set_label(&mut head)?;
        self.row_of_taps(w, columns, part)?;
        w.add(register::ROW, self.taps.row_step * self.spec.input.row * self.size(), rax)?;
        w.add(register::TAPS, self.row_of_weights(), rax)?;
        w.a.dec(register::ROWS_LEFT)?;
        w.a.jne(head)?;
        w.a.set_label(&mut exit)?;
        w.a.nop()?;
        (0..columns.count).try_for_each(|column| self.result(w, columns, column, part))
    }

    /// What no tap at all becomes.
    fn start_sums(&self, w: &mut Writer, columns: Columns, part: Part) -> Written {
        let start = self.start.and_then(|number| self.further.iter().find(|&&(other, _)| other == number));
        match (self.spec.combination, self.spec.element, start) {
            (Combination::Maximum, Element::I8, _) => w.fill(0, f32::from(i8::MIN).to_bits())?,
            (Combination::Maximum, _, _) => w.fill(0, f32::NEG_INFINITY.to_bits())?,
            (Combination::Products, Element::F32, Some(&(_, pointer))) => w.load(0, at(pointer, 0), part)?,
            (Combination::Products | Combination::Sum, _, _) => w.zero(0)?,
        }
        (1..columns.count as usize).try_for_each(|sum| w.copy(sum, 0))
    }

    /// One row of taps: position by position, each met by the taps that reach it from the tile's columns.
    fn row_of_taps(&self, w: &mut Writer, columns: Columns, part: Part) -> Written {
        let (taps, step) = (&self.taps.columns, self.spec.window.step[1]);
        let has_weights = self.spec.combination == Combination::Products;
        let weight = |tap: usize| columns.count as usize + tap;
        if has_weights {
            let of_weights = if part == Part::Whole { part } else { Part::Padded };
            for tap in 0..taps.len() {
                let place = at(register::TAPS, tap as i64 * self.block * self.size());
                self.load_element(w, weight(tap), place, of_weights)?;
            }
        }
        let mut products: Vec<(i64, usize, usize)> = (0..columns.count)
            .flat_map(|column| (0..taps.len()).map(move |tap| (column * step + taps[tap], tap, column as usize)))
            .filter(|&(position, ..)| self.is_within(columns, position))
            .collect();
        products.sort_unstable();
        let first_input = columns.count as usize + if has_weights { taps.len() } else { 0 };
        for (number, met) in products.chunk_by(|a, b| a.0 == b.0).enumerate() {
            let input = first_input + number % INPUTS as usize;
            let place = (met[0].0 - taps[0]) * self.spec.input.column * self.size();
            self.load_element(w, input, at(register::ROW, place), part)?;
            for &(_, tap, sum) in met {
                match self.spec.combination {
                    Combination::Products => w.two(Two::MultiplyAdd, sum, input, Source::Register(weight(tap)))?,
                    // Of a number and NaN the second is taken: NaN counts as little as in the evaluator.
                    Combination::Maximum => w.two(Two::Maximum, sum, input, Source::Register(sum))?,
                    Combination::Sum => w.two(Two::Add, sum, sum, Source::Register(input))?,
                }
            }
        }
        Ok(())
    }

    /// Loads input or weights as singles.
    fn load_element(&self, w: &mut Writer, d: usize, place: Place, part: Part) -> Written {
        self.load_as_single(w, d, place, (part, self.spec.element.dtype()))
    }

    /// Loads numbers; bytes become singles.
    fn load_as_single(&self, w: &mut Writer, d: usize, place: Place, (part, dtype): (Part, DType)) -> Written {
        if !matches!(dtype, DType::I8 | DType::U8) {
            return w.load(d, place, part);
        }
        w.load_bytes(d, place, part, dtype == DType::I8)?;
        w.one(One::FromInteger, d, d)
    }

    /// Whether an input position, relative to that of the tile's first column, lies within the input.
    fn is_within(&self, columns: Columns, position: i64) -> bool {
        let window = &self.spec.window;
        columns.first.is_none_or(|first| (0..window.input_width).contains(&(first * window.step[1] + position)))
    }

    /// The epilogue of a column, and its store.
    fn result(&self, w: &mut Writer, columns: Columns, column: i64, part: Part) -> Written {
        let (mut free, sum) =
            ((columns.count as usize..self.width.registers()).collect::<Vec<usize>>(), column as usize);
        let spare = free.pop().ok_or(Unwritten::Registers)?;
        if self.spec.element == Element::I8 {
            w.one(One::ToInteger, sum, sum)?;
            if let Some(&(_, pointer)) = self.further.iter().find(|&&(number, _)| Some(number) == self.start) {
                w.load(spare, at(pointer, 0), part)?;
                w.two(Two::AddIntegers, sum, sum, Source::Register(spare))?;
            }
        }
        let mut operands = Vec::new();
        for &(number, pointer) in self.further.iter().filter(|&&(number, _)| Some(number) != self.start) {
            let value = free.pop().ok_or(Unwritten::Registers)?;
            let (strides, dtype) = (self.strides(number), self.types[operand::FURTHER + number as usize - 1]);
            let place = at(pointer, column * strides.column * dtype.size() as i64);
            match (strides.channel, dtype.size()) {
                (0, 4) => w.spread(value, place)?,
                (0, _) => return Err(Unwritten::Encoding),
                _ => self.load_as_single(w, value, place, (part, dtype))?,
            }
            operands.push((number, value));
        }
        compute::emit(w, &self.formula, sum, &operands, free)?;
        let place = at(register::OUTPUT, column * self.spec.output.column * self.size_of(operand::OUTPUT));
        match self.bytes {
            Some(bytes) => w.requantized(place, sum, (part, spare), bytes),
            None => w.store(place, sum, part, Some(spare)),
        }
    }
}

/// Whether offsets within a tile are encoded in 32 bits.
fn spans_fit(spec: &DepthwiseSpec, taps: &TapGrid) -> bool {
    let reach = MOST_COLUMNS * spec.window.step[1] + taps.columns[taps.columns.len() - 1] - taps.columns[0];
    let fits = |bytes: i64| i32::try_from(bytes).is_ok();
    let all = [&spec.output].into_iter().chain(&spec.operands);
    fits(reach.saturating_mul(spec.input.column * 4))
        && fits(spec.channels.saturating_mul(taps.columns.len() as i64 * 4))
        && all.into_iter().all(|strides| fits(MOST_COLUMNS.saturating_mul(strides.column * 4)))
}
