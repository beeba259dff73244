//! `edgecc run`.

use edgecc_device::outputs::{outputs, summary};
use edgecc_device::tensor_file::write_npz;

use super::device::Runner;
use super::inputs::gather;
use super::loading::read_labels;
use super::options::RunArguments;
use super::progress::Progress;
use super::{CliError, CliResult, print};

/// Runs a model once on files; writes the outputs, or a summary people can read.
pub fn run(arguments: &RunArguments) -> CliResult {
    let labels = read_labels(arguments.labels.as_deref())?;
    let mut runner = Runner::load(&arguments.file, &arguments.reading, labels, &arguments.on, arguments.threads)?;
    for (index, array) in gather(&arguments.inputs, runner.inputs())?.into_iter().enumerate() {
        runner.input_mut(index).copy_from_slice(&array.bytes);
    }
    let progress = Progress::start("running");
    runner.run()?;
    drop(progress);
    let outputs = outputs(runner.outputs(), |place| runner.output(place));
    match &arguments.output {
        Some(path) => write_npz(path, &outputs).map_err(CliError::from),
        None => print(&summary(runner.outputs(), runner.labels(), &outputs)),
    }
}
