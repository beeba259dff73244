//! Weights alone as integers: which layers, and what that takes from their weights. It needs no samples.

use std::collections::BTreeMap;

use edgecc_ir::Graph;
use edgecc_passes::quantize::{WeightBits, round_to_bits, weights_stay};

use super::agreement::decibels;
use super::report::{FloatReport, macs};
use super::{QuantizeError, TOLD};
use crate::names::layers;

/// Which layers get weights of a few bits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightChoices {
    /// Of layers that nothing else is said of; none do without it.
    pub usual: Option<WeightBits>,
    /// Of layers by name: with `None` they stay as they are.
    pub layers: BTreeMap<String, Option<WeightBits>>,
}

/// What became of the weights of layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightsReport {
    /// Layers with weights of a few bits, in the graph's order.
    pub layers: Vec<RoundedLayer>,
    /// Layers that kept their numbers.
    pub float: Vec<FloatReport>,
}

/// A layer with weights of a few bits.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundedLayer {
    /// Its name: see [`crate::names`].
    pub name: String,
    /// Its ONNX nodes.
    pub origin: String,
    /// Multiply-adds.
    pub macs: u64,
    /// The bits.
    pub bits: WeightBits,
    /// Decibels of the weights over what rounding changes.
    pub quality: f64,
}

/// Rounds the weights of layers of a graph behind [`edgecc_passes::prepare`].
pub fn quantize_weights(graph: &mut Graph, choices: &WeightChoices) -> Result<WeightsReport, QuantizeError> {
    let all: Vec<_> = {
        let names = layers(graph);
        let contractions = graph.order().into_iter().filter(|&id| graph.op(id).epilogue().is_some());
        contractions.map(|id| (id, names.name(id), graph.node(id).origin().to_string(), macs(graph, id))).collect()
    };
    let mut report = WeightsReport::default();
    for (id, name, origin, macs) in all {
        let said = choices.layers.get(&name).copied();
        let kept = match said.unwrap_or(choices.usual) {
            Some(bits) => match weights_stay(graph, id, bits) {
                None => {
                    let noise = round_to_bits(graph, id, bits)?;
                    let quality = decibels(noise.signal, noise.noise);
                    report.layers.push(RoundedLayer { name, origin, macs, bits, quality });
                    continue;
                }
                Some(reason) => Some(reason),
            },
            None => choices.usual.map(|_| TOLD),
        };
        report.float.extend(kept.map(|reason| FloatReport { name, origin, macs, reason }));
    }
    Ok(report)
}

impl WeightsReport {
    /// The share of the work that has such weights.
    pub fn summary(&self) -> String {
        let of = |macs: u64, all: u64| 100.0 * macs as f64 / all.max(1) as f64;
        let rounded: u64 = self.layers.iter().map(|layer| layer.macs).sum();
        let float: u64 = self.float.iter().map(|layer| layer.macs).sum();
        let share = of(rounded, rounded + float);
        format!("{} layers with weights of a few bits, {share:.1} % of the multiply-adds\n", self.layers.len())
    }
}

/// How integers stand for weights.
pub fn weight_scheme(bits: WeightBits) -> &'static str {
    match bits {
        WeightBits::Eight => "8 bits, a scale for each channel",
        WeightBits::Four => "4 bits, a scale for each block of 32",
    }
}

impl std::fmt::Display for WeightsReport {
    /// Layers whose weights change most first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut layers: Vec<&RoundedLayer> = self.layers.iter().collect();
        layers.sort_by(|a, b| a.quality.total_cmp(&b.quality).then(a.name.cmp(&b.name)));
        writeln!(f, "{:>9} {:>8}  {:<36}  layer", "weight dB", "M macs", "weights")?;
        for RoundedLayer { origin, macs, bits, quality, .. } in layers {
            let macs = *macs as f64 / 1e6;
            writeln!(f, "{quality:>9.1} {macs:>8.2}  {:<36}  {origin}", weight_scheme(*bits))?;
        }
        for FloatReport { origin, macs, reason, .. } in &self.float {
            writeln!(f, "kept in numbers: {origin} {reason} ({:.2} M multiply-adds)", *macs as f64 / 1e6)?;
        }
        f.write_str(&self.summary())
    }
}
