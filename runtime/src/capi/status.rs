//! Errors as C sees them: a code, and a text that each thread keeps of its last failure.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::fmt;

#[cfg(feature = "gpu")]
use crate::gpu::GpuError;
use crate::{FormatError, LoadError, RunError, SessionError};

/// `edgecc_status`: what a call came to.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It did what it says.
    Ok = 0,
    /// A pointer is null, an index too large, or a buffer of the wrong size.
    InvalidArgument = 1,
    /// The file cannot be opened or mapped.
    CannotRead = 2,
    /// Not an artifact, or a damaged one.
    BadArtifact = 3,
    /// Another version of the format.
    WrongVersion = 4,
    /// Compiled for another processor.
    WrongProcessor = 5,
    /// The system gives no memory, no executable memory or no thread.
    OutOfResources = 6,
    /// The run was cancelled.
    Cancelled = 7,
    /// No GPU adapter, none of the name, or one that has less than the model needs.
    NoDevice = 8,
    /// The GPU's driver refuses a shader, fails, or loses the device again and again.
    DeviceFailed = 9,
}

/// Why a call failed.
pub(crate) enum Failure {
    Null(&'static str),
    Index(usize),
    Flags(u32),
    NotText,
    Load(LoadError),
    Session(SessionError),
    Run(RunError),
    ShadersAlone,
    #[cfg(feature = "gpu")]
    Gpu(GpuError),
}

impl Failure {
    fn status(&self) -> Status {
        match self {
            Failure::Null(_) | Failure::Index(_) | Failure::Flags(_) => Status::InvalidArgument,
            Failure::NotText => Status::BadArtifact,
            Failure::ShadersAlone => Status::WrongProcessor,
            #[cfg(feature = "gpu")]
            Failure::Gpu(error) => gpu_status(error),
            Failure::Load(error) => load_status(error),
            Failure::Session(SessionError::ThreadCount { .. }) => Status::InvalidArgument,
            Failure::Session(SessionError::Memory { .. } | SessionError::Thread(_)) => Status::OutOfResources,
            Failure::Run(RunError::Cancelled { .. }) => Status::Cancelled,
            Failure::Run(
                RunError::UnknownName { .. } | RunError::Count { .. } | RunError::Size { .. } | RunError::Shape { .. },
            ) => Status::InvalidArgument,
        }
    }
}

fn load_status(error: &LoadError) -> Status {
    match error {
        LoadError::Io { .. } => Status::CannotRead,
        LoadError::Format(error) => format_status(error),
        LoadError::Architecture { .. } | LoadError::Features { .. } => Status::WrongProcessor,
        LoadError::ExecutableMemory(_) | LoadError::Memory { .. } => Status::OutOfResources,
    }
}

fn format_status(error: &FormatError) -> Status {
    match error {
        FormatError::Version { .. } => Status::WrongVersion,
        _ => Status::BadArtifact,
    }
}

#[cfg(feature = "gpu")]
fn gpu_status(error: &GpuError) -> Status {
    match error {
        GpuError::Io { .. } => Status::CannotRead,
        GpuError::Format(error) => format_status(error),
        GpuError::NoShaders { .. } => Status::WrongProcessor,
        GpuError::NoAdapter { .. } | GpuError::Open { .. } | GpuError::Limit { .. } | GpuError::Feature { .. } => {
            Status::NoDevice
        }
        GpuError::Shader { .. } | GpuError::Driver { .. } | GpuError::Lost { .. } | GpuError::Timeout { .. } => {
            Status::DeviceFailed
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Null(name) => write!(out, "`{name}` is null"),
            Failure::Index(index) => write!(out, "there is no number {index}"),
            Failure::Flags(flags) => write!(out, "unknown flags {flags:#x}"),
            Failure::NotText => out.write_str("a name in the artifact, or the path, is no text that C can hold"),
            Failure::ShadersAlone => out.write_str("the artifact has no program for this processor, only shaders"),
            #[cfg(feature = "gpu")]
            Failure::Gpu(error) => error.fmt(out),
            Failure::Load(error) => error.fmt(out),
            Failure::Session(error) => error.fmt(out),
            Failure::Run(error) => error.fmt(out),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        Failure::Load(error)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Failure {
        Failure::Session(error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        Failure::Run(error)
    }
}

#[cfg(feature = "gpu")]
impl From<GpuError> for Failure {
    fn from(error: GpuError) -> Failure {
        Failure::Gpu(error)
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Calls, and keeps the text of a failure.
pub(crate) fn guard(call: impl FnOnce() -> Result<(), Failure>) -> Status {
    let Err(failure) = call() else { return Status::Ok };
    keep(&failure);
    failure.status()
}

/// Keeps the text of a failure.
pub(crate) fn keep(failure: &Failure) {
    let mut text = failure.to_string();
    text.retain(|character| character != '\0');
    LAST_ERROR.with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
}

/// The text of this thread's last failure; empty before the first. Valid until the next.
pub(crate) fn last_error() -> *const c_char {
    LAST_ERROR.with(|last| last.borrow().as_ptr())
}
