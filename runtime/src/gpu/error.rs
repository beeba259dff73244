//! What can go wrong on a GPU.

use std::path::PathBuf;

use edgecc_format::FormatError;
use thiserror::Error;

/// Why a model does not run on a GPU.
#[derive(Debug, Error)]
pub enum GpuError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bytes are not an artifact, or a damaged one.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The artifact has no shaders.
    #[error("the artifact has programs for {found}, none of shaders: compile with --target wgsl")]
    NoShaders {
        /// The architectures that it has programs for, separated by commas.
        found: String,
    },
    /// No adapter, or none of the name asked for.
    #[error("no GPU adapter {wanted}; there are: {found}")]
    NoAdapter {
        /// `is usable`, or the name asked for.
        wanted: String,
        /// The adapters that there are, separated by commas.
        found: String,
    },
    /// The driver refuses to open the adapter.
    #[error("adapter {adapter} cannot be opened: {reason}")]
    Open {
        /// The adapter.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// The adapter is too small for the model.
    #[error("adapter {adapter} has {what} of {limit}, the model needs {needed}")]
    Limit {
        /// The adapter.
        adapter: String,
        /// The limit's name in WebGPU.
        what: &'static str,
        /// The adapter's limit.
        limit: u64,
        /// What the model needs.
        needed: u64,
    },
    /// The adapter lacks what the model's shaders use.
    #[error("adapter {adapter} does not have {missing}, which the model needs")]
    Feature {
        /// The adapter.
        adapter: String,
        /// The features that the least demanding program lacks, separated by commas, by WebGPU's names.
        missing: String,
    },
    /// The driver refuses a shader.
    #[error("adapter {adapter} refuses shader `{shader}`: {reason}")]
    Shader {
        /// The adapter.
        adapter: String,
        /// The shader's name.
        shader: String,
        /// The driver's words.
        reason: String,
    },
    /// The driver failed while memory was allocated or a run was under way.
    #[error("adapter {adapter}: {reason}")]
    Driver {
        /// The adapter.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// The device is gone: unplugged, reset, or given back. Open it anew.
    #[error("adapter {adapter} was lost: {reason}")]
    Lost {
        /// The adapter.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// The device did not finish a run in time.
    #[error("adapter {adapter} did not finish within {seconds} seconds")]
    Timeout {
        /// The adapter.
        adapter: String,
        /// How long it was waited for.
        seconds: u64,
    },
}
