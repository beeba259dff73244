//! Loops over the steps of a sequence, written out step by step.

use edgecc_ir::{NodeId, Op};

use super::Row;
use super::movement::{part, without};
use crate::onnx::context::{Context, Imported, Results, invalid, unsupported};

pub(super) const TABLE: &[Row] = &[("Scan", 9, scan)];

/// Most steps that are written out.
pub(super) const MOST_STEPS: usize = 256;

/// States go from step to step; each step reads a slice of every scanned input and adds one to every scanned output.
fn scan(c: &mut Context<'_, '_>) -> Results {
    if c.version < 9 {
        return unsupported("a batch of sequences, as opset 8 has it; convert the model with onnx.version_converter");
    }
    let (body, inputs) = (c.subgraph("body")?, c.all_inputs()?);
    let scanned = usize::try_from(c.int("num_scan_inputs", 0)?).unwrap_or(0);
    let Some(count) = inputs.len().checked_sub(scanned).filter(|_| scanned > 0) else {
        return invalid(format!("`num_scan_inputs` is {scanned}, of {} inputs", inputs.len()));
    };
    let (initial, sequences) = inputs.split_at(count);
    let results = body.output.len().saturating_sub(count);
    let (axes, backward) = (listed(c, "scan_input_axes", scanned)?, listed(c, "scan_input_directions", scanned)?);
    let axes = sequences.iter().zip(axes).map(|(&id, axis)| c.axis(axis, c.rank(id)?));
    let axes = axes.collect::<Imported<Vec<usize>>>()?;
    let (Some(&first), Some(&axis)) = (sequences.first(), axes.first()) else { return invalid("scans nothing") };
    let steps = c.extent(first, axis)?;
    if steps == 0 || steps > MOST_STEPS {
        return unsupported(format!("{steps} steps; 1 to {MOST_STEPS} are written out"));
    }
    let (mut states, mut parts) = (initial.to_vec(), vec![Vec::with_capacity(steps); results]);
    for step in 0..steps {
        let mut arguments = states;
        for ((&id, &axis), &backward) in sequences.iter().zip(&axes).zip(&backward) {
            arguments.push(slice(c, id, axis, if backward != 0 { steps - 1 - step } else { step })?);
        }
        let mut computed = c.inline(body, &arguments)?;
        let Some(_) = computed.get(count + results - 1) else { return invalid("its body has too few outputs") };
        let scanned = computed.split_off(count);
        states = computed;
        parts.iter_mut().zip(scanned).for_each(|(parts, part)| parts.push(part));
    }
    let (axes, backward) = (listed(c, "scan_output_axes", results)?, listed(c, "scan_output_directions", results)?);
    for ((mut parts, axis), backward) in parts.into_iter().zip(axes).zip(backward) {
        if backward != 0 {
            parts.reverse();
        }
        states.push(stacked(c, &parts, axis)?);
    }
    Ok(states)
}

/// A list attribute with an entry for each of some values, 0 for all where it is absent.
fn listed(c: &Context<'_, '_>, name: &str, count: usize) -> Imported<Vec<i64>> {
    match c.ints(name)?.filter(|list| !list.is_empty()) {
        None => Ok(vec![0; count]),
        Some(list) if list.len() == count => Ok(list),
        Some(list) => invalid(format!("`{name}` is {list:?}, for {count} values")),
    }
}

/// The slice of a value at a place along an axis, without the axis.
pub(super) fn slice(c: &mut Context<'_, '_>, x: NodeId, axis: usize, place: usize) -> Imported<NodeId> {
    let cut = part(c, x, axis, place, 1)?;
    let extents = without(c.shape(cut)?.extents(), &[axis]);
    c.reshape(cut, &extents)
}

/// Slices side by side along a new axis.
pub(super) fn stacked(c: &mut Context<'_, '_>, parts: &[NodeId], axis: i64) -> Imported<NodeId> {
    let Some(&first) = parts.first() else { return invalid("has no steps") };
    let rank = c.rank(first)? + 1;
    let axis = c.axis(axis, rank)?;
    let mut wide = Vec::with_capacity(parts.len());
    for &part in parts {
        let mut extents = c.shape(part)?.extents();
        extents.insert(axis, 1);
        wide.push(c.reshape(part, &extents)?);
    }
    if let [one] = wide[..] { Ok(one) } else { c.add(Op::Concat { axis }, &wide) }
}
