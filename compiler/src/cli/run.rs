//! `edgecc run`.

use std::io::Write;

use edgecc_device::tensor_file::{Array, write_npz};
use edgecc_format::{ElementType, Port};
use edgecc_runtime::{Model, Session, SessionOptions};

use super::inputs::{describe, gather};
use super::loading::{load, read_labels};
use super::options::RunArguments;
use super::{CliError, CliResult};

/// Runs a model once on files; writes the outputs, or a summary people can read.
pub fn run(arguments: &RunArguments) -> CliResult {
    let model = load(&arguments.file, &arguments.reading, read_labels(arguments.labels.as_deref())?)?;
    let mut session = model.session(SessionOptions { threads: arguments.threads })?;
    for (index, array) in gather(&arguments.inputs, model.inputs())?.into_iter().enumerate() {
        session.input_mut(index).copy_from_slice(&array.bytes);
    }
    session.run()?;
    let outputs = outputs(&model, &session);
    match &arguments.output {
        Some(path) => write_npz(path, &outputs).map_err(CliError::from),
        None => summarise(&model, &outputs),
    }
}

/// The outputs of the last run, named, in graph order.
pub fn outputs(model: &Model, session: &Session) -> Vec<(String, Array)> {
    let array = |(index, port): (usize, &Port)| {
        let element_type = ElementType::try_from(port.element_type).unwrap_or(ElementType::Unspecified);
        let extents = port.dims.iter().map(|dim| dim.capacity() as usize).collect();
        (port.name.clone(), Array { element_type, extents, bytes: session.output(index).to_vec() })
    };
    model.outputs().iter().enumerate().map(array).collect()
}

/// Most classes that are named.
const TOP: usize = 5;

fn summarise(model: &Model, outputs: &[(String, Array)]) -> CliResult {
    let mut text = String::new();
    for ((name, array), port) in outputs.iter().zip(model.outputs()) {
        let values = array.to_f64();
        text.push_str(&format!("{name}: {}\n", describe(port)));
        match classes(&array.extents) {
            Some(count) => text.push_str(&top(&values, count, model.labels())),
            None => text.push_str(&spread(&values)),
        }
    }
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|source| CliError::Io { path: "standard output".into(), source })
}

/// The number of classes, where all elements lie along one axis.
fn classes(extents: &[usize]) -> Option<usize> {
    let elements: usize = extents.iter().product();
    (elements > 1 && extents.contains(&elements)).then_some(elements)
}

fn top(values: &[f64], count: usize, labels: &[String]) -> String {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let line = |&class: &usize| {
        let label = labels.get(class).map_or(String::new(), |label| format!("  {label}"));
        format!("  {class:5}  {:10.6}{label}\n", values[class])
    };
    order.iter().take(TOP).map(line).collect()
}

fn spread(values: &[f64]) -> String {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if finite.is_empty() {
        return format!("  {} elements, none finite\n", values.len());
    }
    let smallest = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = finite.iter().sum::<f64>() / finite.len() as f64;
    format!("  min {smallest:.6}  mean {mean:.6}  max {largest:.6}\n")
}
