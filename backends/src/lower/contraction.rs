//! Convolutions and matrix products of f32, f16 and i8 as contractions. Other element types and run-time weights of convolutions,
//! and of i8 at all, take the plain loop nest.

use edgecc_ir::{BlockWeights, DType, Expr, NodeId, Op, Tensor};
use half::f16;

use super::block_weights::{self, Done};
use super::{Call, Lowered, Lowering, Processor, contraction_loops, convolution, map, matmul, movement, operand};
use crate::contraction::{ContractionSpec, DepthwiseSpec, Element, Reading};
use crate::kernel::Access;
use crate::pack::{PackedLayout, TapTable, pack_weights};
use crate::program::{KernelSource, Operand};
use crate::view::View;

/// Lowers a convolution, transposed convolution or matrix product.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId) -> Lowered<()> {
    let graph = lowering.graph;
    if let Some(weights) = BlockWeights::of(graph, id) {
        match block_weights::lower(lowering, id, &weights) {
            Done::Product => return Ok(()),
            Done::Numbers => {}
            Done::Nothing => {
                let Op::Map(expr) = graph.op(weights.map) else { return Err("weights that no map makes".into()) };
                map::lower(lowering, weights.map, expr)?;
                let reshaped = graph.operands(id)[1];
                if reshaped != weights.map {
                    movement::lower(lowering, reshaped)?;
                }
            }
        }
    }
    if !is_tiled(lowering, id) {
        return contraction_loops::lower(lowering, id);
    }
    match graph.op(id) {
        Op::Conv { window, groups, epilogue } => convolution::conv(lowering, id, window, *groups, epilogue),
        Op::ConvTranspose { window, groups, epilogue, .. } => {
            convolution::conv_transpose(lowering, id, window, *groups, epilogue)
        }
        Op::MatMul { transpose_a, transpose_b, epilogue } => {
            matmul::matmul(lowering, id, *transpose_a, *transpose_b, epilogue)
        }
        op => return Err(format!("{} is no contraction", op.name())),
    }
    Ok(())
}

/// f32 or f16 throughout with sums in f32, or i8 with constant weights; at least one element to sum over, one or two spatial axes,
/// constant weights of a convolution.
pub(super) fn is_tiled(lowering: &Lowering<'_>, id: NodeId) -> bool {
    let graph = lowering.graph;
    let operands = graph.operands(id);
    let result = graph.ty(id);
    let Some(element) = Element::of(graph.ty(operands[0]).dtype) else { return false };
    let has_weights = lowering.constant_value(operands[1]).is_some();
    let has_types = match element {
        Element::F32 | Element::F16 => {
            std::iter::once(&id).chain(operands).all(|&value| graph.ty(value).dtype == element.dtype())
        }
        Element::I8 => has_weights,
    };
    let full = operands[..2].iter().all(|&operand| graph.ty(operand).shape.elements() != Ok(0));
    let accumulates = |expr: &Expr| expr.arguments().all(|(n, dtype)| n > 0 || dtype == element.sum_dtype());
    let shape = match graph.op(id) {
        Op::Conv { .. } => matches!(result.shape.rank(), 3 | 4) && has_weights,
        Op::ConvTranspose { window, .. } => {
            let covered = window.kernel.iter().zip(&window.strides).all(|(kernel, stride)| kernel >= stride);
            let dense = window.dilations.iter().all(|&dilation| dilation == 1);
            matches!(result.shape.rank(), 3 | 4) && has_weights && covered && dense
        }
        _ => true,
    };
    has_types && full && shape && result.shape.elements() != Ok(0) && graph.op(id).epilogue().is_some_and(accumulates)
}

/// What a contraction reads and writes beside its weights.
pub(super) struct Values<'a> {
    pub(super) input: &'a View,
    pub(super) output: &'a View,
    /// Operands of the epilogue.
    pub(super) further: &'a [View],
    /// Operands of the reading.
    pub(super) reading: Vec<Operand>,
}

/// Adds the step. Operands in the order of the kernel: input, weights, output, further operands, those of the reading, tap table.
pub(super) fn contract(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    spec: ContractionSpec,
    packed: Operand,
    Values { input, output, further, reading }: Values<'_>,
) {
    let mut operands = vec![operand(input, Access::Read), packed, operand(output, Access::Write)];
    let in_place = add_further(&mut operands, output, further);
    operands.extend(reading);
    // Shaders have their taps in the text.
    if lowering.options.processor == Processor::Cpu && TapTable::is_read(&spec) {
        let table = lowering.constant(TapTable::of(&spec).bytes.into());
        operands.push(lowering.whole(table, Access::Read));
    }
    let pixels = spec.batch.iter().product::<i64>() * spec.window.pixels();
    let within = spec.reading.as_ref().and_then(Reading::depthwise).map_or(0, DepthwiseSpec::macs);
    let macs = pixels * spec.channels * spec.depth * spec.window.taps.len() as i64 + within;
    let schedule = lowering.schedule(&spec);
    let call = Call { macs: macs as u64, in_place, scratch: schedule.scratch(&spec), ..Call::default() };
    lowering.push(id, KernelSource::Contraction(spec, schedule), operands, call);
}

/// Adds the step of a contraction that stands for `macs` multiply-adds of the model.
pub(super) fn contract_with_macs(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    spec: ContractionSpec,
    operands: Vec<Operand>,
    macs: u64,
) {
    let schedule = lowering.schedule(&spec);
    let call = Call { macs, scratch: schedule.scratch(&spec), ..Call::default() };
    lowering.push(id, KernelSource::Contraction(spec, schedule), operands, call);
}

/// Adds the epilogue's operands. One that is read where the result is written may share its memory.
pub(super) fn add_further(operands: &mut Vec<Operand>, output: &View, further: &[View]) -> Vec<(usize, usize)> {
    let mut in_place = Vec::new();
    for view in further {
        if view.storage != output.storage && (View { storage: output.storage, ..view.clone() }).coincides(output) {
            in_place.push((2, operands.len()));
        }
        operands.push(operand(view, Access::Read));
    }
    in_place
}

/// The operands behind the first two, broadcast to the result.
pub(super) fn further_views(lowering: &Lowering<'_>, id: NodeId) -> Vec<View> {
    let shape = &lowering.graph.ty(id).shape;
    lowering.graph.operands(id)[2..].iter().map(|&operand| lowering.view(operand).broadcast(shape)).collect()
}

/// Whether an operator's weights are a constant of i8, none of it -128.
pub(super) fn has_symmetric_weights(lowering: &Lowering<'_>, id: NodeId) -> bool {
    let weights = lowering.constant_value(lowering.graph.operands(id)[1]).filter(|tensor| tensor.dtype() == DType::I8);
    weights.is_some_and(|tensor| match tensor.data() {
        edgecc_ir::TensorData::Dense(bytes) => !bytes.contains(&0x80),
        edgecc_ir::TensorData::Splat(value) => value.as_i64() > i64::from(i8::MIN),
    })
}

pub(super) fn pack(
    lowering: &mut Lowering<'_>,
    spec: &ContractionSpec,
    values: &Weights<'_>,
    place: impl Fn(i64, i64, i64, i64) -> usize,
) -> Operand {
    let schedule = lowering.schedule(spec);
    let layout = PackedLayout::of(spec, &schedule);
    let packed = pack_weights(&layout, |matrix, tap, k, n| values.at(place(matrix, tap, k, n)));
    let packed = lowering.constant(to_bytes(spec.element, packed));
    lowering.whole(packed, Access::Read)
}

/// Constant elements by row-major position, without a copy.
pub(super) enum Weights<'a> {
    Singles(&'a [u8]),
    Integers(&'a [u8]),
    Halves(&'a [u8]),
    Numbers(&'a [f32]),
    Splat(f32),
}

impl<'a> Weights<'a> {
    pub(super) fn of(tensor: &'a Tensor) -> Self {
        match tensor.data() {
            edgecc_ir::TensorData::Dense(bytes) if tensor.dtype() == DType::F16 => Weights::Halves(bytes),
            edgecc_ir::TensorData::Dense(bytes) if tensor.dtype() == DType::I8 => Weights::Integers(bytes),
            edgecc_ir::TensorData::Dense(bytes) => Weights::Singles(bytes),
            edgecc_ir::TensorData::Splat(value) => Weights::Splat(value.as_f64() as f32),
        }
    }

    pub(super) fn at(&self, position: usize) -> f32 {
        match self {
            Weights::Singles(bytes) => match bytes[position * 4..position * 4 + 4] {
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                _ => 0.0,
            },
            Weights::Halves(bytes) => match bytes[position * 2..position * 2 + 2] {
                [a, b] => f16::from_le_bytes([a, b]).to_f32(),
                _ => 0.0,
            },
            Weights::Integers(bytes) => bytes[position] as i8 as f32,
            Weights::Numbers(numbers) => numbers[position],
            Weights::Splat(value) => *value,
        }
    }
}

/// The bytes of packed weights; of f32 without a copy.
pub(super) fn to_bytes(element: Element, values: Vec<f32>) -> bytes::Bytes {
    struct Packed(Vec<f32>);
    impl AsRef<[u8]> for Packed {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    match element {
        Element::F32 => bytes::Bytes::from_owner(Packed(values)),
        Element::F16 => values.into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
        Element::I8 => values.into_iter().map(|value| value as i8 as u8).collect(),
    }
}
