//! Inputs from files: those that every device reads, pictures, and samples to calibrate on.

use edgecc_device::inputs::gather as gather_files;
use edgecc_device::tensor_file::Array;
use edgecc_format::Port;
use edgecc_ir::Graph;

use super::options::{BuildArguments, DataArguments, InputArguments, PictureArguments};
use super::{CliError, CliResult};
use crate::calibrate::samples::{SampleError, Samples};
use crate::calibrate::synthetic::synthetic;
use crate::picture::{Normalisation, read as read_picture};

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

/// The samples of `--data`, or some that are made up, which is said.
pub fn samples(arguments: &DataArguments, graph: &Graph) -> Result<Samples, SampleError> {
    let normalisation = normalisation(&arguments.pictures);
    if arguments.data.is_empty() {
        eprintln!("note: calibrated on samples that are made up; real ones, by --data, tell more");
        return synthetic(graph, &normalisation, MADE_UP, SEED);
    }
    Samples::read(graph, &arguments.data, &normalisation)
}

/// `--data` belongs to what reads samples.
pub fn check_samples(arguments: &BuildArguments) -> CliResult {
    let reads = arguments.pruning.prune.is_some() || arguments.quantization.quantize.is_some();
    match reads || arguments.samples.data.is_empty() {
        true => Ok(()),
        false => Err(CliError::Usage("--data is for --prune and --quantize".into())),
    }
}
