//! `--quantize`: a graph of integers, and what that costs.

use std::path::Path;

use edgecc_ir::Graph;
use edgecc_runtime::big_cores;
use serde_json::{Value, json};

use super::build::write_text;
use super::inputs::samples;
use super::options::{BuildArguments, QuantizeArguments};
use super::progress::Progress;
use super::{CliError, CliResult};
use crate::compile::CompileOptions;
use crate::quantize::{LayerReport, OutputReport, QuantizeOptions, Report, quantize as make_integers};

/// The graph with layers of integers, after a line for each output that tells the loss; the graph as it is without the flag.
pub fn quantize(
    arguments: &BuildArguments,
    mut graph: Graph,
    options: &CompileOptions,
    progress: &Progress,
) -> Result<Graph, CliError> {
    let own = &arguments.quantization;
    if own.quantize.is_none() {
        return Ok(graph);
    }
    let samples = samples(&arguments.samples, &graph)?;
    let how = QuantizeOptions {
        keep: own.quantize_keep.iter().cloned().collect(),
        max_drop: own.max_drop,
        ..QuantizeOptions::default()
    };
    let mut say = |work: String| progress.phase(|| work);
    let report = make_integers(&mut graph, options, &how, &samples, big_cores(), &mut say)?;
    eprint!("{}", report.summary());
    if let Some(most) = own.max_drop.filter(|&most| report.drop() > most) {
        eprintln!("note: a drop of {:.4} is left with every layer in f32, above {most}", report.drop());
    }
    write_report(own, &report)?;
    Ok(graph)
}

/// Options whose record names what was asked for.
pub fn with_record(options: CompileOptions, arguments: &QuantizeArguments) -> CompileOptions {
    if arguments.quantize.is_none() {
        return options;
    }
    let mut configuration = format!("{}quantize = int8\n", options.configuration);
    for name in &arguments.quantize_keep {
        configuration.push_str(&format!("quantize-keep = {name}\n"));
    }
    if let Some(most) = arguments.max_drop {
        configuration.push_str(&format!("max-drop = {most}\n"));
    }
    CompileOptions { configuration, ..options }
}

fn write_report(arguments: &QuantizeArguments, report: &Report) -> CliResult {
    let Some(path) = &arguments.report else { return Ok(()) };
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let text = if is_json { format!("{:#}\n", as_json(report)) } else { report.to_string() };
    let path = (path != Path::new("-")).then_some(path.as_path());
    write_text(path, &text)
}

fn as_json(report: &Report) -> Value {
    let layer = |layer: &LayerReport| {
        json!({
            "layer": layer.origin, "macs": layer.macs, "low": layer.input.low, "high": layer.input.high,
            "observer": layer.input.observer, "input_db": layer.input_quality, "weights_db": layer.weights_quality,
        })
    };
    let output = |output: &OutputReport| {
        json!({
            "name": output.name, "cosine": output.cosine, "db": output.signal_to_noise, "top_1": output.top_1,
        })
    };
    json!({
        "samples": report.samples,
        "drop": report.drop(),
        "float_share": report.float_share,
        "layers": report.layers.iter().map(layer).collect::<Vec<_>>(),
        "float": report.float.iter().map(|(layer, reason)| json!({"layer": layer, "reason": reason})).collect::<Vec<_>>(),
        "outputs": report.outputs.iter().map(output).collect::<Vec<_>>(),
    })
}
