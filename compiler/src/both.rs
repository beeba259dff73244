//! One artifact for processors and GPUs: programs of both over one pool of weights.

use edgecc_format::{ConstantPool, Contents, WriteError};

use crate::compile::Compiled;
use crate::shaders::CompiledShaders;

/// A model compiled for processors and to shaders.
pub struct CompiledForBoth {
    /// Machine code.
    pub processors: Compiled,
    /// Shaders.
    pub shaders: CompiledShaders,
}

impl CompiledForBoth {
    /// Writes the artifact, which holds constants once that are the same bytes in both; its size in bytes.
    pub fn write(&self, out: &mut impl std::io::Write) -> Result<u64, WriteError> {
        let CompiledForBoth { processors, shaders } = self;
        let mut pool = ConstantPool::new();
        let mut programs = processors.describe(&mut pool);
        programs.extend(shaders.describe(&mut pool));
        let texts = shaders.code();
        let mut code = processors.code();
        code.extend(texts.iter().map(Vec::as_slice));
        Contents { manifest: processors.manifest(programs), code, weights: &pool }.write(out)
    }

    /// The artifact in memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }
}
