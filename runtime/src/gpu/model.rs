//! A loaded program of shaders.

use std::path::Path;
use std::sync::Arc;

use edgecc_format::{ARCHITECTURE_WGSL, Call, FormatError, Kernel, Manifest, Port, Program, step::Action};

use super::device::Gpu;
use super::error::GpuError;
use super::session::GpuSession;

/// A model as shaders, shared by any number of sessions. Clones share.
#[derive(Debug, Clone)]
pub struct ShaderModel {
    pub(super) shared: Arc<Loaded>,
}

#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) manifest: Manifest,
    /// The program of shaders among the manifest's.
    program: usize,
    code: Vec<u8>,
    pub(super) weights: Vec<u8>,
}

impl ShaderModel {
    /// Loads an artifact.
    pub fn open(path: impl AsRef<Path>) -> Result<ShaderModel, GpuError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| GpuError::Io { path: path.to_owned(), source })?;
        ShaderModel::from_bytes(&bytes)
    }

    /// Loads an artifact from memory; verifies all of it.
    pub fn from_bytes(bytes: &[u8]) -> Result<ShaderModel, GpuError> {
        let edgecc_format::View { manifest, code, weights } = edgecc_format::read(bytes)?;
        edgecc_format::verify_weights(&manifest, weights)?;
        let names = || manifest.programs.iter().map(|program| program.architecture.as_str());
        let program = names()
            .position(|name| name == ARCHITECTURE_WGSL)
            .ok_or_else(|| GpuError::NoShaders { found: names().collect::<Vec<_>>().join(", ") })?;
        let (code, weights) = (code.to_vec(), weights.to_vec());
        Ok(ShaderModel { shared: Arc::new(Loaded { manifest, program, code, weights }) })
    }

    /// The inputs, in graph order.
    pub fn inputs(&self) -> &[Port] {
        &self.shared.manifest.inputs
    }

    /// The outputs, in graph order.
    pub fn outputs(&self) -> &[Port] {
        &self.shared.manifest.outputs
    }

    /// The names of the classes; empty if the artifact has none.
    pub fn labels(&self) -> &[String] {
        &self.shared.manifest.labels
    }

    /// The program of shaders.
    pub fn program(&self) -> &Program {
        self.shared.program()
    }

    /// Makes a session: the memory of one run at a time, and pipelines, on a device.
    pub fn session(&self, gpu: &Gpu) -> Result<GpuSession, GpuError> {
        GpuSession::new(Arc::clone(&self.shared), gpu.clone())
    }
}

impl Loaded {
    #[allow(clippy::indexing_slicing)] // The load chose it among them.
    pub(super) fn program(&self) -> &Program {
        &self.manifest.programs[self.program]
    }

    /// What a run does, in order.
    pub(super) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.program().steps.iter().filter_map(|step| step.action.as_ref()).map(|Action::Call(call)| call)
    }

    /// The texts of all shaders.
    pub(super) fn texts(&self) -> &[u8] {
        let start = self.program().code_offset as usize;
        self.code.get(start..start + self.program().code_length as usize).unwrap_or(&[])
    }

    /// The text of a shader.
    pub(super) fn text(&self, kernel: &Kernel) -> Result<&str, GpuError> {
        let start = (self.program().code_offset + kernel.offset) as usize;
        let bytes = self.code.get(start..start + kernel.length as usize).unwrap_or(&[]);
        let no_text = |_| FormatError::Invalid { place: format!("shader `{}`", kernel.name), problem: "it is no text" };
        Ok(std::str::from_utf8(bytes).map_err(no_text)?)
    }
}
