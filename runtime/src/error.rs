//! What can go wrong when loading and running.

use std::io;
use std::path::PathBuf;

use edgecc_format::FormatError;
use thiserror::Error;

/// Why a model was not loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be opened or mapped.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The bytes are not an artifact, or a damaged one.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The artifact was compiled for other processors.
    #[error("the artifact has programs for {found}, none for this processor, {wanted}: compile with --target {wanted}")]
    Architecture {
        /// The architecture and calling convention of this process.
        wanted: &'static str,
        /// Those of the programs, separated by commas.
        found: String,
    },
    /// The processor lacks features that the code uses.
    #[error("this processor lacks {missing}, which the artifact needs: compile for an older --cpu")]
    Features {
        /// The features missing for the least demanding program, separated by commas.
        missing: String,
    },
    /// There is no memory for the code, or the system forbids making it executable.
    #[error("cannot get executable memory: {0}")]
    ExecutableMemory(io::Error),
    /// There is no memory for a copy of the weights.
    #[error("cannot get {bytes} bytes of memory for the weights: {source}")]
    Memory {
        /// Bytes asked for.
        bytes: u64,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a session was not made.
#[derive(Debug, Error)]
pub enum SessionError {
    /// There is not enough memory.
    #[error("cannot get {bytes} bytes of memory for a session: {source}")]
    Memory {
        /// Bytes asked for.
        bytes: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The number of threads is 0 or absurd.
    #[error("a session has 1 to {limit} threads, not {threads}")]
    ThreadCount {
        /// Threads asked for.
        threads: usize,
        /// The most.
        limit: usize,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Why a run, or setting its inputs, failed.
#[derive(Debug, Error)]
pub enum RunError {
    /// No input or output has this name.
    #[error("the model has no {direction} `{name}`; it has {available}")]
    UnknownName {
        /// `input` or `output`.
        direction: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are, separated by commas.
        available: String,
    },
    /// No input or output has this index, or another number of them was given.
    #[error("the model has {expected} {direction}s; {got} is not possible")]
    Count {
        /// `input` or `output`.
        direction: &'static str,
        /// How many there are.
        expected: usize,
        /// The index or number given.
        got: String,
    },
    /// A buffer has another size than the tensor.
    #[error("{direction} `{port}` has {expected} bytes; {got} were given")]
    Size {
        /// `input` or `output`.
        direction: &'static str,
        /// Name, type and shape of the tensor.
        port: String,
        /// Bytes of the tensor.
        expected: u64,
        /// Bytes of the buffer.
        got: usize,
    },
    /// A tensor has another type or shape than the input.
    #[error("input `{port}` cannot take a tensor {got}")]
    Shape {
        /// Name, type and shape of the input.
        port: String,
        /// Type and shape given.
        got: String,
    },
    /// The session's flag was raised. Outputs and state are those of a part of the run.
    #[error("the run was cancelled before step `{step}`")]
    Cancelled {
        /// The step that was not run.
        step: String,
    },
}
