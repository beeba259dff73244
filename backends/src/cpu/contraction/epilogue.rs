//! From sums to stored results.

use cranelift_codegen::ir::{InstBuilder, Value};
use cranelift_frontend::FunctionBuilder;
use edgecc_ir::{Expr, ExprNode};

use crate::contraction::Strides;
use crate::cpu::expr::{Shared, Width, emit_constant, emit_items};
use crate::cpu::function::{EmitError, offset, scale};
use crate::cpu::isa::Architecture;
use crate::schedule::LANES;

use super::elements::{Form, element_of, lane_of, load_elements, spread, store_elements};
use super::operand;
use super::pixels::{Pixels, Placed, addresses};
use super::tile::Tile;

/// One operand of the epilogue, or the output, at each pixel of the tile and the first channel of the panel.
struct PixelOperand {
    addresses: Vec<Value>,
    /// Bytes from one channel to the next.
    channel: i64,
    /// Every pixel has the same values.
    is_shared: bool,
    form: Form,
}

impl PixelOperand {
    /// Whether channels lie side by side.
    fn has_neighbours(&self) -> bool {
        self.channel == self.form.1.size() as i64
    }
}

/// Applies the epilogue to the sums `[row][vector]` of a tile and stores the channels that exist.
pub(super) fn emit_epilogue(
    tile: &Tile<'_>,
    b: &mut FunctionBuilder<'_>,
    pixels: &Pixels,
    sums: &[Value],
) -> Result<(), EmitError> {
    let spec = tile.nest.spec;
    let output = locate(tile, b, pixels, operand::OUTPUT, &spec.output);
    let numbered = spec.operands.iter().enumerate();
    let further: Vec<PixelOperand> =
        numbered.map(|(n, strides)| locate(tile, b, pixels, operand::FURTHER + n, strides)).collect();
    let constants = Constants::emit(b, tile.nest.architecture, &spec.epilogue, Width::Four);
    let (rows, vectors) = (tile.shape.rows as usize, tile.shape.vectors as usize);
    for vector in 0..vectors {
        let first = vector as i64 * LANES;
        let lanes = (tile.shape.channels - first).min(LANES);
        let sums: Vec<Value> = (0..rows).map(|row| sums[row * vectors + vector]).collect();
        let mut arguments = vec![sums];
        for operand in &further {
            arguments.push(each(rows, operand.is_shared, |row| load_channels(b, operand, row, first, lanes)));
        }
        let results = constants.apply(b, &spec.epilogue, &arguments)?;
        for (row, &result) in results.iter().enumerate() {
            store_channels(b, &output, row, first, lanes, result);
        }
    }
    Ok(())
}

fn locate(
    tile: &Tile<'_>,
    b: &mut FunctionBuilder<'_>,
    pixels: &Pixels,
    index: usize,
    strides: &Strides,
) -> PixelOperand {
    let spec = tile.nest.spec;
    let base = tile.unit.address(b, index);
    let dtype = spec.types()[index];
    let form = (tile.nest.architecture, dtype);
    let size = dtype.size() as i64;
    let channel = strides.channel * size;
    let panel = scale(b, tile.panel, tile.nest.layout.panel * channel);
    let base = if channel == 0 { base } else { b.ins().iadd(base, panel) };
    let extents = [spec.window.height, spec.window.width];
    let operand = Placed { strides, size, extents };
    let addresses = addresses(b, base, &operand, pixels, (tile.pixel, tile.shape.rows), 0);
    let is_shared = addresses.windows(2).all(|pair| pair[0] == pair[1]);
    PixelOperand { addresses, channel, is_shared, form }
}

/// Channels `first .. first + lanes` of a pixel; the lanes beyond are whatever the first one is.
fn load_channels(b: &mut FunctionBuilder<'_>, operand: &PixelOperand, row: usize, first: i64, lanes: i64) -> Value {
    let address = operand.addresses[row];
    if operand.has_neighbours() && lanes == LANES {
        return load_elements(b, operand.form, Width::Four, address, first * operand.channel);
    }
    let scalar = load_elements(b, operand.form, Width::One, address, first * operand.channel);
    let vector = spread(b, operand.form, scalar);
    let others = if operand.channel == 0 { 1..1 } else { 1..lanes };
    others.fold(vector, |vector, lane| {
        let scalar = load_elements(b, operand.form, Width::One, address, (first + lane) * operand.channel);
        let scalar = lane_of(b, operand.form, scalar);
        b.ins().insertlane(vector, scalar, lane as u8)
    })
}

fn store_channels(
    b: &mut FunctionBuilder<'_>,
    output: &PixelOperand,
    row: usize,
    first: i64,
    lanes: i64,
    value: Value,
) {
    let address = output.addresses[row];
    if output.has_neighbours() && lanes == LANES {
        return store_elements(b, output.form, Width::Four, value, address, first * output.channel);
    }
    for lane in 0..lanes {
        let scalar = b.ins().extractlane(value, lane as u8);
        let scalar = element_of(b, output.form, scalar);
        let far = offset(b, address, (first + lane) * output.channel);
        store_elements(b, output.form, Width::One, scalar, far, 0);
    }
}

/// The constants of an epilogue, emitted once and used by every vector of a tile.
pub(super) struct Constants {
    width: Width,
    shared: Shared,
}

impl Constants {
    pub fn emit(b: &mut FunctionBuilder<'_>, architecture: Architecture, epilogue: &Expr, width: Width) -> Self {
        let mut shared = Shared::here(architecture);
        for node in epilogue.nodes() {
            if let ExprNode::Constant(scalar) = *node {
                emit_constant(b, &mut shared, scalar, width);
            }
        }
        Constants { width, shared }
    }

    /// The values of the epilogue for `arguments[argument][item]`. Items go through it side by side.
    pub fn apply(
        &self,
        b: &mut FunctionBuilder<'_>,
        epilogue: &Expr,
        arguments: &[Vec<Value>],
    ) -> Result<Vec<Value>, EmitError> {
        let arguments: Vec<&[Value]> = arguments.iter().map(Vec::as_slice).collect();
        emit_items(b, &mut self.shared.clone(), epilogue, &arguments, self.width)
    }
}

/// One value per item, or the same for all.
pub(super) fn each(items: usize, is_shared: bool, mut value: impl FnMut(usize) -> Value) -> Vec<Value> {
    if is_shared { vec![value(0); items] } else { (0..items).map(value).collect() }
}
