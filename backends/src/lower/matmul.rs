//! Matrix products of f32: one contraction whose batch axes are the leading axes.

use edgecc_ir::{Expr, NodeId, Shape, TensorType};

use super::contraction::{Values, Weights, contract, further_views, has_symmetric_weights, pack};
use super::{Call, Lowering, movement, operand, strassen};
use crate::contraction::{ContractionSpec, Element, RuntimeWeights, Strides, Window};
use crate::kernel::Access;
use crate::pack::PackedLayout;
use crate::program::{KernelSource, Operand};
use crate::schedule::choices::Choice;
use crate::view::View;

/// `[.., M, K] x [.., K, N]`: batch axes are the leading axes; where the second operand has none, rows of all batches are
/// one matrix if strides allow.
pub(super) fn matmul(lowering: &mut Lowering<'_>, id: NodeId, transpose_a: bool, transpose_b: bool, epilogue: &Expr) {
    let graph = lowering.graph;
    let (a, b) = (graph.operands(id)[0], graph.operands(id)[1]);
    let left = swapped(lowering.view(a), transpose_a);
    let left = if left.strides[left.rank() - 1] == 1 || left.extents[left.rank() - 1] == 1 {
        left
    } else {
        dense_copy(lowering, id, &left)
    };
    let output = lowering.destination(id);
    let right = swapped(lowering.view(b), transpose_b);
    let right = if right.lead == 0 { right } else { dense_copy(lowering, id, &right) };
    let further = further_views(lowering, id);
    let leading = output.rank() - 2;
    let batch_strides = |view: &View| -> Vec<i64> {
        let wide =
            view.broadcast(&Shape::new(&[&output.extents[..leading], &view.extents[view.rank() - 2..]].concat()));
        wide.strides[..leading].iter().map(|&stride| stride as i64).collect()
    };
    let matrix = |view: &View| {
        let [row, channel] = [view.strides[view.rank() - 2], view.strides[view.rank() - 1]].map(|stride| stride as i64);
        Strides { base: view.lead as i64, batch: batch_strides(view), row: 0, column: row, channel }
    };
    let mut spec = ContractionSpec {
        element: Element::of(left.dtype).unwrap_or_default(),
        batch: output.extents[..leading].iter().map(|&extent| extent as i64).collect(),
        window: Window::matrix(output.extents[leading] as i64),
        depth: left.extents[left.rank() - 1] as i64,
        channels: output.extents[leading + 1] as i64,
        input: Strides { channel: 1, ..matrix(&left) },
        reading: None,
        symmetric_weights: has_symmetric_weights(lowering, id),
        weight_batch: matrix_numbers(&right, &output.extents[..leading]),
        output: matrix(&output),
        operands: further.iter().map(matrix).collect(),
        epilogue: epilogue.clone(),
    };
    merge_rows(&mut spec);
    let packed = match lowering.constant_value(b) {
        Some(value) => {
            let (depth, channels) = (spec.depth as usize, spec.channels as usize);
            let place = move |matrix: i64, _tap: i64, k: i64, n: i64| {
                let (k, n) = (k as usize, n as usize);
                matrix as usize * depth * channels + if transpose_b { n * depth + k } else { k * channels + n }
            };
            let values = Weights::of(value);
            let by_strassen = strassen::candidate(lowering, &spec);
            let possible = by_strassen.as_ref().map(|candidate| (Choice::Strassen, candidate.pays));
            if lowering.takes_algorithm(&spec, possible) {
                let operands = strassen::Operands { input: &left, output: &output, further: &further };
                by_strassen.iter().for_each(|candidate| {
                    strassen::lower(lowering, id, candidate, &operands, |k, n| values.at(place(0, 0, k, n)));
                });
                return;
            }
            pack(lowering, &spec, &values, place)
        }
        None => pack_at_run_time(lowering, id, &spec, &right),
    };
    let values = Values { input: &left, output: &output, further: &further, reading: Vec::new() };
    contract(lowering, id, spec, packed, values);
}

/// The view with its last two axes exchanged if `swap`.
fn swapped(view: &View, swap: bool) -> View {
    let rank = view.rank();
    let mut perm: Vec<usize> = (0..rank).collect();
    if swap {
        perm.swap(rank - 2, rank - 1);
    }
    view.transposed(&perm)
}

/// Which matrix of the right operand each batch axis moves to, counted in matrices; 0 where the operand repeats.
fn matrix_numbers(right: &View, batch: &[usize]) -> Vec<i64> {
    let own = &right.extents[..right.rank() - 2];
    let missing = batch.len() - own.len();
    let number = |axis: usize| match axis.checked_sub(missing) {
        Some(place) if own[place] != 1 => own[place + 1..].iter().product::<usize>() as i64,
        _ => 0,
    };
    (0..batch.len()).map(number).collect()
}

/// Makes rows of the innermost batch axes, as long as all of them share one right matrix and lie evenly spaced. Batch axes
/// of extent 1 go.
fn merge_rows(spec: &mut ContractionSpec) {
    while let Some(&extent) = spec.batch.last() {
        let rows = spec.window.width;
        let last = spec.batch.len() - 1;
        let even = |strides: &Strides| strides.batch[last] == strides.column * rows || rows == 1;
        let all_even = [&spec.input, &spec.output].into_iter().chain(&spec.operands).all(even);
        if extent != 1 && (spec.weight_batch[last] != 0 || !all_even) {
            return;
        }
        spec.window = Window::matrix(rows * extent);
        spec.batch.pop();
        spec.weight_batch.pop();
        for strides in [&mut spec.input, &mut spec.output].into_iter().chain(&mut spec.operands) {
            let step = strides.batch.pop().unwrap_or(0);
            if rows == 1 && extent != 1 {
                strides.column = step;
            }
        }
    }
}

fn dense_copy(lowering: &mut Lowering<'_>, id: NodeId, view: &View) -> View {
    let dense = lowering.temporary(&TensorType::new(view.dtype, view.shape()));
    movement::copy(lowering, id, view, &dense);
    dense
}

/// Packs the right operand into planned memory.
fn pack_at_run_time(lowering: &mut Lowering<'_>, id: NodeId, spec: &ContractionSpec, right: &View) -> Operand {
    let schedule = lowering.schedule(spec);
    let layout = PackedLayout::of(spec, &schedule);
    let packed = lowering.untyped(layout.bytes() as usize);
    let (batch, matrix) = right.extents.split_at(right.rank() - 2);
    let stride = |axis: usize| right.strides[axis] as i64;
    let weights = RuntimeWeights {
        batch: batch.iter().map(|&extent| extent as i64).collect(),
        base: right.lead as i64,
        batch_strides: (0..batch.len()).map(stride).collect(),
        depth_stride: stride(batch.len()),
        channel_stride: stride(batch.len() + matrix.len() - 1),
    };
    let operands = vec![operand(right, Access::Read), lowering.whole(packed, Access::Write)];
    lowering.push(id, KernelSource::Pack(weights, layout), operands, Call::default());
    lowering.whole(packed, Access::Read)
}
