//! A model as an app links it: an object file, its header, and a file of weights.

use std::io::Write;

use edgecc_backends::artifact::place_constants;
use edgecc_backends::cpu::isa::CpuTarget;
use edgecc_backends::cpu::object::{Linkable, System, WEIGHTS_HEADER, seal};
use edgecc_format::{ConstantPool, WriteError, write_zeros};

use crate::compile::{CompileError, Compiled};

/// The files that an app links and ships.
pub struct Linked<'a> {
    /// The object file.
    pub object: Vec<u8>,
    /// The C header.
    pub header: String,
    seal: [u8; 32],
    pool: ConstantPool<'a>,
}

/// Makes the object of a compiled model. `name` is a C identifier that begins every symbol.
pub fn link<'a>(compiled: &'a Compiled, name: &str, system: System) -> Result<Linked<'a>, CompileError> {
    let mut pool = ConstantPool::new();
    let constants = place_constants(&compiled.best.program, &mut pool);
    let weights_hash = pool.hash().map_err(WriteError::Io)?;
    let linkable = Linkable {
        name,
        program: &compiled.best.program,
        plan: &compiled.best.plan,
        emitted: &compiled.best.emitted,
        constants: &constants,
        weights_hash,
        weights_bytes: pool.bytes(),
    };
    let object = linkable.object(&CpuTarget::new(compiled.architecture)?, system)?;
    let header = linkable.header(compiled.architecture);
    Ok(Linked { object, header, seal: seal(&weights_hash), pool })
}

impl Linked<'_> {
    /// Writes the file of weights: the seal, zeros up to 64 bytes, the constants. Its size in bytes.
    pub fn write_weights(&self, out: &mut impl Write) -> std::io::Result<u64> {
        out.write_all(&self.seal)?;
        write_zeros(out, WEIGHTS_HEADER - self.seal.len() as u64)?;
        self.pool.write(out)?;
        Ok(WEIGHTS_HEADER + self.pool.bytes())
    }
}

/// A C identifier from the stem of a file's name: letters, digits and underscores, with no digit in front.
pub fn identifier(stem: &str) -> String {
    let mut name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::identifier;

    #[test]
    fn names_become_identifiers() {
        assert_eq!(["net", "2.0-net", "", "größe"].map(identifier), ["net", "_2_0_net", "_", "gr__e"]);
    }
}
