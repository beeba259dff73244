//! Samples: inputs that a model is calibrated on, read from files.

use std::path::{Path, PathBuf};

use edgecc_backends::artifact::element_type;
use edgecc_device::inputs::{InputError, describe, describe_array, named_arrays};
use edgecc_device::tensor_file::{Array, read_npy};
use edgecc_format::{Dim, Port};
use edgecc_ir::{Graph, Op};

use crate::picture::{Normalisation, PictureError, read as read_picture};

/// Extensions of the files that a folder is searched for.
const EXTENSIONS: [&str; 5] = ["npz", "npy", "png", "jpg", "jpeg"];

/// Inputs of runs, held in memory.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The model's inputs, in order.
    pub ports: Vec<Port>,
    /// For each run one array per input, of the input's type and shape.
    pub runs: Vec<Vec<Array>>,
}

/// Data that a model cannot be calibrated on.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// A file that cannot be read, or whose arrays are of other inputs.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A picture that cannot be read or does not fit.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Nothing to read.
    #[error("{path}: no samples: give an .npz, an .npy, a picture, or a folder of such files")]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file that gives one array, for a model of several inputs.
    #[error("{path}: the model has {count} inputs: give an .npz with an array for each")]
    Single {
        /// The file.
        path: PathBuf,
        /// Inputs of the model.
        count: usize,
    },
    /// An input that a file has no array for.
    #[error("{path}: no array for input `{name}`")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The input.
        name: String,
    },
    /// An array of another type or shape.
    #[error("{path}: input `{name}` is {wanted}, or several of them along the first axis; the file holds {given}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The input.
        name: String,
        /// The input's type.
        wanted: String,
        /// The array's type.
        given: String,
    },
    /// Arrays of one file that hold unequal numbers of samples.
    #[error("{path}: {count} samples of input `{name}`, but {first} of `{first_name}`")]
    Counts {
        /// The file.
        path: PathBuf,
        /// Samples of the first input.
        first: usize,
        /// The first input.
        first_name: String,
        /// Samples of another.
        count: usize,
        /// The other.
        name: String,
    },
    /// Values that say nothing of a model.
    #[error("{path}: input `{name}` holds {value} at element {element}")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The input.
        name: String,
        /// NaN or an infinity.
        value: f64,
        /// Its place, row-major.
        element: usize,
    },
    /// An input that nothing can be made up for.
    #[error("input `{name}` is {ty}: only floating-point numbers can be made up, so give --data")]
    NotSynthetic {
        /// The input.
        name: String,
        /// Its type.
        ty: String,
    },
}

/// The inputs of a graph as an artifact describes them.
pub fn ports(graph: &Graph) -> Vec<Port> {
    let port = |id| {
        let ty = graph.ty(id);
        let name = match graph.op(id) {
            Op::Input { name } => name.clone(),
            _ => String::new(),
        };
        let dims = ty.shape.extents().into_iter().map(|extent| Dim::fixed(extent as u64)).collect();
        Port { name, element_type: element_type(ty.dtype) as i32, dims }
    };
    graph.inputs().iter().map(|&id| port(id)).collect()
}

impl Samples {
    /// The samples of files and folders, in the order given; of a folder, in the order of names. Arrays whose first axis is a
    /// multiple of the input's are cut along it.
    pub fn read(graph: &Graph, paths: &[PathBuf], normalisation: &Normalisation) -> Result<Samples, SampleError> {
        let mut samples = Samples { ports: ports(graph), runs: Vec::new() };
        for path in paths {
            let files = if path.is_dir() { files_of(path)? } else { vec![path.clone()] };
            for file in files {
                let arrays = arrays(&file, &samples.ports, normalisation)?;
                samples.runs.extend(cut(&file, &samples.ports, arrays)?);
            }
        }
        match (samples.runs.is_empty(), paths) {
            (true, _) => Err(SampleError::Empty { path: paths.first().cloned().unwrap_or_default() }),
            (false, _) => Ok(samples),
        }
    }
}

impl Samples {
    /// A hash of all inputs: their names, types and extents, and every run's elements, in hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for port in &self.ports {
            hasher.update(format!("{}: {}\n", port.name, describe(port)).as_bytes());
        }
        self.runs.iter().flatten().for_each(|array| {
            hasher.update(&array.bytes);
        });
        hasher.finalize().to_hex().to_string()
    }
}

/// The files of a folder that may hold samples, by name.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, SampleError> {
    let failed = |source| SampleError::Io { path: folder.into(), source };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut files = paths.map_err(failed)?;
    files.retain(|path| EXTENSIONS.contains(&extension(path).as_str()) && path.is_file());
    files.sort();
    match files.is_empty() {
        true => Err(SampleError::Empty { path: folder.into() }),
        false => Ok(files),
    }
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// One array for every input, as the file holds them.
fn arrays(file: &Path, ports: &[Port], normalisation: &Normalisation) -> Result<Vec<Array>, SampleError> {
    let extension = extension(file);
    if extension == "npz" {
        let mut found: Vec<Option<Array>> = vec![None; ports.len()];
        for (place, array) in named_arrays(&file.to_string_lossy(), file, ports)? {
            found[place] = Some(array);
        }
        let missing = |port: &Port| SampleError::Missing { path: file.into(), name: port.name.clone() };
        return ports.iter().zip(found).map(|(port, array)| array.ok_or_else(|| missing(port))).collect();
    }
    let [port] = ports else { return Err(SampleError::Single { path: file.into(), count: ports.len() }) };
    match extension.as_str() {
        "npy" => Ok(vec![read_npy(file).map_err(InputError::from)?]),
        _ => Ok(vec![read_picture(file, port, normalisation)?]),
    }
}

/// Runs from arrays that hold one or several.
fn cut(file: &Path, ports: &[Port], arrays: Vec<Array>) -> Result<Vec<Vec<Array>>, SampleError> {
    let mut runs: Vec<Vec<Array>> = Vec::new();
    for (place, (port, array)) in ports.iter().zip(&arrays).enumerate() {
        check_finite(file, port, array)?;
        let parts = parts(file, port, array)?;
        if place == 0 {
            runs = vec![Vec::new(); parts.len()];
        }
        if parts.len() != runs.len() {
            let (first, first_name) = (runs.len(), ports[0].name.clone());
            let (count, name) = (parts.len(), port.name.clone());
            return Err(SampleError::Counts { path: file.into(), first, first_name, count, name });
        }
        runs.iter_mut().zip(parts).for_each(|(run, part)| run.push(part));
    }
    Ok(runs)
}

/// The arrays of an input's shape that an array is made of.
fn parts(file: &Path, port: &Port, array: &Array) -> Result<Vec<Array>, SampleError> {
    let extents: Vec<usize> = port.dims.iter().map(|dim| dim.capacity() as usize).collect();
    let is_alike = array.element_type == port.element_type();
    if is_alike && array.extents == extents {
        return Ok(vec![array.clone()]);
    }
    let is_several = match (extents.split_first(), array.extents.split_first()) {
        (Some((&batch, rest)), Some((&count, given))) => rest == given && batch > 0 && count > 0 && count % batch == 0,
        _ => false,
    };
    let bytes = extents.iter().product::<usize>() * port.element_type().size() as usize;
    if !is_alike || !is_several || bytes == 0 {
        let given = describe_array(array);
        return Err(SampleError::Mismatch {
            path: file.into(),
            name: port.name.clone(),
            wanted: describe(port),
            given,
        });
    }
    let part = |bytes: &[u8]| Array { extents: extents.clone(), bytes: bytes.to_vec(), ..*array };
    Ok(array.bytes.chunks_exact(bytes).map(part).collect())
}

fn check_finite(file: &Path, port: &Port, array: &Array) -> Result<(), SampleError> {
    let values = array.to_f64();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(element) => {
            let (path, name, value) = (file.into(), port.name.clone(), values[element]);
            Err(SampleError::NotFinite { path, name, value, element })
        }
    }
}
