//! Pools.

use edgecc_ir::{NodeId, Op, PoolKind, ReduceKind, UnaryOp};

use super::Row;
use super::contraction::window;
use super::structure::extents;
use crate::onnx::context::{Context, Imported, Results, invalid};

pub(super) const TABLE: &[Row] = &[
    ("AveragePool", 1, average),
    ("GlobalAveragePool", 1, global),
    ("GlobalLpPool", 2, global_lp),
    ("GlobalMaxPool", 1, global),
    ("LpPool", 2, lp),
    ("MaxPool", 1, max),
];

pub(super) fn pool(c: &Context<'_, '_>, x: NodeId, kind: PoolKind) -> Imported<Op> {
    let Some(kernel) = c.ints("kernel_shape")? else { return invalid("has no `kernel_shape`") };
    let window = window(c, x, extents(&kernel)?)?;
    let ceil = c.int("ceil_mode", 0)? != 0;
    Ok(Op::Pool { kind, window, ceil })
}

fn average(c: &mut Context<'_, '_>) -> Results {
    let count_pads = c.int("count_include_pad", 0)? != 0;
    let x = c.input(0)?;
    let op = pool(c, x, PoolKind::Average { count_pads })?;
    Ok(vec![c.add(op, &[x])?])
}

fn lp(c: &mut Context<'_, '_>) -> Results {
    let p = u32::try_from(c.int("p", 2)?).ok().filter(|&p| p > 0);
    let Some(p) = p else { return invalid(format!("`p` is {}", c.int("p", 2)?)) };
    let x = c.input(0)?;
    let op = pool(c, x, PoolKind::Lp { p })?;
    Ok(vec![c.add(op, &[x])?])
}

fn max(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let op = pool(c, x, PoolKind::Max)?;
    let values = c.add(op.clone(), &[x])?;
    if c.outputs() < 2 {
        return Ok(vec![values]);
    }
    let Op::Pool { window, ceil, .. } = op else { return Ok(vec![values]) };
    let column_major = c.int("storage_order", 0)? != 0;
    let indices = c.add(Op::PoolIndices { window, ceil, column_major }, &[x])?;
    Ok(vec![values, indices])
}

pub(super) fn spatial(c: &Context<'_, '_>, x: NodeId) -> Imported<Vec<usize>> {
    let rank = c.rank(x)?;
    if rank < 3 { invalid(format!("takes [N,C,spatial..], got {}", c.ty(x)?)) } else { Ok((2..rank).collect()) }
}

fn global(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let axes = spatial(c, x)?;
    let kind = if c.operator() == "GlobalMaxPool" { ReduceKind::Max } else { ReduceKind::Mean };
    Ok(vec![c.add(Op::Reduce { kind, axes }, &[x])?])
}

fn global_lp(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let axes = spatial(c, x)?;
    let p = c.int("p", 2)?;
    let magnitude = c.unary(UnaryOp::Abs, x)?;
    let dtype = c.dtype(x)?;
    let (power, root) = (c.number(dtype, p as f64), c.number(dtype, 1.0 / p as f64));
    let raised = c.binary(edgecc_ir::BinaryOp::Pow, magnitude, power)?;
    let sum = c.add(Op::Reduce { kind: ReduceKind::Sum, axes }, &[raised])?;
    Ok(vec![c.binary(edgecc_ir::BinaryOp::Pow, sum, root)?])
}
