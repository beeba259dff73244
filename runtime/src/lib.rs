//! Loads an artifact and runs it.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use edgecc_runtime::{LoadOptions, Model, SessionOptions};
//! // SAFETY: the artifact ships with the app, and nothing rewrites it in place.
//! let model = unsafe { Model::open("model.bin", LoadOptions::default()) }?;
//! let mut session = model.session(SessionOptions { threads: 2 })?;
//! session.set_input("x", &[0; 4 * 3 * 224 * 224])?;
//! session.run()?;
//! println!("{:?}", &session.output(0)[..4]);
//! # Ok(())
//! # }
//! ```
//!
//! # What is trusted and what is verified
//! An artifact holds machine code, and loading one is running it: [`Model::open`] is unsafe, and its caller vouches for
//! where the file comes from. Against damage every load verifies the header, the manifest and the code by hash and
//! every reference by its bounds; the weights are hashed by [`Verify::Full`] or [`Model::verify_weights`].
//!
//! What was verified cannot change afterwards: the manifest and the code are copied out of the file before they are
//! hashed, and the code runs from private memory that is first written and then made executable, never both. The weights
//! stay mapped, read-only. So replace an artifact by renaming a new file over it: if a file is overwritten in place, runs
//! compute with the new bytes, and if it shrinks, the next access to a lost page ends the process with SIGBUS. Where that
//! cannot be excluded, read the file and use [`Model::from_bytes`], which keeps a copy of the weights.

#[cfg(feature = "capi")]
pub mod capi;
mod code;
mod cores;
mod error;
mod execution;
#[cfg(feature = "gpu")]
pub mod gpu;
mod memory;
mod model;
mod plan;
mod pool;
mod processor;
mod session;
pub mod sharing;

pub use cores::big_cores;
pub use edgecc_format::{Dim, ElementType, FormatError, Manifest, Port, Program, step};
pub use error::{LoadError, RunError, SessionError};
pub use model::{LoadOptions, Model, ProgramChoice, Verify};
pub use pool::{Pool, PoolOptions};
pub use processor::{ARCHITECTURE, has_feature};
pub use session::{Buffer, CancelFlag, Session, SessionOptions};
