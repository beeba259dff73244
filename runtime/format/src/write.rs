//! Writes an artifact.

use std::io::Write;

use prost::Message;

use crate::check::check;
use crate::error::{FormatError, WriteError};
use crate::header::{Header, SECTION_ALIGNMENT, TABLE_END};
use crate::manifest::{CONSTANT_ALIGNMENT, Manifest};
use crate::pool::{ConstantPool, write_zeros};
use crate::read::digest;

/// What goes into an artifact. Equal contents give equal bytes.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Where code and weights lie (`code_offset`, `code_length`, `weights_bytes`, `weights_hash`, `constants`) is filled
    /// in by [`Contents::write`].
    pub manifest: Manifest,
    /// The machine code of each program.
    pub code: Vec<&'a [u8]>,
    /// The constants.
    pub weights: &'a ConstantPool<'a>,
}

impl Contents<'_> {
    /// Writes the artifact and returns its bytes. The weights are streamed, not gathered. Refuses what a load would refuse.
    pub fn write(&self, out: &mut impl Write) -> Result<u64, WriteError> {
        let code = self.join_code()?;
        let manifest = self.located_manifest()?;
        check(&manifest, code.len() as u64, self.weights.bytes())?;
        let manifest = manifest.encode_to_vec();
        let header = Header::place([manifest.len() as u64, code.len() as u64, self.weights.bytes()])
            .ok_or(FormatError::SectionTable("the lengths of the sections overflow"))?;
        let (prefix, table) = (header.encode_prefix(), header.encode_table());
        out.write_all(&prefix)?;
        out.write_all(&digest(&prefix, &table, &manifest, &code))?;
        out.write_all(&table)?;
        let end = write_section(out, TABLE_END as u64, &manifest)?;
        let end = write_section(out, end, &code)?;
        write_zeros(out, end.next_multiple_of(SECTION_ALIGNMENT) - end)?;
        self.weights.write(out)?;
        Ok(header.file_bytes)
    }

    /// The code section: each program's code at a multiple of 64.
    fn join_code(&self) -> Result<Vec<u8>, WriteError> {
        if self.code.len() != self.manifest.programs.len() {
            return Err(WriteError::Programs { programs: self.manifest.programs.len(), codes: self.code.len() });
        }
        let mut section = Vec::new();
        for code in &self.code {
            section.resize(section.len().next_multiple_of(CONSTANT_ALIGNMENT as usize), 0);
            section.extend_from_slice(code);
        }
        Ok(section)
    }

    /// The manifest with the places of code and weights.
    fn located_manifest(&self) -> Result<Manifest, WriteError> {
        let mut manifest = self.manifest.clone();
        let mut end = 0u64;
        for (program, code) in manifest.programs.iter_mut().zip(&self.code) {
            program.code_offset = end.next_multiple_of(CONSTANT_ALIGNMENT);
            program.code_length = code.len() as u64;
            end = program.code_offset + program.code_length;
        }
        manifest.weights_bytes = self.weights.bytes();
        manifest.weights_hash = self.weights.hash()?.to_vec();
        manifest.constants = self.weights.constants().to_vec();
        Ok(manifest)
    }
}

/// Writes a section at the next multiple of its alignment after `end`; the section's end.
fn write_section(out: &mut impl Write, end: u64, bytes: &[u8]) -> Result<u64, WriteError> {
    let offset = end.next_multiple_of(SECTION_ALIGNMENT);
    write_zeros(out, offset - end)?;
    out.write_all(bytes)?;
    Ok(offset + bytes.len() as u64)
}
