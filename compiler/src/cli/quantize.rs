//! Quantization: a graph of integers, and what that costs.

use std::path::Path;

use edgecc_ir::Graph;
use edgecc_runtime::big_cores;
use serde_json::{Value, json};

use super::build::write_text;
use super::inputs::{labels, made_up};
use super::options::{BuildArguments, QuantizeArguments};
use super::progress::Progress;
use super::recipe::Given;
use super::weights::{self, round_weights};
use super::{CliError, CliResult};
use crate::calibrate::samples::Samples;
use crate::compile::CompileOptions;
use crate::quantize::{
    Decided, LayerReport, OutputReport, QuantizeError, QuantizeOptions, Report, SCHEME, insert_decided,
    quantize as make_integers,
};
use crate::recipe::{LayerPrecision, Quantize, RangeRule, Recipe};

/// The graph with layers of integers, or weights alone, as the recipe says; the graph as it is where that makes none. What is decided
/// goes into the recipe.
pub fn quantize(
    given: &Given,
    recipe: &mut Recipe,
    arguments: &BuildArguments,
    graph: Graph,
    options: &CompileOptions,
    samples: Option<Samples>,
    progress: &Progress,
) -> Result<Graph, CliError> {
    let Some(rule) = recipe.quantize.clone() else { return Ok(graph) };
    let mut graph = match rule.integers.are_of_values() {
        true => quantize_values(given, recipe, &rule, arguments, graph, options, (samples, progress))?,
        false => graph,
    };
    let weights = round_weights(recipe, &rule, &mut graph)?;
    if !weights.layers.is_empty() || !rule.integers.are_of_values() {
        eprint!("{}", weights.summary());
    }
    if !rule.integers.are_of_values() {
        write_report(&arguments.quantization, || weights.to_string(), || weights::as_json(&weights))?;
    }
    Ok(graph)
}

/// The graph with layers of integers, after a line for each output that tells the loss.
fn quantize_values(
    given: &Given,
    recipe: &mut Recipe,
    rule: &Quantize,
    arguments: &BuildArguments,
    mut graph: Graph,
    options: &CompileOptions,
    (samples, progress): (Option<Samples>, &Progress),
) -> Result<Graph, CliError> {
    let report = &arguments.quantization.report;
    let labels = arguments.quantization.labels_of_data.as_deref().map_or(Ok(Vec::new()), labels)?;
    let how = QuantizeOptions { tell_shares: report.is_some(), labels, ..how(rule, recipe) };
    if samples.is_none() && rule.max_drop.is_none() && report.is_none() {
        match insert_decided(&mut graph, &how) {
            Ok(decided) => {
                note(recipe, &decided);
                return Ok(graph);
            }
            Err(QuantizeError::NoRange(_) | QuantizeError::NoMeans) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let samples = match samples {
        Some(samples) => samples,
        None => made_up(&arguments.samples, &graph)?,
    };
    given.decide_by(&samples, recipe)?;
    let mut say = |work: String| progress.phase(|| work);
    let report = make_integers(&mut graph, options, &how, &samples, big_cores(), &mut say)?;
    eprint!("{}", report.summary());
    if let Some(limit) = rule.max_drop.filter(|limit| !limit.is_kept_by(&report)) {
        eprintln!("note: more is lost than {limit}, with every layer in floating point that may be");
    }
    note(recipe, &report.decided);
    write_report(&arguments.quantization, || report.to_string(), || as_json(&report))?;
    Ok(graph)
}

fn how(rule: &Quantize, recipe: &Recipe) -> QuantizeOptions {
    let named = |is_one: fn(LayerPrecision) -> bool| {
        let layers = recipe.layers.iter().filter(move |(_, rule)| rule.precision.is_some_and(is_one));
        layers.map(|(name, _)| name.clone()).collect()
    };
    QuantizeOptions {
        keep: named(|precision| !matches!(precision, LayerPrecision::Int8 | LayerPrecision::Int16)),
        integers: named(|precision| precision == LayerPrecision::Int8),
        wide: named(|precision| precision == LayerPrecision::Int16),
        ranges: recipe.ranges.clone(),
        observer: rule.observer,
        only_faster: rule.only_faster,
        equalize: rule.equalize,
        fit_rounding: rule.fit_rounding,
        tables: rule.tables,
        keep_biases: !rule.correct_biases,
        max_drop: rule.max_drop,
        ..QuantizeOptions::default()
    }
}

/// Writes what was decided into a recipe.
fn note(recipe: &mut Recipe, decided: &Decided) {
    let numbers = LayerPrecision::of(recipe.precision);
    let (narrow, wide) = ((&decided.integers, LayerPrecision::Int8), (&decided.wide, LayerPrecision::Int16));
    for (names, precision) in [narrow, wide, (&decided.float, numbers)] {
        for name in names {
            recipe.layers.entry(name.clone()).or_default().precision = Some(precision);
        }
    }
    recipe.ranges = decided.ranges.iter().map(|(name, &range)| (name.clone(), RangeRule::Decided(range))).collect();
    if let Some(rule) = &mut recipe.quantize {
        rule.max_drop = None;
        rule.tables = Some(decided.has_tables);
        if rule.correct_biases {
            rule.equalize = Some(decided.is_equalized);
            rule.fit_rounding = Some(decided.is_fitted);
        }
    }
}

fn write_report(
    arguments: &QuantizeArguments,
    as_text: impl FnOnce() -> String,
    as_json: impl FnOnce() -> Value,
) -> CliResult {
    let Some(path) = &arguments.report else { return Ok(()) };
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let text = if is_json { format!("{:#}\n", as_json()) } else { as_text() };
    let path = (path != Path::new("-")).then_some(path.as_path());
    write_text(path, &text)
}

fn as_json(report: &Report) -> Value {
    let layer = |layer: &LayerReport| {
        json!({
            "layer": layer.origin, "macs": layer.macs, "bits": layer.bits, "low": layer.input.low, "high": layer.input.high,
            "observer": layer.input.observer, "input_db": layer.input_quality, "weights_db": layer.weights_quality,
            "share_of_loss": layer.share_of_loss, "cycles_in_numbers": layer.cycles.map(|cycles| cycles[0]),
            "cycles_in_integers": layer.cycles.map(|cycles| cycles[1]),
        })
    };
    let output = |output: &OutputReport| {
        json!({
            "name": output.name, "cosine": output.cosine, "db": output.signal_to_noise,
            "worst_channel_db": output.worst_channel(), "top_1": output.classes.map(|classes| classes.same),
            "expected_changes": output.classes.map(|classes| classes.changes),
            "right": output.classes.and_then(|classes| classes.right).map(|[_, now]| now),
        })
    };
    json!({
        "scheme": SCHEME,
        "samples": report.samples,
        "cycles_in_numbers": report.cycles.map(|cycles| cycles[0]),
        "cycles": report.cycles.map(|cycles| cycles[1]),
        "drop": report.drop(),
        "float_share": report.float_share,
        "layers": report.layers.iter().map(layer).collect::<Vec<_>>(),
        "float": report.float.iter().map(|layer| json!({"layer": layer.origin, "macs": layer.macs, "reason": layer.reason})).collect::<Vec<_>>(),
        "outputs": report.outputs.iter().map(output).collect::<Vec<_>>(),
    })
}
