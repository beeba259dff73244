//! The transforms of Winograd's convolution. A unit of the range is one row of tiles of one image. Inputs outside of the
//! image are zero. The last tile of an axis has code of its own where it has fewer outputs.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::contraction::{Element, Strides};
use crate::cpu::a64;
use crate::cpu::expr::Width;
use crate::cpu::function::{
    EmitError, branch, carried_loop, compile_kernel, constant, counted_loop, lanes, offset, operand_base, scale,
};
use crate::cpu::isa::CpuTarget;
use crate::cpu::x64;
use crate::schedule::LANES;
use crate::winograd::{Region, Step, Tiling, Transform, WinogradInput, WinogradOutput};

use super::EmittedKernel;
use super::elements::{Form, load_elements, store_elements};
use super::epilogue::Constants;
use super::nest::split;

/// Emits the transform of inputs. Operands: 0 the input, 1 the numbers.
pub fn emit_winograd_input(target: &CpuTarget, name: &str, spec: &WinogradInput) -> Result<EmittedKernel, EmitError> {
    let encoded = if target.encodes_a64_of(spec.element) {
        a64::emit_winograd_input(target, spec)
    } else if target.encodes_x64() {
        x64::emit_winograd_input(target, spec)
    } else {
        None
    };
    if let Some(kernel) = encoded {
        return Ok(kernel);
    }
    let form = (target.architecture, spec.element.dtype());
    let code = compile_kernel(target, name, |b, parameters| {
        counted_loop(b, parameters.begin, parameters.end, 1, |b, unit| {
            let input = operand_base(b, parameters.bases, 0);
            let numbers = operand_base(b, parameters.bases, 1);
            for_each_tile(b, &spec.tiling, unit, |b, tile| {
                let input = image_base(b, input, &spec.input, tile.image, spec.element);
                let numbers = Numbers::of(b, numbers, (&spec.tiling, spec.channels * spec.element.bytes()), &tile);
                input_tile(b, form, spec, (input, &numbers), &tile);
                Ok(())
            })
        })
    })?;
    Ok(EmittedKernel::new(code, spec.tiling.units(), spec.footprints()))
}

/// Emits the transform of sums, with the epilogue. Operands: 0 the sums, 1 the output, 2.. the further operands.
pub fn emit_winograd_output(target: &CpuTarget, name: &str, spec: &WinogradOutput) -> Result<EmittedKernel, EmitError> {
    let encoded = if target.encodes_a64_of(spec.element) {
        a64::emit_winograd_output(target, spec)
    } else if target.encodes_x64() {
        x64::emit_winograd_output(target, spec)
    } else {
        None
    };
    if let Some(kernel) = encoded {
        return Ok(kernel);
    }
    let form = (target.architecture, spec.element.dtype());
    let code = compile_kernel(target, name, |b, parameters| {
        counted_loop(b, parameters.begin, parameters.end, 1, |b, unit| {
            let sums = operand_base(b, parameters.bases, 0);
            let all = [&spec.output].into_iter().chain(&spec.operands).enumerate();
            let bases: Vec<(Value, &Strides)> =
                all.map(|(place, strides)| (operand_base(b, parameters.bases, 1 + place), strides)).collect();
            for_each_tile(b, &spec.tiling, unit, |b, tile| {
                let planes: Vec<Plane> =
                    bases.iter().map(|&(base, strides)| Plane::under(b, base, (strides, spec), &tile)).collect();
                let sums = Numbers::of(b, sums, (&spec.tiling, spec.channels * spec.element.bytes()), &tile);
                output_tile(b, form, spec, &sums, &planes, &tile)
            })
        })
    })?;
    Ok(EmittedKernel::new(code, spec.tiling.units(), spec.footprints()))
}

/// A tile at work, one of equally large ones.
struct Tile {
    image: Value,
    /// Its row and column among all tiles.
    at: [Value; 2],
    /// The rows and columns of tiles for which the code is, half-open ranges.
    range: [[i64; 2]; 2],
    /// Rows and columns of outputs.
    outputs: [i64; 2],
}

/// Emits `body` for the tiles of a unit: once for each size of tile.
fn for_each_tile(
    b: &mut FunctionBuilder<'_>,
    tiling: &Tiling,
    unit: Value,
    body: impl Fn(&mut FunctionBuilder<'_>, Tile) -> Result<(), EmitError>,
) -> Result<(), EmitError> {
    let (image, row) = split(b, unit, tiling.tiles()[0]);
    let row = row.unwrap_or_else(|| constant(b, 0));
    let ranges = [0, 1].map(|axis| tiling.sizes(axis));
    let exit = b.create_block();
    for (place, &(rows, row_outputs)) in ranges[0].iter().enumerate() {
        let next = b.create_block();
        if place + 1 < ranges[0].len() {
            let inside = b.create_block();
            let limit = constant(b, rows[1]);
            let is_here = b.ins().icmp(IntCC::SignedLessThan, row, limit);
            branch(b, is_here, inside, next);
            b.switch_to_block(inside);
        }
        for &(columns, column_outputs) in &ranges[1] {
            let (from, to) = (constant(b, columns[0]), constant(b, columns[1]));
            counted_loop(b, from, to, 1, |b, column| {
                let outputs = [row_outputs, column_outputs];
                body(b, Tile { image, at: [row, column], range: [rows, columns], outputs })
            })?;
        }
        b.ins().jump(exit, &[]);
        b.switch_to_block(next);
    }
    b.ins().jump(exit, &[]);
    b.switch_to_block(exit);
    Ok(())
}

fn image_base(b: &mut FunctionBuilder<'_>, base: Value, strides: &Strides, image: Value, element: Element) -> Value {
    let base = offset(b, base, strides.base * element.bytes());
    let moved = scale(b, image, strides.batch[0] * element.bytes());
    b.ins().iadd(base, moved)
}

/// Where the numbers of a tile lie: an address for each region that it takes part in.
struct Numbers {
    regions: Vec<Region>,
    addresses: Vec<Value>,
    /// Bytes of the channels.
    channel_bytes: i64,
}

impl Numbers {
    fn of(b: &mut FunctionBuilder<'_>, base: Value, (tiling, channel_bytes): (&Tiling, i64), tile: &Tile) -> Numbers {
        let regions = tiling.regions_of(tile.outputs);
        let address = |region: &Region| {
            let [rows, columns] = region.tiles;
            let images = scale(b, tile.image, rows);
            let lines = b.ins().iadd(images, tile.at[0]);
            let lines = scale(b, lines, columns);
            let place = b.ins().iadd(lines, tile.at[1]);
            let moved = scale(b, place, channel_bytes);
            let start = offset(b, base, region.before * channel_bytes);
            b.ins().iadd(start, moved)
        };
        let addresses = regions.iter().map(address).collect();
        Numbers { regions, addresses, channel_bytes }
    }

    /// The region of a pair of points, by its place among the tile's, and the bytes from its address.
    fn place(&self, points: [i64; 2]) -> (usize, i64) {
        let holds = |region: &Region| {
            (0..2).all(|axis| (0..region.points[axis]).contains(&(points[axis] - region.first[axis])))
        };
        let place = self.regions.iter().position(holds).unwrap_or(0);
        let region = self.regions[place];
        let matrix = (points[0] - region.first[0]) * region.points[1] + points[1] - region.first[1];
        (place, matrix * region.rows * self.channel_bytes)
    }
}

/// A tile inside of the input, or one whose rows and columns are tested.
fn input_tile(
    b: &mut FunctionBuilder<'_>,
    form: Form,
    spec: &WinogradInput,
    (input, numbers): (Value, &Numbers),
    tile: &Tile,
) {
    let size = spec.element.bytes();
    let reach = [0, 1].map(|axis| spec.tiling.axes[axis].inputs_of(tile.outputs[axis]));
    let first: Vec<Value> = (0..2)
        .map(|axis| {
            let first = scale(b, tile.at[axis], spec.tiling.axes[axis].advance());
            offset(b, first, -spec.pads[axis])
        })
        .collect();
    let may_be_inside = (0..2).all(|axis| spec.extents[axis] >= reach[axis]);
    let (inside, border, exit) = (b.create_block(), b.create_block(), b.create_block());
    if may_be_inside {
        let within: Vec<Value> = (0..2)
            .map(|axis| {
                let limit = constant(b, spec.extents[axis] - reach[axis]);
                b.ins().icmp(IntCC::UnsignedLessThanOrEqual, first[axis], limit)
            })
            .collect();
        let both = b.ins().band(within[0], within[1]);
        branch(b, both, inside, border);
        b.switch_to_block(inside);
        let row = scale(b, first[0], spec.input.row * size);
        let column = scale(b, first[1], spec.input.column * size);
        let start = b.ins().iadd(input, row);
        let start = b.ins().iadd(start, column);
        let rows = (0..reach[0]).map(|row| offset(b, start, row * spec.input.row * size)).collect::<Vec<_>>();
        let columns = (0..reach[1]).map(|column| Column::At(column * spec.input.column * size)).collect::<Vec<_>>();
        let masks = vec![None; rows.len()];
        transform_channels(b, form, spec, (&rows, &columns, &masks), numbers, tile);
        b.ins().jump(exit, &[]);
    } else {
        b.ins().jump(border, &[]);
    }
    b.switch_to_block(border);
    let rows = Clipped::along(b, spec, (0, reach[0]), first[0], tile);
    let columns = Clipped::along(b, spec, (1, reach[1]), first[1], tile);
    let addresses = rows.moved.iter().map(|&moved| b.ins().iadd(input, moved)).collect::<Vec<_>>();
    let places: Vec<Column> =
        columns.moved.iter().zip(&columns.masks).map(|(&moved, &mask)| Column::Clipped(moved, mask)).collect();
    transform_channels(b, form, spec, (&addresses, &places, &rows.masks), numbers, tile);
    b.ins().jump(exit, &[]);
    b.switch_to_block(exit);
}

/// Where a column of a tile lies, from the row's address.
#[derive(Clone, Copy)]
enum Column {
    /// Bytes.
    At(i64),
    /// Bytes, and a mask where the column may lie outside of the input.
    Clipped(Value, Option<Value>),
}

/// Rows or columns of a tile at the border: each in bytes, at 0 where it is outside, and the masks of those that may be.
struct Clipped {
    moved: Vec<Value>,
    masks: Vec<Option<Value>>,
}

impl Clipped {
    fn along(
        b: &mut FunctionBuilder<'_>,
        spec: &WinogradInput,
        (axis, reach): (usize, i64),
        first: Value,
        tile: &Tile,
    ) -> Clipped {
        let stride = if axis == 0 { spec.input.row } else { spec.input.column } * spec.element.bytes();
        let extent = spec.extents[axis];
        let advance = spec.tiling.axes[axis].advance();
        let mut clipped = Clipped { moved: Vec::new(), masks: Vec::new() };
        for place in 0..reach {
            let at = offset(b, first, place);
            let [begin, end] = tile.range[axis];
            let mut positions = (begin..end).map(|tile| tile * advance - spec.pads[axis] + place);
            if positions.all(|position| (0..extent).contains(&position)) {
                clipped.moved.push(scale(b, at, stride));
                clipped.masks.push(None);
                continue;
            }
            let limit = constant(b, extent);
            let within = b.ins().icmp(IntCC::UnsignedLessThan, at, limit);
            let zero = constant(b, 0);
            let at = b.ins().select(within, at, zero);
            clipped.moved.push(scale(b, at, stride));
            let (ones, none) = (b.ins().iconst(types::I32, -1), b.ins().iconst(types::I32, 0));
            let lane = b.ins().select(within, ones, none);
            let mask = b.ins().splat(types::I32X4, lane);
            clipped.masks.push(Some(b.ins().bitcast(types::F32X4, lanes(), mask)));
        }
        clipped
    }
}

/// All channels of a tile.
fn transform_channels(
    b: &mut FunctionBuilder<'_>,
    form: Form,
    spec: &WinogradInput,
    (rows, columns, row_masks): (&[Value], &[Column], &[Option<Value>]),
    numbers: &Numbers,
    tile: &Tile,
) {
    let transforms = spec.transforms(tile.outputs);
    let factors = Factors::of(b, &transforms);
    let vector = LANES * spec.element.bytes();
    let carried: Vec<Value> = rows.iter().chain(&numbers.addresses).copied().collect();
    carried_loop(b, spec.channels / LANES, &carried, |b, addresses| {
        let (rows, to) = addresses.split_at(rows.len());
        let mut middle: Vec<Vec<Value>> = Vec::new();
        for &column in columns {
            let inputs = rows.iter().zip(row_masks).map(|(&row, &row_mask)| {
                let (address, place, mask) = match column {
                    Column::At(place) => (row, place, None),
                    Column::Clipped(moved, mask) => (b.ins().iadd(row, moved), 0, mask),
                };
                let value = load_elements(b, form, Width::Four, address, place);
                [row_mask, mask].into_iter().flatten().fold(value, |value, mask| b.ins().band(value, mask))
            });
            let inputs: Vec<Value> = inputs.collect();
            middle.push(factors.apply(b, &transforms[0], &inputs));
        }
        for row in 0..transforms[0].results.len() {
            let inputs: Vec<Value> = middle.iter().map(|column| column[row]).collect();
            for (column, value) in factors.apply(b, &transforms[1], &inputs).into_iter().enumerate() {
                let (region, place) = numbers.place([row as i64, column as i64]);
                store_elements(b, form, Width::Four, value, to[region], place);
            }
        }
        addresses.iter().map(|&address| offset(b, address, vector)).collect()
    });
}

/// The factors of transforms as vectors, made once.
struct Factors(Vec<(f64, Value)>);

impl Factors {
    fn of(b: &mut FunctionBuilder<'_>, transforms: &[Transform]) -> Factors {
        let mut factors = Factors(Vec::new());
        for step in transforms.iter().flat_map(|transform| &transform.steps) {
            if let Step::Scale(_, _, factor) | Step::AddScaled(_, _, factor) = *step
                && !factors.0.iter().any(|&(other, _)| other == factor)
            {
                let scalar = b.ins().f32const(factor as f32);
                factors.0.push((factor, b.ins().splat(types::F32X4, scalar)));
            }
        }
        factors
    }

    fn apply(&self, b: &mut FunctionBuilder<'_>, transform: &Transform, operands: &[Value]) -> Vec<Value> {
        let mut slots = operands.to_vec();
        slots.resize(transform.slots, operands[0]);
        let of = |factor: f64| self.0.iter().find(|&&(other, _)| other == factor).map_or(operands[0], |each| each.1);
        for step in &transform.steps {
            match *step {
                Step::Add(to, x, y) => slots[to] = b.ins().fadd(slots[x], slots[y]),
                Step::Subtract(to, x, y) => slots[to] = b.ins().fsub(slots[x], slots[y]),
                Step::Scale(to, x, factor) => slots[to] = b.ins().fmul(slots[x], of(factor)),
                Step::AddScaled(to, x, factor) => slots[to] = b.ins().fma(slots[x], of(factor), slots[to]),
                Step::Copy(to, x) => slots[to] = slots[x],
            }
        }
        transform.results.iter().map(|&slot| slots[slot]).collect()
    }
}

/// An operand or the output under a tile: addresses of its rows, and of each column from there.
struct Plane {
    rows: Vec<Value>,
    columns: Vec<Value>,
    channel: i64,
}

impl Plane {
    fn under(
        b: &mut FunctionBuilder<'_>,
        base: Value,
        (strides, spec): (&Strides, &WinogradOutput),
        tile: &Tile,
    ) -> Plane {
        let base = image_base(b, base, strides, tile.image, spec.element);
        let mut bytes = |axis: usize, stride: i64| -> Vec<Value> {
            let first = scale(b, tile.at[axis], spec.tiling.axes[axis].outputs());
            let of_place = |place: i64| {
                let at = offset(b, first, place);
                scale(b, at, stride * spec.element.bytes())
            };
            (0..tile.outputs[axis]).map(of_place).collect()
        };
        let (rows, columns) = (bytes(0, strides.row), bytes(1, strides.column));
        let rows = rows.iter().map(|&row| b.ins().iadd(base, row)).collect();
        Plane { rows, columns, channel: strides.channel }
    }

    fn address(&self, b: &mut FunctionBuilder<'_>, [row, column]: [usize; 2], channel: Value) -> Value {
        let address = b.ins().iadd(self.rows[row], self.columns[column]);
        if self.channel == 0 { address } else { b.ins().iadd(address, channel) }
    }
}

fn output_tile(
    b: &mut FunctionBuilder<'_>,
    form: Form,
    spec: &WinogradOutput,
    sums: &Numbers,
    planes: &[Plane],
    tile: &Tile,
) -> Result<(), EmitError> {
    let transforms = spec.transforms(tile.outputs);
    let factors = Factors::of(b, &transforms);
    let constants = Constants::emit(b, form.0, &spec.epilogue, Width::Four);
    let vector = LANES * spec.element.bytes();
    let start = constant(b, 0);
    let mut failed = None;
    let carried: Vec<Value> = sums.addresses.iter().copied().chain([start]).collect();
    carried_loop(b, spec.channels / LANES, &carried, |b, carried| {
        let (from, channel) = carried.split_at(sums.addresses.len());
        let mut middle: Vec<Vec<Value>> = Vec::new();
        for column in 0..transforms[1].operands {
            let values = (0..transforms[0].operands).map(|row| {
                let (region, place) = sums.place([row as i64, column as i64]);
                load_elements(b, form, Width::Four, from[region], place)
            });
            let values: Vec<Value> = values.collect();
            middle.push(factors.apply(b, &transforms[0], &values));
        }
        for row in 0..transforms[0].results.len() {
            let values: Vec<Value> = middle.iter().map(|column| column[row]).collect();
            let results = factors.apply(b, &transforms[1], &values);
            let epilogue = (&spec.epilogue, &constants);
            if let Err(error) = output_row(b, form, epilogue, planes, (row, channel[0]), results) {
                failed = Some(error);
            }
        }
        carried.iter().map(|&value| offset(b, value, vector)).collect()
    });
    failed.map_or(Ok(()), Err)
}

/// One row of results of one vector of channels, from the transformed sums.
fn output_row(
    b: &mut FunctionBuilder<'_>,
    form: Form,
    (epilogue, constants): (&edgecc_ir::Expr, &Constants),
    planes: &[Plane],
    (row, channel): (usize, Value),
    results: Vec<Value>,
) -> Result<(), EmitError> {
    let columns = 0..results.len();
    let mut arguments = vec![results];
    for plane in &planes[1..] {
        let values = columns.clone().map(|column| {
            let address = plane.address(b, [row, column], channel);
            if plane.channel == 1 {
                return load_elements(b, form, Width::Four, address, 0);
            }
            let scalar = load_elements(b, form, Width::One, address, 0);
            b.ins().splat(types::F32X4, scalar)
        });
        arguments.push(values.collect());
    }
    for (column, &result) in constants.apply(b, epilogue, &arguments)?.iter().enumerate() {
        let address = planes[0].address(b, [row, column], channel);
        store_elements(b, form, Width::Four, result, address, 0);
    }
    Ok(())
}
