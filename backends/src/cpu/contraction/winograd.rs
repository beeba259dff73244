//! The transforms of Winograd's convolution. A unit of the range is one row of tiles of one image. Inputs outside of the
//! image are zero; results outside of it are written where a result of the image lies, which is written later.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::contraction::Strides;
use crate::cpu::expr::Width;
use crate::cpu::function::{
    EmitError, branch, carried_loop, compile_kernel, constant, counted_loop, lanes, load, offset, operand_base, scale,
    store,
};
use crate::cpu::isa::{Architecture, CpuTarget};
use crate::cpu::x64;
use crate::schedule::LANES;
use crate::winograd::{INPUTS, MATRICES, OUTPUTS, WinogradInput, WinogradOutput};

use super::EmittedKernel;
use super::epilogue::Constants;
use super::nest::split;

/// Bytes of one vector.
const VECTOR: i64 = LANES * 4;

/// Emits the transform of inputs. Operands: 0 the input, 1 the transformed input.
pub fn emit_winograd_input(target: &CpuTarget, name: &str, spec: &WinogradInput) -> Result<EmittedKernel, EmitError> {
    if target.encodes_x64()
        && let Some(kernel) = x64::emit_winograd_input(target, spec)
    {
        return Ok(kernel);
    }
    let code = compile_kernel(target, name, |b, parameters| {
        counted_loop(b, parameters.begin, parameters.end, 1, |b, unit| {
            let (image, row) = split(b, unit, spec.tiles[0]);
            let row = row.unwrap_or_else(|| constant(b, 0));
            let input = operand_base(b, parameters.bases, 0);
            let input = image_base(b, input, &spec.input, image);
            let transformed = operand_base(b, parameters.bases, 1);
            let tiles = scale(b, unit, spec.tiles[1] * MATRICES * spec.channels * 4);
            let transformed = b.ins().iadd(transformed, tiles);
            let (from, to) = (constant(b, 0), constant(b, spec.tiles[1]));
            counted_loop(b, from, to, 1, |b, column| {
                let moved = scale(b, column, MATRICES * spec.channels * 4);
                let to = b.ins().iadd(transformed, moved);
                input_tile(b, spec, input, to, [row, column]);
                Ok(())
            })
        })
    })?;
    Ok(EmittedKernel::new(code, spec.images * spec.tiles[0], spec.footprints()))
}

fn image_base(b: &mut FunctionBuilder<'_>, base: Value, strides: &Strides, image: Value) -> Value {
    let base = offset(b, base, strides.base * 4);
    let moved = scale(b, image, strides.batch[0] * 4);
    b.ins().iadd(base, moved)
}

/// A tile inside of the input, or one whose rows and columns are tested.
fn input_tile(b: &mut FunctionBuilder<'_>, spec: &WinogradInput, input: Value, to: Value, tile: [Value; 2]) {
    let first: Vec<Value> = (0..2)
        .map(|axis| {
            let first = scale(b, tile[axis], OUTPUTS);
            offset(b, first, -spec.pads[axis])
        })
        .collect();
    let may_be_inside = spec.extents.iter().all(|&extent| extent >= INPUTS);
    let (inside, border, exit) = (b.create_block(), b.create_block(), b.create_block());
    if may_be_inside {
        let within: Vec<Value> = (0..2)
            .map(|axis| {
                let limit = constant(b, spec.extents[axis] - INPUTS);
                b.ins().icmp(IntCC::UnsignedLessThanOrEqual, first[axis], limit)
            })
            .collect();
        let both = b.ins().band(within[0], within[1]);
        branch(b, both, inside, border);
        b.switch_to_block(inside);
        let row = scale(b, first[0], spec.input.row * 4);
        let column = scale(b, first[1], spec.input.column * 4);
        let start = b.ins().iadd(input, row);
        let start = b.ins().iadd(start, column);
        let rows = (0..INPUTS).map(|row| offset(b, start, row * spec.input.row * 4)).collect::<Vec<_>>();
        let columns = (0..INPUTS).map(|column| Column::At(column * spec.input.column * 4)).collect::<Vec<_>>();
        transform_channels(b, spec, &rows, &columns, &[None; INPUTS as usize], to);
        b.ins().jump(exit, &[]);
    } else {
        b.ins().jump(border, &[]);
    }
    b.switch_to_block(border);
    let rows = Clipped::along(b, spec, 0, first[0]);
    let columns = Clipped::along(b, spec, 1, first[1]);
    let addresses = rows.moved.iter().map(|&moved| b.ins().iadd(input, moved)).collect::<Vec<_>>();
    let places: Vec<Column> =
        columns.moved.iter().zip(&columns.masks).map(|(&moved, &mask)| Column::Clipped(moved, mask)).collect();
    transform_channels(b, spec, &addresses, &places, &rows.masks, to);
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
    fn along(b: &mut FunctionBuilder<'_>, spec: &WinogradInput, axis: usize, first: Value) -> Clipped {
        let stride = if axis == 0 { spec.input.row } else { spec.input.column } * 4;
        let extent = spec.extents[axis];
        let mut clipped = Clipped { moved: Vec::new(), masks: Vec::new() };
        for place in 0..INPUTS {
            let at = offset(b, first, place);
            let mut positions = (0..spec.tiles[axis]).map(|tile| tile * OUTPUTS - spec.pads[axis] + place);
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
    spec: &WinogradInput,
    rows: &[Value],
    columns: &[Column],
    row_masks: &[Option<Value>],
    to: Value,
) {
    let numbers = Numbers::new(b, [4.0, -5.0, -4.0]);
    let carried: Vec<Value> = rows.iter().copied().chain([to]).collect();
    carried_loop(b, spec.channels / LANES, &carried, |b, addresses| {
        let (rows, to) = (&addresses[..INPUTS as usize], addresses[INPUTS as usize]);
        let mut middle: Vec<Vec<Value>> = Vec::new();
        for &column in columns {
            let inputs = rows.iter().zip(row_masks).map(|(&row, &row_mask)| {
                let (address, place, mask) = match column {
                    Column::At(place) => (row, place, None),
                    Column::Clipped(moved, mask) => (b.ins().iadd(row, moved), 0, mask),
                };
                let value = load(b, types::F32X4, address, place);
                [row_mask, mask].into_iter().flatten().fold(value, |value, mask| b.ins().band(value, mask))
            });
            let inputs: Vec<Value> = inputs.collect();
            middle.push(transform_input(b, &numbers, &inputs));
        }
        for row in 0..INPUTS as usize {
            let inputs: Vec<Value> = middle.iter().map(|column| column[row]).collect();
            for (column, value) in transform_input(b, &numbers, &inputs).into_iter().enumerate() {
                let matrix = row as i64 * INPUTS + column as i64;
                store(b, value, to, (matrix * spec.channels * 4) as i32);
            }
        }
        addresses.iter().map(|&address| offset(b, address, VECTOR)).collect()
    });
}

/// Numbers as vectors, made once.
struct Numbers<const N: usize>([Value; N]);

impl<const N: usize> Numbers<N> {
    fn new(b: &mut FunctionBuilder<'_>, numbers: [f32; N]) -> Self {
        Numbers(numbers.map(|number| {
            let scalar = b.ins().f32const(number);
            b.ins().splat(types::F32X4, scalar)
        }))
    }
}

/// `B' d` of six vectors, in an order in which every addend of a multiply-add dies with it.
fn transform_input(b: &mut FunctionBuilder<'_>, numbers: &Numbers<3>, d: &[Value]) -> Vec<Value> {
    let [four, minus_five, minus_four] = numbers.0;
    let (far_even, far_odd) = (b.ins().fsub(d[4], d[2]), b.ins().fsub(d[3], d[1]));
    let first = b.ins().fmul(d[0], four);
    let first = b.ins().fadd(first, d[4]);
    let first = b.ins().fma(d[2], minus_five, first);
    let last = b.ins().fma(d[1], four, d[5]);
    let last = b.ins().fma(d[3], minus_five, last);
    let even = b.ins().fma(d[2], minus_four, d[4]);
    let odd = b.ins().fma(d[1], minus_four, d[3]);
    let (second, third) = (b.ins().fadd(even, odd), b.ins().fsub(even, odd));
    let far_odd = b.ins().fadd(far_odd, far_odd);
    let (fourth, fifth) = (b.ins().fadd(far_even, far_odd), b.ins().fsub(far_even, far_odd));
    vec![first, second, third, fourth, fifth, last]
}

/// `A' m` of six vectors, in such an order too.
fn transform_sums(b: &mut FunctionBuilder<'_>, numbers: &Numbers<3>, m: &[Value]) -> Vec<Value> {
    let [two, four, eight] = numbers.0;
    let (even, odd) = (b.ins().fadd(m[1], m[2]), b.ins().fsub(m[1], m[2]));
    let (far_even, far_odd) = (b.ins().fadd(m[3], m[4]), b.ins().fsub(m[3], m[4]));
    let first = b.ins().fadd(m[0], even);
    let first = b.ins().fadd(first, far_even);
    let fourth = b.ins().fma(far_odd, eight, m[5]);
    let fourth = b.ins().fadd(fourth, odd);
    let third = b.ins().fma(far_even, four, even);
    let second = b.ins().fma(far_odd, two, odd);
    vec![first, second, third, fourth]
}

/// Emits the transform of sums, with the epilogue. Operands: 0 the sums, 1 the output, 2.. the further operands.
pub fn emit_winograd_output(target: &CpuTarget, name: &str, spec: &WinogradOutput) -> Result<EmittedKernel, EmitError> {
    if target.encodes_x64()
        && let Some(kernel) = x64::emit_winograd_output(target, spec)
    {
        return Ok(kernel);
    }
    let code = compile_kernel(target, name, |b, parameters| {
        counted_loop(b, parameters.begin, parameters.end, 1, |b, unit| {
            let (image, row) = split(b, unit, spec.tiles[0]);
            let row = row.unwrap_or_else(|| constant(b, 0));
            let sums = operand_base(b, parameters.bases, 0);
            let tiles = scale(b, unit, spec.tiles[1] * MATRICES * spec.channels * 4);
            let sums = b.ins().iadd(sums, tiles);
            let output = operand_base(b, parameters.bases, 1);
            let mut planes = vec![(image_base(b, output, &spec.output, image), &spec.output)];
            for (number, strides) in spec.operands.iter().enumerate() {
                let base = operand_base(b, parameters.bases, 2 + number);
                planes.push((image_base(b, base, strides, image), strides));
            }
            let (from, to) = (constant(b, 0), constant(b, spec.tiles[1]));
            counted_loop(b, from, to, 1, |b, column| {
                let moved = scale(b, column, MATRICES * spec.channels * 4);
                let from = b.ins().iadd(sums, moved);
                output_tile(b, target.architecture, spec, from, &planes, [row, column])
            })
        })
    })?;
    Ok(EmittedKernel::new(code, spec.images * spec.tiles[0], spec.footprints()))
}

/// An operand or the output under a tile: addresses of its rows, and of each column from there.
struct Plane {
    rows: Vec<Value>,
    columns: Vec<Value>,
    channel: i64,
}

fn output_tile(
    b: &mut FunctionBuilder<'_>,
    architecture: Architecture,
    spec: &WinogradOutput,
    sums: Value,
    planes: &[(Value, &Strides)],
    tile: [Value; 2],
) -> Result<(), EmitError> {
    let positions: Vec<Vec<Value>> = (0..2)
        .map(|axis| {
            let first = scale(b, tile[axis], OUTPUTS);
            let last = constant(b, spec.extents[axis] - 1);
            let is_whole = spec.extents[axis] % OUTPUTS == 0;
            (0..OUTPUTS)
                .map(|place| {
                    let at = offset(b, first, place);
                    if is_whole { at } else { b.ins().smin(at, last) }
                })
                .collect()
        })
        .collect();
    let planes: Vec<Plane> = planes
        .iter()
        .map(|&(base, strides)| {
            let mut bytes = |axis: usize, stride: i64| -> Vec<Value> {
                positions[axis].iter().map(|&at| scale(b, at, stride * 4)).collect()
            };
            let (rows, columns) = (bytes(0, strides.row), bytes(1, strides.column));
            let rows = rows.iter().map(|&row| b.ins().iadd(base, row)).collect();
            Plane { rows, columns, channel: strides.channel }
        })
        .collect();
    let numbers = Numbers::new(b, [2.0, 4.0, 8.0]);
    let constants = Constants::emit(b, architecture, &spec.epilogue, Width::Four);
    let start = constant(b, 0);
    let mut failed = None;
    carried_loop(b, spec.channels / LANES, &[sums, start], |b, carried| {
        let (sums, channel) = (carried[0], carried[1]);
        if let Err(error) = output_channels(b, spec, (sums, channel), &planes, &numbers, &constants) {
            failed = Some(error);
        }
        vec![offset(b, sums, VECTOR), offset(b, channel, VECTOR)]
    });
    failed.map_or(Ok(()), Err)
}

/// One vector of channels of a tile. Rows and columns are stored from the last to the first: those outside of the output
/// are written onto its last, before that is.
fn output_channels(
    b: &mut FunctionBuilder<'_>,
    spec: &WinogradOutput,
    (sums, channel): (Value, Value),
    planes: &[Plane],
    numbers: &Numbers<3>,
    constants: &Constants,
) -> Result<(), EmitError> {
    let mut middle: Vec<Vec<Value>> = Vec::new();
    for column in 0..INPUTS {
        let place = |row: i64| (row * INPUTS + column) * spec.channels * 4;
        let values: Vec<Value> = (0..INPUTS).map(|row| load(b, types::F32X4, sums, place(row))).collect();
        middle.push(transform_sums(b, numbers, &values));
    }
    for row in (0..OUTPUTS as usize).rev() {
        let values: Vec<Value> = middle.iter().map(|column| column[row]).collect();
        let results = transform_sums(b, numbers, &values);
        let at = |b: &mut FunctionBuilder<'_>, plane: &Plane, column: usize| {
            let address = b.ins().iadd(plane.rows[row], plane.columns[column]);
            if plane.channel == 0 { address } else { b.ins().iadd(address, channel) }
        };
        let mut arguments = vec![results];
        for plane in &planes[1..] {
            let values = (0..OUTPUTS as usize).map(|column| {
                let address = at(b, plane, column);
                if plane.channel == 1 {
                    return load(b, types::F32X4, address, 0);
                }
                let scalar = load(b, types::F32, address, 0);
                b.ins().splat(types::F32X4, scalar)
            });
            arguments.push(values.collect());
        }
        let results = constants.apply(b, &spec.epilogue, &arguments)?;
        for (column, &result) in results.iter().enumerate().rev() {
            let address = at(b, &planes[0], column);
            store(b, result, address, 0);
        }
    }
    Ok(())
}
