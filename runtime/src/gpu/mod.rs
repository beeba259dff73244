//! Runs programs of compute shaders on a GPU, through wgpu.
//!
//! An artifact of shaders is data: whatever it holds, shaders are bounds-checked and reach nothing but their buffers. So
//! loading one is safe.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use edgecc_runtime::gpu::{Gpu, GpuOptions, ShaderModel};
//! let gpu = Gpu::open(&GpuOptions::default())?;
//! let model = ShaderModel::open("model.bin")?;
//! let mut session = model.session(&gpu)?;
//! session.input_mut(0).fill(0);
//! session.run()?;
//! println!("{}: {:?}", gpu.adapter(), &session.output(0)[..4]);
//! # Ok(())
//! # }
//! ```
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod cache;
mod choice;
mod device;
mod error;
mod memory;
mod model;
mod pipelines;
mod profile;
mod session;
mod submissions;

pub use choice::{AnySession, Fastest, fastest};
pub use device::{Gpu, GpuOptions};
pub use error::GpuError;
pub use model::ShaderModel;
pub(crate) use model::is_shaders;
pub use profile::{Clock, StepTimer};
pub use session::GpuSession;
