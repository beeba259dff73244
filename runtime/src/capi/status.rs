//! Errors as C sees them: a code, and a text that each thread keeps of its last failure.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::fmt;

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
}

impl Failure {
    fn status(&self) -> Status {
        match self {
            Failure::Null(_) | Failure::Index(_) | Failure::Flags(_) => Status::InvalidArgument,
            Failure::NotText => Status::BadArtifact,
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
        LoadError::Format(FormatError::Version { .. }) => Status::WrongVersion,
        LoadError::Format(_) => Status::BadArtifact,
        LoadError::Architecture { .. } | LoadError::Features { .. } => Status::WrongProcessor,
        LoadError::ExecutableMemory(_) | LoadError::Memory { .. } => Status::OutOfResources,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Null(name) => write!(out, "`{name}` is null"),
            Failure::Index(index) => write!(out, "there is no number {index}"),
            Failure::Flags(flags) => write!(out, "unknown flags {flags:#x}"),
            Failure::NotText => out.write_str("a name in the artifact, or the path, is no text that C can hold"),
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

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Calls, and keeps the text of a failure.
pub(crate) fn guard(call: impl FnOnce() -> Result<(), Failure>) -> Status {
    let Err(failure) = call() else { return Status::Ok };
    let mut text = failure.to_string();
    text.retain(|character| character != '\0');
    LAST_ERROR.with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
    failure.status()
}

/// The text of this thread's last failure; empty before the first. Valid until the next.
pub(crate) fn last_error() -> *const c_char {
    LAST_ERROR.with(|last| last.borrow().as_ptr())
}
