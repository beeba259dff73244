//! A loaded model.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use edgecc_format::step::Action;
use edgecc_format::{BufferKind, Envelope, FormatError, Manifest, Port, Program, decode_manifest, verify_weights};
use memmap2::Mmap;

use crate::code::{ExecutableCode, copy};
use crate::error::{LoadError, SessionError};
use crate::pool::{Pool, PoolOptions};
use crate::processor;
use crate::session::{Session, SessionOptions};
use crate::sharing::Sharing;

/// How much of an artifact is verified when it is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// Header, manifest and code, by hash, and every reference, by its bounds.
    #[default]
    Structure,
    /// The weights too, by hash: reads every byte of them.
    Full,
}

/// Which of the programs that the processor runs is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProgramChoice {
    /// The one for the most able processors.
    #[default]
    MostAble,
    /// The one for the least able: to see what they compute, and how fast.
    LeastAble,
}

/// How to load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// How much to verify.
    pub verify: Verify,
    /// Which program to run.
    pub program: ProgramChoice,
}

/// A loaded model: code and weights, shared by any number of sessions. Clones share.
#[derive(Debug, Clone)]
pub struct Model {
    shared: Arc<LoadedModel>,
}

#[derive(Debug)]
pub(crate) struct LoadedModel {
    pub manifest: Manifest,
    /// The chosen program.
    pub program: usize,
    /// The chosen program's code.
    pub code: ExecutableCode,
    /// The code of all programs, where there are shaders among them; else nothing.
    #[cfg(feature = "gpu")]
    pub code_section: Vec<u8>,
    /// The mapped file, or a copy of the weights.
    memory: Mmap,
    weights: Range<usize>,
}

impl LoadedModel {
    pub fn weights(&self) -> &[u8] {
        self.memory.get(self.weights.clone()).unwrap_or(&[])
    }

    /// Has the system map the weights that the chosen program reads, where it can, in one go instead of fault by fault.
    pub fn map_weights(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        for range in weights_in_use(self.program()) {
            // A wish: what is not mapped now is mapped when it is read.
            let _ =
                self.memory.advise_range(memmap2::Advice::PopulateRead, self.weights.start + range.start, range.len());
        }
    }

    #[allow(clippy::indexing_slicing)] // The load chose it among them.
    pub fn program(&self) -> &Program {
        &self.manifest.programs[self.program]
    }
}

impl Model {
    /// Loads an artifact; its weights stay mapped from the file.
    ///
    /// # Safety
    /// The artifact holds machine code, which sessions run: it must come from the compiler, and the file must not change
    /// while the model or a session of it lives (see the crate's page).
    #[allow(unsafe_code)]
    pub unsafe fn open(path: impl AsRef<Path>, options: LoadOptions) -> Result<Model, LoadError> {
        let path = path.as_ref();
        let io = |source| LoadError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Err(LoadError::Format(FormatError::NotAnArtifact));
        }
        // SAFETY: the caller vouches that the file does not change.
        let file = unsafe { Mmap::map(&file) }.map_err(io)?;
        let verified = verify(&file)?;
        Model::load(verified, |weights| Ok((file, weights)), options)
    }

    /// Loads an artifact from memory and keeps a copy of its weights.
    ///
    /// # Safety
    /// The artifact holds machine code, which sessions run: it must come from the compiler.
    #[allow(unsafe_code)]
    pub unsafe fn from_bytes(bytes: &[u8], options: LoadOptions) -> Result<Model, LoadError> {
        let copy_weights = |range: Range<usize>| {
            let weights = bytes.get(range).unwrap_or(&[]);
            let memory = |source| LoadError::Memory { bytes: weights.len() as u64, source };
            let copied = copy(weights).and_then(|copied| copied.make_read_only()).map_err(memory)?;
            Ok((copied, 0..weights.len()))
        };
        Model::load(verify(bytes)?, copy_weights, options)
    }

    /// `place_weights` turns the weights' range in the file into the memory that holds them and their range there.
    fn load(
        verified: Verified,
        place_weights: impl FnOnce(Range<usize>) -> Result<(Mmap, Range<usize>), LoadError>,
        options: LoadOptions,
    ) -> Result<Model, LoadError> {
        let Verified { manifest, code, weights } = verified;
        let program = processor::choose(&manifest.programs, options.program)?;
        let executable = program_code(&manifest, program, &code);
        let executable = ExecutableCode::new(executable).map_err(LoadError::ExecutableMemory)?;
        let (memory, weights) = place_weights(weights)?;
        let loaded = LoadedModel {
            program,
            code: executable,
            #[cfg(feature = "gpu")]
            code_section: if manifest.programs.iter().any(crate::gpu::is_shaders) { code } else { Vec::new() },
            manifest,
            memory,
            weights,
        };
        let model = Model { shared: Arc::new(loaded) };
        match options.verify {
            Verify::Structure => {}
            Verify::Full => model.verify_weights()?,
        }
        Ok(model)
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn loaded(&self) -> Arc<LoadedModel> {
        Arc::clone(&self.shared)
    }

    /// Checks the weights against their hash. Reads every byte of them.
    pub fn verify_weights(&self) -> Result<(), FormatError> {
        verify_weights(&self.shared.manifest, self.shared.weights())
    }

    /// Everything the artifact says about the model.
    pub fn manifest(&self) -> &Manifest {
        &self.shared.manifest
    }

    /// The program chosen for this processor.
    pub fn program(&self) -> &Program {
        self.shared.program()
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

    /// Makes a session: the memory of one run at a time, and threads of its own.
    pub fn session(&self, options: SessionOptions) -> Result<Session, SessionError> {
        self.session_in(&Pool::new(PoolOptions { threads: options.threads, sharing: Sharing::default() })?)
    }

    /// Makes a session that shares threads with others.
    pub fn session_in(&self, pool: &Pool) -> Result<Session, SessionError> {
        Session::new(Arc::clone(&self.shared), pool.clone())
    }
}

/// What was copied out of an artifact and verified, and where its weights are.
struct Verified {
    manifest: Manifest,
    code: Vec<u8>,
    weights: Range<usize>,
}

fn verify(file: &[u8]) -> Result<Verified, FormatError> {
    let envelope = Envelope::read(file)?;
    let section = |range: Range<usize>| file.get(range).unwrap_or(&[]).to_vec();
    let (manifest, code, weights) = (section(envelope.manifest()), section(envelope.code()), envelope.weights());
    envelope.verify(&manifest, &code)?;
    let manifest = decode_manifest(&manifest, code.len() as u64, weights.len() as u64)?;
    Ok(Verified { manifest, code, weights })
}

/// The bytes of a checked program in the code section.
fn program_code<'a>(manifest: &Manifest, program: usize, code: &'a [u8]) -> &'a [u8] {
    let range = manifest.programs.get(program).map(|program| {
        let start = program.code_offset as usize;
        start..start + program.code_length as usize
    });
    range.and_then(|range| code.get(range)).unwrap_or(&[])
}

/// The bytes of the weights that steps read, in order, as few ranges.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn weights_in_use(program: &Program) -> Vec<Range<usize>> {
    /// Gaps that are not worth a range.
    const GAP: usize = 64 << 10;
    let calls = program.steps.iter().filter_map(|step| step.action.as_ref());
    let buffers = calls.flat_map(|Action::Call(call)| &call.buffers);
    let weights = buffers.filter(|buffer| buffer.kind() == BufferKind::Weights);
    let mut used: Vec<(u64, u64)> = weights.map(|buffer| (buffer.offset, buffer.offset + buffer.length)).collect();
    used.sort_unstable();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (start, end) in used {
        let (start, end) = (start as usize, end as usize);
        match ranges.last_mut().filter(|last| start <= last.end + GAP) {
            Some(last) => last.end = last.end.max(end),
            None => ranges.push(start..end),
        }
    }
    ranges
}
