//! The content-addressed pool of constants.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Read, Write};

use crate::manifest::{CONSTANT_ALIGNMENT, Constant};

/// Constants in the order of their first use, each content once.
#[derive(Debug, Default)]
pub struct ConstantPool<'a> {
    chunks: Vec<Cow<'a, [u8]>>,
    constants: Vec<Constant>,
    /// Hash of the content to its index.
    by_hash: HashMap<[u8; 32], usize>,
    end: u64,
}

impl<'a> ConstantPool<'a> {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// The offset of these bytes in the weights section; adds them if they are new.
    pub fn add(&mut self, bytes: impl Into<Cow<'a, [u8]>>) -> u64 {
        let bytes = bytes.into();
        let hash = *blake3::hash(&bytes).as_bytes();
        if let Some(constant) = self.by_hash.get(&hash).and_then(|&index| self.constants.get(index)) {
            return constant.offset;
        }
        let offset = self.end.next_multiple_of(CONSTANT_ALIGNMENT);
        self.by_hash.insert(hash, self.constants.len());
        self.end = offset + bytes.len() as u64;
        self.constants.push(Constant { offset, length: bytes.len() as u64, hash: hash.to_vec() });
        self.chunks.push(bytes);
        offset
    }

    /// Bytes of the weights section so far.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// The constants, by ascending offset.
    pub fn constants(&self) -> &[Constant] {
        &self.constants
    }

    /// Writes the section, with zeros between the constants.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut end = 0;
        for (constant, chunk) in self.constants.iter().zip(&self.chunks) {
            write_zeros(out, constant.offset - end)?;
            out.write_all(chunk)?;
            end = constant.offset + constant.length;
        }
        Ok(())
    }

    /// BLAKE3 of the section.
    pub fn hash(&self) -> io::Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        self.write(&mut hasher)?;
        Ok(*hasher.finalize().as_bytes())
    }
}

/// Writes this many zeros.
pub fn write_zeros(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(count), out).map(|_| ())
}
