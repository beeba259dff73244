//! Dequantization moves behind movement, so that integers move.

use edgecc_ir::{Graph, NodeId, Op};

use super::affine::{Affine, dequantize, dequantized, integer};
use super::movement::{moved_axis, moved_operands};

/// `move(dequantize(q)) => dequantize(move(q))`, for movements, concatenations of equally quantised values, constant pads
/// with a number that has an integer, max pools and nearest resizing.
///
/// Values with scales along an axis pass transposes, and reshapes that keep the axis. Exact.
pub fn sink_dequantize(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some(sunk) = sunk(graph, id) else { continue };
        let op = graph.op(id).clone();
        let origin = graph.node(id).origin().clone();
        let mut operands = graph.operands(id).to_vec();
        for (place, value) in sunk.values {
            operands[place] = match value {
                Value::Is(source) => source,
                Value::Integer(value) => graph.constant(integer(sunk.affine.dtype, value), origin.clone()),
            };
        }
        let Ok(moved) = graph.add(op, &operands, origin.clone()) else { continue };
        let (op, operands) = dequantize(graph, moved, &sunk.affine);
        rewrites += graph.rewrite(id, op, &operands, origin).is_ok() as usize;
    }
    graph.remove_dead();
    rewrites
}

struct Sunk {
    /// What the moved integers stand for.
    affine: Affine,
    /// The integers in place of operands.
    values: Vec<(usize, Value)>,
}

enum Value {
    Is(NodeId),
    Integer(i64),
}

fn sunk(graph: &Graph, id: NodeId) -> Option<Sunk> {
    let places = moved_operands(graph, id)?;
    let operands = graph.operands(id);
    let (_, affine) = places.iter().find_map(|&place| dequantized(graph, operands[place]))?;
    let mut values = Vec::with_capacity(places.len());
    for place in places {
        let value = match dequantized(graph, operands[place]) {
            Some((source, own)) if own == affine => Value::Is(source),
            Some(_) => return None,
            None => Value::Integer(exact_integer(graph, id, place, &affine)?),
        };
        values.push((place, value));
    }
    let affine = match affine.axis {
        None => affine,
        Some(axis) => {
            let moved = moved_axis(graph.op(id), &graph.ty(operands[0]).shape, axis)?;
            Affine { axis: Some(moved), ..affine }
        }
    };
    Some(Sunk { affine, values })
}

/// The integer of a pad's number, where it is one.
fn exact_integer(graph: &Graph, id: NodeId, place: usize, affine: &Affine) -> Option<i64> {
    if !matches!(graph.op(id), Op::Pad { .. }) || place != 1 {
        return None;
    }
    let (scale, zero) = affine.single()?;
    let value = graph.constant_value(graph.operands(id)[1])?.as_splat()?.as_f64();
    let integer = affine.quantize(value, 0);
    ((integer - zero) as f64 * scale as f64 == value).then_some(integer)
}
