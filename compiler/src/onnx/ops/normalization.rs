//! Normalizations: [`Op::Normalize`] with scale and shift as maps.

use edgecc_ir::{BinaryOp, NodeId, Op, ReduceKind, UnaryOp};

use super::Row;
use crate::onnx::context::{Context, Imported, Results, invalid, unsupported};

pub(super) const TABLE: &[Row] = &[
    ("BatchNormalization", 1, batch),
    ("GroupNormalization", 18, group),
    ("InstanceNormalization", 1, instance),
    ("LRN", 1, local_response),
    ("LayerNormalization", 17, layer),
    ("LpNormalization", 1, lp),
    ("MeanVarianceNormalization", 9, mean_variance),
    ("RMSNormalization", 23, root_mean_square),
];

/// `x * scale + shift` with `scale = gamma / sqrt(variance + epsilon)` and `shift = beta - mean * scale`.
fn batch(c: &mut Context<'_, '_>) -> Results {
    if c.int("training_mode", 0)? != 0 {
        return unsupported("training mode; export the model for inference");
    }
    if c.version < 9 && c.int("spatial", 1)? == 0 {
        return unsupported("spatial=0");
    }
    let [x, gamma, beta, mean, variance] = [c.input(0)?, c.input(1)?, c.input(2)?, c.input(3)?, c.input(4)?];
    let channels = c.extent(x, 1)?;
    for statistic in [gamma, beta, mean, variance] {
        if c.shape(statistic)?.extents() != [channels] {
            return invalid(format!("a statistic is {}, the image {}", c.ty(statistic)?, c.ty(x)?));
        }
    }
    let epsilon = c.number(c.dtype(variance)?, c.float("epsilon", 1e-5)? as f64);
    let spread = c.binary(BinaryOp::Add, variance, epsilon)?;
    let deviation = c.unary(UnaryOp::Sqrt, spread)?;
    let scale = c.binary(BinaryOp::Div, gamma, deviation)?;
    let moved = c.binary(BinaryOp::Mul, mean, scale)?;
    let shift = c.binary(BinaryOp::Sub, beta, moved)?;
    scaled(c, x, scale, Some(shift))
}

/// `x * scale + shift` per channel.
fn scaled(c: &mut Context<'_, '_>, x: NodeId, scale: NodeId, shift: Option<NodeId>) -> Results {
    let (rank, dtype) = (c.rank(x)?, c.dtype(x)?);
    let scale = c.per_channel(scale, rank)?;
    let scale = c.cast(scale, dtype)?;
    let result = c.binary(BinaryOp::Mul, x, scale)?;
    let Some(shift) = shift else { return Ok(vec![result]) };
    let shift = c.per_channel(shift, rank)?;
    let shift = c.cast(shift, dtype)?;
    Ok(vec![c.binary(BinaryOp::Add, result, shift)?])
}

fn epsilon(c: &Context<'_, '_>) -> Imported<u32> {
    Ok(c.float("epsilon", 1e-5)?.to_bits())
}

fn instance(c: &mut Context<'_, '_>) -> Results {
    let (x, scale, shift) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let rank = c.rank(x)?;
    if rank < 3 {
        return invalid(format!("takes [N,C,spatial..], got {}", c.ty(x)?));
    }
    let op = Op::Normalize { axes: (2..rank).collect(), epsilon: epsilon(c)?, root_mean_square: false };
    let normal = c.add(op, &[x])?;
    scaled(c, normal, scale, Some(shift))
}

/// Groups become an axis of their own. Scale and shift belong to groups before opset 21, then to channels.
fn group(c: &mut Context<'_, '_>) -> Results {
    let (x, scale, shift) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let extents = c.shape(x)?.extents();
    let [images, channels, ..] = extents[..] else { return invalid(format!("takes [N,C,..], got {}", c.ty(x)?)) };
    let groups = usize::try_from(c.int("num_groups", 0)?).unwrap_or(0);
    if groups == 0 || channels % groups != 0 {
        return invalid(format!("{channels} channels in {groups} groups"));
    }
    let inner: usize = extents.iter().skip(1).product::<usize>() / groups;
    let apart = c.reshape(x, &[images, groups, inner])?;
    let op = Op::Normalize { axes: vec![2], epsilon: epsilon(c)?, root_mean_square: false };
    let normal = c.add(op, &[apart])?;
    if c.version < 21 && c.shape(scale)?.extents() == [groups] && groups != channels {
        let results = scaled(c, normal, scale, Some(shift))?;
        let Some(&result) = results.first() else { return Ok(results) };
        return Ok(vec![c.reshape(result, &extents)?]);
    }
    let together = c.reshape(normal, &extents)?;
    scaled(c, together, scale, Some(shift))
}

/// Over the axes from `axis` on. The further results are mean and 1 / deviation.
fn layer(c: &mut Context<'_, '_>) -> Results {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let (rank, dtype) = (c.rank(x)?, c.dtype(x)?);
    let axis = c.axis(c.int("axis", -1)?, rank)?;
    let axes: Vec<usize> = (axis..rank).collect();
    let op = Op::Normalize { axes: axes.clone(), epsilon: epsilon(c)?, root_mean_square: false };
    let normal = c.add(op, &[x])?;
    let mut result = c.binary(BinaryOp::Mul, normal, scale)?;
    if let Some(shift) = c.optional(2) {
        result = c.binary(BinaryOp::Add, result, shift)?;
    }
    let mut results = vec![result];
    if c.outputs() > 1 {
        let mean = c.add(Op::Reduce { kind: ReduceKind::Mean, axes: axes.clone() }, &[x])?;
        let away = c.binary(BinaryOp::Sub, x, mean)?;
        let square = c.binary(BinaryOp::Mul, away, away)?;
        let variance = c.add(Op::Reduce { kind: ReduceKind::Mean, axes }, &[square])?;
        let epsilon = c.number(dtype, c.float("epsilon", 1e-5)? as f64);
        let spread = c.binary(BinaryOp::Add, variance, epsilon)?;
        let deviation = c.unary(UnaryOp::Sqrt, spread)?;
        let inverse = c.unary(UnaryOp::Reciprocal, deviation)?;
        results.extend([mean, inverse]);
    }
    Ok(results)
}

fn root_mean_square(c: &mut Context<'_, '_>) -> Results {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let rank = c.rank(x)?;
    let axis = c.axis(c.int("axis", -1)?, rank)?;
    let op = Op::Normalize { axes: (axis..rank).collect(), epsilon: epsilon(c)?, root_mean_square: true };
    let normal = c.add(op, &[x])?;
    Ok(vec![c.binary(BinaryOp::Mul, normal, scale)?])
}

fn mean_variance(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let rank = c.rank(x)?;
    let axes = c.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = c.axes(&axes, rank)?;
    Ok(vec![c.add(Op::Normalize { axes, epsilon: 1e-9f32.to_bits(), root_mean_square: false }, &[x])?])
}

fn lp(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let (rank, dtype) = (c.rank(x)?, c.dtype(x)?);
    let axis = c.axis(c.int("axis", -1)?, rank)?;
    let first_power = c.int("p", 2)? == 1;
    let part = if first_power { c.unary(UnaryOp::Abs, x)? } else { c.binary(BinaryOp::Mul, x, x)? };
    let sum = c.add(Op::Reduce { kind: ReduceKind::Sum, axes: vec![axis] }, &[part])?;
    let norm = if first_power { sum } else { c.unary(UnaryOp::Sqrt, sum)? };
    // A line of zeros stays one.
    let zero = c.number(dtype, 0.0);
    let one = c.number(dtype, 1.0);
    let empty = c.binary(BinaryOp::Equal, norm, zero)?;
    let divisor = select(c, empty, one, norm)?;
    Ok(vec![c.binary(BinaryOp::Div, x, divisor)?])
}

fn select(c: &mut Context<'_, '_>, condition: NodeId, then: NodeId, otherwise: NodeId) -> Imported<NodeId> {
    c.map(&[condition, then, otherwise], |e, [condition, then, otherwise]| e.select(condition, then, otherwise))
}

fn local_response(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let Some(size) = usize::try_from(c.int("size", 0)?).ok().filter(|&size| size > 0) else {
        return invalid("`size` is not above 0");
    };
    let op = Op::LocalResponseNorm {
        size,
        alpha: c.float("alpha", 1e-4)?.to_bits(),
        beta: c.float("beta", 0.75)?.to_bits(),
        bias: c.float("bias", 1.0)?.to_bits(),
    };
    Ok(vec![c.add(op, &[x])?])
}
