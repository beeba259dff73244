//! Convolutions of 3x3 taps by Winograd's algorithm: a step for the inputs, one of 36 matrix products, one for the results.

use edgecc_ir::{Expr, NodeId};

use super::contraction::{Weights, contract_with_macs, further_views, pack};
use super::convolution::{Image, image_strides};
use super::{Call, Lowering, operand};
use crate::contraction::{ContractionSpec, Element, Strides, Window, divide_up};
use crate::kernel::Access;
use crate::program::KernelSource;
use crate::schedule::LANES;
use crate::view::{StorageId, View};
use crate::winograd::{MATRICES, OUTPUTS, WinogradInput, WinogradOutput, transformed_weights};

/// A convolution that may be one of Winograd's.
pub(super) struct Candidate<'a> {
    pub id: NodeId,
    pub window: &'a Window,
    /// Rows and columns of zeros above and to the left.
    pub pads: [i64; 2],
    pub input: &'a View,
    pub output: &'a View,
    pub image: &'a Image,
    pub result: &'a Image,
    pub epilogue: &'a Expr,
}

/// Whether there are kernels for it: whole vectors of channels that lie side by side.
pub(super) fn fits(lowering: &Lowering<'_>, candidate: &Candidate<'_>) -> bool {
    let Candidate { id, output, image, result, .. } = *candidate;
    let further = further_views(lowering, id);
    image.extents[1] % LANES == 0
        && result.extents[1] % LANES == 0
        && result.strides(output.lead, 1).channel == 1
        && further.iter().map(image_strides).all(|strides| matches!(strides.channel, 0 | 1))
        && lowering.constant_value(lowering.graph.operands(id)[1]).is_some()
}

/// Lowers a convolution, one group of 3x3 taps without stride or dilation.
pub(super) fn lower(lowering: &mut Lowering<'_>, candidate: &Candidate<'_>) {
    let Candidate { id, window, pads, input, output, image, result, epilogue } = *candidate;
    let (depth, channels) = (image.extents[1], result.extents[1]);
    let extents = [window.height, window.width];
    let further = further_views(lowering, id);
    let operands: Vec<Strides> = further.iter().map(image_strides).collect();
    let to_images = |strides: Strides| Strides { batch: vec![strides.batch[0]], ..strides };
    let whole = result.strides(output.lead, 1);
    let Some(weights) = lowering.constant_value(lowering.graph.operands(id)[1]) else { return };
    let images = image.extents[0];
    let tiles = extents.map(|extent| divide_up(extent, OUTPUTS));
    let count = images * tiles[0] * tiles[1];
    let [transformed, sums] =
        [depth, channels].map(|channels| lowering.untyped((count * MATRICES * channels * 4) as usize));

    let spec = WinogradInput {
        images,
        tiles,
        extents: [window.input_height, window.input_width],
        pads,
        channels: depth,
        input: to_images(image.strides(input.lead, 1)),
    };
    let steps = vec![operand(input, Access::Read), lowering.whole(transformed, Access::Write)];
    lowering.push(id, KernelSource::WinogradInput(spec), steps, Call::default());
    let macs = (images * extents[0] * extents[1] * 9 * depth * channels) as u64;
    products(lowering, id, weights, (transformed, sums), (count, depth, channels), macs);
    let spec = WinogradOutput {
        images,
        tiles,
        extents,
        channels,
        output: to_images(whole),
        operands: operands.into_iter().map(to_images).collect(),
        epilogue: epilogue.clone(),
    };
    let mut steps = vec![lowering.whole(sums, Access::Read), operand(output, Access::Write)];
    steps.extend(further.iter().map(|view| operand(view, Access::Read)));
    lowering.push(id, KernelSource::WinogradOutput(spec), steps, Call::default());
}

/// `sums[tile][matrix][n] = transformed[tile][matrix][k] * weights[matrix][k][n]`.
fn products(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    weights: &edgecc_ir::Tensor,
    (transformed, sums): (StorageId, StorageId),
    (tiles, depth, channels): (i64, i64, i64),
    macs: u64,
) {
    let rows = |channels: i64| Strides {
        batch: vec![channels],
        row: tiles * MATRICES * channels,
        column: MATRICES * channels,
        channel: 1,
        ..Strides::default()
    };
    let spec = ContractionSpec {
        element: Element::F32,
        batch: vec![MATRICES],
        window: Window::matrix(tiles),
        depth,
        channels,
        input: rows(depth),
        weight_batch: vec![1],
        output: rows(channels),
        operands: Vec::new(),
        epilogue: Element::F32.plain_epilogue(),
    };
    let values = Weights::of(weights);
    let matrices: Vec<[f32; 36]> = (0..(channels * depth) as usize)
        .map(|filter| transformed_weights(&std::array::from_fn(|tap| values.at(filter * 9 + tap))))
        .collect();
    let matrices: Vec<f32> = matrices.into_iter().flatten().collect();
    // The order of `matrices` is output channel, input channel, matrix.
    let packed = pack(lowering, &spec, &Weights::Numbers(&matrices), |matrix, _, k, n| {
        ((n * depth + k) * MATRICES + matrix) as usize
    });
    let operands = vec![lowering.whole(transformed, Access::Read), packed, lowering.whole(sums, Access::Write)];
    contract_with_macs(lowering, id, spec, operands, macs);
}
