//! Inputs of a program from files: `.npz` by name, `.npy` for one input.

use std::path::Path;

use edgecc_format::{ElementType, Port};

use crate::tensor_file::{Array, TensorFileError, read_npy, read_npz};

/// Inputs that do not fit the program.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// A name that the program does not have.
    #[error("{argument}: no {kind} `{name}`; those of the model are {known}")]
    Unknown {
        /// What was given.
        argument: String,
        /// Input or output.
        kind: &'static str,
        /// The name in it.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// An input without a value.
    #[error("input `{name}` ({ty}) is not given: use --input")]
    Missing {
        /// The input's name.
        name: String,
        /// Its type.
        ty: String,
    },
    /// A value of another type or shape.
    #[error("{name} is {wanted}, the file holds {given}")]
    Mismatch {
        /// Input or output, with its name.
        name: String,
        /// The type that the program has.
        wanted: String,
        /// The type in the file.
        given: String,
    },
    /// A file of another kind.
    #[error("{path}: give an .npz or .npy file; pictures are read by `edgecc run`")]
    Kind {
        /// The file.
        path: String,
    },
}

/// One array for every input, in their order, of the input's type and shape.
///
/// An argument is `FILE.npz`, whose arrays are named like inputs or `in_N`, `NAME=FILE`, or `FILE` where there is a single
/// input; `read_other` reads files that are neither `.npz` nor `.npy`.
pub fn gather<E: From<InputError>>(
    arguments: &[String],
    inputs: &[Port],
    read_other: impl Fn(&Path, &Port) -> Result<Array, E>,
) -> Result<Vec<Array>, E> {
    let mut found: Vec<Option<Array>> = vec![None; inputs.len()];
    for argument in arguments {
        for (place, array) in arrays(argument, inputs, &read_other)? {
            found[place] = Some(array);
        }
    }
    let missing = |port: &Port| InputError::Missing { name: port.name.clone(), ty: describe(port) };
    let checked = |(port, array): (&Port, Option<Array>)| {
        fits(port, "input", array.ok_or_else(|| missing(port))?).map_err(E::from)
    };
    inputs.iter().zip(found).map(checked).collect()
}

/// References for outputs from a file with arrays named like outputs or `out_N`, by output; not all need be there.
pub fn references(path: &Path, outputs: &[Port]) -> Result<Vec<Option<Array>>, InputError> {
    let mut found = vec![None; outputs.len()];
    for (name, array) in read_npz(path).map_err(InputError::File)? {
        match place_of(&name, outputs, "out_") {
            Some(place) => found[place] = Some(fits(&outputs[place], "output", array)?),
            None if is_numbered(&name, "in_") => {}
            None => return Err(unknown(&path.to_string_lossy(), "output", &name, outputs)),
        }
    }
    Ok(found)
}

/// The arrays that one argument gives, by place of the input.
fn arrays<E: From<InputError>>(
    argument: &str,
    inputs: &[Port],
    read_other: &impl Fn(&Path, &Port) -> Result<Array, E>,
) -> Result<Vec<(usize, Array)>, E> {
    let (name, file) = match argument.split_once('=') {
        Some((name, file)) => (Some(name), Path::new(file)),
        None => (None, Path::new(argument)),
    };
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    if extension == "npz" {
        return Ok(named_arrays(argument, file, inputs)?);
    }
    let place = match (name, inputs) {
        (Some(name), _) => place_of(name, inputs, "in_"),
        (None, [_]) => Some(0),
        (None, _) => None,
    };
    let place = place.ok_or_else(|| unknown(argument, "input", name.unwrap_or(""), inputs))?;
    let array = match extension {
        "npy" => read_npy(file).map_err(InputError::File)?,
        _ => read_other(file, &inputs[place])?,
    };
    Ok(vec![(place, array)])
}

/// The arrays of a `.npz` by place of the input; those named `out_N` are left out. Errors name `argument`.
pub fn named_arrays(argument: &str, file: &Path, inputs: &[Port]) -> Result<Vec<(usize, Array)>, InputError> {
    let mut arrays = Vec::new();
    for (name, array) in read_npz(file)? {
        match place_of(&name, inputs, "in_") {
            Some(place) => arrays.push((place, array)),
            None if is_numbered(&name, "out_") => {}
            None => return Err(unknown(argument, "input", &name, inputs)),
        }
    }
    Ok(arrays)
}

/// The port of this name, or else, for a name such as `in_0`, the one of this number.
fn place_of(name: &str, ports: &[Port], prefix: &str) -> Option<usize> {
    let numbered = || name.strip_prefix(prefix)?.parse().ok().filter(|&place: &usize| place < ports.len());
    ports.iter().position(|port| port.name == name).or_else(numbered)
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|number| number.parse::<usize>().is_ok())
}

fn fits(port: &Port, kind: &str, array: Array) -> Result<Array, InputError> {
    let extents = port.dims.iter().map(|dim| dim.capacity() as usize);
    if array.element_type == port.element_type() && array.extents.iter().copied().eq(extents) {
        return Ok(array);
    }
    let given = describe_array(&array);
    Err(InputError::Mismatch { name: format!("{kind} `{}`", port.name), wanted: describe(port), given })
}

/// `f32[1x3x8x8]`.
pub fn describe(port: &Port) -> String {
    let element_type = ElementType::try_from(port.element_type).unwrap_or(ElementType::Unspecified);
    type_name(element_type, port.dims.iter().map(|dim| dim.capacity()))
}

/// `f32[1x3x8x8]`.
pub fn describe_array(array: &Array) -> String {
    type_name(array.element_type, array.extents.iter().map(|&extent| extent as u64))
}

fn type_name(element_type: ElementType, extents: impl Iterator<Item = u64>) -> String {
    let extents: Vec<String> = extents.map(|extent| extent.to_string()).collect();
    format!("{}[{}]", element_type.name(), extents.join("x"))
}

fn unknown(argument: &str, kind: &'static str, name: &str, ports: &[Port]) -> InputError {
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    InputError::Unknown { argument: argument.into(), kind, name: name.into(), known: names.join(", ") }
}
