//! Weights alone as integers, by a recipe.

use edgecc_ir::Graph;
use edgecc_passes::quantize::WeightBits;
use serde_json::{Value, json};

use super::CliError;
use crate::quantize::{RoundedLayer, WeightChoices, WeightsReport, quantize_weights, weight_scheme};
use crate::recipe::{Integers, LayerPrecision, Quantize, Recipe};

/// Rounds the weights of a graph's layers as a recipe says, and notes in it which those are.
pub fn round_weights(recipe: &mut Recipe, rule: &Quantize, graph: &mut Graph) -> Result<WeightsReport, CliError> {
    let report = quantize_weights(graph, &choices(rule, recipe))?;
    let numbers = LayerPrecision::of(recipe.precision);
    let rounded = report.layers.iter().map(|layer| (&layer.name, precision(layer.bits)));
    let float = report.float.iter().map(|layer| (&layer.name, numbers));
    for (name, precision) in rounded.chain(float) {
        recipe.layers.entry(name.clone()).or_default().precision = Some(precision);
    }
    Ok(report)
}

fn choices(rule: &Quantize, recipe: &Recipe) -> WeightChoices {
    let bits = |precision: LayerPrecision| match precision {
        LayerPrecision::WeightsInt8 => Some(WeightBits::Eight),
        LayerPrecision::WeightsInt4 => Some(WeightBits::Four),
        LayerPrecision::Int8
        | LayerPrecision::Int16
        | LayerPrecision::Float
        | LayerPrecision::Fp16
        | LayerPrecision::Fp32 => None,
    };
    let usual = match rule.integers {
        Integers::Int8 => None,
        Integers::WeightsInt8 => Some(WeightBits::Eight),
        Integers::WeightsInt4 => Some(WeightBits::Four),
    };
    let said = recipe.layers.iter().filter_map(|(name, rule)| Some((name.clone(), bits(rule.precision?))));
    WeightChoices { usual, layers: said.collect() }
}

fn precision(bits: WeightBits) -> LayerPrecision {
    match bits {
        WeightBits::Eight => LayerPrecision::WeightsInt8,
        WeightBits::Four => LayerPrecision::WeightsInt4,
    }
}

/// The report for programs.
pub fn as_json(report: &WeightsReport) -> Value {
    let layer = |layer: &RoundedLayer| {
        json!({
            "layer": layer.origin, "macs": layer.macs, "weights": weight_scheme(layer.bits), "weights_db": layer.quality,
        })
    };
    json!({
        "layers": report.layers.iter().map(layer).collect::<Vec<_>>(),
        "float": report.float.iter().map(|layer| json!({"layer": layer.origin, "macs": layer.macs, "reason": layer.reason})).collect::<Vec<_>>(),
    })
}
