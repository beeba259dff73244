//! What quantization did to a graph, and what that costs.

use std::collections::BTreeMap;

use edgecc_ir::{Graph, NodeId, Op};
use edgecc_passes::quantize::{QuantizedWeights, layer_input, weights_axis};

use super::agreement::{OutputReport, decibels};
use super::attempt::Chosen;
use super::cost::Compared;
use super::sensitivity::Losses;
use super::{Decided, Equalized};
use crate::calibrate::observe::{Observed, Range};
use crate::names;

/// How layers become integers.
pub const SCHEME: &str =
    "values i8 with a scale and a zero point, weights i8 with a scale for each channel, sums i32, biases i32";

/// What was done, and what it costs.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// A row for each layer of integers, in the graph's order.
    pub layers: Vec<LayerReport>,
    /// Contractions that kept their numbers.
    pub float: Vec<FloatReport>,
    /// What was decided.
    pub decided: Decided,
    /// Multiply-adds outside of integers, as a share of all.
    pub float_share: f64,
    /// For each f32 output how it agrees with the float model's over the samples.
    pub outputs: Vec<OutputReport>,
    /// Samples that were run.
    pub samples: usize,
    /// What was tried one after the other, with the decibels of the worst output over its difference; what does not raise them is
    /// not kept.
    pub steps: Vec<(&'static str, f64)>,
    /// Values that keep their numbers since their channels are too unlike for one scale.
    pub apart: Vec<String>,
    /// Values whose channels have factors.
    pub equalized: Vec<Equalized>,
    /// Modelled cycles of the network in numbers and as it is, where they are known.
    pub cycles: Option<[f64; 2]>,
}

impl Report {
    /// The worst of the outputs: see [`OutputReport::drop`].
    pub fn drop(&self) -> f64 {
        self.outputs.iter().map(OutputReport::drop).fold(0.0, f64::max)
    }

    /// Decibels of the worst output over its difference.
    pub(super) fn quality(&self) -> f64 {
        self.outputs.iter().map(|output| output.signal_to_noise).fold(f64::INFINITY, f64::min)
    }

    /// Tells each layer's share of the loss, and cycles.
    pub(super) fn tell(&mut self, graph: &Graph, losses: &Losses, compared: &Compared) {
        // Of the output that each disturbs most.
        let loss = |outputs: &Vec<OutputReport>| outputs.iter().map(OutputReport::noise).fold(0.0, f64::max);
        let all: f64 = losses.values().map(loss).sum();
        let names = names::layers(graph);
        for (&layer, outputs) in losses {
            let name = names.name(layer);
            let Some(row) = self.layers.iter_mut().find(|row| row.name == name) else { continue };
            row.share_of_loss = Some(loss(outputs) / all.max(f64::MIN_POSITIVE));
            row.cycles = compared.of_layer(layer);
        }
        self.cycles = compared.total();
    }

    /// The share of the work that integers do, and a line for each output.
    pub fn summary(&self) -> String {
        let share = (1.0 - self.float_share) * 100.0;
        let mut text = format!("{} layers of integers, {share:.1} % of the multiply-adds\n", self.layers.len());
        for output in &self.outputs {
            text.push_str(&format!("output {}: {output} ({} samples)\n", output.name, self.samples));
        }
        text
    }
}

/// A layer of integers.
#[derive(Clone, Debug)]
pub struct LayerReport {
    /// Its name: see [`crate::names`].
    pub name: String,
    /// Its ONNX nodes.
    pub origin: String,
    /// Multiply-adds.
    pub macs: u64,
    /// What its input's integers cover.
    pub input: Range,
    /// Bits of its input.
    pub bits: usize,
    /// Decibels of the input over the noise of its integers.
    pub input_quality: f64,
    /// Decibels of the weights over the noise of theirs.
    pub weights_quality: f64,
    /// Its share of what all layers lose when each is rounded alone, where that was asked for.
    pub share_of_loss: Option<f64>,
    /// Modelled cycles in numbers and in integers, with what is fused to it, where they are known.
    pub cycles: Option<[f64; 2]>,
}

/// A layer that kept its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatReport {
    /// Its name: see [`crate::names`].
    pub name: String,
    /// Its ONNX nodes.
    pub origin: String,
    /// Multiply-adds.
    pub macs: u64,
    /// Why.
    pub reason: &'static str,
}

pub(super) fn describe(graph: &Graph, chosen: &Chosen, observed: &BTreeMap<NodeId, Observed>) -> Report {
    let Chosen { points, ranges, layers: weights, wide } = chosen;
    let names = names::layers(graph);
    let origin = |id: NodeId| graph.node(id).origin().to_string();
    let row = |(&id, weights): (&NodeId, &QuantizedWeights)| {
        let input = layer_input(graph, id);
        let (range, bits) = wide.get(&id).map_or_else(|| (ranges[&input], 8), |&range| (range, 16));
        LayerReport {
            name: names.name(id),
            origin: origin(id),
            macs: macs(graph, id),
            input: range,
            bits,
            input_quality: observed[&input].signal_to_noise(&range, bits),
            weights_quality: weights_quality(graph, id, weights),
            share_of_loss: None,
            cycles: None,
        }
    };
    let order = graph.order();
    let in_order = order.iter().filter_map(|id| weights.get_key_value(id));
    let kept = |&(id, reason): &(NodeId, &'static str)| FloatReport {
        name: names.name(id),
        origin: origin(id),
        macs: macs(graph, id),
        reason,
    };
    let float: u64 = points.float.iter().map(|&(id, _)| macs(graph, id)).sum();
    let total = float + weights.keys().map(|&id| macs(graph, id)).sum::<u64>();
    Report {
        layers: in_order.map(row).collect(),
        float: points.float.iter().map(kept).collect(),
        decided: Decided::of(graph, chosen),
        float_share: float as f64 / total.max(1) as f64,
        ..Report::default()
    }
}

pub(super) fn macs(graph: &Graph, id: NodeId) -> u64 {
    let operands = graph.operands(id);
    let elements = graph.ty(id).shape.elements().unwrap_or(0) as u64;
    let depth: usize = match graph.op(id) {
        Op::Conv { .. } => graph.ty(operands[1]).shape.extents()[1..].iter().product(),
        Op::MatMul { transpose_a, .. } => {
            let shape = &graph.ty(operands[0]).shape;
            shape.dim(shape.rank() - if *transpose_a { 2 } else { 1 })
        }
        _ => graph.ty(operands[1]).shape.extents()[1..].iter().product(),
    };
    elements * depth as u64
}

fn weights_quality(graph: &Graph, layer: NodeId, rounded: &QuantizedWeights) -> f64 {
    let Some(weights) = graph.constant_value(graph.operands(layer)[1]) else { return 0.0 };
    let axis = weights_axis(graph.op(layer));
    let inner: usize = weights.shape().extents()[axis + 1..].iter().product::<usize>().max(1);
    let scales = &rounded.affine.scales;
    let (mut signal, mut noise) = (0.0, 0.0);
    for (place, (weight, integer)) in weights.to_f32().into_iter().zip(rounded.integers.to_i64()).enumerate() {
        let value = integer as f64 * scales[place / inner % scales.len()] as f64;
        signal += weight as f64 * weight as f64;
        noise += (weight as f64 - value).powi(2);
    }
    decibels(signal, noise)
}

impl std::fmt::Display for Report {
    /// Layers that lose most first; where that was not asked for, those with the noisiest inputs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut layers: Vec<&LayerReport> = self.layers.iter().collect();
        let loss = |layer: &LayerReport| layer.share_of_loss.unwrap_or(0.0);
        layers.sort_by(|a, b| {
            loss(b).total_cmp(&loss(a)).then(a.input_quality.total_cmp(&b.input_quality)).then(a.name.cmp(&b.name))
        });
        writeln!(f, "layers of integers: {SCHEME}")?;
        writeln!(
            f,
            "{:>8} {:>9} {:>9} {:>13} {:>12} {:>22} {:>14}  layer",
            "loss", "input dB", "weight dB", "kcycles float", "kcycles int8", "range", "observer"
        )?;
        let share = |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.1} %", share * 100.0));
        for layer in layers {
            let range = format!("{:.4} .. {:.4}", layer.input.low, layer.input.high);
            let cycles =
                [0, 1].map(|place| layer.cycles.map_or("-".into(), |cycles| format!("{:.1}", cycles[place] / 1e3)));
            writeln!(
                f,
                "{:>8} {:>9.1} {:>9.1} {:>13} {:>12} {range:>22} {:>14}  {}{}",
                share(layer.share_of_loss),
                layer.input_quality,
                layer.weights_quality,
                cycles[0],
                cycles[1],
                layer.input.observer,
                layer.origin,
                if layer.bits > 8 { ", which reads 16 bits" } else { "" }
            )?;
        }
        for FloatReport { origin, macs, reason, .. } in &self.float {
            writeln!(f, "kept in numbers: {origin} {reason} ({:.2} M multiply-adds)", *macs as f64 / 1e6)?;
        }
        if let Some([numbers, integers]) = self.cycles {
            let ratio = numbers / integers.max(1.0);
            writeln!(
                f,
                "{:.1} k modelled cycles, {:.1} k in numbers: {ratio:.2} times as fast",
                integers / 1e3,
                numbers / 1e3
            )?;
        }
        for origin in &self.apart {
            writeln!(f, "kept in f32: the result of {origin}: its channels are too unlike for one scale")?;
        }
        for Equalized { origin, spread, gain, dead } in &self.equalized {
            let dead = if *dead > 0 { format!(", {dead} are 0 in all samples") } else { String::new() };
            writeln!(f, "equalized: {origin}: ranges of channels differ {spread:.0}-fold, {gain:.1} dB gained{dead}")?;
        }
        for (step, quality) in &self.steps {
            writeln!(f, "{quality:>10.1} dB  {step}")?;
        }
        f.write_str(&self.summary())
    }
}
