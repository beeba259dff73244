//! The command line's verbs. The result goes to standard output, the talk to standard error.

mod bench;
mod build;
mod compare;
mod device;
mod inputs;
mod inspect;
mod lists;
mod loading;
mod moved;
mod options;
mod progress;
mod prune;
mod quantize;
mod recipe;
mod run;
mod tune;
mod weights;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use edgecc_device::inputs::InputError;
use edgecc_format::WriteError;
use edgecc_passes::prune::PruneError;
use edgecc_runtime::{LoadError, SessionError};

use crate::calibrate::capture::CaptureError;
use crate::calibrate::samples::SampleError;
use crate::compile::CompileError;
use crate::picture::PictureError;
use crate::quantize::QuantizeError;
use crate::tune::TuneError;
use options::{CommandLine, Verb};

/// Why a command failed, and the exit code that says so.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The model, the compiler, or the artifact.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The artifact.
    #[error("{path}: {source}", path = path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: edgecc_runtime::LoadError,
    },
    /// A run.
    #[error(transparent)]
    Run(#[from] edgecc_runtime::RunError),
    /// A GPU.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Gpu(#[from] edgecc_runtime::gpu::GpuError),
    /// A session that cannot be made.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Measuring schedules.
    #[error(transparent)]
    Tune(#[from] TuneError),
    /// Samples.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// Pruning.
    #[error(transparent)]
    Prune(#[from] crate::prune::Error),
    /// Quantization.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// A model that ONNX cannot hold.
    #[error(transparent)]
    Export(#[from] crate::onnx::ExportError),
    /// The evaluator.
    #[error("the model cannot be evaluated: {0}")]
    Evaluate(#[from] edgecc_ir::eval::EvalError),
    /// A flag or input that does not fit.
    #[error("{0}")]
    Usage(String),
    /// A comparison out of its bound.
    #[error("{0}")]
    Check(String),
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A tensor file.
    #[error(transparent)]
    TensorFile(#[from] edgecc_device::tensor_file::TensorFileError),
    /// Inputs that do not fit.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A picture.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// A command's result.
pub type CliResult = Result<(), CliError>;

impl CliError {
    /// 1 model or compile error, 2 usage, 3 a check failed, 4 input or output, 5 a limit hit, 70 our bug.
    fn exit_code(&self) -> u8 {
        match self {
            CliError::Compile(error) | CliError::Tune(TuneError::Compile(error)) => compile_code(error),
            CliError::Tune(TuneError::Load(_) | TuneError::Session(_) | TuneError::Run(_)) => 1,
            #[cfg(feature = "gpu")]
            CliError::Tune(TuneError::Gpu(error)) => gpu_code(error),
            #[cfg(feature = "gpu")]
            CliError::Tune(TuneError::NoShader(_)) => 1,
            #[cfg(feature = "gpu")]
            CliError::Tune(TuneError::Journal(_)) => 4,
            CliError::Load { source: LoadError::Io { .. }, .. } => 4,
            CliError::Load { .. } | CliError::Evaluate(_) => 1,
            CliError::Session(SessionError::ThreadCount { .. }) => 2,
            CliError::Run(_) | CliError::Session(SessionError::Memory { .. } | SessionError::Thread(_)) => 1,
            #[cfg(feature = "gpu")]
            CliError::Gpu(error) => gpu_code(error),
            CliError::Usage(_) => 2,
            CliError::Export(crate::onnx::ExportError::Unsupported(_)) => 1,
            CliError::Export(crate::onnx::ExportError::TooLarge(_)) => 5,
            CliError::Sample(error) => sample_code(error),
            CliError::Prune(error) => prune_code(error),
            CliError::Quantize(error) => quantize_code(error),
            CliError::Check(_) => 3,
            CliError::Input(InputError::File(_)) => 4,
            CliError::Input(_) => 2,
            CliError::Picture(PictureError::Image { .. }) => 4,
            CliError::Picture(_) => 2,
            CliError::Io { .. } | CliError::TensorFile(_) => 4,
        }
    }
}

#[cfg(feature = "gpu")]
fn gpu_code(error: &edgecc_runtime::gpu::GpuError) -> u8 {
    use edgecc_runtime::gpu::GpuError;
    match error {
        GpuError::Io { .. } => 4,
        GpuError::Limit { .. } | GpuError::Feature { .. } => 5,
        _ => 1,
    }
}

fn sample_code(error: &SampleError) -> u8 {
    match error {
        SampleError::Io { .. } | SampleError::Input(InputError::File(_)) => 4,
        SampleError::Picture(PictureError::Image { .. }) => 4,
        _ => 2,
    }
}

fn prune_code(error: &crate::prune::Error) -> u8 {
    use crate::prune::Error;
    match error {
        Error::Prune(PruneError::Cut(_) | PruneError::Verify(_)) | Error::Fit(_) => 70,
        Error::Capture(error) => capture_code(error),
        Error::Compile(error) => compile_code(error),
    }
}

fn quantize_code(error: &QuantizeError) -> u8 {
    match error {
        QuantizeError::Unknown(_)
        | QuantizeError::NoRange(_)
        | QuantizeError::NoMeans
        | QuantizeError::Labels { .. } => 2,
        QuantizeError::NotFinite { .. } => 1,
        QuantizeError::Capture(error) => capture_code(error),
        QuantizeError::Compile(error) => compile_code(error),
        QuantizeError::Type(_) => 70,
    }
}

fn capture_code(error: &CaptureError) -> u8 {
    match error {
        CaptureError::Compile(error) => compile_code(error),
        CaptureError::Element { .. } => 70,
        _ => 1,
    }
}

fn compile_code(error: &CompileError) -> u8 {
    match error {
        CompileError::Import(error) if error.is_io() => 4,
        CompileError::Import(error) if error.is_usage() => 2,
        CompileError::Import(error) if error.is_limit() => 5,
        CompileError::Import(_) | CompileError::Lower(_) => 1,
        CompileError::Pass(_) | CompileError::Emit(_) | CompileError::Shader(_) => 70,
        CompileError::Write(WriteError::Io(_)) => 4,
        CompileError::Write(_) => 70,
    }
}

/// Writes a result to standard output. Nobody reads on behind a closed pipe, which is no error.
fn print(text: &str) -> CliResult {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::Io { path: "standard output".into(), source })
        }
        _ => Ok(()),
    }
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    let command = CommandLine::parse();
    let result = match &command.verb {
        None => build::build(&command.build),
        Some(Verb::Quantize(arguments)) => build::quantize(arguments),
        Some(Verb::Run(arguments)) => run::run(arguments),
        Some(Verb::Compare(arguments)) => compare::compare(arguments),
        Some(Verb::Inspect(arguments)) => inspect::inspect(arguments),
        Some(Verb::Bench(arguments)) => bench::bench(arguments),
        Some(Verb::Tune(arguments)) => tune::tune(arguments),
        Some(Verb::Ops(arguments)) => lists::operators(arguments),
        Some(Verb::Targets) => lists::targets(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let code = error.exit_code();
            if code == 70 {
                eprintln!("This is a bug in edgecc; please report it with the model and the command.");
            }
            ExitCode::from(code)
        }
    }
}
