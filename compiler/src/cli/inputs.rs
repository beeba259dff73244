//! Inputs from files: those that every device reads, pictures, and samples to calibrate on.

use std::path::Path;

use edgecc_device::inputs::gather as gather_files;
use edgecc_device::tensor_file::Array;
use edgecc_format::Port;
use edgecc_ir::Graph;

use super::options::{BuildArguments, DataArguments, InputArguments, PictureArguments};
use super::{CliError, CliResult};
use crate::calibrate::samples::{SampleError, Samples};
use crate::calibrate::synthetic::synthetic;
use crate::picture::{Normalisation, read as read_picture};
use crate::recipe::Recipe;

/// Samples that are made up where none are given.
const MADE_UP: usize = 16;
/// The seed that they are made of.
const SEED: u64 = 1;

/// One array for every port, in their order, of the port's type and shape.
pub fn gather(arguments: &InputArguments, ports: &[Port]) -> Result<Vec<Array>, CliError> {
    let normalisation = normalisation(&arguments.pictures);
    gather_files(&arguments.inputs, ports, |file, port| Ok(read_picture(file, port, &normalisation)?))
}

/// How pictures are normalised.
pub fn normalisation(arguments: &PictureArguments) -> Normalisation {
    Normalisation {
        scale: arguments.scale,
        mean: arguments.mean.clone(),
        deviation: arguments.deviation.clone(),
        bgr: arguments.bgr,
    }
}

/// Samples that are made up, which is said.
pub fn made_up(arguments: &DataArguments, graph: &Graph) -> Result<Samples, SampleError> {
    eprintln!("note: calibrated on samples that are made up; real ones, by --data, tell more");
    synthetic(graph, &normalisation(&arguments.pictures), MADE_UP, SEED)
}

/// The classes of `--labels-of-data`, a number in each line.
pub fn labels(path: &Path) -> Result<Vec<usize>, CliError> {
    let text = std::fs::read_to_string(path).map_err(|source| CliError::Io { path: path.into(), source })?;
    let label = |(line, text): (usize, &str)| {
        let no_class = |_| format!("{}: line {}: `{text}` is no number of a class", path.display(), line + 1);
        text.trim().parse().map_err(no_class)
    };
    text.lines().enumerate().map(label).collect::<Result<_, _>>().map_err(CliError::Usage)
}

/// `--data` belongs to what reads samples, other flags to quantization.
pub fn check_uses(arguments: &BuildArguments, recipe: &Recipe) -> CliResult {
    let Recipe { prune, quantize, .. } = recipe;
    let of_values = quantize.as_ref().is_some_and(|rule| rule.integers.are_of_values());
    if prune.is_none() && quantize.is_none() && !arguments.samples.data.is_empty() {
        return Err(CliError::Usage("--data is for --prune and --quantize".into()));
    }
    if let Some(rule) = quantize.as_ref().filter(|_| !of_values && prune.is_none()) {
        let needless =
            [("--data", !arguments.samples.data.is_empty()), ("--max-drop", arguments.quantization.max_drop.is_some())];
        if let Some((flag, _)) = needless.into_iter().find(|(_, given)| *given) {
            let message = format!("{flag} is for integers of values too: {} needs no samples", rule.integers.name());
            return Err(CliError::Usage(message));
        }
    }
    let own = &arguments.quantization;
    let of_quantize = [
        ("--report", own.report.is_some()),
        ("--quantize-keep", !own.quantize_keep.is_empty()),
        ("--max-drop", own.max_drop.is_some()),
        ("--labels-of-data", own.labels_of_data.is_some()),
    ];
    if let Some((flag, _)) = of_quantize.into_iter().find(|(_, given)| quantize.is_none() && *given) {
        return Err(CliError::Usage(format!("{flag} is for --quantize")));
    }
    Ok(())
}
