//! Operators that move elements.

use edgecc_ir::{DType, NodeId, Op, PadMode, Scalar, Shape, Tensor};

use super::Row;
use super::structure::extents;
use crate::onnx::context::{Context, Imported, Results, invalid, unsupported};

pub(super) const TABLE: &[Row] = &[
    ("CenterCropPad", 18, center_crop_pad),
    ("Concat", 1, concat),
    ("DepthToSpace", 1, depth_to_space),
    ("Expand", 8, expand),
    ("Flatten", 1, flatten),
    ("Pad", 1, pad),
    ("Reshape", 1, reshape),
    ("Slice", 1, slice),
    ("SpaceToDepth", 1, space_to_depth),
    ("Split", 1, split),
    ("Squeeze", 1, squeeze),
    ("Tile", 1, tile),
    ("Transpose", 1, transpose),
    ("Trilu", 14, trilu),
    ("Unsqueeze", 1, unsqueeze),
];

/// 0 keeps an extent (unless `allowzero`), -1 takes what is left.
fn reshape(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let asked = c.known_ints(1)?;
    let own = c.shape(x)?;
    let keeps = c.int("allowzero", 0)? == 0;
    // The free extent stands as 1 until the others are known.
    let mut extents = Vec::with_capacity(asked.len());
    for (axis, &extent) in asked.iter().enumerate() {
        extents.push(match extent {
            0 if keeps => c.extent(x, axis)?,
            -1 => 1,
            extent => match usize::try_from(extent) {
                Ok(extent) => extent,
                Err(_) => return invalid(format!("the shape {asked:?}")),
            },
        });
    }
    let (elements, others) = (own.elements().unwrap_or(0), Shape::new(&extents).elements().unwrap_or(0));
    let mut free = asked.iter().zip(&mut extents).filter(|(extent, _)| **extent == -1).map(|(_, free)| free);
    match (free.next(), free.next()) {
        (None, _) => {}
        (Some(free), None) if others > 0 && elements % others == 0 => *free = elements / others,
        (Some(_), None) => return invalid(format!("{} does not have the elements of {asked:?}", c.ty(x)?)),
        (Some(_), Some(_)) => return invalid(format!("the shape {asked:?} has more than one -1")),
    }
    drop(free);
    Ok(vec![c.reshape(x, &extents)?])
}

fn flatten(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let (rank, extents) = (c.rank(x)?, c.shape(x)?.extents());
    let axis = c.int("axis", 1)?;
    let axis = if axis == rank as i64 { rank } else { c.axis(axis, rank)? };
    let (outer, inner) = extents.split_at(axis);
    Ok(vec![c.reshape(x, &[outer.iter().product(), inner.iter().product()])?])
}

/// Axes are an attribute until opset 12, then an input.
fn given_axes(c: &Context<'_, '_>) -> Imported<Option<Vec<i64>>> {
    match c.ints("axes")? {
        Some(axes) => Ok(Some(axes)),
        None => c.known_optional_ints(1),
    }
}

fn squeeze(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let extents = c.shape(x)?.extents();
    let axes = match given_axes(c)? {
        Some(axes) => c.axes(&axes, extents.len())?,
        None => (0..).zip(&extents).filter(|&(_, &extent)| extent == 1).map(|(axis, _)| axis).collect(),
    };
    if let Some(axis) = axes.iter().find(|&&axis| extents.get(axis) != Some(&1)) {
        return invalid(format!("axis {axis} of {} is not 1", c.ty(x)?));
    }
    Ok(vec![c.reshape(x, &without(extents, &axes))?])
}

/// The extents of the other axes.
pub(super) fn without(extents: Vec<usize>, axes: &[usize]) -> Vec<usize> {
    extents.into_iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, extent)| extent).collect()
}

fn unsqueeze(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let Some(axes) = given_axes(c)? else { return invalid("has no axes") };
    let own = c.shape(x)?.extents();
    let axes = c.axes(&axes, own.len() + axes.len())?;
    let mut rest = own.iter();
    let total = own.len() + axes.len();
    let extents = (0..total).map(|axis| if axes.contains(&axis) { 1 } else { rest.next().copied().unwrap_or(1) });
    Ok(vec![c.reshape(x, &extents.collect::<Vec<_>>())?])
}

fn transpose(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let rank = c.rank(x)?;
    let perm = match c.ints("perm")? {
        Some(perm) => extents(&perm)?,
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank {
        return invalid(format!("`perm` is {perm:?} for {}", c.ty(x)?));
    }
    Ok(vec![c.transpose(x, &perm)?])
}

fn concat(c: &mut Context<'_, '_>) -> Results {
    let inputs = c.all_inputs()?;
    let Some(&first) = inputs.first() else { return invalid("takes at least one input") };
    let rank = c.rank(first)?;
    let axis = c.axis(c.int("axis", 0)?, rank)?;
    if inputs.len() == 1 {
        return Ok(vec![first]);
    }
    Ok(vec![c.add(Op::Concat { axis }, &inputs)?])
}

fn expand(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let asked = Shape::new(&extents(&c.known_ints(1)?)?);
    let own = c.shape(x)?;
    let Some(shape) = own.broadcast(&asked) else {
        return invalid(format!("{} does not broadcast to [{asked}]", c.ty(x)?));
    };
    if shape == own { Ok(vec![x]) } else { Ok(vec![c.add(Op::Broadcast(shape), &[x])?]) }
}

fn tile(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let repeats = extents(&c.known_ints(1)?)?;
    if repeats.iter().all(|&repeat| repeat == 1) {
        return Ok(vec![x]);
    }
    Ok(vec![c.add(Op::Tile { repeats }, &[x])?])
}

/// `count` elements of one axis from `start`.
pub(super) fn part(c: &mut Context<'_, '_>, x: NodeId, axis: usize, start: usize, count: usize) -> Imported<NodeId> {
    let mut counts = c.shape(x)?.extents();
    let mut starts = vec![0; counts.len()];
    let (Some(own_start), Some(own_count)) = (starts.get_mut(axis), counts.get_mut(axis)) else {
        return invalid(format!("{} has no axis {axis}", c.ty(x)?));
    };
    (*own_start, *own_count) = (start, count);
    let steps = vec![1; counts.len()];
    c.add(Op::Slice { starts, steps, counts }, &[x])
}

/// Extents are an attribute until opset 12, then an input; without them the parts are equal but for the last.
fn split(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let rank = c.rank(x)?;
    let axis = c.axis(c.int("axis", 0)?, rank)?;
    let extent = c.extent(x, axis)?;
    let given = match c.ints("split")? {
        Some(parts) => Some(parts),
        None => c.known_optional_ints(1)?,
    };
    let parts = match given {
        Some(parts) => extents(&parts)?,
        None => {
            let outputs = c.outputs().max(1);
            if c.given_int("num_outputs")?.is_some_and(|count| usize::try_from(count) != Ok(outputs)) {
                return invalid(format!("`num_outputs` is not {outputs}"));
            }
            let count = outputs;
            let each = extent.div_ceil(count);
            (0..count).map(|place| each.min(extent.saturating_sub(place * each))).collect()
        }
    };
    let total = parts.iter().try_fold(0usize, |sum, &part| sum.checked_add(part));
    if total != Some(extent) {
        return invalid(format!("parts {parts:?} of axis {axis} of {}", c.ty(x)?));
    }
    let mut start = 0;
    let mut results = Vec::with_capacity(parts.len());
    for count in parts {
        results.push(part(c, x, axis, start, count)?);
        start += count;
    }
    Ok(results)
}

/// Starts, ends, axes and steps are attributes until opset 9, then inputs.
fn slice(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let shape = c.shape(x)?.extents();
    let rank = shape.len();
    let (begins, ends, axes, by) = if c.version < 10 {
        (c.ints("starts")?.unwrap_or_default(), c.ints("ends")?.unwrap_or_default(), c.ints("axes")?, None)
    } else {
        (c.known_ints(1)?, c.known_ints(2)?, c.known_optional_ints(3)?, c.known_optional_ints(4)?)
    };
    let axes = match axes {
        Some(axes) => axes.iter().map(|&axis| c.axis(axis, rank)).collect::<Imported<Vec<usize>>>()?,
        None => (0..begins.len()).collect(),
    };
    let by = by.unwrap_or_else(|| vec![1; begins.len()]);
    if begins.len() != ends.len() || axes.len() != begins.len() || by.len() != begins.len() || axes.len() > rank {
        return invalid("starts, ends, axes and steps differ in length");
    }
    // (start, step, count) of every axis
    let mut parts: Vec<(usize, isize, usize)> = shape.iter().map(|&extent| (0, 1, extent)).collect();
    for (&axis, ((&begin, &end), &step)) in axes.iter().zip(begins.iter().zip(&ends).zip(&by)) {
        let (Some(part), &extent) = (parts.get_mut(axis), shape.get(axis).unwrap_or(&0)) else { continue };
        let Some((start, count)) = range(begin, end, step, extent) else {
            return invalid(format!("a step of 0 along axis {axis}"));
        };
        // A step that nothing follows may be of any length.
        *part = (start, if count > 1 { step as isize } else { 1 }, count);
    }
    let starts = parts.iter().map(|&(start, _, _)| start).collect();
    let steps = parts.iter().map(|&(_, step, _)| step).collect();
    let counts = parts.iter().map(|&(_, _, count)| count).collect();
    Ok(vec![c.add(Op::Slice { starts, steps, counts }, &[x])?])
}

/// First position and count of Python's `start:end:step` in an axis.
fn range(start: i64, end: i64, step: i64, extent: usize) -> Option<(usize, usize)> {
    let extent = extent as i64;
    let from_end = |position: i64| if position < 0 { position.saturating_add(extent) } else { position };
    let (low, high) = if step > 0 { (0, extent) } else { (-1, extent - 1) };
    let first = from_end(start).clamp(low.max(0).min(high.max(0)), high.max(0));
    let last = from_end(end).clamp(low, high.max(low));
    let distance = if step > 0 { last.saturating_sub(first) } else { first.saturating_sub(last) };
    let count = if step == 0 { return None } else { (distance.max(0) as u64).div_ceil(step.unsigned_abs()) };
    let first = if count == 0 || extent == 0 { 0 } else { first };
    Some((first as usize, if extent == 0 { 0 } else { count as usize }))
}

/// Pads are an attribute until opset 10, then an input; negative ones cut.
fn pad(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let (shape, dtype) = (c.shape(x)?.extents(), c.dtype(x)?);
    let rank = shape.len();
    let given =
        if c.version < 11 { c.ints("pads")?.or(c.ints("paddings")?).unwrap_or_default() } else { c.known_ints(1)? };
    let axes = match c.known_optional_ints(3)? {
        Some(axes) => axes.iter().map(|&axis| c.axis(axis, rank)).collect::<Imported<Vec<usize>>>()?,
        None => (0..rank).collect(),
    };
    if given.len() != 2 * axes.len() {
        return invalid(format!("pads {given:?} for {} axes", axes.len()));
    }
    let (given_before, given_after) = given.split_at(axes.len());
    let (before, after) = (scattered(&axes, given_before, rank), scattered(&axes, given_after, rank));
    let mode = match c.text("mode", "constant")?.as_str() {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return invalid(format!("`mode` is `{other}`")),
    };
    let cut = cropped(c, x, &before, &after)?;
    let positive = |pads: &[i64]| pads.iter().map(|&pad| pad.max(0) as usize).collect::<Vec<usize>>();
    let (before, after) = (positive(&before), positive(&after));
    if before.iter().chain(&after).all(|&pad| pad == 0) {
        return Ok(vec![cut]);
    }
    let mut operands = vec![cut];
    if mode == PadMode::Constant {
        let value = match (c.version < 11, c.optional(2)) {
            (false, Some(value)) => c.reshape(value, &[])?,
            (true, _) => c.number(dtype, c.float("value", 0.0)? as f64),
            (false, None) => c.number(dtype, 0.0),
        };
        operands.push(value);
    }
    Ok(vec![c.add(Op::Pad { mode, before, after }, &operands)?])
}

/// The values at their axes, 0 at the others.
fn scattered(axes: &[usize], values: &[i64], rank: usize) -> Vec<i64> {
    let value = |axis| axes.iter().zip(values).rfind(|&(&other, _)| other == axis).map_or(0, |(_, &value)| value);
    (0..rank).map(value).collect()
}

/// What negative pads leave.
fn cropped(c: &mut Context<'_, '_>, x: NodeId, before: &[i64], after: &[i64]) -> Imported<NodeId> {
    if before.iter().chain(after).all(|&pad| pad >= 0) {
        return Ok(x);
    }
    let shape = c.shape(x)?.extents();
    let cut = |pad: i64| usize::try_from(pad.min(0).unsigned_abs()).unwrap_or(usize::MAX);
    let mut counts = Vec::with_capacity(shape.len());
    for (axis, (&extent, (&first, &last))) in shape.iter().zip(before.iter().zip(after)).enumerate() {
        let lost = cut(first).saturating_add(cut(last));
        match extent.checked_sub(lost) {
            Some(left) => counts.push(left),
            None => return invalid(format!("pads cut {lost} of {extent} elements of axis {axis}")),
        }
    }
    let starts = before.iter().map(|&pad| cut(pad)).collect();
    c.add(Op::Slice { starts, steps: vec![1; shape.len()], counts }, &[x])
}

/// The image's extents and a block whose area is one of an image.
fn block(c: &Context<'_, '_>, x: NodeId) -> Imported<([usize; 4], usize)> {
    let block = c.int("blocksize", 0)?;
    let area = u32::try_from(block).ok().filter(|&block| block > 0).and_then(|block| block.checked_mul(block));
    match (area, &c.shape(x)?.extents()[..]) {
        (Some(_), &[n, channels, h, w]) => Ok(([n, channels, h, w], block as usize)),
        _ => invalid(format!("a block of {block} in {}", c.ty(x)?)),
    }
}

fn depth_to_space(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let ([n, channels, h, w], b) = block(c, x)?;
    let Some(depth) = channels.checked_div(b * b).filter(|depth| depth * b * b == channels) else {
        return invalid(format!("{channels} channels in blocks of {b}x{b}"));
    };
    let (apart, perm) = if c.text("mode", "DCR")? == "DCR" {
        ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2])
    } else {
        ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3])
    };
    let apart = c.reshape(x, &apart)?;
    let moved = c.transpose(apart, &perm)?;
    Ok(vec![c.reshape(moved, &[n, depth, h * b, w * b])?])
}

fn space_to_depth(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let ([n, channels, h, w], b) = block(c, x)?;
    if h % b != 0 || w % b != 0 {
        return invalid(format!("blocks of {b}x{b} in {}", c.ty(x)?));
    }
    let apart = c.reshape(x, &[n, channels, h / b, b, w / b, b])?;
    let moved = c.transpose(apart, &[0, 3, 5, 1, 2, 4])?;
    Ok(vec![c.reshape(moved, &[n, channels * b * b, h / b, w / b])?])
}

/// Keeps the triangle on one side of a diagonal.
fn trilu(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let (shape, dtype) = (c.shape(x)?.extents(), c.dtype(x)?);
    let [.., rows, columns] = shape[..] else { return invalid(format!("takes matrices, got {}", c.ty(x)?)) };
    let k = c.known_optional_ints(1)?.and_then(|list| list.first().copied()).unwrap_or(0);
    let upper = c.int("upper", 1)? != 0;
    let kept = |place: usize| {
        let distance = (place % columns) as i64 - (place / columns) as i64;
        if upper { distance >= k } else { distance <= k }
    };
    let mask = (0..rows * columns).map(|place| Scalar::bool(kept(place)));
    let mask = Tensor::from_scalars(DType::Bool, Shape::new(&[rows, columns]), mask)
        .or_else(|error| invalid(error.to_string()))?;
    let mask = c.constant(mask);
    let zero = c.number(dtype, 0.0);
    Ok(vec![c.map(&[mask, x, zero], |e, [mask, x, zero]| e.select(mask, x, zero))?])
}

/// Cut or padded with zeros on both sides, the odd element at the end.
fn center_crop_pad(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let (shape, dtype) = (c.shape(x)?.extents(), c.dtype(x)?);
    let target = extents(&c.known_ints(1)?)?;
    let axes = match c.ints("axes")? {
        Some(axes) => axes.iter().map(|&axis| c.axis(axis, shape.len())).collect::<Imported<Vec<usize>>>()?,
        None => (0..shape.len()).collect(),
    };
    if axes.len() != target.len() {
        return unsupported("a target of another length than its axes");
    }
    let missing: Vec<i64> = axes
        .iter()
        .zip(&target)
        .map(|(&axis, &extent)| Ok(extent as i64 - c.extent(x, axis)? as i64))
        .collect::<Imported<_>>()?;
    let (first, last): (Vec<i64>, Vec<i64>) = missing.iter().map(|more| (more / 2, more - more / 2)).unzip();
    let (before, after) = (scattered(&axes, &first, shape.len()), scattered(&axes, &last, shape.len()));
    let cut = cropped(c, x, &before, &after)?;
    let positive = |pads: Vec<i64>| pads.into_iter().map(|pad| pad.max(0) as usize).collect::<Vec<usize>>();
    let zero = c.number(dtype, 0.0);
    Ok(vec![
        c.add(Op::Pad { mode: PadMode::Constant, before: positive(before), after: positive(after) }, &[cut, zero])?,
    ])
}
