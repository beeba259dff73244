//! Operators whose positions are data.

use edgecc_ir::{BinaryOp, DType, NodeId, Op, ScatterKind, UnaryOp};

use super::Row;
use crate::onnx::context::{Context, Imported, Results, invalid};

pub(super) const TABLE: &[Row] = &[
    ("Gather", 1, gather),
    ("GatherElements", 11, gather_elements),
    ("GatherND", 11, gather_nd),
    ("OneHot", 9, one_hot),
    ("Scatter", 9, scatter_elements),
    ("ScatterElements", 11, scatter_elements),
    ("ScatterND", 11, scatter_nd),
];

fn gather(c: &mut Context<'_, '_>) -> Results {
    let (x, indices) = (c.input(0)?, c.input(1)?);
    let rank = c.rank(x)?;
    let axis = c.axis(c.int("axis", 0)?, rank)?;
    check_known(c, x, indices, axis)?;
    Ok(vec![c.add(Op::Gather { axis }, &[x, indices])?])
}

/// Positions that are known while compiling lie inside.
fn check_known(c: &Context<'_, '_>, x: NodeId, indices: NodeId, axis: usize) -> Imported<()> {
    let (Some(value), extent) = (c.value(indices), c.extent(x, axis)? as i64) else { return Ok(()) };
    match value.scalars().map(|value| value.as_i64()).find(|position| !(-extent..extent).contains(position)) {
        Some(position) => invalid(format!("position {position} of axis {axis} of {}", c.ty(x)?)),
        None => Ok(()),
    }
}

fn gather_elements(c: &mut Context<'_, '_>) -> Results {
    let (x, indices) = (c.input(0)?, c.input(1)?);
    let rank = c.rank(x)?;
    let axis = c.axis(c.int("axis", 0)?, rank)?;
    check_known(c, x, indices, axis)?;
    Ok(vec![c.add(Op::GatherElements { axis }, &[x, indices])?])
}

fn gather_nd(c: &mut Context<'_, '_>) -> Results {
    let (x, indices) = (c.input(0)?, c.input(1)?);
    let batch_dims = usize::try_from(c.int("batch_dims", 0)?).unwrap_or(usize::MAX);
    Ok(vec![c.add(Op::GatherNd { batch_dims }, &[x, indices])?])
}

fn kind(c: &Context<'_, '_>) -> Imported<ScatterKind> {
    Ok(match c.text("reduction", "none")?.as_str() {
        "none" => ScatterKind::Replace,
        "add" => ScatterKind::Add,
        "mul" => ScatterKind::Multiply,
        "max" => ScatterKind::Max,
        "min" => ScatterKind::Min,
        other => return invalid(format!("`reduction` is `{other}`")),
    })
}

fn scatter_elements(c: &mut Context<'_, '_>) -> Results {
    let inputs = [c.input(0)?, c.input(1)?, c.input(2)?];
    let rank = c.rank(inputs[0])?;
    let axis = c.axis(c.int("axis", 0)?, rank)?;
    check_known(c, inputs[0], inputs[1], axis)?;
    let kind = kind(c)?;
    Ok(vec![c.add(Op::ScatterElements { axis, kind }, &inputs)?])
}

fn scatter_nd(c: &mut Context<'_, '_>) -> Results {
    let inputs = [c.input(0)?, c.input(1)?, c.input(2)?];
    let kind = kind(c)?;
    Ok(vec![c.add(Op::ScatterNd { kind }, &inputs)?])
}

/// The on value where the position, counted from the end if negative, meets the class.
fn one_hot(c: &mut Context<'_, '_>) -> Results {
    let indices = c.input(0)?;
    let depth = c.known(1)?;
    let depth = if depth.elements() == 1 { depth.get(0).as_i64() } else { -1 };
    if !(1..=1 << 24).contains(&depth) {
        return invalid(format!("a depth of {depth}"));
    }
    let values = c.input(2)?;
    let rank = c.rank(indices)?;
    let axis = c.axis(c.int("axis", -1)?, rank + 1)?;
    let positions = match c.dtype(indices)? {
        DType::F16 | DType::F32 => {
            let single = c.cast(indices, DType::F32)?;
            c.map(&[single], |e, [index]| e.unary(UnaryOp::Trunc, index))?
        }
        _ => c.cast(indices, DType::I64)?,
    };
    let mut shape = c.shape(indices)?.extents();
    shape.insert(axis, 1);
    let positions = c.reshape(positions, &shape)?;
    let classes: Vec<i64> = (0..depth).collect();
    let classes = c.constant_ints(&classes);
    let along: Vec<usize> = (0..=rank).map(|other| if other == axis { depth as usize } else { 1 }).collect();
    let classes = c.reshape(classes, &along)?;
    let dtype = c.dtype(positions)?;
    let classes = c.cast(classes, dtype)?;
    // Indices count from the front, negative ones from the back.
    let hit = c.map(&[positions, classes], |e, [position, class]| {
        let extent = e.number(class, depth as f64);
        let from_back = e.binary(BinaryOp::Sub, class, extent);
        let (front, back) =
            (e.binary(BinaryOp::Equal, position, class), e.binary(BinaryOp::Equal, position, from_back));
        e.binary(BinaryOp::Or, front, back)
    })?;
    let off = super::movement::part(c, values, 0, 0, 1)?;
    let on = super::movement::part(c, values, 0, 1, 1)?;
    let result = c.map(&[hit, on, off], |e, [hit, on, off]| e.select(hit, on, off))?;
    Ok(vec![result])
}
