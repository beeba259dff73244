//! Reads and verifies an artifact.

use std::ops::Range;

use prost::Message;

use crate::check::check;
use crate::error::FormatError;
use crate::header::{HEADER_BYTES, Header, PREFIX_BYTES, Section, TABLE_END};
use crate::manifest::Manifest;

/// The most bytes of a manifest that are decoded. A network of 5000 steps has about 2 MB.
const MAX_MANIFEST_BYTES: u64 = 32 << 20;

/// The checked header of an artifact: where its sections lie, and the hash of what must be as written.
///
/// It owns what it read, so that later changes of the file cannot change what was checked.
#[derive(Debug)]
pub struct Envelope {
    prefix: Vec<u8>,
    table: Vec<u8>,
    digest: [u8; 32],
    manifest: Range<usize>,
    code: Range<usize>,
    weights: Range<usize>,
}

impl Envelope {
    /// Reads header and section table and checks that the gaps between sections are zero.
    pub fn read(file: &[u8]) -> Result<Envelope, FormatError> {
        let header = Header::decode(file)?;
        let [manifest, code, weights] = header.sections;
        if manifest.length > MAX_MANIFEST_BYTES {
            return Err(FormatError::ManifestSize { bytes: manifest.length, limit: MAX_MANIFEST_BYTES });
        }
        let [manifest, code, weights] = [range(manifest)?, range(code)?, range(weights)?];
        check_gap(file, TABLE_END..manifest.start)?;
        check_gap(file, manifest.end..code.start)?;
        check_gap(file, code.end..weights.start)?;
        let digest = file.get(PREFIX_BYTES..).and_then(|rest| rest.first_chunk()).copied();
        Ok(Envelope {
            prefix: slice(file, 0..PREFIX_BYTES)?.to_vec(),
            table: slice(file, HEADER_BYTES..TABLE_END)?.to_vec(),
            digest: digest.ok_or(FormatError::Corrupt)?,
            manifest,
            code,
            weights,
        })
    }

    /// Where the manifest lies in the file.
    pub fn manifest(&self) -> Range<usize> {
        self.manifest.clone()
    }

    /// Where the code lies in the file.
    pub fn code(&self) -> Range<usize> {
        self.code.clone()
    }

    /// Where the weights lie in the file.
    pub fn weights(&self) -> Range<usize> {
        self.weights.clone()
    }

    /// Checks that these bytes of manifest and code, with the header, have the recorded hash.
    pub fn verify(&self, manifest: &[u8], code: &[u8]) -> Result<(), FormatError> {
        if digest(&self.prefix, &self.table, manifest, code) == self.digest {
            Ok(())
        } else {
            Err(FormatError::Corrupt)
        }
    }
}

/// Decodes the bytes of a verified manifest and checks everything that it refers to.
pub fn decode_manifest(bytes: &[u8], code_bytes: u64, weights_bytes: u64) -> Result<Manifest, FormatError> {
    let manifest = Manifest::decode(bytes).map_err(|error| FormatError::Manifest(error.to_string()))?;
    check(&manifest, code_bytes, weights_bytes)?;
    Ok(manifest)
}

/// Checks the weights section against the hash in the manifest. Reads every byte.
pub fn verify_weights(manifest: &Manifest, weights: &[u8]) -> Result<(), FormatError> {
    if hash(weights).as_slice() == manifest.weights_hash.as_slice() { Ok(()) } else { Err(FormatError::WeightsCorrupt) }
}

/// BLAKE3 of bytes.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// A verified artifact in memory.
#[derive(Debug)]
pub struct View<'a> {
    /// The manifest.
    pub manifest: Manifest,
    /// The code section.
    pub code: &'a [u8],
    /// The weights section, not hashed yet.
    pub weights: &'a [u8],
}

/// Reads an artifact whose bytes do not change meanwhile, and verifies all but the weights.
pub fn read(file: &[u8]) -> Result<View<'_>, FormatError> {
    let envelope = Envelope::read(file)?;
    let manifest = slice(file, envelope.manifest())?;
    let code = slice(file, envelope.code())?;
    let weights = slice(file, envelope.weights())?;
    envelope.verify(manifest, code)?;
    let manifest = decode_manifest(manifest, code.len() as u64, weights.len() as u64)?;
    Ok(View { manifest, code, weights })
}

/// BLAKE3 over the parts that every load verifies. Their lengths are in the table.
pub(crate) fn digest(prefix: &[u8], table: &[u8], manifest: &[u8], code: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in [prefix, table, manifest, code] {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn range(section: Section) -> Result<Range<usize>, FormatError> {
    let too_large = |_| FormatError::SectionTable("a section is larger than the address space");
    let start = usize::try_from(section.offset).map_err(too_large)?;
    let length = usize::try_from(section.length).map_err(too_large)?;
    let end = start.checked_add(length).ok_or(FormatError::SectionTable("the lengths of the sections overflow"))?;
    Ok(start..end)
}

fn slice(file: &[u8], range: Range<usize>) -> Result<&[u8], FormatError> {
    let truncated = FormatError::Truncated { expected: range.end as u64, actual: file.len() as u64 };
    file.get(range).ok_or(truncated)
}

fn check_gap(file: &[u8], gap: Range<usize>) -> Result<(), FormatError> {
    let before = gap.end as u64;
    let zero = slice(file, gap)?.iter().all(|&byte| byte == 0);
    if zero { Ok(()) } else { Err(FormatError::Padding { before }) }
}
