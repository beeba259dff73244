//! What the commands do: from an artifact and files to a text for standard output.

use std::path::PathBuf;

use edgecc_device::agreement::{agreement, out_of_bounds, report as agreement_report};
use edgecc_device::bench::{BenchOptions, bench, profile, report, steps_json, table};
use edgecc_device::inputs::{InputError, gather, references};
use edgecc_device::outputs::{outputs, summary};
use edgecc_device::tensor_file::{Array, write_npz};
use edgecc_runtime::{LoadError, LoadOptions, Model, Session, SessionError, SessionOptions, Verify, big_cores};
use serde_json::json;

use crate::arguments::{Command, Verb};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("{0}; --help tells more")]
    Usage(String),
    #[error("{path}: {source}", path = path.display())]
    Load { path: PathBuf, source: LoadError },
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Run(#[from] edgecc_runtime::RunError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("standard output: {0}")]
    Output(std::io::Error),
    #[error("{what}")]
    Check { what: String, report: String },
}

impl DeviceError {
    /// 1 artifact or run failed, 2 usage, 3 a check failed, 4 input or output, 5 a limit hit.
    pub fn exit_code(&self) -> u8 {
        match self {
            DeviceError::Load { source: LoadError::Io { .. }, .. } => 4,
            DeviceError::Load { .. } | DeviceError::Run(_) => 1,
            DeviceError::Session(SessionError::ThreadCount { .. }) => 2,
            DeviceError::Session(SessionError::Memory { .. } | SessionError::Thread(_)) => 5,
            DeviceError::Input(InputError::File(_)) | DeviceError::Output(_) => 4,
            DeviceError::Input(_) | DeviceError::Usage(_) => 2,
            DeviceError::Check { .. } => 3,
        }
    }
}

/// Executes a command; the text is its result.
pub fn execute(command: &Command) -> Result<String, DeviceError> {
    let model = open(command)?;
    let mut session = model.session(SessionOptions { threads: command.threads.unwrap_or_else(big_cores) })?;
    let takes_zeros = matches!(command.verb, Verb::Bench | Verb::Profile) && command.inputs.is_empty();
    if !takes_zeros {
        fill(command, &model, &mut session)?;
    }
    match command.verb {
        Verb::Run => run(command, &model, &mut session),
        Verb::Compare => compare(command, &model, &mut session),
        Verb::Bench => {
            let (warm_up, runs, sustain) = (command.warm_up, command.runs, command.sustain);
            let result = bench(&model, &mut session, &BenchOptions { warm_up, runs, sustain })?;
            Ok(report(&result, command.json))
        }
        Verb::Profile => {
            session.run()?;
            let steps = profile(model.program(), &mut |report| session.run_profiled(report))?;
            Ok(if command.json {
                format!("{}\n", json!({"schema_version": 1, "steps": steps_json(&steps)}))
            } else {
                table(&steps)
            })
        }
    }
}

#[allow(unsafe_code)]
fn open(command: &Command) -> Result<Model, DeviceError> {
    // SAFETY: the user asks for this file's code to be run, as for any program; integrity is checked by hash.
    let model =
        unsafe { Model::open(&command.artifact, LoadOptions { verify: Verify::Full, ..LoadOptions::default() }) };
    model.map_err(|source| DeviceError::Load { path: command.artifact.clone(), source })
}

fn fill(command: &Command, model: &Model, session: &mut Session) -> Result<(), DeviceError> {
    let other_kind = |path: &std::path::Path, _: &_| Err(InputError::Kind { path: path.display().to_string() });
    let arrays = gather(&command.inputs, model.inputs(), other_kind)?;
    for (place, array) in arrays.into_iter().enumerate() {
        session.input_mut(place).copy_from_slice(&array.bytes);
    }
    Ok(())
}

fn run(command: &Command, model: &Model, session: &mut Session) -> Result<String, DeviceError> {
    session.run()?;
    let outputs = outputs(model.outputs(), |place| session.output(place));
    match &command.output {
        Some(path) => {
            write_npz(path, &outputs).map_err(InputError::File)?;
            Ok(String::new())
        }
        None if command.json => {
            let values = |(name, array): &(String, Array)| json!({"name": name, "dims": array.extents, "values": array.to_f64()});
            Ok(format!("{}\n", json!({"schema_version": 1, "outputs": outputs.iter().map(values).collect::<Vec<_>>()})))
        }
        None => Ok(summary(model.outputs(), model.labels(), &outputs)),
    }
}

fn compare(command: &Command, model: &Model, session: &mut Session) -> Result<String, DeviceError> {
    session.run()?;
    let path = command.expected.as_deref().unwrap_or(&command.artifact);
    let expected = references(path, model.outputs())?;
    let mut rows = Vec::new();
    for ((name, array), reference) in outputs(model.outputs(), |place| session.output(place)).into_iter().zip(expected)
    {
        let Some(reference) = reference else { continue };
        let rank = array.extents.len();
        let channel = command.channel.filter(|&axis| axis < rank).or(rank.checked_sub(1));
        let row = agreement(&array.to_f64(), &reference.to_f64(), &array.extents, channel, command.bound);
        rows.push((name, row));
    }
    if rows.is_empty() {
        return Err(DeviceError::Usage(format!("{} holds no output of the model", path.display())));
    }
    let report = agreement_report(&rows, command.json);
    match out_of_bounds(&rows) {
        Some(what) => Err(DeviceError::Check { what, report }),
        None => Ok(report),
    }
}
