//! Inputs from files: `.npz` by name, `.npy` and pictures for one input.

use std::path::Path;

use edgecc_device::tensor_file::{Array, read_npy, read_npz};
use edgecc_format::{ElementType, Port};

use super::CliError;
use super::options::InputArguments;
use crate::picture::{Normalisation, read as read_picture};

/// One array for every port, in their order, of the port's type and shape.
pub fn gather(arguments: &InputArguments, ports: &[Port]) -> Result<Vec<Array>, CliError> {
    let mut found: Vec<Option<Array>> = vec![None; ports.len()];
    for argument in &arguments.inputs {
        for (name, array) in arrays(arguments, argument, ports)? {
            let place = ports.iter().position(|port| port.name == name);
            let place = place.ok_or_else(|| CliError::Usage(unknown_input(argument, &name, ports)))?;
            found[place] = Some(array);
        }
    }
    ports.iter().zip(found).map(|(port, array)| checked(port, array)).collect()
}

/// The named arrays that one argument gives.
fn arrays(arguments: &InputArguments, argument: &str, ports: &[Port]) -> Result<Vec<(String, Array)>, CliError> {
    let (name, file) = match argument.split_once('=') {
        Some((name, file)) => (Some(name), Path::new(file)),
        None => (None, Path::new(argument)),
    };
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    if extension == "npz" {
        return Ok(read_npz(file)?);
    }
    let port = match (name, ports) {
        (Some(name), _) => ports.iter().find(|port| port.name == name),
        (None, [single]) => Some(single),
        (None, _) => None,
    };
    let port = port.ok_or_else(|| CliError::Usage(unknown_input(argument, name.unwrap_or(""), ports)))?;
    let array = if extension == "npy" { read_npy(file)? } else { read_picture(file, port, &normalisation(arguments))? };
    Ok(vec![(port.name.clone(), array)])
}

fn normalisation(arguments: &InputArguments) -> Normalisation {
    Normalisation {
        scale: arguments.scale,
        mean: arguments.mean.clone(),
        deviation: arguments.deviation.clone(),
        bgr: arguments.bgr,
    }
}

fn checked(port: &Port, array: Option<Array>) -> Result<Array, CliError> {
    let array = array.ok_or_else(|| {
        CliError::Usage(format!("input `{}` ({}) is not given: use --input", port.name, describe(port)))
    })?;
    let extents: Vec<usize> = port.dims.iter().map(|dim| dim.value as usize).collect();
    let element_type = ElementType::try_from(port.element_type).unwrap_or(ElementType::Unspecified);
    if (array.element_type, &array.extents) != (element_type, &extents) {
        let given = format!("{}{:?}", array.element_type.name(), array.extents);
        return Err(CliError::Usage(format!("input `{}` is {}, the file holds {given}", port.name, describe(port))));
    }
    Ok(array)
}

/// `f32[1, 3, 8, 8]`.
pub fn describe(port: &Port) -> String {
    let element_type = ElementType::try_from(port.element_type).unwrap_or(ElementType::Unspecified);
    let extents: Vec<u64> = port.dims.iter().map(|dim| dim.capacity()).collect();
    format!("{}{extents:?}", element_type.name())
}

fn unknown_input(argument: &str, name: &str, ports: &[Port]) -> String {
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    format!("{argument}: no input `{name}`; the model's inputs are {}", names.join(", "))
}
