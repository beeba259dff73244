//! `edgecc run`.

use edgecc_device::outputs::{outputs, summary};
use edgecc_device::tensor_file::write_npz;
use edgecc_runtime::{SessionOptions, big_cores};

use super::inputs::gather;
use super::loading::{load, read_labels};
use super::options::RunArguments;
use super::progress::Progress;
use super::{CliError, CliResult, print};

/// Runs a model once on files; writes the outputs, or a summary people can read.
pub fn run(arguments: &RunArguments) -> CliResult {
    let model = load(&arguments.file, &arguments.reading, read_labels(arguments.labels.as_deref())?)?;
    let mut session = model.session(SessionOptions { threads: arguments.threads.unwrap_or_else(big_cores) })?;
    for (index, array) in gather(&arguments.inputs, model.inputs())?.into_iter().enumerate() {
        session.input_mut(index).copy_from_slice(&array.bytes);
    }
    let progress = Progress::start("running");
    session.run()?;
    drop(progress);
    let outputs = outputs(&model, &session);
    match &arguments.output {
        Some(path) => write_npz(path, &outputs).map_err(CliError::from),
        None => print(&summary(&model, &outputs)),
    }
}
