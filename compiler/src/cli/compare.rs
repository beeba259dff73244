//! `edgecc compare`: an artifact against the model's meaning.

use edgecc_device::agreement::{Bound, agreement, out_of_bounds, report};
use edgecc_device::outputs::outputs;
use edgecc_ir::eval;

use super::device::Runner;
use super::inputs::gather;
use super::loading::compile_options;
use super::options::CompareArguments;
use super::progress::Progress;
use super::{CliError, CliResult, print};
use crate::array::to_tensor;
use crate::compile::import;
use crate::target::target;

/// Runs both on the same inputs and tells how far each output agrees. Fails where one leaves the bound.
pub fn compare(arguments: &CompareArguments) -> CliResult {
    let host = target("host").map_err(|error| CliError::Usage(error.to_string()))?;
    let (graph, _) = import(&arguments.model, &compile_options(&arguments.reading, host.architecture, Vec::new())?)?;
    let mut runner = Runner::open(&arguments.artifact, &arguments.on)?;
    let inputs = gather(&arguments.inputs, runner.inputs())?;
    let tensors = inputs.iter().map(to_tensor).collect::<Result<Vec<_>, _>>().map_err(CliError::Usage)?;
    let progress = Progress::start("evaluating the model");
    let reference =
        eval::run_with(&graph, &tensors, |id, _| progress.phase(|| format!("evaluating {}", graph.op(id).name())))?;
    drop(progress);
    for (index, array) in inputs.iter().enumerate() {
        runner.input_mut(index).copy_from_slice(&array.bytes);
    }
    runner.run()?;
    let bound = Bound { relative: arguments.relative, of_channel: arguments.of_channel };
    let mut rows = Vec::new();
    for ((name, array), expected) in outputs(runner.outputs(), |place| runner.output(place)).into_iter().zip(&reference)
    {
        let expected: Vec<f64> = expected.scalars().map(|value| value.as_f64()).collect();
        let channel = array.extents.len().checked_sub(1);
        rows.push((name, agreement(&array.to_f64(), &expected, &array.extents, channel, bound)));
    }
    print(&report(&rows, arguments.json))?;
    out_of_bounds(&rows).map_or(Ok(()), |what| Err(CliError::Check(what)))
}
