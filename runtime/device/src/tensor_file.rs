//! Tensors in files: NumPy's `.npy` and `.npz`.
//!
//! Format: NumPy enhancement proposal 1 (`numpy.lib.format`), versions 1 to 3, little-endian, C order.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use edgecc_format::ElementType;

use crate::files::write_whole;

/// A dense row-major tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Type of the elements.
    pub element_type: ElementType,
    /// Extents, outermost first.
    pub extents: Vec<usize>,
    /// Little-endian elements.
    pub bytes: Vec<u8>,
}

/// A file that holds no tensor this tool can read.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Not what the format asks for.
    #[error("{path}: {entry}: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The array in it.
        entry: String,
        /// What is wrong.
        what: String,
    },
    /// Not a zip archive, or a damaged one.
    #[error("{path}: {source}")]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: zip::result::ZipError,
    },
}

/// Largest array that is read, in bytes: a compressed entry can claim any size.
const LARGEST: usize = 1 << 31;
/// Largest header that is read, in bytes.
const LARGEST_HEADER: usize = 1 << 16;

/// The named arrays of a `.npz`, in the order of the file.
pub fn read_npz(path: &Path) -> Result<Vec<(String, Array)>, TensorFileError> {
    let file = File::open(path).map_err(|source| TensorFileError::Io { path: path.into(), source })?;
    let damaged = |source| TensorFileError::Archive { path: path.into(), source };
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut arrays = Vec::with_capacity(archive.len().min(1024));
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.trim_end_matches(".npy").to_string();
        match read_array(&mut entry) {
            Ok(Some(array)) => arrays.push((name, array)),
            // Text beside the tensors, such as lists of names, is no tensor.
            Ok(None) => {}
            Err(what) => return Err(TensorFileError::Format { path: path.into(), entry: name, what }),
        }
    }
    Ok(arrays)
}

/// The array of a `.npy`.
pub fn read_npy(path: &Path) -> Result<Array, TensorFileError> {
    let file = File::open(path).map_err(|source| TensorFileError::Io { path: path.into(), source })?;
    let format = |what: String| TensorFileError::Format { path: path.into(), entry: "array".into(), what };
    let array = read_array(&mut BufReader::new(file)).map_err(format)?;
    array.ok_or_else(|| format("holds text, not numbers".into()))
}

/// Writes arrays as an uncompressed `.npz`. The file appears whole or not at all; a device is written to and stays one.
pub fn write_npz(path: &Path, arrays: &[(String, Array)]) -> Result<(), TensorFileError> {
    let failed = |source| TensorFileError::Io { path: path.into(), source };
    // Archives are written with seeks, which a pipe has not.
    let mut archive = io::Cursor::new(Vec::new());
    write_archive(&mut archive, arrays).map_err(|error| failed(error.into()))?;
    let bytes = archive.into_inner();
    write_whole(path, |out| out.write_all(&bytes).map(|()| bytes.len() as u64)).map(|_| ()).map_err(failed)
}

fn write_archive(file: impl Write + Seek, arrays: &[(String, Array)]) -> zip::result::ZipResult<()> {
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut archive = zip::ZipWriter::new(file);
    for (name, array) in arrays {
        archive.start_file(format!("{name}.npy"), stored)?;
        archive.write_all(&header_of(array))?;
        archive.write_all(&array.bytes)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

/// Magic, version 1.0, length of the text, text padded so that the elements start at a multiple of 64.
fn header_of(array: &Array) -> Vec<u8> {
    let extents: Vec<String> = array.extents.iter().map(|extent| format!("{extent}, ")).collect();
    let descr = descr_of(array.element_type);
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", extents.concat());
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.push_str(&" ".repeat(length - 1 - text.len()));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend_from_slice(&(length as u16).to_le_bytes());
    header.extend_from_slice(text.as_bytes());
    header
}

/// `None` for an array of text.
fn read_array(reader: &mut impl Read) -> Result<Option<Array>, String> {
    let text = read_header(reader)?;
    let descr = field(&text, "'descr':").ok_or("the header names no element type")?;
    let descr = descr.trim_start_matches([' ', '\'']).split('\'').next().unwrap_or("");
    if descr.contains('U') || descr.contains('S') {
        return Ok(None);
    }
    let element_type = type_of(descr).ok_or_else(|| format!("elements of type `{descr}` are not supported"))?;
    let fortran = field(&text, "'fortran_order':").is_some_and(|value| value.trim_start().starts_with("True"));
    let extents = shape_of(&text).ok_or("the header has no shape")?;
    let size = element_type.size() as usize;
    let length = extents.iter().try_fold(size, |product, &extent| product.checked_mul(extent));
    let length =
        length.filter(|&length| length <= LARGEST).ok_or_else(|| format!("{extents:?} elements are too many"))?;
    let mut bytes = Vec::new();
    reader.take(length as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() != length {
        return Err(format!("ends after {} of {length} bytes", bytes.len()));
    }
    let bytes = if fortran { to_row_major(&bytes, &extents, size) } else { bytes };
    Ok(Some(Array { element_type, extents, bytes }))
}

fn read_header(reader: &mut impl Read) -> Result<String, String> {
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(|_| "is too short for an array")?;
    let [magic @ .., major, _minor] = start;
    if &magic != b"\x93NUMPY" {
        return Err("is no NumPy array".into());
    }
    let mut length = [0; 4];
    let width = if major == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..width]).map_err(|_| "ends in its header")?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LARGEST_HEADER {
        return Err(format!("has a header of {length} bytes"));
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(|_| "ends in its header")?;
    String::from_utf8(text).map_err(|_| "has a header that is no text".into())
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key).map(|(_, rest)| rest)
}

fn shape_of(text: &str) -> Option<Vec<usize>> {
    let (_, rest) = field(text, "'shape':")?.split_once('(')?;
    let (inside, _) = rest.split_once(')')?;
    inside.split(',').map(str::trim).filter(|extent| !extent.is_empty()).map(|extent| extent.parse().ok()).collect()
}

/// Elements in C order from elements in Fortran order (first axis fastest).
fn to_row_major(bytes: &[u8], extents: &[usize], size: usize) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    let mut position = vec![0usize; extents.len()];
    for _ in 0..bytes.len() / size.max(1) {
        let mut index = 0;
        for axis in (0..extents.len()).rev() {
            index = index * extents[axis] + position[axis];
        }
        result.extend_from_slice(&bytes[index * size..(index + 1) * size]);
        for axis in (0..extents.len()).rev() {
            position[axis] += 1;
            if position[axis] < extents[axis] {
                break;
            }
            position[axis] = 0;
        }
    }
    result
}

const DESCRIPTIONS: [(&str, ElementType); 12] = [
    ("|b1", ElementType::Bool),
    ("|u1", ElementType::U8),
    ("|i1", ElementType::I8),
    ("<u2", ElementType::U16),
    ("<i2", ElementType::I16),
    ("<u4", ElementType::U32),
    ("<i4", ElementType::I32),
    ("<u8", ElementType::U64),
    ("<i8", ElementType::I64),
    ("<f2", ElementType::F16),
    ("<f4", ElementType::F32),
    ("<f8", ElementType::F64),
];

fn type_of(descr: &str) -> Option<ElementType> {
    DESCRIPTIONS.iter().find(|(name, _)| *name == descr).map(|&(_, element_type)| element_type)
}

/// NumPy has no bfloat16: its bits go out as u16.
fn descr_of(element_type: ElementType) -> &'static str {
    let found = DESCRIPTIONS.iter().find(|(_, other)| *other == element_type);
    found.map_or("<u2", |&(name, _)| name)
}

impl Array {
    /// The elements as binary64, row-major; exact but for 64-bit integers beyond 2^53.
    pub fn to_f64(&self) -> Vec<f64> {
        let size = (self.element_type.size() as usize).max(1);
        self.bytes.chunks_exact(size).map(|element| number(self.element_type, element)).collect()
    }
}

fn number(element_type: ElementType, element: &[u8]) -> f64 {
    let mut bits = [0; 8];
    bits[..element.len()].copy_from_slice(element);
    let bits = u64::from_le_bytes(bits);
    match element_type {
        ElementType::I8 => bits as i8 as f64,
        ElementType::I16 => bits as i16 as f64,
        ElementType::I32 => bits as i32 as f64,
        ElementType::I64 => bits as i64 as f64,
        ElementType::F16 => half_to_f64(bits as u16),
        ElementType::Bf16 => f32::from_bits((bits as u32) << 16) as f64,
        ElementType::F32 => f32::from_bits(bits as u32) as f64,
        ElementType::F64 => f64::from_bits(bits),
        ElementType::Unspecified
        | ElementType::Bool
        | ElementType::U8
        | ElementType::U16
        | ElementType::U32
        | ElementType::U64 => bits as f64,
    }
}

/// IEEE 754 binary16: 1 sign bit, 5 exponent bits (bias 15), 10 fraction bits.
fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = ((bits >> 10 & 31) as i32, (bits & 1023) as f64);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    };
    sign * magnitude
}
