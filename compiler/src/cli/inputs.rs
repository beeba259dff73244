//! Inputs from files: those that every device reads, and pictures.

use edgecc_device::inputs::gather as gather_files;
use edgecc_device::tensor_file::Array;
use edgecc_format::Port;

use super::CliError;
use super::options::{InputArguments, PictureArguments};
use crate::picture::{Normalisation, read as read_picture};

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
