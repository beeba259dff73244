//! Depthwise convolution. A unit of the range is one output row; it is cut into tiles of columns, and each tile runs over
//! the channels. Columns are clipped at compile time, rows by a test per row of taps.

use std::collections::BTreeMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Type, Value, types};
use cranelift_frontend::FunctionBuilder;
use edgecc_ir::DType;

use crate::contraction::{
    Combination, DepthwiseSpec, Element, Footprint, Strides, divide_up, input_footprint, pixel_footprint,
};
use crate::cpu::a64;
use crate::cpu::expr::{Width, fits_lanes, machine_type};
use crate::cpu::function::{
    EmitError, KernelParameters, branch, compile_kernel, constant, counted_loop, offset, scale,
};
use crate::cpu::isa::{Architecture, CpuTarget};
use crate::cpu::x64;
use crate::schedule::{DepthwiseSchedule, LANES};

use super::elements::{Form, load_elements, spread, store_elements};
use super::epilogue::{Constants, each};
use super::nest::{Unit, batch_offsets, in_bytes, split};
use super::{EmittedKernel, operand};

/// Packs depthwise weights: `[block of channels][tap][channel]` as the schedule asks, padded with zeros. `weight(tap, channel)`
/// is the value, `tap` the place in the spec's list.
pub fn pack_depthwise(
    spec: &DepthwiseSpec,
    schedule: &DepthwiseSchedule,
    weight: impl Fn(i64, i64) -> f32,
) -> Vec<f32> {
    let taps = spec.window.taps.len() as i64;
    let mut packed = Vec::with_capacity(packed_elements(spec) as usize);
    for first in (0..spec.channels).step_by(schedule.block as usize) {
        for tap in 0..taps {
            let channels = first..first + schedule.block;
            packed.extend(channels.map(|channel| if channel < spec.channels { weight(tap, channel) } else { 0.0 }));
        }
    }
    packed
}

fn packed_elements(spec: &DepthwiseSpec) -> i64 {
    let lanes = spec.element.depthwise_lanes();
    divide_up(spec.channels, lanes) * lanes * spec.window.taps.len() as i64
}

/// Emits a depthwise convolution with weights as [`pack_depthwise`] lays them out.
pub fn emit_depthwise(
    target: &CpuTarget,
    name: &str,
    spec: &DepthwiseSpec,
    schedule: &DepthwiseSchedule,
) -> Result<EmittedKernel, EmitError> {
    check(name, spec)?;
    if target.encodes_a64_of(spec.element)
        && let Some(kernel) = a64::emit_depthwise(target, spec, footprints(spec))
    {
        return Ok(kernel);
    }
    if target.encodes_x64()
        && let Some(kernel) = x64::emit_depthwise(target, spec, schedule.block, footprints(spec))
    {
        return Ok(kernel);
    }
    let (architecture, rows, types) = (target.architecture, rows_of_taps(spec), spec.types());
    let emission = Depthwise { spec, types, schedule, architecture, rows };
    let code = compile_kernel(target, name, |b, parameters| emission.emit(b, parameters))?;
    let units = spec.batch.iter().product::<i64>() * spec.window.height;
    Ok(EmittedKernel::new(code, units, footprints(spec)))
}

/// Output rows of a unit of the range.
pub(crate) fn depthwise_unit_rows(target: &CpuTarget, spec: &DepthwiseSpec) -> i64 {
    let encoded = target.encodes_a64_of(spec.element).then(|| a64::depthwise_unit_rows(target, spec)).flatten();
    encoded.unwrap_or(1)
}

fn check(name: &str, spec: &DepthwiseSpec) -> Result<(), EmitError> {
    let refuse = |reason: &str| Err(EmitError::Unsupported { kernel: name.to_owned(), reason: reason.to_owned() });
    let mut strides = [&spec.input, &spec.output].into_iter().chain(&spec.operands);
    if spec.input.channel != 1 || spec.output.channel != 1 {
        return refuse("the channels of input and output must be neighbours");
    }
    if spec.operands.iter().any(|strides| strides.channel > 1) {
        return refuse("the channels of further operands must be neighbours or shared");
    }
    if strides.any(|strides| strides.batch.len() != spec.batch.len()) {
        return refuse("each operand has one stride per batch axis");
    }
    if spec.epilogue.arity() > spec.operands.len() + 1 {
        return refuse("the epilogue asks for more operands than there are");
    }
    if !fits_lanes(&spec.epilogue) {
        return refuse("the epilogue computes with at most 32 bits");
    }
    if spec.window.taps.is_empty() || spec.window.step.iter().any(|&step| step < 1) {
        return refuse("a window has taps and positive steps");
    }
    Ok(())
}

fn footprints(spec: &DepthwiseSpec) -> Vec<Footprint> {
    let DepthwiseSpec { element, batch, window, channels, .. } = spec;
    let types = spec.types();
    let mut footprints = vec![
        input_footprint(types[operand::INPUT], &spec.input, batch, window, *channels),
        Footprint::leading(match spec.combination {
            Combination::Products => packed_elements(spec) * element.bytes(),
            Combination::Maximum | Combination::Sum => 0,
        }),
        pixel_footprint(types[operand::OUTPUT], &spec.output, batch, window, *channels),
    ];
    let further = spec.operands.iter().zip(&types[operand::FURTHER..]);
    footprints.extend(further.map(|(strides, &dtype)| pixel_footprint(dtype, strides, batch, window, *channels)));
    footprints
}

/// The taps of one input row: its offset, and per tap the column offset and the place in the list.
struct RowOfTaps {
    row: i64,
    taps: Vec<(i64, i64)>,
}

fn rows_of_taps(spec: &DepthwiseSpec) -> Vec<RowOfTaps> {
    let mut rows: Vec<RowOfTaps> = Vec::new();
    for (place, tap) in spec.window.taps.iter().enumerate() {
        let entry = (tap.column, place as i64);
        match rows.last_mut().filter(|last| last.row == tap.row) {
            Some(last) => last.taps.push(entry),
            None => rows.push(RowOfTaps { row: tap.row, taps: vec![entry] }),
        }
    }
    rows.iter_mut().for_each(|row| row.taps.sort_unstable());
    rows
}

struct Depthwise<'a> {
    spec: &'a DepthwiseSpec,
    /// The operands' types.
    types: Vec<DType>,
    architecture: Architecture,
    schedule: &'a DepthwiseSchedule,
    rows: Vec<RowOfTaps>,
}

/// Output columns `first .. first + count` of a row, all inside where `first` is not known.
#[derive(Clone, Copy)]
struct Columns {
    first: Option<i64>,
    count: i64,
}

/// What is the same for all columns and channels of an output row.
struct Row<'a> {
    unit: &'a Unit,
    number: Value,
    /// Per row of taps, whether it lies within the input; `None` where all do.
    within: Option<Vec<Value>>,
}

/// What is the same for all rows of taps of a tile, for one vector of channels (or one channel).
#[derive(Clone, Copy)]
struct Channels {
    columns: Columns,
    width: Width,
    weights: Value,
}

/// One multiply-add: an input position relative to that of the tile's first column, a tap of the row, a column's sum.
struct Product {
    position: i64,
    tap: usize,
    column: usize,
}

/// Addresses that move along the channels: each row of taps, the weights, the output, the further operands.
struct Addresses {
    rows: Vec<Value>,
    weights: Value,
    output: Value,
    further: Vec<Value>,
}

impl Addresses {
    fn to_values(&self) -> Vec<Value> {
        let ends = [self.weights, self.output];
        self.rows.iter().chain(&ends).chain(&self.further).copied().collect()
    }

    fn from_values(values: &[Value], rows: usize) -> Self {
        Addresses {
            rows: values[..rows].to_vec(),
            weights: values[rows],
            output: values[rows + 1],
            further: values[rows + 2..].to_vec(),
        }
    }
}

impl Depthwise<'_> {
    fn emit(&self, b: &mut FunctionBuilder<'_>, parameters: KernelParameters) -> Result<(), EmitError> {
        counted_loop(b, parameters.begin, parameters.end, 1, |b, number| {
            let (batch, row) = split(b, number, self.spec.window.height);
            let row = row.unwrap_or_else(|| constant(b, 0));
            let unit = Unit::new(parameters.bases, self.batch_offsets(b, batch));
            self.row(b, &unit, row)
        })
    }

    fn batch_offsets(&self, b: &mut FunctionBuilder<'_>, batch: Value) -> Vec<Option<Value>> {
        let spec = self.spec;
        let mut strides = vec![spec.input.batch.clone(), vec![0; spec.batch.len()], spec.output.batch.clone()];
        strides.extend(spec.operands.iter().map(|strides| strides.batch.clone()));
        batch_offsets(b, batch, &spec.batch, &in_bytes(strides, &self.types))
    }

    /// One body for rows whose taps all lie within the input, one for the others.
    fn row(&self, b: &mut FunctionBuilder<'_>, unit: &Unit, number: Value) -> Result<(), EmitError> {
        let inside_rows = self.spec.window.interior_rows();
        let inside_row = Row { unit, number, within: None };
        if inside_rows == [0, self.spec.window.height] {
            return self.tiles(b, &inside_row);
        }
        let (inside, border, exit) = (b.create_block(), b.create_block(), b.create_block());
        let moved = offset(b, number, -inside_rows[0]);
        let count = inside_rows[1] - inside_rows[0];
        let is_inside = b.ins().icmp_imm_s(IntCC::UnsignedLessThan, moved, count);
        branch(b, is_inside, inside, border);
        b.switch_to_block(inside);
        if count > 0 {
            self.tiles(b, &inside_row)?;
        }
        b.ins().jump(exit, &[]);
        b.switch_to_block(border);
        let within = Some(self.rows_within(b, number));
        self.tiles(b, &Row { unit, number, within })?;
        b.ins().jump(exit, &[]);
        b.switch_to_block(exit);
        Ok(())
    }

    fn rows_within(&self, b: &mut FunctionBuilder<'_>, number: Value) -> Vec<Value> {
        let first = scale(b, number, self.spec.window.step[0]);
        let test = |row: &RowOfTaps| {
            let reached = offset(b, first, row.row);
            b.ins().icmp_imm_s(IntCC::UnsignedLessThan, reached, self.spec.window.input_height)
        };
        self.rows.iter().map(test).collect()
    }

    /// Tiles from the left: those that meet the border at known columns, those inside in a loop.
    fn tiles(&self, b: &mut FunctionBuilder<'_>, row: &Row<'_>) -> Result<(), EmitError> {
        let (width, size) = (self.spec.window.width, self.schedule.columns.max(1));
        let [begin, end] = self.spec.window.interior_columns();
        let inside = divide_up(begin, size)..end / size;
        let known = |first: i64| Columns { first: Some(first), count: size.min(width - first) };
        if inside.end - inside.start < 2 {
            return (0..width).step_by(size as usize).try_for_each(|first| self.known_tile(b, row, known(first)));
        }
        (0..inside.start).try_for_each(|tile| self.known_tile(b, row, known(tile * size)))?;
        let (from, to) = (constant(b, inside.start * size), constant(b, inside.end * size));
        counted_loop(b, from, to, size, |b, first| self.tile(b, row, first, Columns { first: None, count: size }))?;
        let after = (inside.end * size..width).step_by(size as usize);
        after.into_iter().try_for_each(|first| self.known_tile(b, row, known(first)))
    }

    fn known_tile(&self, b: &mut FunctionBuilder<'_>, row: &Row<'_>, columns: Columns) -> Result<(), EmitError> {
        let first = constant(b, columns.first.unwrap_or(0));
        self.tile(b, row, first, columns)
    }

    /// All channels of a tile: whole blocks of weights, then one by one.
    fn tile(
        &self,
        b: &mut FunctionBuilder<'_>,
        row: &Row<'_>,
        first: Value,
        columns: Columns,
    ) -> Result<(), EmitError> {
        let addresses = self.addresses(b, row, first);
        let lanes = self.spec.element.lanes();
        let (blocks, rest) = (self.spec.channels / lanes, self.spec.channels % lanes);
        let addresses = self.channels(b, row, columns, addresses, Width::Four, blocks)?;
        self.channels(b, row, columns, addresses, Width::One, rest)?;
        Ok(())
    }

    fn addresses(&self, b: &mut FunctionBuilder<'_>, row: &Row<'_>, first: Value) -> Addresses {
        let spec = self.spec;
        let input = self.at(b, row, operand::INPUT, &spec.window.stepped(&spec.input), first);
        let rows =
            self.rows.iter().map(|taps| offset(b, input, taps.row * spec.input.row * spec.element.bytes())).collect();
        let weights = row.unit.address(b, operand::WEIGHTS);
        let output = self.at(b, row, operand::OUTPUT, &spec.output, first);
        let numbered = spec.operands.iter().enumerate();
        let further = numbered.map(|(n, strides)| self.at(b, row, operand::FURTHER + n, strides, first)).collect();
        Addresses { rows, weights, output, further }
    }

    fn at(&self, b: &mut FunctionBuilder<'_>, row: &Row<'_>, index: usize, strides: &Strides, first: Value) -> Value {
        let base = row.unit.address(b, index);
        let size = self.size(index);
        let base = offset(b, base, strides.base * size);
        let row_bytes = scale(b, row.number, strides.row * size);
        let column_bytes = scale(b, first, strides.column * size);
        let base = b.ins().iadd(base, row_bytes);
        b.ins().iadd(base, column_bytes)
    }

    /// Runs `count` channels or blocks of channels, and returns the addresses behind them.
    fn channels(
        &self,
        b: &mut FunctionBuilder<'_>,
        row: &Row<'_>,
        columns: Columns,
        addresses: Addresses,
        width: Width,
        count: i64,
    ) -> Result<Addresses, EmitError> {
        if count == 0 {
            return Ok(addresses);
        }
        let constants = Constants::emit(b, self.architecture, &self.spec.epilogue, width);
        let (head, exit) = (b.create_block(), b.create_block());
        let mut entering = vec![constant(b, count)];
        entering.extend(addresses.to_values());
        let parameters: Vec<Value> = entering.iter().map(|_| b.append_block_param(head, types::I64)).collect();
        let arguments = |values: &[Value]| values.iter().map(|&value| BlockArg::Value(value)).collect::<Vec<_>>();
        b.ins().jump(head, &arguments(&entering));
        b.switch_to_block(head);
        let here = Addresses::from_values(&parameters[1..], self.rows.len());
        let (channels, parts) = match width {
            Width::One => (1, 1),
            Width::Four => (LANES, self.spec.element.lanes() / LANES),
        };
        for part in 0..parts {
            let here = self.moved(b, &here, part * LANES, 1);
            self.columns(b, row, columns, &here, width, &constants)?;
        }
        let passes_block = width == Width::Four && self.schedule.block == self.spec.element.lanes();
        let taps = if passes_block { self.spec.window.taps.len() as i64 } else { 1 };
        let next = self.moved(b, &here, parts * channels, taps);
        let left = b.ins().iadd_imm_s(parameters[0], -1);
        let mut repeating = vec![left];
        repeating.extend(next.to_values());
        b.ins().brif(left, head, &arguments(&repeating), exit, &[]);
        b.switch_to_block(exit);
        Ok(next)
    }

    /// The addresses of channels further on; the weights' move by those of as many taps.
    fn moved(&self, b: &mut FunctionBuilder<'_>, here: &Addresses, channels: i64, taps: i64) -> Addresses {
        let strides = self.spec.operands.iter().enumerate();
        let bytes = |index: usize| channels * self.size(index);
        let further = here.further.iter().zip(strides);
        Addresses {
            rows: here.rows.iter().map(|&row| offset(b, row, bytes(operand::INPUT))).collect(),
            weights: offset(b, here.weights, bytes(operand::WEIGHTS) * taps),
            output: offset(b, here.output, bytes(operand::OUTPUT)),
            further: further.map(|(&at, (n, s))| offset(b, at, bytes(operand::FURTHER + n) * s.channel)).collect(),
        }
    }

    /// The sums of the tile's columns for one vector of channels, and their epilogue.
    fn columns(
        &self,
        b: &mut FunctionBuilder<'_>,
        row: &Row<'_>,
        columns: Columns,
        here: &Addresses,
        width: Width,
        constants: &Constants,
    ) -> Result<(), EmitError> {
        let kind = machine_type(self.spec.element.sum_dtype(), width);
        let channels = Channels { columns, width, weights: here.weights };
        let mut sums: Vec<Option<Value>> = vec![None; columns.count as usize];
        match &row.within {
            None => {
                for (taps, &address) in self.rows.iter().zip(&here.rows) {
                    self.row_of_taps(b, channels, taps, address, &mut sums);
                }
            }
            Some(within) => {
                sums = sums.iter().map(|_| Some(self.nothing(b, kind))).collect();
                for ((taps, &address), &within) in self.rows.iter().zip(&here.rows).zip(within) {
                    sums = self.guarded_row(b, channels, taps, address, within, &sums);
                }
            }
        }
        let sums: Vec<Value> = sums.into_iter().map(|sum| sum.unwrap_or_else(|| self.nothing(b, kind))).collect();
        self.epilogue(b, here, width, constants, &sums)
    }

    /// How an operand is read or written.
    fn form(&self, index: usize) -> Form {
        (self.architecture, self.types[index])
    }

    /// Bytes of an element of an operand.
    fn size(&self, index: usize) -> i64 {
        self.types[index].size() as i64
    }

    /// An element of input or weights as a term of the sum.
    fn load(&self, b: &mut FunctionBuilder<'_>, width: Width, address: Value, at: i64) -> Value {
        let value = load_elements(b, self.form(operand::INPUT), width, address, at);
        match (self.spec.element, width) {
            (Element::I8, Width::One) => b.ins().sextend(types::I32, value),
            (Element::I8, Width::Four) | (Element::F32 | Element::F16, _) => value,
        }
    }

    /// What no tap at all becomes.
    fn nothing(&self, b: &mut FunctionBuilder<'_>, kind: Type) -> Value {
        let one = match (self.spec.element, self.spec.combination) {
            (Element::I8, Combination::Products | Combination::Sum) => b.ins().iconst(types::I32, 0),
            (Element::I8, Combination::Maximum) => b.ins().iconst(types::I32, i64::from(i8::MIN)),
            (Element::F32 | Element::F16, Combination::Products | Combination::Sum) => return zero(b, kind),
            (Element::F32 | Element::F16, Combination::Maximum) => b.ins().f32const(f32::NEG_INFINITY),
        };
        if kind.is_vector() { b.ins().splat(kind, one) } else { one }
    }

    /// A sum, or what there is none of yet, joined with one more position of the input.
    fn join(
        &self,
        b: &mut FunctionBuilder<'_>,
        joined: Option<Value>,
        input: Value,
        weights: impl FnOnce() -> Value,
    ) -> Value {
        match (self.spec.element, self.spec.combination, joined) {
            (_, Combination::Maximum | Combination::Sum, None) => input,
            (Element::I8, Combination::Sum, Some(sum)) => b.ins().iadd(sum, input),
            (Element::F32 | Element::F16, Combination::Sum, Some(sum)) => b.ins().fadd(sum, input),
            (Element::I8, Combination::Maximum, Some(largest)) => b.ins().smax(largest, input),
            (Element::F32 | Element::F16, Combination::Maximum, Some(largest)) => b.ins().fmax(largest, input),
            (Element::I8, Combination::Products, None) => b.ins().imul(input, weights()),
            (Element::I8, Combination::Products, Some(sum)) => {
                let product = b.ins().imul(input, weights());
                b.ins().iadd(sum, product)
            }
            (Element::F32 | Element::F16, Combination::Products, None) => b.ins().fmul(input, weights()),
            (Element::F32 | Element::F16, Combination::Products, Some(sum)) => b.ins().fma(input, weights(), sum),
        }
    }

    /// A row of taps behind a test.
    fn guarded_row(
        &self,
        b: &mut FunctionBuilder<'_>,
        channels: Channels,
        taps: &RowOfTaps,
        address: Value,
        within: Value,
        before: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let (inside, exit) = (b.create_block(), b.create_block());
        let kind = machine_type(self.spec.element.sum_dtype(), channels.width);
        let arguments =
            |sums: &[Option<Value>]| sums.iter().flatten().map(|&sum| sum.into()).collect::<Vec<BlockArg>>();
        let after = before.iter().map(|_| Some(b.append_block_param(exit, kind))).collect();
        b.ins().brif(within, inside, &[], exit, &arguments(before));
        b.switch_to_block(inside);
        let mut sums = before.to_vec();
        self.row_of_taps(b, channels, taps, address, &mut sums);
        b.ins().jump(exit, &arguments(&sums));
        b.switch_to_block(exit);
        after
    }

    /// Adds the products of one row of taps. Each input position is loaded once, one ahead of its use; each sum meets its
    /// taps by ascending column.
    fn row_of_taps(
        &self,
        b: &mut FunctionBuilder<'_>,
        channels: Channels,
        row: &RowOfTaps,
        address: Value,
        sums: &mut [Option<Value>],
    ) {
        let Channels { columns, width, weights } = channels;
        let size = self.spec.element.bytes();
        let products = self.products(columns, row);
        let mut inputs: BTreeMap<i64, Value> = BTreeMap::new();
        let mut input = |b: &mut FunctionBuilder<'_>, position: i64| {
            let place = position * self.spec.input.column * size;
            *inputs.entry(position).or_insert_with(|| self.load(b, width, address, place))
        };
        let Some(first) = products.first() else { return };
        input(b, first.position);
        let block = self.schedule.block;
        let weight = |&(_, tap): &(i64, i64)| self.load(b, width, weights, tap * block * size);
        let weights: Vec<Value> = match self.spec.combination {
            Combination::Products => row.taps.iter().map(weight).collect(),
            Combination::Maximum | Combination::Sum => Vec::new(),
        };
        for (place, product) in products.iter().enumerate() {
            if let Some(following) = products.get(place + 1) {
                input(b, following.position);
            }
            let input = input(b, product.position);
            let sum = &mut sums[product.column];
            *sum = Some(self.join(b, *sum, input, || weights[product.tap]));
        }
    }

    /// The products of a row of taps, in the order in which they are added: tap by tap, so that a sum is not used again at
    /// once, or position by position, so that few inputs are held.
    fn products(&self, columns: Columns, row: &RowOfTaps) -> Vec<Product> {
        let step = self.spec.window.step[1];
        let mut products: Vec<Product> = (0..row.taps.len())
            .flat_map(|tap| (0..columns.count).map(move |column| (tap, column)))
            .map(|(tap, column)| Product { position: column * step + row.taps[tap].0, tap, column: column as usize })
            .filter(|product| self.is_within(columns, product.position))
            .collect();
        if !self.schedule.holds_row {
            products.sort_by_key(|product| product.position);
        }
        products
    }

    /// Whether an input position, relative to that of the tile's first column, lies within the input.
    fn is_within(&self, columns: Columns, position: i64) -> bool {
        let window = &self.spec.window;
        columns.first.is_none_or(|first| (0..window.input_width).contains(&(first * window.step[1] + position)))
    }

    fn epilogue(
        &self,
        b: &mut FunctionBuilder<'_>,
        here: &Addresses,
        width: Width,
        constants: &Constants,
        sums: &[Value],
    ) -> Result<(), EmitError> {
        let spec = self.spec;
        let mut arguments = vec![sums.to_vec()];
        for (n, (strides, &address)) in spec.operands.iter().zip(&here.further).enumerate() {
            let (form, size) = (self.form(operand::FURTHER + n), self.size(operand::FURTHER + n));
            let at = |column: usize| column as i64 * strides.column * size;
            let is_shared = strides.column == 0;
            arguments
                .push(each(sums.len(), is_shared, |column| load_operand(b, form, width, strides, address, at(column))));
        }
        let results = constants.apply(b, &spec.epilogue, &arguments)?;
        for (column, &result) in results.iter().enumerate() {
            let at = column as i64 * spec.output.column * self.size(operand::OUTPUT);
            store_elements(b, self.form(operand::OUTPUT), width, result, here.output, at);
        }
        Ok(())
    }
}

fn load_operand(
    b: &mut FunctionBuilder<'_>,
    form: Form,
    width: Width,
    strides: &Strides,
    address: Value,
    place: i64,
) -> Value {
    if strides.channel == 1 || width == Width::One {
        return load_elements(b, form, width, address, place);
    }
    let scalar = load_elements(b, form, Width::One, address, place);
    spread(b, form, scalar)
}

fn zero(b: &mut FunctionBuilder<'_>, kind: Type) -> Value {
    if kind == types::F32 { b.ins().f32const(0.0) } else { super::depth::zeros(b, Element::F32, 1)[0] }
}
