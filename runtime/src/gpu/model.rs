//! A loaded program of shaders.

use std::path::Path;
use std::sync::Arc;

use edgecc_format::{ARCHITECTURE_WGSL, Call, FormatError, Kernel, Manifest, Port, Program, step::Action};

use super::device::{Gpu, Opened};
use super::error::GpuError;
use super::profile::StepTimer;
use super::session::GpuSession;
use crate::model::{LoadedModel, Model};

/// A model as shaders, shared by any number of sessions. Clones share.
#[derive(Debug, Clone)]
pub struct ShaderModel {
    pub(super) shared: Arc<Loaded>,
    checks: Checks,
}

/// Whether shaders check their positions, their divisors and the ends of their loops while they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checks {
    /// Shaders of any origin reach nothing but their buffers.
    All,
    /// Whoever loaded the artifact vouches for its shaders.
    None,
}

#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) manifest: Manifest,
    /// The programs of shaders among the manifest's, the best first; never none.
    programs: Vec<usize>,
    bytes: Bytes,
}

/// The code section and the weights.
#[derive(Debug)]
enum Bytes {
    Own {
        code: Vec<u8>,
        weights: Vec<u8>,
    },
    /// Those of an artifact that is loaded for the processor too.
    Shared(Arc<LoadedModel>),
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
        let (code, weights) = (code.to_vec(), weights.to_vec());
        ShaderModel::new(manifest, Bytes::Own { code, weights })
    }

    /// The shaders of an artifact that is loaded for the processor, over the same weights, which are as verified as there.
    pub fn beside(model: &Model) -> Result<ShaderModel, GpuError> {
        let loaded = model.loaded();
        ShaderModel::new(loaded.manifest.clone(), Bytes::Shared(loaded))
    }

    fn new(manifest: Manifest, bytes: Bytes) -> Result<ShaderModel, GpuError> {
        let all = || manifest.programs.iter().enumerate();
        let mut shaders: Vec<(usize, &Program)> = all().filter(|(_, program)| is_shaders(program)).collect();
        if shaders.is_empty() {
            let names: Vec<&str> = all().map(|(_, program)| program.architecture.as_str()).collect();
            return Err(GpuError::NoShaders { found: names.join(", ") });
        }
        shaders.sort_by_key(|(_, program)| std::cmp::Reverse(program.rank));
        let programs = shaders.into_iter().map(|(place, _)| place).collect();
        Ok(ShaderModel { shared: Arc::new(Loaded { manifest, programs, bytes }), checks: Checks::All })
    }

    /// The same, with shaders that check nothing while they run, which is faster; but for those that the compiler could not
    /// prove to stay within their buffers.
    ///
    /// # Safety
    /// The artifact comes from the compiler: what it says of its shaders' bounds is not verified.
    #[allow(unsafe_code)]
    pub unsafe fn unchecked(self) -> ShaderModel {
        ShaderModel { checks: Checks::None, ..self }
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

    /// Makes a session: the memory of one run at a time, and pipelines, on a device.
    pub fn session(&self, gpu: &Gpu) -> Result<GpuSession, GpuError> {
        GpuSession::new(Arc::clone(&self.shared), gpu.clone(), self.checks)
    }

    /// What times single steps on a device, pipelines made one by one.
    pub fn step_timer(&self, gpu: &Gpu) -> Result<StepTimer, GpuError> {
        StepTimer::new(Arc::clone(&self.shared), gpu, self.checks)
    }
}

/// Whether a program is one of shaders.
pub(crate) fn is_shaders(program: &Program) -> bool {
    program.architecture == ARCHITECTURE_WGSL
}

/// What a run of a program does, in order.
pub(super) fn calls(program: &Program) -> impl Iterator<Item = &Call> {
    program.steps.iter().filter_map(|step| step.action.as_ref()).map(|Action::Call(call)| call)
}

impl Loaded {
    /// The best program that a device runs.
    pub(super) fn program_for(&self, gpu: &Opened) -> Result<&Program, GpuError> {
        let programs = || self.programs.iter().filter_map(|&place| self.manifest.programs.get(place));
        let missing = |program: &Program| -> Vec<String> {
            program.required_features.iter().filter(|feature| !gpu.has_feature(feature)).cloned().collect()
        };
        let found = programs().find(|program| missing(program).is_empty());
        let least = || programs().next_back().map(missing).unwrap_or_default().join(", ");
        found.ok_or_else(|| GpuError::Feature { adapter: gpu.adapter().to_owned(), missing: least() })
    }

    fn code(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Own { code, .. } => code,
            Bytes::Shared(model) => &model.code_section,
        }
    }

    pub(super) fn weights(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Own { weights, .. } => weights,
            Bytes::Shared(model) => model.weights(),
        }
    }

    /// The texts of all shaders of a program.
    pub(super) fn texts(&self, program: &Program) -> &[u8] {
        let start = program.code_offset as usize;
        self.code().get(start..start + program.code_length as usize).unwrap_or(&[])
    }

    /// The text of a shader.
    pub(super) fn text(&self, program: &Program, kernel: &Kernel) -> Result<&str, GpuError> {
        let start = kernel.offset as usize;
        let bytes = self.texts(program).get(start..start + kernel.length as usize).unwrap_or(&[]);
        let no_text = |_| FormatError::Invalid { place: format!("shader `{}`", kernel.name), problem: "it is no text" };
        Ok(std::str::from_utf8(bytes).map_err(no_text)?)
    }
}
