//! `edgecc compare`: an artifact against the model's meaning.

use edgecc_device::agreement::{Agreement, Bound, agreement};
use edgecc_ir::eval;
use edgecc_runtime::SessionOptions;
use serde_json::json;

use super::inputs::gather;
use super::loading::{compile_options, open};
use super::options::CompareArguments;
use super::run::outputs;
use super::{CliError, CliResult};
use crate::array::to_tensor;
use crate::compile::import;
use crate::target::target;

/// Runs both on the same inputs and tells how far each output agrees. Fails where one leaves the bound.
pub fn compare(arguments: &CompareArguments) -> CliResult {
    let host = target("host").map_err(|error| CliError::Usage(error.to_string()))?;
    let (graph, _) = import(&arguments.model, &compile_options(&arguments.reading, host.architecture, Vec::new())?)?;
    let artifact = open(&arguments.artifact)?;
    let inputs = gather(&arguments.inputs, artifact.inputs())?;
    let tensors = inputs.iter().map(to_tensor).collect::<Result<Vec<_>, _>>().map_err(CliError::Usage)?;
    let reference = eval::run(&graph, &tensors)?;
    let mut session = artifact.session(SessionOptions { threads: 1 })?;
    for (index, array) in inputs.iter().enumerate() {
        session.input_mut(index).copy_from_slice(&array.bytes);
    }
    session.run()?;
    let bound = Bound { relative: arguments.relative, of_channel: arguments.of_channel };
    let mut rows = Vec::new();
    for ((name, array), expected) in outputs(&artifact, &session).into_iter().zip(&reference) {
        let expected: Vec<f64> = expected.scalars().map(|value| value.as_f64()).collect();
        let channel = array.extents.len().checked_sub(1);
        rows.push((name, agreement(&array.to_f64(), &expected, &array.extents, channel, bound)));
    }
    print(&rows, arguments.json);
    let failed: Vec<&str> =
        rows.iter().filter(|(_, row)| row.share_of_bound > 1.0).map(|(name, _)| name.as_str()).collect();
    if failed.is_empty() { Ok(()) } else { Err(CliError::Check(format!("out of bounds: {}", failed.join(", ")))) }
}

fn print(rows: &[(String, Agreement)], as_json: bool) {
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, row)| {
                json!({"output": name, "max_absolute": row.max_absolute, "max_relative": row.max_relative,
                       "cosine": row.cosine, "share_of_bound": row.share_of_bound})
            })
            .collect();
        println!("{}", json!({"schema_version": 1, "outputs": rows}));
        return;
    }
    println!("{:<32} {:>12} {:>12} {:>12} {:>10}", "output", "max abs", "max rel", "cosine", "of bound");
    for (name, row) in rows {
        println!(
            "{name:<32} {:>12.3e} {:>12.3e} {:>12.8} {:>9.1}%",
            row.max_absolute,
            row.max_relative,
            row.cosine,
            row.share_of_bound * 100.0
        );
    }
}
