//! Emission of the packing of weights that are known only at run time: an invocation writes four channels of one row.

use super::Body;
use super::binding::{Bound, Use};
use super::grid::{Grid, coordinates};
use super::strides::{Channels, LANES, batch_axes, sum};
use super::writer::Writer;
use crate::contraction::{RuntimeWeights, Strides};
use crate::pack::PackedLayout;

/// The weights as an operand of which four channels are read at once.
fn channels(weights: &RuntimeWeights, layout: &PackedLayout) -> Channels {
    let strides = Strides {
        base: weights.base,
        batch: weights.batch_strides.clone(),
        row: weights.depth_stride,
        column: 0,
        channel: weights.channel_stride,
    };
    Channels::of(&strides, &weights.batch, layout.channels)
}

/// How it uses its operands.
pub(super) fn uses(weights: &RuntimeWeights, layout: &PackedLayout) -> Vec<Use> {
    let dtype = layout.element.dtype();
    vec![channels(weights, layout).read(dtype), Use::write(dtype, true)]
}

/// What each invocation does.
pub(super) fn emit(weights: &RuntimeWeights, layout: &PackedLayout, operands: &[Bound]) -> Option<Body> {
    let mut out = Writer::default();
    let vectors = layout.panel / LANES;
    let mut axes = batch_axes(&weights.batch);
    axes.extend([
        ("panel".to_string(), layout.panels()),
        ("k".to_string(), layout.depth),
        ("vector".to_string(), vectors),
    ]);
    let grid = Grid::new(axes.iter().map(|(_, extent)| extent).product());
    grid.enter(&mut out);
    coordinates(&mut out, &axes);
    let source = channels(weights, layout);
    // Rows are those of the depth.
    let at = out.value(source.at("k", "0"));
    let place = out.value(sum(0, &[("panel", vectors), ("vector", 1)]));
    let loaded = source.load(&mut out, &operands[0], &at, &place);
    let value = match layout.channels % LANES {
        0 => loaded,
        // What is behind the last channel is zero.
        _ => {
            let kept = format!("vec4<i32>({place} * {LANES}) + vec4<i32>(0, 1, 2, 3) < vec4<i32>({})", layout.channels);
            out.value(format!("select(vec4<f32>(0.0f), {loaded}, {kept})"))
        }
    };
    operands[1].store_quad(&mut out, "unit", &value);
    Some(Body { writer: out, groups: grid.groups()?, parts: None })
}
