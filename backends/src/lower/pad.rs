//! Padding and tiling: copies between windows, so that no element asks where it comes from. What was written inside of the
//! borders stays there.

use edgecc_ir::{NodeId, PadMode, Scalar};

use super::nest::{push_copy, push_fill};
use super::{Lowered, Lowering};
use crate::view::View;

/// Elements added before and behind each axis.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId, mode: PadMode, before: &[usize]) -> Lowered<()> {
    let operands = lowering.graph.operands(id);
    let source = lowering.view(operands[0]).clone();
    let result = lowering.destination(id);
    let runs: Vec<Vec<Run>> = match mode {
        PadMode::Constant => {
            let value = lowering.view(operands[1]).clone();
            let element = lowering.graph.constant_value(operands[1]).and_then(|value| value.as_splat());
            fill_borders(lowering, id, (&value, element), &result, before, &source.extents);
            source.extents.iter().zip(before).map(|(&count, &at)| vec![Run { at, source: 0, step: 1, count }]).collect()
        }
        PadMode::Reflect | PadMode::Edge | PadMode::Wrap => {
            let axis =
                |axis: usize| runs(result.extents[axis], |i| origin(mode, i, before[axis], source.extents[axis]));
            (0..source.rank()).map(axis).collect()
        }
    };
    copy_runs(lowering, id, &source, &result, &runs);
    Ok(())
}

/// Evenly spaced elements of the operand that stand one behind the other in the result.
#[derive(Clone, Copy)]
struct Run {
    at: usize,
    source: usize,
    step: isize,
    count: usize,
}

/// Where the element at position `i` of a padded axis comes from.
fn origin(mode: PadMode, i: usize, before: usize, extent: usize) -> usize {
    let (at, extent) = (i as isize - before as isize, extent as isize);
    let inside = match mode {
        PadMode::Constant => at,
        PadMode::Edge => at.clamp(0, extent - 1),
        PadMode::Reflect => extent - 1 - (extent - 1 - at.abs()).abs(),
        PadMode::Wrap => at.rem_euclid(extent),
    };
    inside as usize
}

/// The positions `origin(0..extent)` cut into evenly spaced runs.
fn runs(extent: usize, origin: impl Fn(usize) -> usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for at in 0..extent {
        let source = origin(at);
        if let Some(run) = runs.last_mut() {
            let step = source as isize - (run.source as isize + (run.count as isize - 1) * run.step);
            if run.count == 1 || step == run.step {
                *run = Run { step, count: run.count + 1, ..*run };
                continue;
            }
        }
        runs.push(Run { at, source, step: 1, count: 1 });
    }
    runs
}

/// One copy for each combination of runs.
fn copy_runs(lowering: &mut Lowering<'_>, id: NodeId, source: &View, result: &View, runs: &[Vec<Run>]) {
    let combinations: usize = runs.iter().map(Vec::len).product();
    for mut number in 0..combinations {
        let chosen: Vec<Run> = runs
            .iter()
            .map(|axis| {
                let run = axis[number % axis.len()];
                number /= axis.len();
                run
            })
            .collect();
        let list = |f: fn(&Run) -> usize| chosen.iter().map(f).collect::<Vec<usize>>();
        let counts = list(|run| run.count);
        let steps: Vec<isize> = chosen.iter().map(|run| run.step).collect();
        let from = source.sliced(&list(|run| run.source), &steps, &counts);
        let to = result.sliced(&list(|run| run.at), &vec![1; counts.len()], &counts);
        if from != to {
            push_copy(lowering, id, &from, &to);
        }
    }
}

/// Fills what lies outside of `extents` elements from `before`: of each axis the part before and the part behind, where
/// earlier axes are inside.
fn fill_borders(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    (value, element): (&View, Option<Scalar>),
    result: &View,
    before: &[usize],
    extents: &[usize],
) {
    for axis in 0..result.rank() {
        let behind = before[axis] + extents[axis];
        for (start, count) in [(0, before[axis]), (behind, result.extents[axis] - behind)] {
            let mut starts = vec![0; result.rank()];
            let mut counts = result.extents.clone();
            starts[..axis].copy_from_slice(&before[..axis]);
            counts[..axis].copy_from_slice(&extents[..axis]);
            (starts[axis], counts[axis]) = (start, count);
            let border = result.sliced(&starts, &vec![1; result.rank()], &counts);
            push_fill(lowering, id, value, element, &border);
        }
    }
}

/// Copies of the whole tensor along each axis: each axis is cut in (copy, element).
pub(super) fn tile(lowering: &mut Lowering<'_>, id: NodeId, repeats: &[usize]) -> Lowered<()> {
    let source = lowering.view(lowering.graph.operands(id)[0]).clone();
    let result = lowering.destination(id);
    let axes = || repeats.iter().zip(&source.extents);
    let extents: Vec<usize> = axes().flat_map(|(&copies, &extent)| [copies, extent]).collect();
    let read = source.strides.iter().flat_map(|&stride| [0, stride]).collect();
    let written = axes().zip(&result.strides).flat_map(|((_, &extent), &stride)| [stride * extent as isize, stride]);
    let written = View { extents: extents.clone(), strides: written.collect(), ..result.clone() };
    push_copy(lowering, id, &View { extents, strides: read, ..source }, &written);
    Ok(())
}
