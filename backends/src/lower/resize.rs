//! Resizing along some axes.

use edgecc_ir::{BinaryOp, DType, NodeId, Resample, TensorType};

use super::builder::{Builder, computed};
use super::gather::{Lookup, gather, spread};
use super::nest::{Space, push_copy};
use super::{Call, Lowered, Lowering};
use crate::kernel::{Index, Local, LoopMode};
use crate::view::View;

/// Most elements that are joined for one element of a result. Two linear axes take one step, two cubic axes two.
const TAPS_PER_STEP: usize = 4;

/// Nearest neighbours are copies; the others are sums, of a few axes at a time.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId, axes: &[Resample]) -> Lowered<()> {
    let mut source = lowering.view(lowering.graph.operands(id)[0]).clone();
    let result = lowering.destination(id);
    let layout = lowering.graph.ty(id).layout.clone();
    let steps = steps(axes);
    if steps.is_empty() {
        push_copy(lowering, id, &source, &result);
    }
    for (number, step) in steps.iter().enumerate() {
        let mut shape = source.shape();
        for resample in *step {
            shape = shape.with_dim(resample.axis, resample.extent);
        }
        let destination = if number + 1 == steps.len() {
            result.clone()
        } else {
            lowering.temporary(&TensorType::new(source.dtype, shape).with_layout(layout.clone()))
        };
        if destination.elements() > 0 {
            resample(lowering, id, step, &source, &destination);
        }
        source = destination;
    }
    Ok(())
}

/// Neighbouring axes that are resized in one step: distinct, all nearest or with few taps together.
fn steps(axes: &[Resample]) -> Vec<&[Resample]> {
    let together = |step: &[Resample]| {
        let taps: usize = step.iter().map(|resample| resample.taps).product();
        let distinct = step.iter().enumerate().all(|(n, a)| step[..n].iter().all(|b| a.axis != b.axis));
        let alike = step.iter().all(|resample| resample.weights.is_empty() == step[0].weights.is_empty());
        distinct && alike && (taps <= TAPS_PER_STEP || step.len() == 1)
    };
    let mut steps = Vec::new();
    let mut rest = axes;
    while !rest.is_empty() {
        let length = (1..=rest.len()).rev().find(|&length| together(&rest[..length])).unwrap_or(1);
        let (step, behind) = rest.split_at(length);
        steps.push(step);
        rest = behind;
    }
    steps
}

fn resample(lowering: &mut Lowering<'_>, id: NodeId, step: &[Resample], source: &View, result: &View) {
    if step.iter().any(|resample| !resample.weights.is_empty()) {
        return interpolate(lowering, id, step, source, result);
    }
    let spacings: Option<Vec<Spacing>> = step.iter().map(Spacing::of).collect();
    match spacings {
        Some(spacings) => repeat(lowering, id, step, &spacings, source, result),
        None => select(lowering, id, step, source, result),
    }
}

/// Positions `first + i / repeats * step`.
struct Spacing {
    first: usize,
    repeats: usize,
    step: isize,
}

impl Spacing {
    /// The spacing of a nearest-neighbour axis, if it has one.
    fn of(resample: &Resample) -> Option<Spacing> {
        let indices = &resample.indices;
        let first = *indices.first()?;
        let repeats = indices.iter().take_while(|&&index| index == first).count();
        let step = indices.get(repeats).map_or(0, |&next| next as isize - first as isize);
        let spaced = |(i, &index): (usize, &u32)| index as isize == first as isize + (i / repeats) as isize * step;
        let even = indices.len().is_multiple_of(repeats) && indices.iter().enumerate().all(spaced);
        even.then_some(Spacing { first: first as usize, repeats, step })
    }
}

/// Evenly repeated or skipped elements: a copy in which each axis is cut in (element, repeat).
fn repeat(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    step: &[Resample],
    spacings: &[Spacing],
    source: &View,
    result: &View,
) {
    let mut starts = vec![0; source.rank()];
    let mut steps = vec![1; source.rank()];
    let mut counts = source.extents.clone();
    let mut repeats = vec![1; source.rank()];
    for (resample, spacing) in step.iter().zip(spacings) {
        let axis = resample.axis;
        (starts[axis], steps[axis], repeats[axis]) = (spacing.first, spacing.step, spacing.repeats);
        counts[axis] = resample.extent / spacing.repeats;
    }
    let elements = source.sliced(&starts, &steps, &counts);
    let extents: Vec<usize> = counts.iter().zip(&repeats).flat_map(|(&count, &repeats)| [count, repeats]).collect();
    let read = elements.strides.iter().flat_map(|&stride| [stride, 0]).collect();
    let written =
        result.strides.iter().zip(&repeats).flat_map(|(&stride, &repeats)| [stride * repeats as isize, stride]);
    let written = View { extents: extents.clone(), strides: written.collect(), ..result.clone() };
    push_copy(lowering, id, &View { extents, strides: read, ..elements }, &written);
}

/// Nearest neighbours at any positions.
fn select(lowering: &mut Lowering<'_>, id: NodeId, step: &[Resample], source: &View, result: &View) {
    let mut seen = View { extents: result.extents.clone(), ..source.clone() };
    let mut lookups = Vec::new();
    for resample in step {
        let axis = resample.axis;
        seen.strides[axis] = 0;
        let table = table(lowering, DType::I32, &resample.indices);
        let positions = spread(&table, 0..1, axis, &result.extents);
        lookups.push(Lookup { positions, extent: source.extents[axis], stride: source.strides[axis] });
    }
    gather(lowering, id, source, &seen, result, &lookups);
}

/// A constant table of words.
fn table(lowering: &mut Lowering<'_>, dtype: DType, words: &[u32]) -> View {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let storage = lowering.constant(bytes.into());
    View { storage, dtype, extents: vec![words.len()], strides: vec![1], offset: 0, lead: 0 }
}

/// One tap of an axis: its place in the operand and its weight.
struct Tap {
    offset: Index,
    weight: Option<Local>,
}

/// Weighted sums. Positions and weights are loaded once per step along their axis.
fn interpolate(lowering: &mut Lowering<'_>, id: NodeId, step: &[Resample], source: &View, result: &View) {
    let apart: Vec<usize> = step.iter().map(|resample| resample.axis).collect();
    let mut seen = View { extents: result.extents.clone(), ..source.clone() };
    apart.iter().for_each(|&axis| seen.strides[axis] = 0);
    let mut builder = Builder::new();
    let mut space = Space::new(&mut builder, &[&seen, result], &apart);
    space.split(&mut builder);
    let (from, to) = (builder.reads(source), builder.writes(result));
    let mut taps: Vec<Vec<Tap>> = Vec::new();
    for resample in step {
        let positions = table(lowering, DType::I32, &resample.indices);
        let weights = table(lowering, DType::F32, &resample.weights);
        let tables = (builder.reads(&positions), (!resample.weights.is_empty()).then(|| builder.reads(&weights)));
        taps.push(load_taps(&mut builder, &mut space, resample, tables, source));
    }
    let work = taps.iter().map(Vec::len).product();
    let body = builder.block(|b| {
        let value = weighted_sum(b, &taps, from, space.position(from));
        b.store(to, space.position(to), value);
    });
    let call = Call { grain: space.grain(work), ..Call::default() };
    let mode = if space.has_lanes() { LoopMode::Lanes } else { LoopMode::Serial };
    builder.push(lowering, id, space.range(), space.wrap(body, mode), call);
}

/// Loads the taps of an axis where its coordinate is set.
fn load_taps(
    builder: &mut Builder,
    space: &mut Space,
    resample: &Resample,
    (positions, weights): (usize, Option<usize>),
    source: &View,
) -> Vec<Tap> {
    let axis = resample.axis;
    let first = space.coordinate(axis).times(resample.taps as i64);
    let high = source.extents[axis] as i64 - 1;
    let mut taps = Vec::new();
    let statements = builder.block(|b| {
        for tap in 0..resample.taps {
            let entry = first.clone().plus(Index::Constant(tap as i64));
            let local = b.load(positions, entry.clone());
            let offset = Index::Clamped { local, low: 0, high }.times(source.strides[axis] as i64);
            let weight = weights.map(|weights| {
                let weight = b.load(weights, entry);
                b.cast(computed(source.dtype), weight)
            });
            taps.push(Tap { offset, weight });
        }
    });
    space.before_inner_of(axis, statements);
    taps
}

/// The sum over the last axis of the sums over the axes before it.
fn weighted_sum(builder: &mut Builder, axes: &[Vec<Tap>], buffer: usize, at: Index) -> Local {
    let Some((taps, inner)) = axes.split_last() else { return builder.load(buffer, at) };
    let mut sum = None;
    for tap in taps {
        let value = weighted_sum(builder, inner, buffer, at.clone().plus(tap.offset.clone()));
        let value = tap.weight.map_or(value, |weight| builder.binary(BinaryOp::Mul, value, weight));
        sum = Some(sum.map_or(value, |sum| builder.binary(BinaryOp::Add, sum, value)));
    }
    sum.unwrap_or_else(|| builder.number(DType::F32, 0.0))
}
