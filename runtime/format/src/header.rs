//! The header and the section table.

use crate::error::FormatError;

/// The first bytes of every artifact.
pub const MAGIC: [u8; 8] = *b"EDGECC\0\0";
/// Files of another major version are refused.
pub const MAJOR: u16 = 1;
/// Files of a later minor version only add fields that may be ignored.
pub const MINOR: u16 = 0;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// Every section starts at a multiple of this, the largest page size of phones, in bytes.
pub const SECTION_ALIGNMENT: u64 = 16 * 1024;

/// Bytes of the header before the digest, which covers them.
pub(crate) const PREFIX_BYTES: usize = 32;
/// Bytes of a row of the section table: kind (u32), zero (u32), offset (u64), length (u64), zero (u64).
pub(crate) const ROW_BYTES: usize = 32;
/// The sections, in the order of the file.
pub(crate) const SECTIONS: [u32; 3] = [1, 2, 3];
/// Where the section table ends.
pub(crate) const TABLE_END: usize = HEADER_BYTES + SECTIONS.len() * ROW_BYTES;

/// Where a section lies in the file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    pub offset: u64,
    pub length: u64,
}

/// The header without its digest, and the section table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub file_bytes: u64,
    /// Manifest, code, weights.
    pub sections: [Section; 3],
}

impl Header {
    /// Lays sections of these lengths out behind each other.
    pub fn place(lengths: [u64; 3]) -> Option<Header> {
        let mut end = TABLE_END as u64;
        let mut sections = [Section { offset: 0, length: 0 }; 3];
        for (section, length) in sections.iter_mut().zip(lengths) {
            let offset = end.checked_next_multiple_of(SECTION_ALIGNMENT)?;
            *section = Section { offset, length };
            end = offset.checked_add(length)?;
        }
        Some(Header { file_bytes: end, sections })
    }

    /// The header's bytes before the digest: magic, version, number of sections, table offset, file length.
    pub fn encode_prefix(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PREFIX_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(MAJOR.to_le_bytes());
        bytes.extend(MINOR.to_le_bytes());
        bytes.extend((SECTIONS.len() as u32).to_le_bytes());
        bytes.extend((HEADER_BYTES as u64).to_le_bytes());
        bytes.extend(self.file_bytes.to_le_bytes());
        bytes
    }

    pub fn encode_table(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SECTIONS.len() * ROW_BYTES);
        for (kind, section) in SECTIONS.into_iter().zip(&self.sections) {
            bytes.extend(u64::from(kind).to_le_bytes());
            bytes.extend(section.offset.to_le_bytes());
            bytes.extend(section.length.to_le_bytes());
            bytes.extend(0u64.to_le_bytes());
        }
        bytes
    }

    /// Reads header and table of a file and checks that the sections lie where [`Header::place`] puts them.
    pub fn decode(file: &[u8]) -> Result<Header, FormatError> {
        let file_bytes = decode_prefix(file)?;
        let mut sections = [Section { offset: 0, length: 0 }; 3];
        for (index, section) in sections.iter_mut().enumerate() {
            *section = decode_row(file, index)?;
        }
        let placed = Header::place(sections.map(|section| section.length))
            .ok_or(FormatError::SectionTable("the lengths of the sections overflow"))?;
        if placed.sections != sections {
            return Err(FormatError::SectionTable("a section is not at the next multiple of 16 KiB"));
        }
        if placed.file_bytes != file_bytes {
            return Err(FormatError::SectionTable("the last section does not end with the file"));
        }
        Ok(placed)
    }
}

/// Checks the header's fields; the length of the file.
fn decode_prefix(file: &[u8]) -> Result<u64, FormatError> {
    check_start(file)?;
    let (major, minor) = (u16_at(file, 8)?, u16_at(file, 10)?);
    if major != MAJOR {
        return Err(FormatError::Version { major, minor, expected: MAJOR });
    }
    if u32_at(file, 12)? as usize != SECTIONS.len() {
        return Err(FormatError::SectionTable("there must be three sections"));
    }
    if u64_at(file, 16)? != HEADER_BYTES as u64 {
        return Err(FormatError::SectionTable("it does not follow the header"));
    }
    let (expected, actual) = (u64_at(file, 24)?, file.len() as u64);
    if actual < expected {
        return Err(FormatError::Truncated { expected, actual });
    }
    if actual > expected {
        return Err(FormatError::TrailingBytes { extra: actual - expected });
    }
    Ok(expected)
}

/// A file too short for the magic number is a truncated artifact as far as its bytes agree with the number.
fn check_start(file: &[u8]) -> Result<(), FormatError> {
    let start = file.get(..MAGIC.len()).unwrap_or(file);
    if start.is_empty() || !MAGIC.starts_with(start) {
        return Err(FormatError::NotAnArtifact);
    }
    if file.len() < HEADER_BYTES {
        return Err(FormatError::Truncated { expected: HEADER_BYTES as u64, actual: file.len() as u64 });
    }
    Ok(())
}

fn decode_row(file: &[u8], index: usize) -> Result<Section, FormatError> {
    let row = HEADER_BYTES + index * ROW_BYTES;
    let kind = u64_at(file, row)?;
    if SECTIONS.get(index).copied().map(u64::from) != Some(kind) || u64_at(file, row + 24)? != 0 {
        return Err(FormatError::SectionTable("the sections must be manifest, code and weights, in this order"));
    }
    Ok(Section { offset: u64_at(file, row + 8)?, length: u64_at(file, row + 16)? })
}

fn bytes_at<const N: usize>(file: &[u8], offset: usize) -> Result<[u8; N], FormatError> {
    let truncated = FormatError::Truncated { expected: TABLE_END as u64, actual: file.len() as u64 };
    file.get(offset..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(truncated)
}

fn u16_at(file: &[u8], offset: usize) -> Result<u16, FormatError> {
    Ok(u16::from_le_bytes(bytes_at(file, offset)?))
}

fn u32_at(file: &[u8], offset: usize) -> Result<u32, FormatError> {
    Ok(u32::from_le_bytes(bytes_at(file, offset)?))
}

fn u64_at(file: &[u8], offset: usize) -> Result<u64, FormatError> {
    Ok(u64::from_le_bytes(bytes_at(file, offset)?))
}
